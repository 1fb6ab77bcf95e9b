package joblog_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/hark-jobs/hark/internal/joblog"
)

const defaultNS = joblog.DefaultNamespace

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
