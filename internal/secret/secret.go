// Package secret reads passwords and keys that are given as they are or as the name of a file.
package secret

import (
	"bytes"
	"errors"
	"fmt"
	"os"
)

// maxBytes limits a file: what is larger is no secret.
const maxBytes = 64 << 10

// Secret is a secret, or the file that holds it. At most one of the two may be set.
type Secret struct {
	Value string
	File  string
}

// IsSet reports whether there is a secret at all.
func (s Secret) IsSet() bool { return s.Value != "" || s.File != "" }

// Read returns the secret; a file is read each time, so that one that was replaced is noticed. A line end after the
// secret is not part of it. It returns "" if nothing is set. Its errors never hold the secret.
func (s Secret) Read() (string, error) {
	if s.File == "" {
		return s.Value, nil
	}
	if s.Value != "" {
		return "", errors.New("secret: both a value and a file are given")
	}
	text, err := os.ReadFile(s.File)
	switch {
	case err != nil:
		return "", fmt.Errorf("secret: %w", err)
	case len(text) > maxBytes:
		return "", fmt.Errorf("secret: %s is larger than %d bytes", s.File, maxBytes)
	}
	text = bytes.TrimRight(text, "\r\n")
	if len(text) == 0 {
		return "", fmt.Errorf("secret: %s is empty", s.File)
	}
	return string(text), nil
}
