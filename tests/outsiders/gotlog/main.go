// Command gotlog audits a transparency log with code that its author did not write: the packages note and tlog,
// which the go command uses to check the Go checksum database.
//
//	gotlog SOURCE VKEYFILE [PROOF...]
//
// SOURCE is a directory or an http URL laid out as C2SP tlog-tiles says. The checkpoint's signature is checked
// with the verifier key in VKEYFILE, its root is derived again from the tiles, every entry of every bundle is
// hashed and compared with the tiles, and every *.tlog-proof (those named, and those under SOURCE/proofs when it
// is a directory) must lead from its entry to the root of the checkpoint inside it.
//
// Exit status: 0 all of it holds, 1 the arguments or a file could not be used, 2 something does not verify.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A refusal says which part of the log does not verify, and why.
type refusal struct{ place, reason string }

func (r refusal) Error() string { return "FAIL " + r.place + ": " + r.reason }

func refuse(place, format string, values ...interface{}) error {
	return refusal{place, fmt.Sprintf(format, values...)}
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: gotlog SOURCE VKEYFILE [PROOF...]")
		os.Exit(1)
	}
	report, err := audit(os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Println(err)
		var refused refusal
		if errors.As(err, &refused) {
			os.Exit(2)
		}
		os.Exit(1)
	}
	fmt.Println(report)
}

// audit runs every check and describes what was checked.
func audit(location, vkeyFile string, proofs []string) (string, error) {
	text, err := os.ReadFile(vkeyFile)
	if err != nil {
		return "", err
	}
	// The second line is the ML-DSA-44 key, which that package does not know.
	verifier, err := note.NewVerifier(strings.SplitN(string(text), "\n", 2)[0])
	if err != nil {
		return "", refuse(vkeyFile, "%v", err)
	}
	src := open(location)
	signed, err := src.read("checkpoint")
	if err != nil {
		return "", err
	}
	head, err := parseCheckpoint("checkpoint", signed, verifier)
	if err != nil {
		return "", err
	}
	log := &tiledLog{source: src, head: head}
	if err := log.checkRoot(); err != nil {
		return "", err
	}
	if err := log.checkEntries(); err != nil {
		return "", err
	}
	if dir, ok := src.(directory); ok {
		found, err := filepath.Glob(filepath.Join(string(dir), "proofs", "*.tlog-proof"))
		if err != nil {
			return "", err
		}
		proofs = append(proofs, found...)
	}
	sort.Strings(proofs)
	for _, path := range proofs {
		if err := log.checkProof(path, verifier); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("OK origin=%s size=%d root=%s entries=%d proofs=%d",
		head.origin, head.tree.N, head.tree.Hash, len(log.entries), len(proofs)), nil
}
