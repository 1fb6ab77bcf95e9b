package hark

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
)

// A cluster that is busy with its start says for a while what would be final elsewhere.
func TestPasses(t *testing.T) {
	for _, c := range []struct {
		code, errCode int
		want          bool
	}{
		{http.StatusNotFound, 10059, true}, // a stream that is being created
		{http.StatusBadRequest, 10005, true},
		{http.StatusServiceUnavailable, 10008, true},
		{http.StatusInternalServerError, 10074, false},
		{http.StatusBadRequest, 10052, false},
	} {
		err := fmt.Errorf("jobs: setup: %w", &jetstream.APIError{Code: c.code, ErrorCode: jetstream.ErrorCode(c.errCode)})
		if got := passes(err); got != c.want {
			t.Errorf("%v passes: %v", err, got)
		}
	}
}
