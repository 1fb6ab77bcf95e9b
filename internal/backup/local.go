package backup

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/internal/natsd"
)

// Local starts the NATS server of hark serve on a data folder, without hark. It returns a connection to the server, and a
// function that stops both. No other program can connect. Local locks the folder, so that no hark can use it meanwhile. It
// blocks until the server is ready.
//
// Errors: an [*Error] with the code data_in_use, or what went wrong.
func Local(data string, log *slog.Logger) (nc *nats.Conn, stop func(), err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	lock := flock.New(filepath.Join(data, "lock"))
	got, err := lock.TryLock()
	if err != nil {
		return nil, nil, fmt.Errorf("backup: %w", err)
	}
	if !got {
		return nil, nil, newError("data_in_use", "Another hark uses the data folder %s; stop it first.", data)
	}
	ns, err := natsd.Start(natsd.Options{Dir: filepath.Join(data, "nats"), Logger: log})
	if err != nil {
		_ = lock.Unlock()
		return nil, nil, err
	}
	stop = func() {
		if nc != nil {
			nc.Close()
		}
		ns.Stop()
		_ = lock.Unlock()
	}
	if nc, err = ns.Connect(nats.Name("hark backup")); err != nil {
		stop()
		return nil, nil, err
	}
	return nc, stop, nil
}
