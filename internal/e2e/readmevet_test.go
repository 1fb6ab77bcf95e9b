//go:build lint

package e2e_test

import (
	"strings"
	"testing"
)

// vet finds nothing in the Go of README. `make lint` runs this test: vet reads all dependencies once, which takes a new machine a
// minute and a half of CPU time, and `make lint` has done that before.
func TestReadmeIsVetted(t *testing.T) {
	p := newModule(t, t.TempDir(), strings.NewReplacer())
	p.run("mod", "tidy")
	p.run("vet", "./...")
}
