package joblog_test

import (
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
)

const defaultNS = joblog.DefaultNamespace

func TestMain(m *testing.M) { natstest.VerifyTestMain(m) }
