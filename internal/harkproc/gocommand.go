package harkproc

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
)

// GoEnv returns the environment for a go command that builds programs in a test. They are built as those of Dockerfile are, so that
// tests run what is shipped, and all tests share one set of compiled packages.
func GoEnv() []string {
	return append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+os.Getenv("GOFLAGS")+" -trimpath '-ldflags=-s -w'")
}

// output runs the go command with the environment of [GoEnv].
func output(args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = GoEnv()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s%s", args[0], err, out, stderr.Bytes())
	}
	return out, nil
}
