// Package deploy_test holds what is deployed against the real program: every command, flag and variable that the files
// here name, and docker-compose.yml by running it.
package deploy_test

import (
	"os"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
)

func TestMain(m *testing.M) { os.Exit(harkproc.Main(m)) }
