// Package keyring reads and changes the secrets of a deployment, as they stand in
// its secret file. It is pure: it opens no file and draws no secret.
//
// The file is text. Each line that is neither empty nor begins with "#" is a
// secret of 32 bytes or more, without the white space around it; or it is
//
//	digest-seed 0123456789abcdef
//
// at most once. The first secret signs, all of them verify. The seed keys the
// digests by which owners compare what they hold: it is the same on all nodes of
// all regions for as long as they hold anything, whatever becomes of the secrets.
// Without that line it is derived from the secret, which has to be the only one.
//
// A secret is replaced in three steps, and each has reached all nodes of all
// regions before the next one:
//
//	Add      a new one: everybody verifies it, nobody signs with it
//	Promote  it is the first now: everybody signs with it, the old one verifies
//	Retire   the old one, once nobody holds anything that it signed
//
// Invariants:
//
//	R1  No step changes the seed.
//	R2  Whatever one node signs in one step, all nodes verify that are in the
//	    same one, the one before or the one after.
package keyring

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/atolldb/atoll/crdt"
)

// The bounds of a secret file.
const (
	MinSecret = 32      // bytes
	MaxSecret = 1 << 10 // bytes
	// MaxSecrets at a time: each of them is tried on what clients send.
	MaxSecrets = 4
	// MaxFile in bytes.
	MaxFile = 16 << 10
)

const seedWord = "digest-seed"

// Ring is what a secret file says.
type Ring struct {
	// Seed of the digests.
	Seed uint64
	// Keys: the first one signs.
	Keys crdt.Keys
}

var (
	// ErrBusy says that a replacement is under way already.
	ErrBusy = errors.New("the file holds more than one secret: retire the old one first")
	// ErrSingle says that there is no other secret to go on to, or to do without.
	ErrSingle = errors.New("the file holds a single secret: add a new one first")
)

// Parse reads a secret file. Its errors name lines, never secrets.
func Parse(file []byte) (Ring, error) {
	var r Ring
	if len(file) > MaxFile {
		return r, fmt.Errorf("%d bytes, at most %d", len(file), MaxFile)
	}
	seeded := false
	for i, line := range bytes.Split(file, []byte("\n")) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if word, rest, _ := bytes.Cut(line, []byte(" ")); string(word) == seedWord {
			seed, err := strconv.ParseUint(string(rest), 16, 64)
			if err != nil || len(rest) != 16 || seeded {
				return Ring{}, fmt.Errorf("line %d: %s stands once, before 16 hexadecimal digits", i+1, seedWord)
			}
			r.Seed, seeded = seed, true
			continue
		}
		if len(line) < MinSecret || len(line) > MaxSecret {
			return Ring{}, fmt.Errorf("line %d: a secret has %d..%d bytes, not %d", i+1, MinSecret, MaxSecret, len(line))
		}
		for _, k := range r.Keys {
			if bytes.Equal(k, line) {
				return Ring{}, fmt.Errorf("line %d: this secret is there already", i+1)
			}
		}
		r.Keys = append(r.Keys, crdt.Secret(bytes.Clone(line)))
	}
	switch {
	case len(r.Keys) == 0:
		return Ring{}, errors.New("there is no secret in it")
	case len(r.Keys) > MaxSecrets:
		return Ring{}, fmt.Errorf("%d secrets, at most %d", len(r.Keys), MaxSecrets)
	case !seeded && len(r.Keys) > 1:
		return Ring{}, fmt.Errorf("several secrets, and no line %q: the digests' seed is that of the first secret there ever was", seedWord)
	case !seeded:
		r.Seed = seedOf(r.Keys[0])
	}
	return r, nil
}

// Format is a file that Parse reads as r.
func (r Ring) Format() []byte {
	var b strings.Builder
	b.WriteString("# Secrets of the deployment: the first one signs, all of them verify.\n")
	fmt.Fprintf(&b, "%s %016x\n", seedWord, r.Seed)
	for _, k := range r.Keys {
		b.Write(k)
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// Add returns r with a new secret that verifies only.
func (r Ring) Add(s crdt.Secret) (Ring, error) {
	if len(r.Keys) > 1 {
		return r, ErrBusy
	}
	next := Ring{r.Seed, append(slices.Clone(r.Keys), s)}
	read, err := Parse(next.Format())
	if err == nil && (len(read.Keys) != 2 || !bytes.Equal(read.Keys[1], s)) {
		err = errors.New("this cannot stand on a line as a secret")
	}
	if err != nil {
		return r, fmt.Errorf("add a secret: %w", err)
	}
	return read, nil
}

// Promote returns r with the last secret as the first one.
func (r Ring) Promote() (Ring, error) {
	last := len(r.Keys) - 1
	if last < 1 {
		return r, ErrSingle
	}
	r.Keys = append(crdt.Keys{r.Keys[last]}, r.Keys[:last]...)
	return r, nil
}

// Retire returns r with nothing but the secret that signs.
func (r Ring) Retire() (Ring, error) {
	if len(r.Keys) < 2 {
		return r, ErrSingle
	}
	r.Keys = crdt.Keys{r.Keys[0]}
	return r, nil
}

// Marks tell secrets apart, in order, and give nothing of them away: they are
// long, and nobody can guess them.
func (r Ring) Marks() []string {
	out := make([]string, len(r.Keys))
	for i, k := range r.Keys {
		sum := sha256.Sum256(append([]byte("atoll secret mark\x00"), k...))
		out[i] = hex.EncodeToString(sum[:4])
	}
	return out
}

// SeedMark tells seeds apart, and gives nothing away either.
func (r Ring) SeedMark() string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("atoll digest mark\x00"), r.Seed))
	return hex.EncodeToString(sum[:8])
}

func seedOf(s crdt.Secret) uint64 {
	sum := sha256.Sum256(append([]byte("atoll digest\x00"), s...))
	return binary.BigEndian.Uint64(sum[:])
}
