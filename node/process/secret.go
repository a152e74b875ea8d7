package process

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/atolldb/atoll/crdt"
	"github.com/atolldb/atoll/node/storage"
)

const (
	minSecret = 32
	// madeSecret is the file of a secret that a node made itself.
	madeSecret = "secret"
	// secretMark is the file beside the store that says which secret it was
	// made with.
	secretMark = "secret-mark"
)

// ErrSecretChanged says that a data directory was made with another secret.
var ErrSecretChanged = errors.New("the secret is not the one that this data directory was made with")

// loadSecret reads the secret of the deployment, or makes that of a single node.
func loadSecret(c *Config) (crdt.Secret, error) {
	file := c.SecretFile
	if file == "" {
		file = filepath.Join(c.DataDir, madeSecret)
		if err := makeSecret(file); err != nil {
			return nil, fmt.Errorf("make secret: %w", err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read secret (secret_file): %w", err)
	}
	secret := bytes.TrimSpace(b)
	if len(secret) < minSecret {
		return nil, Problems{{"secret_file", fmt.Sprintf("must hold at least %d bytes", minSecret), fmt.Sprintf("%d bytes in %s", len(secret), file)}}
	}
	return secret, nil
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

// checkSecret compares a hash of the secret with the one that was left at the
// first start. With another secret every digest in the store would be wrong,
// and every context a client holds.
func checkSecret(store besides, secret crdt.Secret) error {
	sum := sha256.Sum256(append([]byte("atoll secret mark\x00"), secret...))
	mark := []byte(hex.EncodeToString(sum[:8]))
	have, err := store.ReadBeside(secretMark)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		if err := store.WriteBeside(secretMark, mark); err != nil {
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
