// Copyright the lazypull authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/awslabs/soci-snapshotter/cache"
	"github.com/awslabs/soci-snapshotter/fs/reader"
	spanmanager "github.com/awslabs/soci-snapshotter/fs/span-manager"
	"github.com/awslabs/soci-snapshotter/metadata"
	"github.com/awslabs/soci-snapshotter/ztoc"
	"github.com/awslabs/soci-snapshotter/ztoc/compression"
	"github.com/opencontainers/go-digest"
)

// content is what the tar says a path has in the end.
type content struct {
	kind byte
	// Of a regular file.
	size int64
	sum  [sha256.Size]byte
	// Of a hard link.
	target string
}

// mounted is a layer as the snapshotter holds it.
type mounted struct {
	metadata metadata.Reader
	reader   reader.Reader
	tree     map[string]content
	result   *Result
}

func check(ztocPath, layerPath string, result *Result) error {
	document, err := os.Open(ztocPath)
	if err != nil {
		return err
	}
	defer document.Close()
	decoded, err := ztoc.Unmarshal(document)
	if err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	layer, err := os.Open(layerPath)
	if err != nil {
		return err
	}
	defer layer.Close()
	info, err := layer.Stat()
	if err != nil {
		return err
	}
	if int64(decoded.CompressedArchiveSize) != info.Size() {
		return fmt.Errorf("zTOC is for a layer of %d bytes, not %d", decoded.CompressedArchiveSize, info.Size())
	}
	result.Records, result.Spans = len(decoded.FileMetadata), len(decoded.SpanDigests)
	tree, err := contents(layerPath, decoded.CompressionAlgorithm, result.Records)
	if err != nil {
		return err
	}
	if err := acrossSpans(decoded, layerPath, tree); err != nil {
		return err
	}

	section := io.NewSectionReader(layer, 0, info.Size())
	database, err := metadata.NewTempDbStore(section, decoded.TOC)
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	name := digest.FromString(layerPath)
	spans, err := spanmanager.New(decoded, section, cache.NewMemoryCache(), 0, name)
	if err != nil {
		return fmt.Errorf("spans: %w", err)
	}
	for id := compression.SpanID(0); id <= decoded.MaxSpanID; id++ {
		if err := spans.ResolveSpan(id); err != nil {
			return fmt.Errorf("span %d: %w", id, err)
		}
	}
	files, err := reader.NewReader(database, name, spans, false)
	if err != nil {
		return err
	}
	defer files.Close()
	walker := &mounted{database, files, tree, result}
	if err := walker.folder(database.RootID(), ""); err != nil {
		return err
	}
	for name, wanted := range tree {
		if wanted.kind != tar.TypeDir {
			return fmt.Errorf("%q is in the tar, but not in the zTOC", name)
		}
	}
	return nil
}

// contents reads the tar to its end and counts that it has as many entries as the zTOC.
func contents(layerPath, algorithm string, records int) (map[string]content, error) {
	layer, err := os.Open(layerPath)
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	var plain io.Reader = bufio.NewReader(layer)
	if algorithm == compression.Gzip {
		if plain, err = gzip.NewReader(plain); err != nil {
			return nil, err
		}
	}
	tree := map[string]content{}
	archive := tar.NewReader(plain)
	for count := 0; ; count++ {
		header, err := archive.Next()
		if err == io.EOF && count != records {
			return nil, fmt.Errorf("%d records for %d tar entries", records, count)
		}
		if err == io.EOF {
			return tree, nil
		}
		if err != nil {
			return nil, fmt.Errorf("tar: %w", err)
		}
		if header.Typeflag == tar.TypeXGlobalHeader {
			count--
			continue
		}
		entry := content{kind: header.Typeflag, target: clean(header.Linkname)}
		if entry.kind == tar.TypeCont {
			entry.kind = tar.TypeReg
		}
		if entry.kind == tar.TypeReg {
			sum := sha256.New()
			if entry.size, err = io.Copy(sum, archive); err != nil {
				return nil, fmt.Errorf("tar: %w", err)
			}
			copy(entry.sum[:], sum.Sum(nil))
		}
		tree[clean(header.Name)] = entry
	}
}

func clean(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// acrossSpans reads files of several spans through one inflate, as the zTOC package does it by itself.
func acrossSpans(decoded *ztoc.Ztoc, layerPath string, tree map[string]content) error {
	spans, err := decoded.Zinfo()
	if err != nil {
		return fmt.Errorf("checkpoints: %w", err)
	}
	defer spans.Close()
	last := map[string]ztoc.FileMetadata{}
	for _, record := range decoded.FileMetadata {
		last[clean(record.Name)] = record
	}
	for name, record := range last {
		end := record.UncompressedOffset + record.UncompressedSize
		if record.Type != "reg" || record.UncompressedSize == 0 || spans.UncompressedOffsetToSpanID(record.UncompressedOffset) == spans.UncompressedOffsetToSpanID(end-1) {
			continue
		}
		bytes, err := spans.ExtractDataFromFile(layerPath, record.UncompressedSize, record.UncompressedOffset)
		if err != nil {
			return fmt.Errorf("%q across spans: %w", name, err)
		}
		if sha256.Sum256(bytes) != tree[name].sum {
			return fmt.Errorf("%q across spans has other bytes", name)
		}
	}
	return nil
}

func (m *mounted) folder(id uint32, name string) error {
	var failed []error
	err := m.metadata.ForeachChild(id, func(base string, child uint32, mode os.FileMode) bool {
		// The database takes a record of the top folder for a child of itself.
		if base == "." {
			return true
		}
		if err := m.node(child, path.Join(name, base), mode); err != nil {
			failed = append(failed, err)
		}
		return len(failed) == 0
	})
	return errors.Join(append(failed, err)...)
}

func (m *mounted) node(id uint32, name string, mode os.FileMode) error {
	wanted, known := m.tree[name]
	delete(m.tree, name)
	if mode.IsDir() {
		return m.folder(id, name)
	}
	if !known {
		return fmt.Errorf("%q is in the zTOC, but not in the tar", name)
	}
	// A node of several names is met under each; its first may be gone already.
	if wanted.kind == tar.TypeLink {
		_, attributes, err := m.lookup(wanted.target)
		if err != nil || attributes.NumLink < 2 {
			return fmt.Errorf("hard link %q has no target %q", name, wanted.target)
		}
		return nil
	}
	if regular := wanted.kind == tar.TypeReg; regular != mode.IsRegular() {
		return fmt.Errorf("%q has mode %s and tar type %q", name, mode, wanted.kind)
	} else if !regular {
		return nil
	}
	file, err := m.reader.OpenFile(id)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	sum := sha256.New()
	size, err := io.Copy(sum, io.NewSectionReader(file, 0, wanted.size+1))
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	// Empty files are not read by the copy; reading nothing checks their header, too.
	if _, err := file.ReadAt(nil, 0); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if size != wanted.size || [sha256.Size]byte(sum.Sum(nil)) != wanted.sum {
		return fmt.Errorf("%q has other bytes: %d, the tar has %d", name, size, wanted.size)
	}
	m.result.Files++
	m.result.Bytes += size
	return nil
}

func (m *mounted) lookup(name string) (uint32, metadata.Attr, error) {
	id := m.metadata.RootID()
	attributes, err := m.metadata.GetAttr(id)
	for _, base := range strings.Split(name, "/") {
		if err != nil {
			break
		}
		id, attributes, err = m.metadata.GetChild(id, base)
	}
	return id, attributes, err
}
