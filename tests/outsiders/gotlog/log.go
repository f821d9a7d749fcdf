package main

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// A checkpoint is a verified tree head.
type checkpoint struct {
	origin string
	tree   tlog.Tree
}

// parseCheckpoint opens a signed note and reads the tree head in it. Three lines exactly: extension lines would
// be bytes that nobody checks.
func parseCheckpoint(place string, signed []byte, verifier note.Verifier) (checkpoint, error) {
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return checkpoint{}, refuse(place, "signature: %v", err)
	}
	lines := strings.Split(strings.TrimSuffix(opened.Text, "\n"), "\n")
	if len(lines) != 3 {
		return checkpoint{}, refuse(place, "has %d lines, not origin, size and root", len(lines))
	}
	if lines[0] != verifier.Name() {
		return checkpoint{}, refuse(place, "origin %q is not the key's name %q", lines[0], verifier.Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return checkpoint{}, refuse(place, "size %q", lines[1])
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return checkpoint{}, refuse(place, "root %q", lines[2])
	}
	head := checkpoint{origin: lines[0], tree: tlog.Tree{N: size}}
	copy(head.tree.Hash[:], root)
	return head, nil
}

// A tiledLog is one tree head with the tiles and bundles that must add up to it.
type tiledLog struct {
	source  source
	head    checkpoint
	entries [][]byte
}

func (l *tiledLog) Height() int { return tileHeight }

func (l *tiledLog) SaveTiles([]tlog.Tile, [][]byte) {}

func (l *tiledLog) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	read := make([][]byte, 0, len(tiles))
	for _, tile := range tiles {
		// The checksum database puts the tile height into the path; C2SP tlog-tiles fixes it and leaves it out.
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		bytes, err := l.readPartial(path, tile.W*tlog.HashSize)
		if err != nil {
			return nil, err
		}
		read = append(read, bytes)
	}
	return read, nil
}

// readPartial reads a file that may be partial. A log that has grown since may keep the full one only.
func (l *tiledLog) readPartial(path string, want int) ([]byte, error) {
	bytes, err := l.source.read(path)
	if cut := strings.Index(path, ".p/"); err != nil && cut >= 0 {
		full, fullErr := l.source.read(path[:cut])
		if fullErr == nil && len(full) >= want {
			return full[:want], nil
		}
	}
	return bytes, err
}

// checkRoot derives the root again from the tiles.
func (l *tiledLog) checkRoot() error {
	if l.head.tree.N == 0 {
		return nil
	}
	root, err := tlog.TreeHash(l.head.tree.N, tlog.TileHashReader(l.head.tree, l))
	if err != nil {
		return refuse("tile", "%v", err)
	}
	if root != l.head.tree.Hash {
		return refuse("checkpoint", "root %v, the tiles give %v", l.head.tree.Hash, root)
	}
	return nil
}

// checkEntries hashes every entry of every bundle and compares it with the tiles, which the root authenticates.
func (l *tiledLog) checkEntries() error {
	hashes := tlog.TileHashReader(l.head.tree, l)
	for first := int64(0); first < l.head.tree.N; first += tileWidth {
		width := l.head.tree.N - first
		path := "tile/entries/" + numberPath(first/tileWidth)
		if width < tileWidth {
			path += fmt.Sprintf(".p/%d", width)
		} else {
			width = tileWidth
		}
		bundle, err := l.readPartial(path, 0)
		if err != nil {
			return refuse(path, "%v", err)
		}
		places := make([]int64, width)
		for i := range places {
			places[i] = tlog.StoredHashIndex(0, first+int64(i))
		}
		expected, err := hashes.ReadHashes(places)
		if err != nil {
			return refuse("tile/0/"+numberPath(first/tileWidth), "%v", err)
		}
		for i, want := range expected {
			entry, rest, ok := takeEntry(bundle)
			if !ok {
				return refuse(path, "ends inside entry %d", first+int64(i))
			}
			if got := tlog.RecordHash(entry); got != want {
				return refuse(fmt.Sprintf("%s entry %d", path, first+int64(i)), "hashes to %v, the tile says %v", got, want)
			}
			l.entries = append(l.entries, entry)
			bundle = rest
		}
		if len(bundle) != 0 {
			return refuse(path, "%d bytes after the last entry", len(bundle))
		}
	}
	return nil
}

// takeEntry splits the first entry off a bundle: a big-endian 16-bit length, then the bytes.
func takeEntry(bundle []byte) (entry, rest []byte, ok bool) {
	if len(bundle) < 2 {
		return nil, nil, false
	}
	length := int(binary.BigEndian.Uint16(bundle))
	if len(bundle) < 2+length {
		return nil, nil, false
	}
	return bundle[2 : 2+length], bundle[2+length:], true
}

// numberPath writes a tile number in groups of three digits, all but the last marked with an x.
func numberPath(number int64) string {
	path := fmt.Sprintf("%03d", number%1000)
	for number /= 1000; number > 0; number /= 1000 {
		path = fmt.Sprintf("x%03d/%s", number%1000, path)
	}
	return path
}

// checkProof reads a C2SP tlog-proof and follows it from its entry to the root in it. The line "extra" is not
// authenticated by the format and is not believed here.
func (l *tiledLog) checkProof(path string, verifier note.Verifier) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	parts := strings.SplitN(string(text), "\n\n", 2)
	lines := strings.Split(parts[0], "\n")
	if len(parts) != 2 || lines[0] != "c2sp.org/tlog-proof@v1" {
		return refuse(path, "is not a c2sp.org/tlog-proof@v1")
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return refuse(path, "has no index line")
	}
	index, err := strconv.ParseInt(strings.TrimPrefix(lines[0], "index "), 10, 64)
	if err != nil || index < 0 || index >= int64(len(l.entries)) {
		return refuse(path, "index %q of %d entries", lines[0], len(l.entries))
	}
	var proof tlog.RecordProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return refuse(path, "%v", err)
		}
		proof = append(proof, hash)
	}
	head, err := parseCheckpoint(path, []byte(parts[1]), verifier)
	if err != nil {
		return err
	}
	if err := tlog.CheckRecord(proof, head.tree.N, head.tree.Hash, index, tlog.RecordHash(l.entries[index])); err != nil {
		return refuse(path, "entry %d: %v", index, err)
	}
	return nil
}
