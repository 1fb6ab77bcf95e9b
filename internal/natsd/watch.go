package natsd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// watchPeriod is the interval of health checks.
const watchPeriod = time.Second

// probeBytes is the free disk space that a restart needs.
const probeBytes = 8 << 20

// Healthy returns nil, or why the server cannot store anything, such as a full disk, by the last check of [Server.Run]. It does not
// block.
func (s *Server) Healthy() error {
	if err := s.unhealthy.Load(); err != nil {
		return *err
	}
	return nil
}

// Reasons why nothing can be stored, which the errors of [Server.Healthy] and [Start] wrap.
var (
	// ErrNoRoom says that the disk is full.
	ErrNoRoom = errors.New("natsd: the disk is full")
	// ErrReadOnly says that the folder is not writable.
	ErrReadOnly = errors.New("natsd: the folder is read-only")
	// ErrUnusable says that JetStream does not start with the content of the folder.
	ErrUnusable = errors.New("natsd: JetStream does not start")
)

// Run checks the health of JetStream and writes the mark, once a second until ctx ends. After a failed write, mostly on a full
// disk, a stream refuses all writes until its server is restarted. So Run restarts the server when the disk is writable again.
// Refused writes were never acked, and connections reconnect by themselves. It always returns nil.
func (s *Server) Run(ctx context.Context) error {
	ticker := time.NewTicker(watchPeriod)
	defer ticker.Stop()
	for {
		s.check()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// check checks whether the server can store, and restarts it if that helps.
func (s *Server) check() {
	err, blocked := s.examine()
	if err == nil {
		s.suspect = suspicion{}
		s.unhealthy.Store(nil)
		s.keepMark()
		return
	}
	if !s.suspect.lasts(err) && !blocked {
		return
	}
	if s.unhealthy.Swap(&err) == nil {
		s.log.Error("nothing can be stored; retrying when the disk has space", "err", err)
	}
	if blocked {
		return
	}
	if err := s.restart(); err != nil {
		s.log.Error("restarting the NATS server failed; retrying", "err", err)
		return
	}
	s.log.Info("the NATS server was restarted, and can store again")
}

// suspicion is a failure that may pass by itself.
type suspicion struct {
	reason string
	since  time.Time
}

// notRecovered is what the server's health check says of a stream that it could not recover at its start, and also of one that is
// being created or deleted. createTime is how long the latter may take on a slow disk: a restart meanwhile loses the requests.
const (
	notRecovered = "could not be recovered"
	createTime   = 10 * time.Second
)

// lasts records a failure, and reports whether it is that of the check before and does not look like a stream that is being created.
func (s *suspicion) lasts(err error) bool {
	reason := err.Error()
	if errors.Is(err, ErrNoRoom) {
		reason = ErrNoRoom.Error() // without the bytes
	}
	if reason != s.reason {
		*s = suspicion{reason, time.Now()}
		return false
	}
	return !strings.Contains(reason, notRecovered) || time.Since(s.since) >= createTime
}

// examine returns why the server cannot store, nil if it can. blocked says that a restart would not help.
func (s *Server) examine() (err error, blocked bool) {
	ns := s.current()
	err = storeError(ns)
	used, most := storage(ns)
	if err == nil && used > most {
		// The server's limit is three quarters of the free and the used space at its start.
		err = fmt.Errorf("%w: the stored data has %d bytes, and the limit is %d", ErrNoRoom, used, most)
		blocked = Room(s.dir) < used/3+probeBytes
	}
	if err == nil {
		return nil, false
	}
	switch full := probe(s.dir); {
	case errors.Is(full, syscall.ENOSPC), errors.Is(full, syscall.EDQUOT):
		return fmt.Errorf("%w: %w", ErrNoRoom, err), true
	case errors.Is(full, syscall.EROFS), errors.Is(full, os.ErrPermission):
		return fmt.Errorf("%w: %w", ErrReadOnly, err), true
	case full != nil:
		return errors.Join(err, full), true
	}
	return err, blocked
}

// storage returns the stored bytes of JetStream, and their limit.
func storage(ns *server.Server) (used, most int64) {
	info, err := ns.Jsz(nil)
	if err != nil || info.Disabled {
		return 0, 0
	}
	return int64(info.Store), info.Config.MaxStore
}

// storeError returns why the server cannot store, nil if it can. It ignores the other errors of the server's health check, such as a
// slow response, which are no reason for a restart.
func storeError(ns *server.Server) error {
	for _, e := range ns.Healthz(&server.HealthzOptions{Details: true}).Errors {
		switch e.Type {
		case server.HealthzErrorJetStream, server.HealthzErrorStream:
			return errors.New("natsd: " + e.Error)
		}
	}
	return nil
}

// probe returns an error if probeBytes cannot be written to the disk.
func probe(dir string) error {
	path := filepath.Join(dir, "probe")
	defer os.Remove(path)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, probeBytes)); err != nil {
		return err
	}
	return f.Sync()
}
