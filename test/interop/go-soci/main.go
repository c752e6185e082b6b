// Copyright the lazypull authors.
// SPDX-License-Identifier: Apache-2.0

// Command go-soci holds SOCI documents against the packages of soci-snapshotter.
//
//	go-soci build LAYER SPAN-SIZE ZTOC
//	go-soci check ZTOC LAYER
//	go-soci index MANIFEST
//	go-soci prefetch LIST
//
// build makes a zTOC as the soci command does, in UTC. check mounts a zTOC the way the snapshotter does, short of FUSE:
// decoder, span manager with digests, metadata database, and the file reader that holds each file's tar header against
// the zTOC; all files are then compared with the tar. index and prefetch decode a SOCI index manifest and a list of spans
// and encode them again, which has to give the same bytes. All print one JSON object; a disagreement is an "error" in it
// and status 1.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/awslabs/soci-snapshotter/soci"
	"github.com/awslabs/soci-snapshotter/ztoc"
	"github.com/awslabs/soci-snapshotter/ztoc/compression"
)

const buildTool = "AWS SOCI CLI v0.2"

// Result is what is printed.
type Result struct {
	Error   string `json:"error,omitempty"`
	Records int    `json:"records,omitempty"`
	Spans   int    `json:"spans,omitempty"`
	// Files read through the zTOC and compared, and their bytes.
	Files int   `json:"files,omitempty"`
	Bytes int64 `json:"bytes,omitempty"`
	// Type of a SOCI index, the layers that it has zTOCs for, and its subject.
	ArtifactType string   `json:"artifactType,omitempty"`
	Layers       []string `json:"layers,omitempty"`
	Subject      string   `json:"subject,omitempty"`
	// First and last spans of a prefetch list.
	Prefetch [][2]int `json:"prefetch,omitempty"`
}

func main() {
	time.Local = time.UTC
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
	switch {
	case len(args) == 4 && args[0] == "build":
		return build(args[1], args[2], args[3], result)
	case len(args) == 3 && args[0] == "check":
		return check(args[1], args[2], result)
	case len(args) == 2 && args[0] == "index":
		return index(args[1], result)
	case len(args) == 2 && args[0] == "prefetch":
		return prefetch(args[1], result)
	}
	return fmt.Errorf("usage: go-soci build|check|index|prefetch ...")
}

func build(layer, spanSize, path string, result *Result) error {
	size, err := strconv.ParseInt(spanSize, 10, 64)
	if err != nil {
		return err
	}
	algorithm, err := compressionOf(layer)
	if err != nil {
		return err
	}
	built, err := ztoc.NewBuilder(buildTool).BuildZtoc(layer, size, ztoc.WithCompression(algorithm))
	if err != nil {
		return err
	}
	encoded, _, err := ztoc.Marshal(built)
	if err != nil {
		return err
	}
	document, err := io.ReadAll(encoded)
	if err != nil {
		return err
	}
	result.Records, result.Spans = len(built.FileMetadata), len(built.SpanDigests)
	return os.WriteFile(path, document, 0o644)
}

func compressionOf(layer string) (string, error) {
	file, err := os.Open(layer)
	if err != nil {
		return "", err
	}
	defer file.Close()
	magic := make([]byte, 2)
	if _, err := io.ReadFull(file, magic); err != nil {
		return "", err
	}
	if bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return compression.Gzip, nil
	}
	return compression.Uncompressed, nil
}

func index(path string, result *Result) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var decoded soci.Index
	if err := soci.DecodeIndex(bytes.NewReader(document), &decoded); err != nil {
		return err
	}
	again, err := soci.MarshalIndex(&decoded)
	if err != nil {
		return err
	}
	if !bytes.Equal(document, again) {
		return fmt.Errorf("not canonical:\n%s\nencoded again:\n%s", document, again)
	}
	result.ArtifactType = decoded.ArtifactType
	if decoded.Subject != nil {
		result.Subject = decoded.Subject.Digest.String()
	}
	for _, blob := range decoded.Blobs {
		if blob.MediaType == soci.SociLayerMediaType {
			result.Layers = append(result.Layers, blob.Annotations[soci.IndexAnnotationImageLayerDigest])
		}
	}
	return nil
}

func prefetch(path string, result *Result) error {
	document, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	list, err := soci.UnmarshalPrefetchArtifact(bytes.NewReader(document))
	if err != nil {
		return err
	}
	encoded, _, err := soci.MarshalPrefetchArtifact(list)
	if err != nil {
		return err
	}
	again, err := io.ReadAll(encoded)
	if err != nil {
		return err
	}
	if !bytes.Equal(document, again) {
		return fmt.Errorf("%s is encoded again as %s", document, again)
	}
	for _, span := range list.PrefetchSpans {
		result.Prefetch = append(result.Prefetch, [2]int{int(span.StartSpan), int(span.EndSpan)})
	}
	return nil
}
