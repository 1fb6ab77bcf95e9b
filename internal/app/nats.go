package app

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/hark-jobs/hark/internal/health"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/trouble"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// openNATS starts the server, if it is to be one of this process, and connects to it. Servers elsewhere need not be
// there yet.
func (a *App) openNATS(context.Context) (err error) {
	if a.config.NATS.URL == "" {
		if err := a.startNATS(); err != nil {
			return err
		}
	}
	if a.nc, err = a.connect("hark"); err != nil {
		return err
	}
	a.health.Add(health.Check{Part: "nats", Check: func(context.Context) error { return a.nc.Err() }, Public: publicNATS})
	a.health.Register(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "hark_nats_connected", Help: "1 while the connection to NATS is there."},
			func() float64 {
				if a.nc.IsConnected() {
					return 1
				}
				return 0
			}),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "hark_nats_reconnects_total", Help: "How often the connection to NATS came back."},
			func() float64 { return float64(a.nc.Reconnects()) }))
	return nil
}

func (a *App) startNATS() error {
	c := &a.config
	options := natsd.Options{
		Dir: filepath.Join(c.Data, "nats"), Listen: c.NATSListen, SyncAlways: c.SyncAlways,
		User: c.NATS.User, CertFile: c.NATS.CertFile, KeyFile: c.NATS.KeyFile, Log: a.log,
	}
	var err error
	if options.Password, err = c.NATS.Password.Read(); err == nil {
		options.Token, err = c.NATS.Token.Read()
	}
	if err != nil {
		return &UserError{"nats_options_invalid", sentence(err, "secret: ")}
	}
	if a.natsd, err = natsd.Start(options); err != nil {
		return err
	}
	a.onStop(func(context.Context) { a.natsd.Stop() })
	a.run("natsd", a.natsd.Run)
	return nil
}

// publicNATS says what anybody may see of why there is no connection to NATS.
func publicNATS(err error) string {
	if natsconn.Refused(err) {
		return "authorization refused"
	}
	return "unavailable"
}

// connect makes a connection to NATS that lasts until its turn to stop comes. One that is closed before ends the process.
func (a *App) connect(name string) (nc *natsconn.Conn, err error) {
	log := a.log.With("connection", name)
	others := func(nc *nats.Conn, sub *nats.Subscription, err error) {
		// Once there is a hub, its connection is known, too.
		if hub := a.hub.Load(); hub != nil && nc == a.nc.Conn && sub != nil && errors.Is(err, nats.ErrSlowConsumer) {
			hub.Missed(sub)
			return
		}
		log.Warn("NATS", "err", err)
	}
	closing := make(chan struct{})
	closed := nats.ClosedHandler(func(nc *nats.Conn) {
		select {
		case <-closing:
		default:
			a.fail(errors.Join(errors.New("app: the connection to NATS was closed"), nc.LastError()))
		}
	})
	if a.natsd != nil {
		nc, err = natsconn.InProcess(a.natsd, name, a.log, others, a.natsd.Login(), closed)
	} else {
		nc, err = natsconn.Connect(a.config.NATS, name, a.log, others, closed)
	}
	if err != nil {
		return nil, err
	}
	a.onStop(func(context.Context) {
		// What was published last, acks among it, is on its way when Close returns only if it was flushed.
		if nc.IsConnected() {
			if err := nc.FlushTimeout(time.Second); err != nil {
				log.Debug("not flushed", "err", err)
			}
		}
		close(closing)
		nc.Close()
	})
	return nc, nil
}

// openQueue binds to the stream, and waits until it can. What is large goes over a connection of its own: lists, replays
// and files must not stand before what is live, nor have the server cut off the connection that all the rest needs. On the server of this process it brings the settings to those
// of the config first: nobody else does.
func (a *App) openQueue(ctx context.Context) error {
	if a.natsd != nil {
		changes, err := jobs.Setup(ctx, a.nc.Conn, a.config.Settings, false)
		for _, c := range changes {
			if c.Setting != "" {
				a.log.Info("setting changed", "of", c.What, "setting", c.Setting, "from", c.From, "to", c.To)
			}
		}
		if err != nil {
			return err
		}
	}
	bulk, err := a.connect("hark bulk")
	if err != nil {
		return err
	}
	err = a.wait(ctx, "hark's stream in NATS", func(ctx context.Context) (err error) {
		a.queue, err = jobs.Open(ctx, a.nc.Conn, jobs.Config{Settings: a.config.Settings, Bulk: bulk.Conn, Log: a.log})
		return err
	})
	if err != nil {
		return err
	}
	a.onStop(func(context.Context) {
		if err := a.queue.Close(); err != nil {
			a.log.Warn("queue not closed", "err", err)
		}
	})
	a.health.Add(health.Check{Part: "queue", Check: func(ctx context.Context) error {
		if err := a.queue.Writable(ctx); err != nil {
			return err
		}
		return a.healthy()
	}})
	return nil
}

// healthy returns why the server of this process, if there is one, stores nothing.
func (a *App) healthy() error {
	if a.natsd == nil {
		return nil
	}
	return a.natsd.Healthy()
}

// How long one try of wait may take, and the pauses between two.
const (
	waitTry      = 3 * time.Second
	waitShortest = 100 * time.Millisecond
	waitLongest  = 5 * time.Second
)

// wait tries until do succeeds, for as long as ctx lasts. It logs at once, and then once a minute, what it waits for; of
// a connection that is not there the connection itself does. With the server in this process nothing is worth waiting
// for.
func (a *App) wait(ctx context.Context, what string, do func(context.Context) error) error {
	t := trouble.New(a.log.With("for", what), "waiting", "waiting is over", nil)
	for pause := waitShortest; ; pause = min(2*pause, waitLongest) {
		if err := a.nc.Err(); err != nil {
			a.health.Waiting("NATS: " + publicNATS(err))
			pause = waitShortest // a look costs nothing
		} else if err = try(ctx, do); err == nil {
			t.Over()
			a.health.Waiting("")
			return nil
		} else if a.natsd != nil {
			return err
		} else if a.nc.Err() == nil {
			t.Begin(err)
			a.health.Waiting(what)
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
