// Copyright the lazypull authors.
// SPDX-License-Identifier: Apache-2.0

// Command nydus-converter converts an image of an OCI image layout with containerd's own converter for Nydus, the one behind nydusify and
// acceleration-service. The layout is the content store; the new blobs are put into it.
//
//	nydus-converter [-compressor zstd] [-chunk-size 0x100000] [-zran] BUILDER LAYOUT MANIFEST-DIGEST
//
// BUILDER is nydus-image. Prints the new manifest's descriptor.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/images/converter"
	"github.com/containerd/containerd/v2/plugins/content/local"
	nydus "github.com/containerd/nydus-snapshotter/pkg/converter"
	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func main() {
	compressor := flag.String("compressor", "zstd", "")
	chunkSize := flag.String("chunk-size", "0x100000", "")
	zran := flag.Bool("zran", false, "keep the gzip layers")
	flag.Parse()
	if flag.NArg() != 3 {
		fmt.Fprintln(os.Stderr, "usage: nydus-converter [flags] BUILDER LAYOUT MANIFEST-DIGEST")
		os.Exit(2)
	}
	made, err := convert(context.Background(), flag.Arg(0), flag.Arg(1), digest.Digest(flag.Arg(2)), *compressor, *chunkSize, *zran)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(made)
}

func convert(ctx context.Context, builder, layout string, manifest digest.Digest, compressor, chunkSize string, zran bool) (*ocispec.Descriptor, error) {
	store, err := local.NewLabeledStore(layout, &labels{of: map[digest.Digest]map[string]string{}})
	if err != nil {
		return nil, err
	}
	file, err := os.Stat(filepath.Join(layout, "blobs", manifest.Algorithm().String(), manifest.Encoded()))
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp("", "nydus-converter-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	layers := nydus.LayerConvertFunc(nydus.PackOption{WorkDir: work, BuilderPath: builder, FsVersion: "6", Compressor: compressor, ChunkSize: chunkSize, OCIRef: zran})
	whole := nydus.ConvertHookFunc(nydus.MergeOption{WorkDir: work, BuilderPath: builder, FsVersion: "6", OCI: true, OCIRef: zran})
	image := converter.IndexConvertFuncWithHook(layers, true, platforms.All, converter.ConvertHooks{PostConvertHook: whole})
	return image(ctx, store, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: manifest, Size: file.Size()})
}

// labels of contents, for as long as the process lives.
type labels struct {
	lock sync.Mutex
	of   map[digest.Digest]map[string]string
}

func (l *labels) Get(content digest.Digest) (map[string]string, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	copied := map[string]string{}
	for key, value := range l.of[content] {
		copied[key] = value
	}
	return copied, nil
}

func (l *labels) Set(content digest.Digest, values map[string]string) error {
	l.lock.Lock()
	defer l.lock.Unlock()
	l.of[content] = map[string]string{}
	for key, value := range values {
		l.of[content][key] = value
	}
	return nil
}

func (l *labels) Update(content digest.Digest, values map[string]string) (map[string]string, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	if l.of[content] == nil {
		l.of[content] = map[string]string{}
	}
	for key, value := range values {
		if value == "" {
			delete(l.of[content], key)
		} else {
			l.of[content][key] = value
		}
	}
	copied := map[string]string{}
	for key, value := range l.of[content] {
		copied[key] = value
	}
	return copied, nil
}
