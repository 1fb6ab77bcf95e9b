package hark

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/backup"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/trouble"
)

// Location says where the streams of a hark are, for [Setup], [Backup] and [Restore]: in NATS servers, or in the data folder of a
// hark that is stopped. One of NATS, NATSServers and Data must be given.
type Location struct {
	// NATS is a connection to NATS servers with JetStream. It is used as it is, and not closed.
	NATS *nats.Conn
	// NATSServers is in place of NATS: the call connects, and closes the connection when it returns.
	NATSServers NATSServers
	// Data is the data folder of a hark with an embedded NATS server. No hark may run on it meanwhile: the call runs that server, to
	// which nobody else can connect.
	Data string
	// Namespace begins the names of the streams. Defaults to hark.
	Namespace string
	// JSDomain is the JetStream domain of the streams, for a connection to a leaf node. Defaults to none.
	JSDomain string
	// JSAPIPrefix is the prefix of JetStream's API, for an account that imports it under another name. It excludes JSDomain.
	// Defaults to $JS.API.
	JSAPIPrefix string
	// Wait is how long to wait for NATS servers that are not up yet, that refuse the login, or that are not a cluster yet. The default
	// is not to wait.
	Wait time.Duration
}

func (l *Location) place() joblog.Location {
	return joblog.Location{Namespace: joblog.Namespace(l.Namespace), Domain: l.JSDomain, APIPrefix: l.JSAPIPrefix}
}

func (l *Location) check() error {
	given := 0
	for _, is := range []bool{l.NATS != nil, l.NATSServers.URL != "", l.Data != ""} {
		if is {
			given++
		}
	}
	servers := natsconn.Options(l.NATSServers)
	switch {
	case given == 0:
		return &Error{Code: "nats_missing", Message: "hark's streams are in NATS servers, or in the data folder of a hark that is stopped; set Options.NATSServers.URL or Options.Data."}
	case given > 1 || l.NATSServers.URL == "" && l.NATSServers != (NATSServers{}):
		return &Error{Code: "nats_twice", Message: "Options.NATSServers.URL, with its login, and Options.Data exclude each other; give one of them."}
	case l.Data != "" && (l.JSDomain != "" || l.JSAPIPrefix != ""):
		return &Error{Code: "nats_is_inside", Message: "Options.JSDomain and Options.JSAPIPrefix are for NATS servers elsewhere; leave them out with Options.Data."}
	}
	if err := servers.Check(); err != nil {
		return &Error{Code: "nats_options_invalid", Message: sentence(err, "secret: "), Err: err}
	}
	return checkPlace(l.place())
}

// checkPlace checks what says where in NATS the streams are.
func checkPlace(at joblog.Location) error {
	if at.Domain != "" && at.APIPrefix != "" {
		return &Error{Code: "namespace_invalid", Message: "Options.JSDomain and Options.JSAPIPrefix exclude each other; give one of them."}
	}
	return refused("namespace_invalid", "Options.", at.Check())
}

// refused returns the error of a check of package joblog with the name of the option, which begins with in; nil if err is nil.
func refused(code, in string, err error) error {
	var invalid *joblog.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	return &Error{Code: code, Message: in + invalid.Field + " " + invalid.Problem + ".", Err: err}
}

// opened is a connection to the streams of a [Location]. The caller must call close.
type opened struct {
	*nats.Conn
	name  string       // of the servers, without a login
	err   func() error // why there is no connection
	close func()
	wait  time.Duration
	log   *slog.Logger
}

// open connects, as name, and does not wait until the connection is there. With create, the data folder need not exist.
func (l *Location) open(name string, create bool, log *slog.Logger) (*opened, error) {
	o := &opened{wait: l.Wait, log: log, err: func() error { return nil }, close: func() {}}
	switch {
	case l.NATS != nil:
		o.Conn, o.name = l.NATS, "NATS"
		o.err = func() error {
			if l.NATS.IsConnected() {
				return nil
			}
			return errors.Join(nats.ErrDisconnected, l.NATS.LastError())
		}
	case l.Data == "":
		nc, err := natsconn.Connect(natsconn.Options(l.NATSServers), name, log, func(_ *nats.Conn, _ *nats.Subscription, err error) { log.Warn("NATS", "err", err) })
		if err != nil {
			return nil, err
		}
		o.Conn, o.name, o.err, o.close = nc.Conn, "NATS at "+natsconn.Redacted(l.NATSServers.URL), nc.Err, nc.Close
	default:
		dir := filepath.Join(l.Data, "nats")
		if _, err := os.Stat(dir); err != nil && !create {
			return nil, &Error{Code: "data_unusable", Message: fmt.Sprintf("Options.Data %s is not the data folder of a hark with a NATS server inside: it has no folder nats.", l.Data), Err: err}
		}
		nc, stop, err := backup.Local(l.Data, log)
		if err != nil {
			return nil, dirError(dir, fromBackup(err))
		}
		o.Conn, o.name, o.close = nc, "the NATS server inside hark", stop
	}
	return o, nil
}

// dirError returns the error of [natsd.Start] on a folder, as an [*Error] if the folder is the reason.
func dirError(dir string, err error) error {
	var denied *fs.PathError
	switch {
	case errors.Is(err, natsd.ErrReadOnly) && errors.As(err, &denied):
		return readOnly("The folder "+filepath.Dir(denied.Path), denied.Err)
	case errors.Is(err, natsd.ErrUnusable):
		return &Error{Code: "data_unusable", Message: fmt.Sprintf("The NATS server inside hark cannot use %s: %s. Make it, and all that is in it, readable and writable for this user, or name another folder with Options.Data.",
			dir, strings.TrimPrefix(err.Error(), natsd.ErrUnusable.Error()+": ")), Err: err}
	}
	return err
}

// tryTimeout is the timeout of one try of [opened.try].
const tryTimeout = 10 * time.Second

// try calls do once it is connected, and again while its error is temporary and the wait of the location is not over. It returns
// the error of the last try.
func (o *opened) try(ctx context.Context, do func(context.Context) error) error {
	t := trouble.New(o.log, "waiting for NATS", "waiting is over", nil)
	for end := time.Now().Add(o.wait); ; {
		err := o.err()
		if err != nil { // natsconn has logged it
			err = fmt.Errorf("%s: %w", o.name, err)
		} else {
			once, cancel := context.WithTimeout(ctx, tryTimeout)
			err = do(once)
			cancel()
			if err == nil {
				t.Over()
				return nil
			}
			if passes(err) {
				t.Begin(err)
			}
		}
		if !passes(err) || time.Now().After(end) || ctx.Err() != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Temporary errors of JetStream: too few servers have joined the cluster for the replicas (JSClusterNoPeersErrF), there is no
// cluster yet (JSStreamReplicasNotSupportedErr), or a stream is being created and not all servers have it yet
// (JSStreamNotFoundErr).
const (
	errCodeNoPeers   = 10005
	errCodeNoCluster = 10074
	errCodeNoStream  = 10059
)

// passes reports whether err is temporary. Other errors of JetStream are permanent.
func passes(err error) bool {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return true
	}
	return api.ErrorCode == errCodeNoPeers || api.ErrorCode == errCodeNoStream || api.Code >= http.StatusInternalServerError && api.ErrorCode != errCodeNoCluster
}
