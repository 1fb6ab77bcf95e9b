package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// LoadSecret reads the secret that [LoadOrCreateSecret] wrote. Without the file the error is an
// [fs.ErrNotExist].
func LoadSecret(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("auth: read the secret: %w", err)
	}
	secret := bytes.TrimSpace(text)
	if err := checkSecret(secret); err != nil {
		return nil, fmt.Errorf("auth: %s: %w", path, err)
	}
	return secret, nil
}

// LoadOrCreateSecret reads the secret in the file, or puts a random one there first, with its folder if
// need be, readable by its owner alone. Of several processes that do so at once all get the same secret,
// and none ever reads half of one.
func LoadOrCreateSecret(path string) ([]byte, error) {
	secret, err := LoadSecret(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	if err := createSecret(path); err != nil {
		return nil, fmt.Errorf("auth: create the secret: %w", err)
	}
	return LoadSecret(path)
}

func createSecret(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, ".secret-*") // made with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	random := make([]byte, 32)
	rand.Read(random) // never fails
	_, err = tmp.WriteString(base64.RawURLEncoding.EncodeToString(random) + "\n")
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	// A link, unlike a rename, does not replace what another process was quicker to put there.
	if err := os.Link(tmp.Name(), path); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	// Some file systems know no links. There the last of several processes would win; the caller reads
	// the file again, which leaves a race of a few microseconds at the very first start.
	return os.Rename(tmp.Name(), path)
}
