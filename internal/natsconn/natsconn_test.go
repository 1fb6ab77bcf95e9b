package natsconn_test

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/natsconn"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/internal/secret"
	"github.com/hark-jobs/hark/internal/tlstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve starts a server with the options and returns its URL.
func serve(t *testing.T, o server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", server.RANDOM_PORT, true, true
	ns, err := server.NewServer(&o)
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not listen")
	}
	return ns.ClientURL()
}

// connect connects and returns the log.
func connect(t *testing.T, o natsconn.Options) (*natsconn.Conn, *logtest.Buffer) {
	t.Helper()
	log := new(logtest.Buffer)
	nc, err := natsconn.Connect(o, "test", slog.New(slog.NewTextHandler(log, nil)), func(_ *nats.Conn, _ *nats.Subscription, err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc, log
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// userPair returns the seed and the public key of a user.
func userPair() (seed, public string) {
	pair := must(nkeys.CreateUser())
	return string(must(pair.Seed())), must(pair.PublicKey())
}

// jwtServer starts a server whose users have credentials files, and returns its URL and one of those.
func jwtServer(t *testing.T) (url, creds string) {
	t.Helper()
	operator, account, user := must(nkeys.CreateOperator()), must(nkeys.CreateAccount()), must(nkeys.CreateUser())
	accountKey := must(account.PublicKey())
	accountJWT := must(jwt.NewAccountClaims(accountKey).Encode(operator))
	resolver := &server.MemAccResolver{}
	if err := resolver.Store(accountKey, accountJWT); err != nil {
		t.Fatal(err)
	}
	claims := jwt.NewUserClaims(must(user.PublicKey()))
	userJWT := must(claims.Encode(account))
	text := must(jwt.FormatUserConfig(userJWT, must(user.Seed())))
	url = serve(t, server.Options{TrustedKeys: []string{must(operator.PublicKey())}, AccountResolver: resolver})
	return url, file(t, string(text))
}

// Every right login of NATS is accepted. A wrong one is in the log and in Err, and retried for ever.
func TestLogins(t *testing.T) {
	seed, public := userPair()
	otherSeed, _ := userPair()
	jwtURL, creds := jwtServer(t)
	_, otherCreds := jwtServer(t)
	password := serve(t, server.Options{Username: "hark", Password: "s3cret"})
	token := serve(t, server.Options{Authorization: "t0ken"})
	nkey := serve(t, server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	for name, c := range map[string]struct{ right, wrong natsconn.Options }{
		"user and password": {
			natsconn.Options{URL: password, User: "hark", Password: secret.Secret{File: file(t, "s3cret\n")}},
			natsconn.Options{URL: password, User: "hark", Password: secret.Secret{Value: "other"}}},
		"token": {
			natsconn.Options{URL: token, Token: secret.Secret{File: file(t, "t0ken\n")}},
			natsconn.Options{URL: token, Token: secret.Secret{Value: "other"}}},
		"nkey": {
			natsconn.Options{URL: nkey, NKeyFile: file(t, seed)},
			natsconn.Options{URL: nkey, NKeyFile: file(t, otherSeed)}},
		"credentials": {
			natsconn.Options{URL: jwtURL, CredsFile: creds},
			natsconn.Options{URL: jwtURL, CredsFile: otherCreds}},
		"in the URL": {
			natsconn.Options{URL: strings.Replace(password, "nats://", "nats://hark:s3cret@", 1)},
			natsconn.Options{URL: strings.Replace(password, "nats://", "nats://hark:wr0ng@", 1)}},
		"none": {natsconn.Options{URL: serve(t, server.Options{})}, natsconn.Options{URL: password}},
	} {
		t.Run(name, func(t *testing.T) {
			nc, log := connect(t, c.right)
			if err := nc.Err(); err != nil {
				t.Errorf("the right login: %v", err)
			}
			if text := log.String(); strings.Contains(text, "WARN") {
				t.Errorf("it logged %s", text)
			}
			nc, log = connect(t, c.wrong)
			polltest.Until(t, "a refusal", func() bool { return natsconn.Refused(nc.Err()) })
			polltest.Until(t, "many tries", func() bool { return nc.Stats().Reconnects >= 3 })
			if nc.IsClosed() {
				t.Error("the connection was closed")
			}
			text := strings.ToLower(log.String())
			if !strings.Contains(text, "authorization") || strings.Count(text, "\n") > 2 {
				t.Errorf("it logged %s", text)
			}
			for _, secret := range []string{"s3cret", "wr0ng", "t0ken", strings.ToLower(otherSeed)} {
				if strings.Contains(text, secret) {
					t.Errorf("the log holds a secret: %s", text)
				}
			}
		})
	}
}

// A password that is written to its file later is used without a restart.
func TestPasswordArrives(t *testing.T) {
	url, path := serve(t, server.Options{Username: "hark", Password: "s3cret"}), file(t, "yesterday's\n")
	nc, _ := connect(t, natsconn.Options{URL: url, User: "hark", Password: secret.Secret{File: path}})
	polltest.Until(t, "a refusal", func() bool { return natsconn.Refused(nc.Err()) })
	if err := os.WriteFile(path, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	polltest.Until(t, "the connection", func() bool { return nc.Err() == nil })
}

// A server that starts later is found.
func TestServerComes(t *testing.T) {
	url := serve(t, server.Options{}) // an address that was free
	down := natsconn.Options{URL: "127.0.0.1:1," + strings.TrimPrefix(url, "nats://")}
	nc, _ := connect(t, down)
	polltest.Until(t, "the second server", func() bool { return nc.Err() == nil })
	nc, log := connect(t, natsconn.Options{URL: "nats://hark:s3cret@127.0.0.1:1"})
	if nc.Err() == nil || natsconn.Refused(nc.Err()) {
		t.Errorf("without a server: %v", nc.Err())
	}
	polltest.Until(t, "a line in the log", func() bool { return strings.Contains(log.String(), "NATS connection failed") })
	if strings.Contains(log.String(), "s3cret") {
		t.Errorf("the log holds the password: %s", log)
	}
}

// With TLS the server is verified by the CA, and the client by its certificate.
// A connection on which all packets vanish is noticed in seconds, and made again when they come.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	relay := natstest.NewRelay(t, strings.TrimPrefix(serve(t, server.Options{}), "nats://"))
	nc, _ := connect(t, natsconn.Options{URL: natstest.URLOf(relay.Addr())})
	polltest.Until(t, "connected", nc.IsConnected)
	relay.Freeze()
	at := time.Now()
	polltest.Until(t, "the silence is noticed", func() bool { return !nc.IsConnected() })
	if d := time.Since(at); d > 10*time.Second { // docs/guarantees.md says 3 s
		t.Errorf("noticed after %v", d)
	}
	relay.Thaw()
	polltest.Until(t, "connected again", nc.IsConnected)
}

func TestTLS(t *testing.T) {
	files, strange := tlstest.New(t), tlstest.New(t)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(must(os.ReadFile(files.CA)))
	url := serve(t, server.Options{TLS: true, TLSVerify: true, TLSTimeout: 5, TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{must(tls.LoadX509KeyPair(files.Cert, files.Key))},
		ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool,
	}})
	nc, _ := connect(t, natsconn.Options{URL: url, CAFile: files.CA, CertFile: files.Cert, KeyFile: files.Key})
	if _, err := nc.TLSConnectionState(); err != nil || nc.Err() != nil {
		t.Errorf("%v, %v", err, nc.Err())
	}
	for name, o := range map[string]natsconn.Options{
		"without the CA":             {URL: url, CertFile: files.Cert, KeyFile: files.Key},
		"with another CA":            {URL: url, CAFile: strange.CA, CertFile: files.Cert, KeyFile: files.Key},
		"without a certificate":      {URL: url, CAFile: files.CA},
		"with another's certificate": {URL: url, CAFile: files.CA, CertFile: strange.Cert, KeyFile: strange.Key},
	} {
		nc, log := connect(t, o)
		polltest.Until(t, name+": a line in the log", func() bool { return strings.Contains(log.String(), "NATS connection failed") })
		if nc.Err() == nil {
			t.Errorf("%s: connected", name)
		}
	}
	plain := serve(t, server.Options{})
	if nc, _ := connect(t, natsconn.Options{URL: plain, CAFile: files.CA}); nc.Err() == nil {
		t.Error("with a CA it connected to a server without TLS")
	}
}

func TestCheck(t *testing.T) {
	files := tlstest.New(t)
	seed, _ := userPair()
	for want, o := range map[string]natsconn.Options{
		"more than one login is set; use a login in the URL": {URL: "nats://hark:s3cret@a", User: "hark", Password: secret.Secret{Value: "s3cret"}},
		"the URL of NATS is malformed":                       {URL: "nats://hark:s3cret%zz@a"},
		"write special characters":                           {URL: "nats://a,nats://hark:s3cret#1@a b"},
		"more than one login":                                {User: "hark", Token: secret.Secret{Value: "t"}},
		"without a user":                                     {Password: secret.Secret{Value: "s3cret"}},
		"both a value and a file":                            {User: "hark", Password: secret.Secret{Value: "s3cret", File: "f"}},
		"needs both":                                         {CertFile: files.Cert},
		"the nkey in":                                        {NKeyFile: file(t, "nothing of that kind")},
		"credentials cannot be read":                         {CredsFile: "/nowhere/hark.creds"},
		"no PEM certificate":                                 {CAFile: file(t, seed)},
		"certificate cannot be used":                         {CertFile: files.Cert, KeyFile: files.CA},
		"secret: open /nowhere/pw: no ":                      {User: "hark", Password: secret.Secret{File: "/nowhere/pw"}},
	} {
		err := o.Check()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%+v: %v, want %s", o, err, want)
		}
	}
}

func TestRedacted(t *testing.T) {
	for given, want := range map[string]string{
		"nats://hark:s3cret@a:4222, tls://t0ken@b:4222": "nats://a:4222,tls://b:4222",
		"a:4222":             "nats://a:4222",
		"hark:s3cret@a:4222": "nats://a:4222",
		"nats://a b:4222":    "(not a URL)",
		"":                   "in this process",
	} {
		if got := natsconn.Redacted(given); got != want {
			t.Errorf("%s became %s", given, got)
		}
	}
}

// A connection like one of a program gets its own messages, also if that one does not.
func TestLikeHearsItself(t *testing.T) {
	t.Parallel()
	theirs, err := nats.Connect(serve(t, server.Options{}), nats.NoEcho(), nats.Timeout(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	nc, err := natsconn.Like(theirs, "hark", slog.New(slog.NewTextHandler(t.Output(), nil)), func(*nats.Conn, *nats.Subscription, error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("a")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Publish("a", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := sub.NextMsg(time.Minute); err != nil {
		t.Error("its own message did not arrive:", err)
	}
}

// Responses arrive under the prefix that is given, also on a connection like it. One with wildcards is refused at once.
func TestInboxPrefix(t *testing.T) {
	nc, _ := connect(t, natsconn.Options{URL: serve(t, server.Options{}), InboxPrefix: "_INBOX_hark"})
	like, err := natsconn.Like(nc.Conn, "like", slog.Default(), func(*nats.Conn, *nats.Subscription, error) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(like.Close)
	for _, inbox := range []string{nc.NewInbox(), like.NewInbox()} {
		if !strings.HasPrefix(inbox, "_INBOX_hark.") {
			t.Errorf("the inbox is %s", inbox)
		}
	}
	for _, prefix := range []string{"_INBOX.>", "a.*", "a."} {
		o := natsconn.Options{URL: "nats://127.0.0.1:1", InboxPrefix: prefix}
		if err := o.Check(); err == nil || !strings.Contains(err.Error(), "without wildcards") {
			t.Errorf("%s: %v", prefix, err)
		}
	}
}
