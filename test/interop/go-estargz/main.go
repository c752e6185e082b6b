// Copyright the lazypull authors.
// SPDX-License-Identifier: Apache-2.0

// Command go-estargz holds a layer against the eStargz library of stargz-snapshotter.
//
//	go-estargz check [-shared-members] [-toc LAYER] BLOB TOC-DIGEST
//	go-estargz build [-chunk-size N] [-min-chunk-size N] [-external FILE] [-prefetch NAME]... TAR BLOB
//
// check opens the blob, verifies its TOC, reads every file back through the index with all chunk digests, and compares
// with the tar that the blob decompresses to. With -shared-members several payloads may have one offset, which the
// library's eager check refuses though its readers take it. build makes a layer with the library. Both print one JSON object; a
// disagreement is an "error" in it and status 1.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/externaltoc"
	"github.com/opencontainers/go-digest"
)

// Result is what is printed.
type Result struct {
	Error  string `json:"error,omitempty"`
	TOC    string `json:"tocDigest,omitempty"`
	DiffID string `json:"diffId,omitempty"`
	// Tar entries compared, TOC entry excluded.
	Entries int   `json:"entries"`
	Files   int   `json:"files"`
	Chunks  int   `json:"chunks"`
	Bytes   int64 `json:"bytes"`
}

func main() {
	var result Result
	err := run(os.Args[1:], &result)
	if err != nil {
		result.Error = err.Error()
	}
	if encoded := json.NewEncoder(os.Stdout).Encode(&result); encoded != nil {
		err = encoded
	}
	if err != nil {
		os.Exit(1)
	}
}

func run(args []string, result *Result) error {
	if len(args) > 1 && args[0] == "check" {
		flags := flag.NewFlagSet("check", flag.ContinueOnError)
		shared := flags.Bool("shared-members", false, "payloads may share a member")
		toc := flags.String("toc", "", "layer with an external TOC")
		if err := flags.Parse(args[1:]); err != nil {
			return err
		}
		if flags.NArg() != 2 {
			return fmt.Errorf("check wants BLOB and TOC-DIGEST")
		}
		return check(flags.Arg(0), digest.Digest(flags.Arg(1)), *toc, *shared, result)
	}
	if len(args) > 1 && args[0] == "build" {
		return build(args[1:], result)
	}
	return fmt.Errorf("usage: go-estargz check|build ...")
}

func openBlob(path string) (*os.File, *io.SectionReader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, nil, err
	}
	return file, io.NewSectionReader(file, 0, info.Size()), nil
}

type names []string

func (n *names) String() string { return fmt.Sprint(*n) }

func (n *names) Set(value string) error {
	*n = append(*n, value)
	return nil
}

func build(args []string, result *Result) error {
	flags := flag.NewFlagSet("build", flag.ContinueOnError)
	chunkSize := flags.Int("chunk-size", 0, "bytes of a file per chunk")
	minChunkSize := flags.Int("min-chunk-size", 0, "compressed bytes per member before a new one begins")
	external := flags.String("external", "", "write the TOC's layer to this file")
	var prefetch names
	flags.Var(&prefetch, "prefetch", "file to put first")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 {
		return fmt.Errorf("build wants TAR and BLOB")
	}
	source, section, err := openBlob(flags.Arg(0))
	if err != nil {
		return err
	}
	defer source.Close()
	options := []estargz.Option{estargz.WithPrioritizedFiles(prefetch)}
	if *chunkSize > 0 {
		options = append(options, estargz.WithChunkSize(*chunkSize))
	}
	if *minChunkSize > 0 {
		options = append(options, estargz.WithMinChunkSize(*minChunkSize))
	}
	var outside *externaltoc.GzipCompression
	if *external != "" {
		outside = &externaltoc.GzipCompression{GzipCompressor: externaltoc.NewGzipCompressor(), GzipDecompressor: externaltoc.NewGzipDecompressor(nil)}
		options = append(options, estargz.WithCompression(outside))
	}
	blob, err := estargz.Build(section, options...)
	if err != nil {
		return err
	}
	defer blob.Close()
	if result.Bytes, err = writeTo(flags.Arg(1), func(w io.Writer) (int64, error) { return io.Copy(w, blob) }); err != nil {
		return err
	}
	if outside != nil {
		if _, err := writeTo(*external, func(w io.Writer) (int64, error) { n, err := outside.WriteTOCTo(w); return int64(n), err }); err != nil {
			return err
		}
	}
	result.TOC, result.DiffID = blob.TOCDigest().String(), blob.DiffID().String()
	return nil
}

func writeTo(path string, write func(io.Writer) (int64, error)) (int64, error) {
	file, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	size, err := write(file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return size, err
}
