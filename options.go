package hark

import (
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/hark-jobs/hark/files"
	"github.com/hark-jobs/hark/internal/door"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/secret"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier"
	"github.com/hark-jobs/hark/notifier/auth"
	"github.com/hark-jobs/hark/notifier/inbox"
	"github.com/hark-jobs/hark/worker"
)

// Options are the options of [New]. The zero value of a field is its default. With a data folder alone, hark embeds a NATS
// server and a SQLite inbox there:
//
//	hark.Options{Data: "data", Auth: login, Handlers: handlers}
type Options struct {
	// Only restricts this process to one part of hark: [Notifier] or [Worker]. Defaults to both.
	Only Part
	// Data is the data folder of this process, which no other process may use. It is required for the embedded NATS server
	// and a SQLite inbox, for callers without keys, and for the sample shop.
	Data string

	// NATS is a connection to NATS servers with JetStream. The server opens connections of its own with the options of
	// this one (servers, login, TLS), leaves this one as it is, and does not close it. Defaults to none.
	NATS *nats.Conn
	// NATSServers is in place of NATS. Without either, this process embeds a server in Data; the login (a user with a
	// password, or a token) and the certificate are then those of NATSListen.
	NATSServers NATSServers
	// Namespace begins the names of hark's streams, buckets and subjects, so that several harks can use one account of
	// NATS: 1 to 31 letters a-z, digits, _ and -, beginning with a letter or a digit. Defaults to hark.
	Namespace string
	// JSDomain is the JetStream domain of hark's streams, for a connection to a leaf node. Defaults to none.
	JSDomain string
	// JSAPIPrefix is the prefix of JetStream's API, for an account that imports it under another name. It excludes
	// JSDomain. Defaults to $JS.API.
	JSAPIPrefix string
	// NATSListen is the host:port on which the embedded server accepts connections. An address that is not a loopback
	// address needs a login. Defaults to none.
	NATSListen string
	// SyncAlways makes the embedded server and the SQLite inbox sync each write to disk.
	SyncAlways bool
	// Settings of the streams and buckets in NATS. They are applied to the embedded server; on other servers they are used
	// only for what is created.
	Settings Settings

	// Files is where the files of jobs are stored, the same for all notifiers and workers: see [files.OpenFolder]. Defaults to
	// a bucket in JetStream.
	Files files.Store

	// Inbox is the inbox in a database of the program: see [inbox.NewPostgres] and [inbox.NewSQLite]. The caller closes it,
	// after the server. It is in place of Database.
	Inbox *inbox.Store
	// Database is the URL of the inbox's database, postgres://…, or the path of a SQLite file. Defaults to a SQLite file in
	// Data with the embedded NATS server; with others there may be other notifiers, and it must be given.
	Database Secret
	// InboxSchema is the schema of Database with the tables of the inbox, on PostgreSQL. It is created if it does not exist and
	// the database user is allowed to. Defaults to the first schema in the search_path.
	InboxSchema string
	// InboxTablePrefix begins the names of the tables and indexes in Database: 1 to 32 of a-z, 0-9 and _, beginning with a
	// letter or _. Defaults to hark_.
	InboxTablePrefix string
	// InboxAge is how long the inbox keeps notifications. Defaults to 90 days.
	InboxAge time.Duration

	// Auth says who makes a request, in a program with a login of its own. It is in place of JWTs.
	Auth notifier.Authenticator
	// SignInURL is the page where the program signs users in: a path on the same host, or an http(s) URL. hark's page links to it
	// if nobody is signed in. Defaults to none: the page says that the application signs in, without a link.
	SignInURL string
	// JWTSecret and JWKS verify JWTs. With neither, and no JWTIssuer that is a URL, which has the keys then, anybody signs
	// in under any name; that needs a Listen that is a loopback address.
	JWTSecret Secret
	JWKS      string
	// JWTIssuer must be the iss of JWTs, and one of JWTAudience among their aud, if they are set. Keys from a URL need an
	// audience.
	JWTIssuer   string
	JWTAudience []string
	// UserClaim is the claim that names the user. Defaults to sub.
	UserClaim string
	// ScopeMap maps names of scopes in JWTs to hark's scopes.
	ScopeMap map[string]string
	// MaxTokenAge is the longest lifetime of a JWT; 0 means any.
	MaxTokenAge time.Duration
	// AllowOrigins are the origins, besides hark's own, whose pages may call, with a token or the cookie.
	AllowOrigins []string
	// Topics say who may listen to which topics of live events, besides what the tokens permit. Defaults to none; where anybody
	// signs in under any name, all topics are then permitted.
	Topics []jobs.TopicRule
	// RateLimit is how many requests a second each user may make; 0 means no limit.
	RateLimit float64

	// Listen is a host:port where the server answers HTTP itself: the API, the page and the health checks, and the metrics
	// without Admin. For a worker alone these are the health checks and the metrics. Port 0 picks a free one. Defaults to
	// none: the program mounts what it wants ([Server.Register], [Server.Handler]).
	Listen string
	// TLSCert and TLSKey are PEM files: the certificate of Listen, with those between it and its CA, and its key. They are
	// read again when they have changed. With neither, Listen speaks plain HTTP.
	TLSCert, TLSKey string
	// Admin is a host:port that serves the metrics, the health checks, the list of skipped messages (/skipped) and Go's profiles,
	// without a login. The metrics are then there alone; the health checks stay at Listen too, for load balancers. Defaults to none.
	Admin string
	// MaxConnections is how many connections may be open at Listen, streams among them. Defaults to 25,000, or what the limit
	// of open files leaves room for. MaxConnectionsPerAddress is how many of those one client address may have; 0 means no
	// limit, which is right behind a proxy.
	MaxConnections, MaxConnectionsPerAddress int
	// Deadlines are those of HTTP at Listen. Deadlines.Write is also how long the reader of a stream may take nothing,
	// wherever the stream is.
	Deadlines Deadlines
	// Drain is how long each step of closing may take. Defaults to 10 s.
	Drain time.Duration
	// DrainDelay is the time between the end of Run's context and the begin of closing. Meanwhile the readiness check fails and all else
	// goes on, so that a proxy notices and sends new requests elsewhere. Defaults to 0.
	DrainDelay time.Duration

	// Handlers are the kinds of jobs that this process runs. Without them, and without Export, it runs no worker.
	Handlers []worker.Handler
	// Middleware wraps the handlers. The first is the outermost.
	Middleware []worker.Middleware
	// Observer, if set, is notified of each attempt.
	Observer worker.Observer
	// Export adds the kind export. The zero value adds nothing.
	Export Export

	// Version is what the metrics and the health checks name.
	Version string
	// Logger defaults to [slog.Default].
	Logger *slog.Logger
}

// Part is a part of hark that can run in a process of its own.
type Part string

// The parts of hark.
const (
	Notifier Part = "notifier" // HTTP, streams and the inbox
	Worker   Part = "worker"   // runs jobs
)

// Secret is a password or key, as its Value or as the path of a File that holds it. At most one of the two may be set. A
// file is read again each time the secret is needed.
type Secret = secret.Secret

// NATSServers say where NATS servers are, and how to log in. At most one login may be given: a user with a password, a token,
// an nkey or a credentials file.
type NATSServers struct {
	URL       string // one or several, with commas between; a login in it counts as one
	User      string
	Password  Secret // read again at each connect
	Token     Secret // read again at each connect
	NKeyFile  string // holds the seed
	CredsFile string // holds a user JWT and its seed
	CAFile    string // PEM certificates to verify the servers with, in place of the system's
	CertFile  string // the client's certificate
	KeyFile   string // and its key
	// InboxPrefix begins the subjects on which responses arrive, where the permissions of the login permit only those:
	// [NATSConfig]. Defaults to _INBOX.
	InboxPrefix string
}

// Settings say how JetStream keeps hark's data. They belong to the stream and its buckets, not to a process. A zero field
// means the default for what is created, and no change for what exists.
type Settings struct {
	// MaxAge is how long jobs and notifications stay in the stream. Defaults to 7 days.
	MaxAge time.Duration
	// FileAge is how long a file can be downloaded after its job ended. Defaults to 7 days.
	FileAge time.Duration
	// FileSpace is how many bytes all files in JetStream may take together. A file that does not fit fails its job. Defaults
	// to no limit.
	FileSpace int64
	// UserFileSpace is how many bytes the files of one user in JetStream may take together, at least 128 KiB. A file that does not fit
	// fails its job with a [*jobs.UserFullError]. Each file counts in whole blocks of 128 KiB, from its first byte until
	// it is removed, up to a day after it has expired. Defaults to 5 GiB.
	UserFileSpace int64
	// Lease is how long a running job stays with a worker that has stopped sending heartbeats. At least 1 s.
	// Defaults to 30 s.
	Lease time.Duration
	// Replicas is how many servers of a NATS cluster keep each message: 1, 3 or 5. Defaults to 1.
	Replicas int
	// Streams is the number of streams of the log: 1, 2, 4, 8, 16, 32 or 64. It can be changed before the first message is
	// stored. Defaults to 1.
	Streams int
}

// Deadlines are how long the steps of an HTTP request may take. The zero value of a field is its default.
type Deadlines struct {
	// Header is for the head of a request, from its first byte, or from the start of the connection. Defaults to 10 s.
	Header time.Duration
	// Body is for a body, from the end of the head. Defaults to 30 s.
	Body time.Duration
	// Drain is for what is left of a body after the answer is made. Defaults to 1 s.
	Drain time.Duration
	// Write is for an answer, and for each part of a file or stream. Defaults to 30 s.
	Write time.Duration
	// Idle is for the pause between two requests. Defaults to 2 min.
	Idle time.Duration
}

// Export describes the kind export, which makes workbooks of the rows of datasets.
type Export struct {
	// Config is the path of a hark.yaml with the datasets. Sample is in its place: a small shop, which is made in
	// [Options].Data.
	Config string
	Sample bool
	// Timeout ends an export that takes longer, in the database as well. Defaults to one hour.
	Timeout time.Duration
	// Options are further options of the kind, such as [worker.Concurrency].
	Options []worker.Option
}

// Error is a mistake in the options of a call, or in what they name: a stable code, and one or two sentences with a way out. They
// name options as Options.Listen, also where the type has another name, such as [SetupOptions].
type Error struct {
	Code    string
	Message string
	Err     error // what was found, if that is an error
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

func (o *Options) notifies() bool { return o.Only != Worker }
func (o *Options) works() bool {
	return o.Only != Notifier && (len(o.Handlers) > 0 || o.Export.isSet())
}

// embeds reports whether the NATS server is in this process.
func (o *Options) embeds() bool { return o.NATS == nil && o.NATSServers.URL == "" }

// location says where the streams are.
func (o *Options) location() joblog.Location {
	return joblog.Location{Namespace: joblog.Namespace(o.Namespace), Domain: o.JSDomain, APIPrefix: o.JSAPIPrefix}
}

func (e *Export) isSet() bool { return e.Sample || e.Config != "" }

func (o *Options) defaults() error {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.InboxAge == 0 {
		o.InboxAge = 90 * 24 * time.Hour
	}
	if o.Export.Timeout == 0 {
		o.Export.Timeout = time.Hour
	}
	if o.Drain == 0 {
		o.Drain = 10 * time.Second
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = door.DefaultMax
	}
	switch {
	case o.Only != "" && o.Only != Notifier && o.Only != Worker:
		return &Error{Code: "part_unknown", Message: fmt.Sprintf("Options.Only is %q; it must be notifier, worker or empty.", o.Only)}
	case o.Only == Worker && !o.works():
		return &Error{Code: "handlers_missing", Message: "A worker needs something to run: set Options.Handlers or Options.Export."}
	case o.MaxConnections < 0 || o.MaxConnectionsPerAddress < 0:
		return &Error{Code: "limit_invalid", Message: "Options.MaxConnections and Options.MaxConnectionsPerAddress must not be negative."}
	case (o.TLSCert == "") != (o.TLSKey == ""):
		return &Error{Code: "tls_incomplete", Message: "Options.TLSCert and Options.TLSKey go together: give both, or neither."}
	case o.Export.Sample && o.Export.Config != "":
		return &Error{Code: "export_twice", Message: "Options.Export.Sample is in place of Options.Export.Config; leave one of them out."}
	case o.Data == "" && (o.embeds() || o.works() && o.Export.Sample):
		return &Error{Code: "data_missing", Message: "hark needs a folder for its data; set Options.Data."}
	}
	if err := checkPlace(o.location()); err != nil {
		return err
	}
	if err := o.Settings.check(); err != nil {
		return err
	}
	if err := o.checkNumbers(); err != nil {
		return err
	}
	if err := o.checkNATS(); err != nil {
		return err
	}
	if !o.notifies() {
		return nil
	}
	return o.checkNotifier()
}

// checkNotifier checks what only a notifier needs.
func (o *Options) checkNotifier() error {
	for i := range o.Topics {
		if err := o.Topics[i].Check(); err != nil {
			return &Error{Code: "topic_invalid", Message: fmt.Sprintf("Options.Topics has a rule that is not possible: %v.", err), Err: err}
		}
	}
	switch {
	case o.SignInURL != "" && !jobs.SafeLink(o.SignInURL):
		return &Error{Code: "sign_in_url_invalid", Message: fmt.Sprintf("Options.SignInURL is %q; it must be a path on the same host, like /login, or an http(s) URL.", o.SignInURL)}
	case o.Inbox != nil && o.Database.IsSet():
		return &Error{Code: "database_twice", Message: "Options.Inbox is in place of Options.Database; leave one of them out."}
	case o.Inbox != nil && (o.InboxSchema != "" || o.InboxTablePrefix != ""):
		return &Error{Code: "database_twice", Message: "Options.InboxSchema and Options.InboxTablePrefix are for Options.Database; leave them out with Options.Inbox, which has its own."}
	case o.Inbox == nil && !o.embeds() && !o.Database.IsSet():
		return &Error{Code: "database_missing", Message: "The inbox needs a database that all notifiers share: set Options.Database to a URL like postgres://…. " +
			"A notifier that is and stays the only one may have a SQLite file there: inbox.db."}
	case o.Auth != nil && (o.JWTSecret.IsSet() || o.JWKS != "" || o.JWTIssuer != "" || len(o.JWTAudience) > 0):
		return &Error{Code: "auth_twice", Message: "Options.Auth is in place of JWTs; leave out what says how to verify them."}
	case o.Auth != nil:
		return nil
	}
	if err := o.checkTokens(); err != nil {
		return err
	}
	switch {
	case !o.noKey():
		return nil
	case o.Data == "":
		return &Error{Code: "data_missing", Message: "Without keys hark makes one in its data folder; set Options.Data, or Options.JWTSecret."}
	}
	return checkLoopback(o.Listen)
}

// checkNumbers refuses numbers that are most likely typing errors: a wrong age would delete unread notifications.
func (o *Options) checkNumbers() error {
	for _, d := range []struct {
		name         string
		value, least time.Duration
	}{
		{"Options.InboxAge", o.InboxAge, time.Hour},
		{"Options.Export.Timeout", o.Export.Timeout, time.Second},
		{"Options.Drain", o.Drain, time.Millisecond},
		{"Options.DrainDelay", o.DrainDelay, 0},
	} {
		if d.value < d.least {
			return &Error{Code: "setting_invalid", Message: fmt.Sprintf("%s is %v; it must be at least %v.", d.name, d.value, d.least)}
		}
	}
	if !(o.RateLimit >= 0) || math.IsInf(o.RateLimit, 0) {
		return &Error{Code: "setting_invalid", Message: fmt.Sprintf("Options.RateLimit is %v; it must be a number of requests a second, or 0 for no limit.", o.RateLimit)}
	}
	return nil
}

// checkNATS checks what says how to reach NATS, or how others reach the server inside.
func (o *Options) checkNATS() error {
	servers := natsconn.Options(o.NATSServers)
	if err := servers.Check(); err != nil {
		return &Error{Code: "nats_options_invalid", Message: sentence(err, "secret: "), Err: err}
	}
	n := &o.NATSServers
	switch {
	case o.NATS != nil && *n != (NATSServers{}):
		return &Error{Code: "nats_twice", Message: "Options.NATS is in place of Options.NATSServers; leave one of them out."}
	case !o.embeds() && (o.NATSListen != "" || o.SyncAlways):
		return &Error{Code: "nats_is_elsewhere", Message: "Options.NATSListen and Options.SyncAlways are for the NATS server inside hark; leave them out with Options.NATSServers.URL."}
	case !o.embeds():
		return nil
	case o.JSDomain != "" || o.JSAPIPrefix != "":
		return &Error{Code: "nats_is_inside", Message: "Options.JSDomain and Options.JSAPIPrefix are for NATS servers elsewhere; give their Options.NATSServers.URL too, or leave them out."}
	case n.NKeyFile != "" || n.CredsFile != "" || n.CAFile != "" || n.InboxPrefix != "":
		return &Error{Code: "nats_is_inside", Message: "Options.NATSServers.NKeyFile, Options.NATSServers.CredsFile, Options.NATSServers.CAFile and Options.NATSServers.InboxPrefix are for NATS servers elsewhere; give their Options.NATSServers.URL too, or leave them out."}
	case o.NATSListen == "" && (n.User != "" || n.Token.IsSet() || n.CertFile != ""):
		return &Error{Code: "nats_is_inside", Message: "A NATS login or certificate is given, and nothing to use it for: give Options.NATSServers.URL for servers elsewhere, or Options.NATSListen for others to connect to this one."}
	case o.NATSListen == "" || n.Token.IsSet() || n.User != "" && n.Password.IsSet():
		return nil
	case n.User != "":
		return &Error{Code: "nats_listen_needs_login", Message: "Options.NATSServers.User needs Options.NATSServers.Password."}
	}
	local, err := isLoopback(o.NATSListen)
	if err != nil {
		return &Error{Code: "nats_listen_invalid", Message: fmt.Sprintf("Options.NATSListen %q is not host:port.", o.NATSListen)}
	}
	if !local {
		return &Error{Code: "nats_listen_needs_login", Message: fmt.Sprintf(
			"Without a login anybody who can reach %s could read and change everything; give Options.NATSServers.User and Options.NATSServers.Password, or Options.NATSServers.Token.", o.NATSListen)}
	}
	return nil
}

// checkTokens checks the options for tokens where [auth.New] could not name the flag to set.
func (o *Options) checkTokens() error {
	fromURL := auth.IsURL(o.JWKS) || o.discovers()
	switch {
	case fromURL && len(o.JWTAudience) == 0:
		return &Error{Code: "audience_missing", Message: "The keys come from a URL, and sign for other applications, too; set Options.JWTAudience to the aud claim of the tokens that are meant for hark."}
	case slices.Contains(o.JWTAudience, ""):
		return &Error{Code: "audience_missing", Message: "Options.JWTAudience is empty; leave it out, or set it to the aud claim of the tokens that are meant for hark."}
	case o.MaxTokenAge < 0 || o.MaxTokenAge > 0 && o.MaxTokenAge < time.Second:
		return &Error{Code: "max_token_age_invalid", Message: "Options.MaxTokenAge must be 1s or more, or 0 for any."}
	}
	return nil
}

// discovers reports whether the issuer is asked where the keys are.
func (o *Options) discovers() bool {
	return !o.JWTSecret.IsSet() && o.JWKS == "" && auth.IsURL(o.JWTIssuer)
}

// noKey reports whether anybody signs in under any name, since there is nothing to verify tokens with.
func (o *Options) noKey() bool {
	return o.Auth == nil && !o.JWTSecret.IsSet() && o.JWKS == "" && !o.discovers()
}

// checkLoopback checks that nobody but this machine can reach a notifier without keys.
func checkLoopback(listen string) error {
	if listen == "" {
		return &Error{Code: "auth_missing", Message: "hark cannot know who makes a request: set Options.Auth, or Options.JWTSecret, Options.JWKS or Options.JWTIssuer."}
	}
	local, err := isLoopback(listen)
	if err != nil {
		return &Error{Code: "listen_invalid", Message: fmt.Sprintf("Options.Listen %q is not host:port.", listen)}
	}
	if !local {
		return &Error{Code: "listen_needs_key", Message: fmt.Sprintf(
			"Without Options.JWTSecret, Options.JWKS or a Options.JWTIssuer that is a URL anybody can sign in under any name, so hark listens on loopback addresses only, not on %s.", listen)}
	}
	return nil
}

// isLoopback reports whether only this machine can reach the address.
func isLoopback(address string) (bool, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback(), nil
}

// sentence makes a sentence for users of an error.
func sentence(err error, prefix string) string {
	text := strings.TrimPrefix(err.Error(), prefix)
	return strings.ToUpper(text[:1]) + text[1:] + "."
}
