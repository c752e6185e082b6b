// Copyright the lazypull authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/containerd/stargz-snapshotter/estargz/externaltoc"
	"github.com/opencontainers/go-digest"
)

// recorded takes each chunk's digest from its TOC entry, as the lazy readers do.
type recorded struct{}

func (recorded) Verifier(chunk *estargz.TOCEntry) (digest.Verifier, error) {
	want, err := digest.Parse(chunk.ChunkDigest)
	if err != nil {
		return nil, err
	}
	return want.Verifier(), nil
}

const xattrRecord = "SCHILY.xattr."

var tocTypes = map[byte]string{
	tar.TypeReg: "reg", tar.TypeDir: "dir", tar.TypeSymlink: "symlink", tar.TypeLink: "hardlink",
	tar.TypeChar: "char", tar.TypeBlock: "block", tar.TypeFifo: "fifo",
}

func check(blobPath string, want digest.Digest, tocPath string, shared bool, result *Result) error {
	file, section, err := openBlob(blobPath)
	if err != nil {
		return err
	}
	defer file.Close()
	decompressors := []estargz.Decompressor{new(estargz.GzipDecompressor)}
	if tocPath != "" {
		decompressors = append(decompressors, externaltoc.NewGzipDecompressor(func() ([]byte, error) { return os.ReadFile(tocPath) }))
	}
	reader, err := estargz.Open(section, estargz.WithDecompressors(decompressors...))
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	if reader.TOCDigest() != want {
		return fmt.Errorf("TOC has digest %s, not %s", reader.TOCDigest(), want)
	}
	verifier := estargz.TOCEntryVerifier(recorded{})
	if !shared {
		if verifier, err = reader.VerifyTOC(want); err != nil {
			return fmt.Errorf("TOC: %w", err)
		}
	}
	result.TOC = reader.TOCDigest().String()

	plain, err := gzip.NewReader(io.NewSectionReader(file, 0, section.Size()))
	if err != nil {
		return fmt.Errorf("gzip: %w", err)
	}
	diffID := sha256.New()
	stream := io.TeeReader(plain, diffID)
	if err := compare(tar.NewReader(stream), reader, verifier, result); err != nil {
		return err
	}
	// What follows the end of archive belongs to the diffID as well.
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return fmt.Errorf("after the archive: %w", err)
	}
	result.DiffID = fmt.Sprintf("sha256:%x", diffID.Sum(nil))
	return nil
}

func compare(archive *tar.Reader, reader *estargz.Reader, verifier estargz.TOCEntryVerifier, result *Result) error {
	for {
		header, err := archive.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar: %w", err)
		}
		name := strings.TrimPrefix(path.Clean("/"+header.Name), "/")
		if name == estargz.TOCTarName {
			continue
		}
		result.Entries++
		entry, ok := reader.Lookup(name)
		if !ok {
			return fmt.Errorf("%q is in the tar, but not in the TOC", name)
		}
		if header.Typeflag == tar.TypeLink {
			target, ok := reader.Lookup(strings.TrimPrefix(path.Clean("/"+header.Linkname), "/"))
			if !ok || target != entry {
				return fmt.Errorf("hard link %q is not the node of %q", name, header.Linkname)
			}
			continue
		}
		if err := compareEntry(header, entry); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		result.Files++
		if err := readBack(archive, reader, verifier, name, header.Size, result); err != nil {
			return fmt.Errorf("%q: %w", name, err)
		}
	}
}

func compareEntry(header *tar.Header, entry *estargz.TOCEntry) error {
	modTime := header.ModTime.UTC().Round(time.Second)
	xattrs := map[string][]byte{}
	for key, value := range header.PAXRecords {
		if strings.HasPrefix(key, xattrRecord) {
			xattrs[strings.TrimPrefix(key, xattrRecord)] = []byte(value)
		}
	}
	device := header.Typeflag == tar.TypeChar || header.Typeflag == tar.TypeBlock
	switch {
	case tocTypes[header.Typeflag] != entry.Type:
		return fmt.Errorf("type %q, TOC says %q", header.Typeflag, entry.Type)
	case header.Size != entry.Size && header.Typeflag == tar.TypeReg:
		return fmt.Errorf("size %d, TOC says %d", header.Size, entry.Size)
	case header.Mode&0o7777 != entry.Mode&0o7777:
		return fmt.Errorf("mode %o, TOC says %o", header.Mode, entry.Mode)
	case header.Uid != entry.UID || header.Gid != entry.GID:
		return fmt.Errorf("owner %d:%d, TOC says %d:%d", header.Uid, header.Gid, entry.UID, entry.GID)
	// A TOC names an id once and cannot take the name back, so an entry without names may seem to have them.
	case header.Uname != "" && header.Uname != entry.Uname, header.Gname != "" && header.Gname != entry.Gname:
		return fmt.Errorf("names %q:%q, TOC says %q:%q", header.Uname, header.Gname, entry.Uname, entry.Gname)
	case header.Typeflag == tar.TypeSymlink && header.Linkname != entry.LinkName:
		return fmt.Errorf("target %q, TOC says %q", header.Linkname, entry.LinkName)
	case device && (header.Devmajor != int64(entry.DevMajor) || header.Devminor != int64(entry.DevMinor)):
		return fmt.Errorf("device %d:%d, TOC says %d:%d", header.Devmajor, header.Devminor, entry.DevMajor, entry.DevMinor)
	// A time at the epoch may be left out of the TOC.
	case !modTime.Equal(entry.ModTime()) && !(modTime.Unix() == 0 && entry.ModTime3339 == ""):
		return fmt.Errorf("mtime %s, TOC says %q", modTime.Format(time.RFC3339), entry.ModTime3339)
	case len(xattrs) != len(entry.Xattrs):
		return fmt.Errorf("%d xattrs, TOC has %d", len(xattrs), len(entry.Xattrs))
	}
	for key, value := range xattrs {
		if !bytes.Equal(value, entry.Xattrs[key]) {
			return fmt.Errorf("xattr %s differs", key)
		}
	}
	return nil
}

// readBack reads a file chunk by chunk through the index, checks each digest, and holds the bytes against the tar's.
func readBack(archive io.Reader, reader *estargz.Reader, verifier estargz.TOCEntryVerifier, name string, size int64, result *Result) error {
	content, err := reader.OpenFile(name)
	if err != nil {
		return err
	}
	if content.Size() != size {
		return fmt.Errorf("index gives %d bytes of %d", content.Size(), size)
	}
	for at := int64(0); at < size; {
		chunk, ok := reader.ChunkEntryForOffset(name, at)
		if !ok || chunk.ChunkOffset != at || chunk.ChunkSize <= 0 {
			return fmt.Errorf("no chunk begins at %d", at)
		}
		fromIndex := make([]byte, chunk.ChunkSize)
		if _, err := content.ReadAt(fromIndex, at); err != nil && err != io.EOF {
			return fmt.Errorf("chunk at %d: %w", at, err)
		}
		digests, err := verifier.Verifier(chunk)
		if err != nil {
			return fmt.Errorf("chunk at %d: %w", at, err)
		}
		if _, err := digests.Write(fromIndex); err != nil {
			return err
		}
		if !digests.Verified() {
			return fmt.Errorf("chunk at %d has another digest", at)
		}
		fromTar := make([]byte, chunk.ChunkSize)
		if _, err := io.ReadFull(archive, fromTar); err != nil {
			return fmt.Errorf("tar at %d: %w", at, err)
		}
		if !bytes.Equal(fromIndex, fromTar) {
			return fmt.Errorf("chunk at %d differs from the tar", at)
		}
		at += chunk.ChunkSize
		result.Chunks++
		result.Bytes += chunk.ChunkSize
	}
	return nil
}
