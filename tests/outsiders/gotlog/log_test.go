package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const origin = "localhost/pcs/sample"

// sample is a log of our own making, so that the auditor is itself tested before it judges anybody.
type sample struct {
	dir    string
	vkey   string
	signer note.Signer
	stored []tlog.Hash
}

func (s *sample) ReadHashes(places []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(places))
	for i, place := range places {
		hashes[i] = s.stored[place]
	}
	return hashes, nil
}

func (s *sample) put(t *testing.T, name string, content []byte) {
	t.Helper()
	path := filepath.Join(s.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
}

// keys makes a signer and its verifier key from one seed byte.
func keys(t *testing.T, seed byte) (note.Signer, string) {
	t.Helper()
	private := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
	public, err := note.NewEd25519VerifierKey(origin, private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(public, "+")[1]
	secret := append([]byte{1}, private.Seed()...)
	signer, err := note.NewSigner(fmt.Sprintf("PRIVATE+KEY+%s+%s+%s", origin, hash, base64.StdEncoding.EncodeToString(secret)))
	if err != nil {
		t.Fatal(err)
	}
	return signer, public
}

func (s *sample) sign(t *testing.T, size int64, signer note.Signer) []byte {
	t.Helper()
	root, err := tlog.TreeHash(size, s)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return signed
}

func write(t *testing.T, size int64) *sample {
	t.Helper()
	s := &sample{dir: t.TempDir()}
	signer, public := keys(t, 7)
	s.signer = signer
	s.vkey = filepath.Join(s.dir, "log.vkey")
	s.put(t, "log.vkey", []byte(public+"\n"))
	var entries [][]byte
	for i := int64(0); i < size; i++ {
		entry := []byte(fmt.Sprintf(`{"outcome":"accepted","seq":%d}`, i))
		entries = append(entries, entry)
		hashes, err := tlog.StoredHashes(i, entry, s)
		if err != nil {
			t.Fatal(err)
		}
		s.stored = append(s.stored, hashes...)
	}
	for _, tile := range tlog.NewTiles(tileHeight, 0, size) {
		content, err := tlog.ReadTileData(tile, s)
		if err != nil {
			t.Fatal(err)
		}
		s.put(t, strings.Replace(tile.Path(), "tile/8/", "tile/", 1), content)
	}
	for first := int64(0); first < size; first += tileWidth {
		name, last := "tile/entries/"+numberPath(first/tileWidth), first+tileWidth
		if last > size {
			last = size
			name += fmt.Sprintf(".p/%d", size-first)
		}
		var bundle []byte
		for _, entry := range entries[first:last] {
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
		}
		s.put(t, name, bundle)
	}
	s.put(t, "checkpoint", s.sign(t, size, signer))
	for _, index := range []int64{0, size / 2, size - 1} {
		s.put(t, fmt.Sprintf("proofs/%d.tlog-proof", index), s.proof(t, size, index))
	}
	return s
}

func (s *sample) proof(t *testing.T, size, index int64) []byte {
	t.Helper()
	proof, err := tlog.ProveRecord(size, index, s)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("c2sp.org/tlog-proof@v1\nextra e30=\nindex %d\n", index)
	for _, hash := range proof {
		text += hash.String() + "\n"
	}
	return append([]byte(text+"\n"), s.sign(t, size, s.signer)...)
}

func (s *sample) audit() (string, error) { return audit(s.dir, s.vkey, nil) }

func TestHonestLogs(t *testing.T) {
	for _, size := range []int64{1, 2, 255, 256, 257, 700} {
		report, err := write(t, size).audit()
		if err != nil {
			t.Fatalf("%d entries: %v", size, err)
		}
		if want := fmt.Sprintf("size=%d ", size); !strings.Contains(report, want) {
			t.Errorf("%q lacks %q", report, want)
		}
	}
}

func TestProofOfAnOlderCheckpoint(t *testing.T) {
	s := write(t, 700)
	s.put(t, "proofs/older.tlog-proof", s.proof(t, 300, 299))
	if _, err := s.audit(); err != nil {
		t.Fatal(err)
	}
}

// TestTampering changes one thing of an honest log at a time. Each must be refused, and the place named.
func TestTampering(t *testing.T) {
	flip := func(name string, at int) func(*testing.T, *sample) {
		return func(t *testing.T, s *sample) {
			content, err := os.ReadFile(filepath.Join(s.dir, filepath.FromSlash(name)))
			if err != nil {
				t.Fatal(err)
			}
			if at < 0 {
				at += len(content)
			}
			content[at] ^= 1
			s.put(t, name, content)
		}
	}
	cases := map[string]struct {
		tamper func(*testing.T, *sample)
		place  string
	}{
		"a byte of an entry":       {flip("tile/entries/001", 40), "tile/entries/001 entry 257"},
		"a length of an entry":     {flip("tile/entries/000", 1), "tile/entries/000 entry 0"},
		"a byte of a full tile":    {flip("tile/0/001", 5), "tile"},
		"a byte of a partial tile": {flip("tile/0/002.p/188", 5), "tile"},
		"a byte of an upper tile":  {flip("tile/1/000.p/2", 33), "tile"},
		"the size":                 {flip("checkpoint", len(origin)+1), "checkpoint"},
		"a byte of the signature":  {flip("checkpoint", -10), "checkpoint"},
		"a hash of a proof":        {flip("proofs/350.tlog-proof", 60), "proofs/350.tlog-proof"},
		"bytes after a bundle": {func(t *testing.T, s *sample) {
			path := filepath.Join(s.dir, "tile/entries/002.p/188")
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			s.put(t, "tile/entries/002.p/188", append(content, 0, 0))
		}, "tile/entries/002.p/188"},
		"a bundle cut short": {func(t *testing.T, s *sample) {
			s.put(t, "tile/entries/002.p/188", []byte{0, 9, 1})
		}, "tile/entries/002.p/188"},
		"a bundle gone": {func(t *testing.T, s *sample) {
			if err := os.Remove(filepath.Join(s.dir, "tile/entries/001")); err != nil {
				t.Fatal(err)
			}
		}, "tile/entries/001"},
		"a signature by another key": {func(t *testing.T, s *sample) {
			forger, _ := keys(t, 8)
			s.put(t, "checkpoint", s.sign(t, 700, forger))
		}, "checkpoint"},
		"a proof signed by another key": {func(t *testing.T, s *sample) {
			s.signer, _ = keys(t, 8)
			s.put(t, "proofs/0.tlog-proof", s.proof(t, 700, 0))
		}, "proofs/0.tlog-proof"},
		"a proof for another entry": {func(t *testing.T, s *sample) {
			text := string(s.proof(t, 700, 3))
			s.put(t, "proofs/3.tlog-proof", []byte(strings.Replace(text, "index 3\n", "index 4\n", 1)))
		}, "proofs/3.tlog-proof"},
		"a proof with one hash too many": {func(t *testing.T, s *sample) {
			text := string(s.proof(t, 700, 0))
			extra := tlog.RecordHash([]byte("extra")).String()
			s.put(t, "proofs/0.tlog-proof", []byte(strings.Replace(text, "\n\n", "\n"+extra+"\n\n", 1)))
		}, "proofs/0.tlog-proof"},
	}
	for name, c := range cases {
		name, c := name, c
		t.Run(name, func(t *testing.T) {
			s := write(t, 700)
			c.tamper(t, s)
			report, err := s.audit()
			var refused refusal
			if !errors.As(err, &refused) {
				t.Fatalf("not refused: %q %v", report, err)
			}
			if !strings.Contains(refused.place, c.place) {
				t.Errorf("refused at %q, expected %q (%s)", refused.place, c.place, refused.reason)
			}
		})
	}
}
