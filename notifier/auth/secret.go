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

// LoadSecret reads the secret in a file of [LoadOrCreateSecret]. If the file does not exist, the error is
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

// LoadOrCreateSecret reads the secret in the file. If the file does not exist, it creates it with a random secret, and its
// folder, readable by its owner alone. Several processes that do so at a time get the same secret, and never a partial one.
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
	// A link, unlike a rename, does not replace the file of another process.
	if err := os.Link(tmp.Name(), path); err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	// Some file systems do not support links. There the last of several processes wins. The caller reads the file again,
	// which leaves a race of a few microseconds at the first start.
	return os.Rename(tmp.Name(), path)
}
