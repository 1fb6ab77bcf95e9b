package main

import (
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/internal/demo"
)

// The tag "secret" marks flags whose value must not be seen in the list of processes: see [hideSecrets].

// processFlags are the flags of every command that runs a part of hark.
type processFlags struct {
	Data       string        `help:"Data folder. By default a folder of the user's own." placeholder:"DIR"`
	Drain      time.Duration `help:"How long each step of a stop may take." default:"10s"`
	DrainDelay time.Duration `help:"How long to go on working after the signal to stop, while /readyz says shutting_down, so that a balancer notices." default:"0s"`
	Files      string        `help:"Folder for the files of jobs, in place of NATS. All notifiers and workers must have the same, on a file system that they share." type:"path" placeholder:"DIR"`
	Admin      string        `help:"host:port for operators: /metrics, /livez, /readyz, /skipped (malformed messages) and Go's profiles (pprof), without a login. /metrics is then served there only." placeholder:"ADDR"`
	LogLevel   slog.Level    `help:"Minimum level of the log: debug, info, warn or error." default:"info"`
	LogJSON    bool          `name:"log-json" help:"Log in JSON."`
}

// natsFlags say where the NATS servers are and how to log in.
type natsFlags struct {
	NATS             string `name:"nats" secret:"url" help:"URL of a NATS server with JetStream, or several with commas between." placeholder:"URL"`
	NATSUser         string `name:"nats-user" help:"User to log in to NATS as. With --nats-listen, the user that others log in as." placeholder:"NAME"`
	NATSPassword     string `name:"nats-password" secret:"" help:"Password of that user." placeholder:"PASSWORD"`
	NATSPasswordFile string `name:"nats-password-file" help:"File with that password, read at each connect." type:"path" placeholder:"FILE"`
	NATSToken        string `name:"nats-token" secret:"" help:"Token to log in to NATS with, in place of a user." placeholder:"TOKEN"`
	NATSTokenFile    string `name:"nats-token-file" help:"File with that token, read at each connect." type:"path" placeholder:"FILE"`
	NATSNKey         string `name:"nats-nkey" help:"File with the seed of the nkey to log in to NATS with." type:"path" placeholder:"FILE"`
	NATSCreds        string `name:"nats-creds" help:"Credentials file (user JWT and seed) to log in to NATS with." type:"path" placeholder:"FILE"`
	NATSCA           string `name:"nats-ca" help:"PEM file of the CA that signed the NATS servers' certificates; makes TLS required." type:"path" placeholder:"FILE"`
	NATSCert         string `name:"nats-cert" help:"PEM file of the client certificate. With --nats-listen, of that server's own." type:"path" placeholder:"FILE"`
	NATSKey          string `name:"nats-key" help:"PEM file of the key of that certificate." type:"path" placeholder:"FILE"`
	NATSInboxPrefix  string `name:"nats-inbox-prefix" help:"Begins the subjects on which responses of NATS arrive, where the permissions of the login permit only those: see hark nats-config." placeholder:"SUBJECT"`
	Namespace        string `help:"Begins the names of hark's streams, buckets and subjects, so that several harks can use one account of NATS: a-z, 0-9, _ and -, at most 31." default:"hark" placeholder:"NAME"`
	JSDomain         string `name:"js-domain" help:"JetStream domain of hark's streams, where --nats is a leaf node." placeholder:"NAME"`
	JSAPIPrefix      string `name:"js-api-prefix" help:"Prefix of JetStream's API, where the account imports it under another name than $JS.API." placeholder:"SUBJECT"`
}

// location says where the streams are: in NATS servers, or in a data folder.
func (f *natsFlags) location(data string, wait time.Duration) hark.Location {
	return hark.Location{
		NATSServers: f.servers(), Data: data, Namespace: f.Namespace, JSDomain: f.JSDomain, JSAPIPrefix: f.JSAPIPrefix, Wait: wait,
	}
}

func (f *natsFlags) servers() hark.NATSServers {
	return hark.NATSServers{
		URL: f.NATS, User: f.NATSUser,
		Password: hark.Secret{Value: f.NATSPassword, File: f.NATSPasswordFile},
		Token:    hark.Secret{Value: f.NATSToken, File: f.NATSTokenFile},
		NKeyFile: f.NATSNKey, CredsFile: f.NATSCreds, CAFile: f.NATSCA, CertFile: f.NATSCert, KeyFile: f.NATSKey,
		InboxPrefix: f.NATSInboxPrefix,
	}
}

// embeddedFlags are for the server inside hark.
type embeddedFlags struct {
	NATSListen string `name:"nats-listen" help:"host:port where the NATS server inside hark takes connections of others. One that is not a loopback address needs a login: --nats-user and --nats-password-file, or --nats-token-file." placeholder:"ADDR"`
	Sync       string `help:"When the NATS server inside hark and the SQLite inbox sync to disk: always, before each answer, or interval, every two minutes." enum:"interval,always" default:"interval"`
}

// settingFlags are the settings of the streams and buckets.
type settingFlags struct {
	Replicas  int           `help:"How many servers of a NATS cluster keep each message: 1, 3 or 5. A new stream defaults to 1." placeholder:"N"`
	MaxAge    time.Duration `help:"How long jobs and notifications stay in the stream. A new stream defaults to 168h. A smaller value deletes older messages at once." placeholder:"DURATION"`
	FileAge   time.Duration `help:"How long a file can be downloaded after its job ended. New files default to 168h." placeholder:"DURATION"`
	FileSpace byteSize      `help:"How much all files may take together, as 50GB. By default there is no limit." placeholder:"SIZE"`
	UserSpace byteSize      `name:"user-file-space" help:"How much the files of one user may take together, as 5GiB, which is the default." placeholder:"SIZE"`
	Lease     time.Duration `help:"How long a job stays with a worker that has stopped sending heartbeats. A new stream defaults to 30s. Running jobs may start again once when it becomes shorter than 30s." placeholder:"DURATION"`
}

func (f *settingFlags) settings() hark.Settings {
	return hark.Settings{
		Replicas: f.Replicas, MaxAge: f.MaxAge, FileAge: f.FileAge, FileSpace: int64(f.FileSpace), UserFileSpace: int64(f.UserSpace), Lease: f.Lease,
	}
}

// byteSize is a number of bytes as people write it: 500MB, 1.5GB, 2GiB or 1000000.
type byteSize int64

// UnmarshalText implements [encoding.TextUnmarshaler].
func (b *byteSize) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	if err != nil || n == 0 || n > math.MaxInt64 {
		return fmt.Errorf("%.40q is not a size like 500MB", text)
	}
	*b = byteSize(n)
	return nil
}

// httpFlags are the flags of the notifier.
type httpFlags struct {
	Listen        string        `help:"host:port to answer HTTP on." default:"localhost:4280"`
	TLSCert       string        `name:"tls-cert" help:"PEM file of the certificate of --listen, with those between it and its CA: hark then speaks HTTPS there, with HTTP/2. Read again when it changes." type:"path" placeholder:"FILE"`
	TLSKey        string        `name:"tls-key" help:"PEM file of the key of that certificate." type:"path" placeholder:"FILE"`
	Database      string        `secret:"url" help:"postgres:// URL of the inbox's database, which all notifiers share, or the path of a SQLite file for a notifier that is the only one. By default hark serve has a SQLite file in its data folder." placeholder:"URL"`
	DatabaseFile  string        `help:"File with that URL." type:"path" placeholder:"FILE"`
	InboxSchema   string        `help:"Schema of PostgreSQL with the inbox's tables. It is created if it does not exist and the database user may create it. By default the first one in the search_path." placeholder:"NAME"`
	InboxPrefix   string        `name:"inbox-table-prefix" help:"Begins the names of the inbox's tables and indexes: 1 to 32 of a-z, 0-9 and _, beginning with a letter or _." default:"hark_"`
	InboxAge      time.Duration `help:"How long the inbox keeps notifications." default:"2160h"`
	JWTSecret     string        `name:"jwt-secret" secret:"" help:"HS256 secret of the tokens, at least 32 bytes." placeholder:"SECRET"`
	JWTSecretFile string        `name:"jwt-secret-file" help:"File with that secret." type:"path" placeholder:"FILE"`
	JWKS          string        `name:"jwks" help:"File or URL of the keys of the tokens (RS256, ES256, EdDSA)." placeholder:"FILE|URL"`
	claimFlags
	MaxTokenAge  time.Duration `help:"Longest lifetime of a token that is accepted, from its iat to its exp; 0 means any." default:"0" placeholder:"DURATION"`
	SignInURL    string        `name:"sign-in-url" help:"Page where your application signs users in: hark's page links to it if nobody is signed in. A path on the same host, or an http(s) URL." placeholder:"URL"`
	RateLimit    float64       `help:"Requests a second that each user may make, with a fifth of that for jobs to be enqueued; 0 means no limit." default:"50"`
	MaxConns     int           `name:"max-connections" help:"Connections that may be open, streams among them. By default 25000, or fewer if the limit of open files demands it." placeholder:"N"`
	MaxConnsEach int           `name:"max-connections-per-address" help:"Connections that one client address may have open; 0 means no limit. Behind a proxy all have the proxy's address." placeholder:"N"`
	Topic        []topicRule   `help:"Topic of live events, as a pattern, that every signed-in user may listen to: comments.*, orders.{user}.> or board.>. With a scope or a claim only those who have it may: 'ops.> scope:admin', 'team.red claim:team=red,blue'. With the word listeners these also see who listens, and with announce all listeners get the events join and leave. May be given several times." sep:"none" placeholder:"PATTERN"`
	AllowOrigin  []string      `help:"Origin, besides hark's own, whose pages may call hark, with a token or the cookie. May be given several times." placeholder:"ORIGIN"`
}

// claimFlags describe the claims of tokens: those that the notifier accepts, and those that commands make.
type claimFlags struct {
	JWTIssuer   string            `name:"jwt-issuer" help:"The iss that tokens must have. The notifier asks an https URL for its keys if it has no others (OpenID Connect Discovery)." placeholder:"ISSUER"`
	JWTAudience []string          `name:"jwt-audience" help:"The aud that tokens must have. May be given several times: one of them is enough." placeholder:"AUDIENCE"`
	UserClaim   string            `help:"The claim of tokens that names the user." default:"sub" placeholder:"CLAIM"`
	ScopeMap    map[string]string `help:"Name that tokens have for a scope of hark, like hark:admin=admin, which admin alone grants no more. May be given several times." mapsep:"," placeholder:"NAME=SCOPE"`
}

// workerFlags are the flags of the worker.
type workerFlags struct {
	Config         string         `help:"hark.yaml with the datasets to export; by default hark brings a sample shop." type:"path" placeholder:"FILE"`
	Concurrency    map[string]int `help:"How many jobs of a kind run at once, as export=4. By default 2 exports and 8 sleeps." placeholder:"KIND=N"`
	RunningPerUser map[string]int `help:"How many jobs of a kind and user run at once, as export=1. More of them wait, and other users' jobs run first. By default half of --concurrency." placeholder:"KIND=N"`
	WaitingPerUser map[string]int `help:"How many jobs of a kind and user may wait, as export=20: one more is refused. By default 1000; 0 means no limit. All workers of a kind should have the same value." placeholder:"KIND=N"`
	ExportTimeout  time.Duration  `help:"How long an export may take, in the database as well." default:"1h"`
	Demo           bool           `help:"Run the kind sleep beside your datasets. The sample shop has it always."`
}

func (f *workerFlags) apply(o *hark.Options) error {
	if err := f.checkLimits(); err != nil {
		return err
	}
	o.Export = hark.Export{Config: f.Config, Sample: f.Config == "", Timeout: f.ExportTimeout, Options: f.limits("export")}
	if f.Demo || o.Export.Sample {
		o.Handlers = append(o.Handlers, demo.Sleep(f.limits("sleep")...))
	}
	return nil
}

// healthFlags are those of a worker without a notifier.
type healthFlags struct {
	Listen string `help:"host:port that answers /livez, /readyz and, without --admin, /metrics." default:"localhost:4281"`
}
