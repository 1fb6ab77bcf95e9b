// Package deploy_test checks the files of this folder against the real program: every command, flag and variable, and docker-compose.yml by running it.
package deploy_test

import (
	"os"
	"testing"

	"github.com/hark-jobs/hark/internal/harkproc"
)

func TestMain(m *testing.M) { os.Exit(harkproc.Main(m)) }
