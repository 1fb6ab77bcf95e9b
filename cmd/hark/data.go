package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
)

// secretFile is the file in the data folder with the secret of a server that was given no key.
const secretFile = "secret"

// DefaultDataDir returns the default data folder, which may not exist.
func DefaultDataDir() (string, error) {
	dir, err := dataHome(runtime.GOOS, os.Getenv, os.UserHomeDir)
	if err != nil {
		return "", fmt.Errorf("find the data folder (give it with --data): %w", err)
	}
	return filepath.Join(dir, "hark"), nil
}

// dataHome returns the system's folder for a user's data. It ignores a relative XDG_DATA_HOME, as the specification demands.
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
