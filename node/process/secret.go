package process

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atolldb/atoll/node/keyring"
	"github.com/atolldb/atoll/node/storage"
)

const (
	// madeSecret is the file of a secret that a node made itself.
	madeSecret = "secret"
	// seedMark is the file beside the store that says which seed its digests
	// were made with.
	seedMark = "digest-mark"
	// secretBeat is how often the secret file is looked at.
	secretBeat = 2 * time.Second
)

// ErrSecretChanged says that a data directory was made with another secret.
var ErrSecretChanged = errors.New("the secret is not the one that this data directory was made with")

func (c *Config) secretFile() string {
	if c.SecretFile == "" {
		return filepath.Join(c.DataDir, madeSecret)
	}
	return c.SecretFile
}

// loadSecrets reads the secrets of the deployment, or makes that of a single
// node.
func loadSecrets(c *Config) (keyring.Ring, error) {
	file := c.secretFile()
	if c.SecretFile == "" {
		if err := makeSecret(file); err != nil {
			return keyring.Ring{}, fmt.Errorf("make secret: %w", err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return keyring.Ring{}, fmt.Errorf("read secret (secret_file): %w", err)
	}
	ring, err := keyring.Parse(b)
	if err != nil {
		return ring, Problems{{"secret_file", "must hold a secret of at least 32 bytes a line", fmt.Sprintf("%s: %v", file, err)}}
	}
	return ring, nil
}

// makeSecret writes a random secret unless there is one.
func makeSecret(file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(rand.Text() + rand.Text() + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

// besides is the part of an engine that keeps small files.
type besides interface {
	WriteBeside(name string, data []byte) error
	ReadBeside(name string) ([]byte, error)
}

// checkSeed compares a hash of the digests' seed with the one that was left at
// the first start. With another seed every digest in the store would be wrong.
func checkSeed(store besides, ring keyring.Ring) error {
	mark := []byte(ring.SeedMark())
	have, err := store.ReadBeside(seedMark)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		if err := store.WriteBeside(seedMark, mark); err != nil {
			return fmt.Errorf("mark data directory with its secret: %w", err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("check secret: %w", err)
	case !bytes.Equal(have, mark):
		return ErrSecretChanged
	}
	return nil
}

// watchSecrets has the node go by what the secret file says, until ctx ends. What
// cannot be read, or has another seed, is told once and changes nothing.
func (p *Process) watchSecrets(ctx context.Context, ring keyring.Ring) {
	p.tellSecrets(ring)
	beat := time.NewTicker(secretBeat)
	defer beat.Stop()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
		}
		next, err := loadSecrets(&p.cfg)
		if err == nil && next.Seed != ring.Seed {
			err = ErrSecretChanged
		}
		switch {
		case err != nil && err.Error() != told:
			told = err.Error()
			p.log.Error("the secret file is not usable: the secrets that were read before hold", "error", err)
		case err == nil:
			told = ""
			if !bytes.Equal(next.Format(), ring.Format()) {
				p.node.Load().SetKeys(next.Keys)
				p.tellSecrets(next)
			}
			ring = next
		}
	}
}

func (p *Process) tellSecrets(ring keyring.Ring) {
	marks := ring.Marks()
	p.secrets.Store(&marks)
	p.log.Info("secrets in force", "signs", marks[0], "verify", strings.Join(marks, ","))
}

// Secrets are the marks of the secrets in force, the one that signs first; see
// keyring.Ring. There are none before the node is made.
func (p *Process) Secrets() []string {
	if marks := p.secrets.Load(); marks != nil {
		return *marks
	}
	return nil
}
