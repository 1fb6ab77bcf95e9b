package hark

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// openNATS starts the embedded server, if there is one, and connects. Other servers need not be up yet.
func (s *Server) openNATS(context.Context) (err error) {
	if s.options.embeds() {
		if err := s.startNATS(); err != nil {
			return err
		}
	}
	if s.nc, err = s.connect("hark"); err != nil {
		return err
	}
	s.health.Add(health.Check{Part: "nats", Check: func(context.Context) error { return s.nc.Err() }, Public: publicNATS})
	s.meter(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hark_nats_connected", Help: "1 while the connection to NATS is there."},
			func() float64 {
				if s.nc.IsConnected() {
					return 1
				}
				return 0
			}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hark_nats_reconnects_total", Help: "How often the connection to NATS came back."},
			func() float64 { return float64(s.nc.Reconnects()) }))
	return nil
}

func (s *Server) startNATS() error {
	o := &s.options
	options := natsd.Options{
		Dir: filepath.Join(o.Data, "nats"), Listen: o.NATSListen, SyncAlways: o.SyncAlways, Hold: true,
		User: o.NATSServers.User, CertFile: o.NATSServers.CertFile, KeyFile: o.NATSServers.KeyFile, Logger: s.log,
	}
	var err error
	if options.Password, err = o.NATSServers.Password.Read(); err == nil {
		options.Token, err = o.NATSServers.Token.Read()
	}
	if err != nil {
		return &Error{Code: "nats_options_invalid", Message: sentence(err, "secret: ")}
	}
	s.health.Waiting("what is stored to be verified")
	s.natsd, err = natsd.Start(options)
	s.health.Waiting("")
	if err != nil {
		return dirError(options.Dir, err)
	}
	s.onStop(func(context.Context) { s.natsd.Stop() })
	s.run("natsd", s.natsd.Run)
	return nil
}

// publicNATS returns a public sentence for an error of the connection to NATS.
func publicNATS(err error) string {
	if natsconn.Refused(err) {
		return "authorization refused"
	}
	return "unavailable"
}

// publicQueue returns a public sentence for an error of the stream.
func publicQueue(err error) string {
	switch {
	case errors.Is(err, natsd.ErrNoRoom):
		return "no room on the disk"
	case errors.Is(err, natsd.ErrReadOnly):
		return "the data folder is read-only"
	}
	return "unavailable"
}

// connect makes a connection to NATS that Stop closes. If it is closed earlier, Run ends.
func (s *Server) connect(name string) (nc *natsconn.Conn, err error) {
	log := s.log.With("connection", name)
	others := func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "err", err) }
	closing := make(chan struct{})
	closed := nats.ClosedHandler(func(nc *nats.Conn) {
		select {
		case <-closing:
		default:
			s.fail(errors.Join(errors.New("hark: the connection to NATS was closed"), nc.LastError()))
		}
	})
	switch {
	case s.natsd != nil:
		nc, err = natsconn.InProcess(s.natsd, name, s.log, others, s.natsd.Login(), closed)
	case s.options.NATS != nil:
		nc, err = natsconn.Like(s.options.NATS, name, s.log, others, closed)
	default:
		nc, err = natsconn.Connect(natsconn.Options(s.options.NATSServers), name, s.log, others, closed)
	}
	if err != nil {
		return nil, err
	}
	s.onStop(func(context.Context) {
		// What was published last, acks among it, is on its way when Close returns only if it was flushed.
		if nc.IsConnected() {
			if err := nc.FlushTimeout(time.Second); err != nil {
				log.Debug("flush failed", "err", err)
			}
		}
		close(closing)
		nc.Close()
	})
	return nc, nil
}

// openQueue binds to the stream, and waits until it can. Bulk data, such as lists, replays and files, has a separate
// connection: it must not delay live messages, nor make the main connection a slow consumer. On the embedded server openQueue
// first applies the settings of the config.
func (s *Server) openQueue(ctx context.Context) error {
	if s.natsd != nil {
		// With a deadline a request is made again whose answer is lost.
		setup, cancel := context.WithTimeout(ctx, setupTime)
		changes, err := joblog.Setup(setup, s.nc.Conn, s.options.location(), joblog.Settings(s.options.Settings), false)
		cancel()
		for _, c := range changes {
			if c.Setting != "" {
				s.log.Info("setting changed", "of", c.What, "setting", c.Setting, "from", c.From, "to", c.To)
			}
		}
		if err != nil {
			return refused("setting_invalid", "Options.Settings.", err)
		}
	}
	bulk, err := s.connect("hark bulk")
	if err != nil {
		return err
	}
	err = s.wait(ctx, "hark's stream in NATS", func(ctx context.Context) (err error) {
		s.store, err = joblog.Open(ctx, s.nc.Conn, joblog.Options{Location: s.options.location(), Settings: joblog.Settings(s.options.Settings), Bulk: bulk.Conn, Files: s.options.Files, Logger: s.log})
		return err
	})
	if err != nil {
		return err
	}
	s.onStop(func(context.Context) {
		if err := s.store.Close(); err != nil {
			s.log.Warn("closing the store failed", "err", err)
		}
	})
	s.meter(skipMeter{s.store})
	s.serveSkipped()
	s.health.Add(health.Check{Part: "queue", Check: func(ctx context.Context) error {
		if err := s.healthy(); err != nil {
			return err
		}
		return s.store.Writable(ctx)
	}, Public: publicQueue})
	return nil
}

// setupTime is how long the embedded server may take to create the streams, on a slow disk.
const setupTime = 2 * time.Minute

// healthy returns the error of an embedded server that cannot store anything.
func (s *Server) healthy() error {
	if s.natsd == nil {
		return nil
	}
	return s.natsd.Healthy()
}

// The timeout of one try of wait, and the pauses between tries.
const (
	waitTry      = 3 * time.Second
	waitShortest = 100 * time.Millisecond
	waitLongest  = 5 * time.Second
)

// wait retries do until it succeeds or ctx ends. It logs the error at once, and then once a minute; a lost connection is logged
// by the connection itself. With the embedded server it does not retry.
func (s *Server) wait(ctx context.Context, what string, do func(context.Context) error) error {
	t := trouble.New(s.log.With("for", what), "waiting", "waiting is over", nil)
	for pause := waitShortest; ; pause = min(2*pause, waitLongest) {
		if err := s.nc.Err(); err != nil {
			s.health.Waiting("NATS: " + publicNATS(err))
			pause = waitShortest // a try costs nothing
		} else if err = try(ctx, do); err == nil {
			t.Over()
			s.health.Waiting("")
			return nil
		} else if s.natsd != nil {
			return err
		} else if s.nc.Err() == nil {
			t.Begin(err)
			s.health.Waiting(what)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

func try(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitTry)
	defer cancel()
	return do(ctx)
}
