package natsd

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// keeper reads and writes the mark of a folder. It is safe for concurrent use.
type keeper struct {
	dir  string
	boot string
	log  *slog.Logger

	positions func(*server.Server) (map[string]position, error) // [positions]

	mu     sync.Mutex
	before *mark  // of the last run; nil if there is none
	found  survey // of the folder before the server started
	mark   mark
	losses []Loss
	closed bool
	// restarted says that the server was restarted, and its positions are not compared with the mark yet.
	restarted bool
	// unwritten says that the mark on the disk is out of date.
	unwritten bool
}

// slowVerify is the duration from which verifying a folder is logged as Info.
const slowVerify = 5 * time.Second

// openKeeper verifies a folder whose server does not run. It writes damage to the mark before the server starts, since the
// server drops damaged messages silently.
func openKeeper(dir string, sync bool, log *slog.Logger) (*keeper, error) {
	k := &keeper{dir: dir, boot: bootID(), log: log, positions: positions}
	var err error
	if k.before, err = readMark(dir); err != nil {
		return nil, err
	}
	began := time.Now()
	if k.found, err = verify(dir); err != nil {
		return nil, err
	}
	level, took := slog.LevelDebug, time.Since(began)
	if took > slowVerify {
		level = slog.LevelInfo
	}
	log.Log(context.Background(), level, "stored data verified", "bytes", k.found.bytes, "took", took)
	// A run that syncs always must first sync what an earlier run has left unsynced.
	if sync && (k.before == nil || !k.before.Clean) {
		if err := syncAll(dir); err != nil {
			return nil, err
		}
	}
	if len(k.found.losses) > 0 {
		m := mark{}
		if k.before != nil {
			m = *k.before
		}
		m.Open = union(m.Open, k.found.losses)
		if err := m.write(dir); err != nil {
			return nil, err
		}
	}
	k.mark.Sync = sync
	return k, nil
}

// started compares the positions of the streams with the last mark, and writes a new mark. Nothing may be stored before that.
func (k *keeper) started(ns *server.Server) error {
	now, err := k.positions(ns)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.losses = union(nil, findLosses(k.before, k.found, now, k.boot))
	for _, l := range k.losses {
		k.report(l)
	}
	k.mark.Boot, k.mark.Streams = k.boot, now
	if k.before != nil {
		k.mark.Epoch = k.before.Epoch
	}
	for _, l := range k.losses {
		if l.stays() && k.before != nil && slices.Contains(k.before.Known, l.key()) {
			k.mark.Known = append(k.mark.Known, l.key())
		} else {
			k.mark.Open = append(k.mark.Open, l)
		}
	}
	return k.writeLocked()
}

// writeLocked writes the mark to the disk. k.mu must be held.
func (k *keeper) writeLocked() error {
	err := k.mark.write(k.dir)
	k.unwritten = err != nil
	return err
}

// report logs a loss.
func (k *keeper) report(l Loss) {
	args := []any{"reason", l.Reason, "stream", l.Stream, "file", l.File, "detail", l.Detail}
	if l.Certain {
		k.log.Error("stored data is lost", args...)
	} else {
		k.log.Warn("stored data may be lost", args...)
	}
}

// restarting is called before a restart of the server, which may lose data.
func (k *keeper) restarting() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.restarted = true
}

// keep writes the positions of the streams if they have changed. After a restart it first compares them with the mark.
func (k *keeper) keep(ns *server.Server) error {
	now, err := k.positions(ns)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil
	}
	if k.restarted {
		lost := findLosses(&mark{Boot: k.boot, Streams: k.mark.Streams, Sync: true}, survey{}, now, k.boot)
		for _, l := range lost {
			k.report(l)
		}
		k.losses, k.mark.Open = union(k.losses, lost), append(k.mark.Open, lost...)
		k.restarted, k.unwritten = false, true
	}
	if !k.unwritten && maps.EqualFunc(now, k.mark.Streams, func(a, b position) bool { return a.Last == b.Last && a.Created.Equal(b.Created) }) {
		return nil
	}
	k.mark.Streams = now
	return k.writeLocked()
}

// stopped syncs the folder of a server that has stopped, and marks the stop as clean.
func (k *keeper) stopped() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if err := syncAll(k.dir); err != nil {
		return err
	}
	sizes, err := blockSizes(k.dir)
	if err != nil {
		return err
	}
	k.mark.Clean, k.mark.Blocks = true, sizes
	return k.writeLocked()
}

// keepMark writes the mark while the server runs.
func (s *Server) keepMark() {
	if err := s.keeper.keep(s.current()); err != nil {
		s.trouble.Begin(err)
	} else {
		s.trouble.Over()
	}
}

// Losses returns the losses that were found at the start and at restarts of the server, and unsettled losses of earlier runs. It
// does not block.
func (s *Server) Losses() []Loss {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	return slices.Clone(s.keeper.losses)
}

// Unsettled returns the losses, certain and possible ones, that were not passed to [Server.Settle], and the epoch of the last
// Settle of this folder; 0 without one. It does not block.
func (s *Server) Unsettled() (lost []Loss, epoch int64) {
	s.keeper.mu.Lock()
	defer s.keeper.mu.Unlock()
	return slices.Clone(s.keeper.mark.Open), s.keeper.mark.Epoch
}

// Settle records that the streams have this epoch from now on, and that it began after the losses in seen, which
// [Server.Unsettled] has returned. Later losses stay unsettled. When Settle returns nil, the record is on the disk. After an
// error it is valid in this process, and writing is retried each second.
func (s *Server) Settle(epoch int64, seen []Loss) error {
	k := s.keeper
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(seen) == 0 && k.mark.Epoch == epoch && !k.unwritten {
		return nil
	}
	k.mark.Epoch = epoch
	for _, l := range seen {
		i := slices.Index(k.mark.Open, l)
		if i < 0 {
			continue // settled before
		}
		k.mark.Open = slices.Delete(k.mark.Open, i, i+1)
		if l.stays() {
			k.mark.Known = append(k.mark.Known, l.key())
		}
	}
	return k.writeLocked()
}

// union returns the losses of a and b without duplicates.
func union(a, b []Loss) []Loss {
	all := slices.Clone(a)
	for _, l := range b {
		if !slices.ContainsFunc(all, func(other Loss) bool { return other.key() == l.key() && other.Reason == l.Reason }) {
			all = append(all, l)
		}
	}
	return all
}
