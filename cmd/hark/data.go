package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// secretFile is where, in the data folder, a server without a key keeps the secret it signs with.
const secretFile = "secret"

// DefaultDataDir returns the folder that hark keeps its data in if it is not told otherwise, whether it is
// there or not.
func DefaultDataDir() (string, error) {
	dir, err := dataHome(runtime.GOOS, os.Getenv, os.UserHomeDir)
	if err != nil {
		return "", fmt.Errorf("find the data folder (say where with --data): %w", err)
	}
	return filepath.Join(dir, "hark"), nil
}

// dataHome returns the folder in which programs keep a user's data on the system. A relative
// XDG_DATA_HOME counts as none, as its specification wants.
func dataHome(system string, getenv func(string) string, userHome func() (string, error)) (string, error) {
	switch system {
	case "windows":
		if dir := getenv("LocalAppData"); dir != "" {
			return dir, nil
		}
		return "", errors.New("%LocalAppData% is not set")
	case "darwin":
		home, err := userHome()
		return filepath.Join(home, "Library", "Application Support"), err
	}
	if dir := getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home, err := userHome()
	return filepath.Join(home, ".local", "share"), err
}
