package natsd

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// watchPeriod is how often the server's health is looked at.
const watchPeriod = time.Second

// probeBytes is what must fit on the disk again before the server is started anew.
const probeBytes = 8 << 20

// Healthy returns nil, or why the server does not store anything, as [Server.Run] last saw it: its disk is
// full, say. It does not block.
func (s *Server) Healthy() error {
	if err := s.sick.Load(); err != nil {
		return *err
	}
	return nil
}

// Run watches over JetStream until ctx ends. A write that fails, on a full disk above all, makes a stream
// refuse all that follows until its server is started anew; so that is done once the disk takes data again.
// What was refused meanwhile was never acknowledged, and connections come back by themselves.
func (s *Server) Run(ctx context.Context) error {
	ticker := time.NewTicker(watchPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := storeError(s.current())
		if err == nil {
			s.sick.Store(nil)
			continue
		}
		if s.sick.Swap(&err) == nil {
			s.log.Error("nothing can be stored; trying again once the disk has room", "err", err)
		}
		if probe(s.dir) != nil {
			continue
		}
		if err := s.restart(); err != nil {
			s.log.Error("the NATS server did not start again; trying again", "err", err)
			continue
		}
		s.log.Info("the NATS server was started again, and stores what it is given")
	}
}

// storeError returns why the server does not store anything, if so. Of what the server says of its health only
// that counts: that it took a moment to answer is no reason to stop it.
func storeError(ns *server.Server) error {
	for _, e := range ns.Healthz(&server.HealthzOptions{Details: true}).Errors {
		switch e.Type {
		case server.HealthzErrorJetStream, server.HealthzErrorStream:
			return errors.New("natsd: " + e.Error)
		}
	}
	return nil
}

// probe finds out whether the disk takes data.
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
