package deploy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
)

const host = "hark.example.com" // in both configurations

// patience is the timeout of all steps, for a busy machine.
const patience = time.Minute

// upstream stands for a notifier behind a proxy.
type upstream struct {
	name   string
	server *httptest.Server
	events chan string // the text that its streams write
	posts  atomic.Int64
	asked  atomic.Int64 // for /metrics
	breaks atomic.Bool  // it breaks the connection of each request
	sent   atomic.Int64 // bytes of the flood
}

func newUpstream(t *testing.T, name string) *upstream {
	u := &upstream{name: name, events: make(chan string)}
	u.server = httptest.NewServer(u)
	t.Cleanup(u.server.Close)
	t.Cleanup(u.server.CloseClientConnections)
	return u
}

func (u *upstream) addr() string { return u.server.Listener.Addr().String() }

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/readyz" {
		return
	}
	io.Copy(io.Discard, r.Body)
	if r.Method == http.MethodPost {
		u.posts.Add(1)
	}
	if u.breaks.Load() {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			conn.Close()
		}
		return
	}
	h := w.Header()
	h.Set("Upstream", u.name)
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Hark-Route", "Cookie", "Authorization"} {
		h.Set("Got-"+name, strings.Join(r.Header.Values(name), "; "))
	}
	h.Set("Got-Host", r.Host)
	if r.URL.RawQuery == "flood" {
		h.Set("Content-Type", "text/event-stream")
		for part := make([]byte, 64<<10); ; {
			n, err := w.Write(part)
			if u.sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
	switch r.URL.Path {
	case "/metrics":
		u.asked.Add(1)
	case "/v1/stream":
		h.Set("Content-Type", "text/event-stream")
		// hark begins every stream with hello. Over HTTP/2 nginx holds the head back until the first bytes.
		io.WriteString(w, "event: hello\n\n")
		http.NewResponseController(w).Flush()
		for {
			select {
			case event := <-u.events:
				fmt.Fprintf(w, "data: %s\n\n", event)
				http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	case "/v1/jobs/J/file":
		for range 1 << 10 {
			w.Write(bytes.Repeat([]byte("0123456789abcdef"), 1<<8))
		}
	}
}

// proxied is a client of a proxy before two upstreams.
type proxied struct {
	t      *testing.T
	base   string
	client *http.Client
	a, b   *upstream
}

type answer struct {
	*http.Response
	body []byte
}

// ask sends a request; each header is a name and a value.
func (p *proxied) ask(method, path string, headers ...string) (answer, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("{}")
	}
	r, err := http.NewRequestWithContext(ctx, method, p.base+path, body)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return answer{resp, text}, err
}

func (p *proxied) get(path string, headers ...string) answer {
	p.t.Helper()
	a, err := p.ask(http.MethodGet, path, headers...)
	if err != nil {
		p.t.Fatalf("GET %s: %v", path, err)
	}
	return a
}

// newProxied waits until the proxy at addr serves the upstreams.
func newProxied(t *testing.T, addr string, cert certificate, a, b *upstream) *proxied {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{RootCAs: cert.pool},
		ForceAttemptHTTP2:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	_, port, _ := net.SplitHostPort(addr)
	p := &proxied{t: t, base: "https://" + net.JoinHostPort(host, port), a: a, b: b, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	polltest.Nil(t, "the proxy responds", func() error {
		answer, err := p.ask(http.MethodGet, "/")
		if err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return err
	})
	return p
}

// checkProxy checks what every proxy before notifiers must do.
func checkProxy(t *testing.T, p *proxied) {
	t.Run("stream", p.stream)
	t.Run("download", p.download)
	t.Run("slow stream", func(t *testing.T) { p.slow(t, "/v1/stream") })
	t.Run("slow download", func(t *testing.T) { p.slow(t, "/v1/jobs/J/file") })
	t.Run("headers", p.headers)
	t.Run("metrics", p.metrics)
	t.Run("users", p.users)
	t.Run("retries", p.retries) // the last two leave upstreams marked as down
	t.Run("stopped", p.stopped)
}

// stream checks that each event arrives unchanged before the next one is written.
func (p *proxied) stream(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/v1/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "gzip, br, zstd")
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "" {
		t.Fatalf("got %s %s %v", resp.Proto, resp.Status, resp.Header)
	}
	from := p.a
	if resp.Header.Get("Upstream") == p.b.name {
		from = p.b
	}
	lines := bufio.NewReader(resp.Body)
	for range 2 {
		if _, err := lines.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		event := fmt.Sprint("event ", i)
		select {
		case from.events <- event:
		case <-ctx.Done():
			t.Fatal("the stream is closed")
		}
		if line, err := lines.ReadString('\n'); err != nil || line != "data: "+event+"\n" {
			t.Fatalf("got %q, %v, want %s", line, err, event)
		}
		if line, err := lines.ReadString('\n'); err != nil || line != "\n" {
			t.Fatalf("got %q, %v", line, err)
		}
	}
}

func (p *proxied) download(t *testing.T) {
	a := p.get("/v1/jobs/J/file", "Accept-Encoding", "gzip, br, zstd")
	if len(a.body) != 4<<20 || a.Header.Get("Content-Encoding") != "" {
		t.Errorf("got %d bytes, %v", len(a.body), a.Header)
	}
}

// slow checks that the notifier notices a slow reader: the buffers of the proxy and the connections are bounded.
func (p *proxied) slow(t *testing.T, path string) {
	const bound = 64 << 20
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path+"?flood", nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := func() int64 { return p.a.sent.Load() + p.b.sent.Load() }
	before := sent()
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	last, still := sent(), 0
	for begin := time.Now(); still < 30 && time.Since(begin) < patience; time.Sleep(50 * time.Millisecond) {
		still++
		if sent() != last {
			last, still = sent(), 0
		}
		if last-before > bound {
			t.Fatal("the proxy takes all that there is")
		}
	}
	if last == before {
		t.Error("nothing was sent")
	}
}

// headers checks that the notifier gets the headers of the proxy, and no forged ones of a client.
func (p *proxied) headers(t *testing.T) {
	a := p.get("/", "X-Forwarded-For", "192.0.2.1", "X-Forwarded-Proto", "http", "X-Hark-Route", "mine",
		"Cookie", "hark_token=T; hark_route=R", "Authorization", "Bearer B")
	if route := a.Header.Get("Got-X-Hark-Route"); route != "" && route != "mine" {
		t.Errorf("the notifier got the proxy's own header: %s", route)
	}
	for name, want := range map[string]string{
		"Got-X-Forwarded-For": "127.0.0.1", "Got-X-Forwarded-Proto": "https", "Got-Cookie": "hark_token=T; hark_route=R",
		"Got-Authorization": "Bearer B", "Got-Host": strings.TrimPrefix(p.base, "https://"),
	} {
		if got := a.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if a.Header.Get("Strict-Transport-Security") == "" {
		t.Error("browsers may come back without TLS")
	}
}

func (p *proxied) metrics(t *testing.T) {
	for _, path := range []string{"/metrics", "/%6detrics", "/metrics?x", "//metrics", "/x/../metrics"} {
		p.get(path)
	}
	if a := p.get("/metrics"); a.StatusCode != http.StatusForbidden {
		t.Errorf("got %s", a.Status)
	}
	if n := p.a.asked.Load() + p.b.asked.Load(); n != 0 {
		t.Errorf("the metrics were asked for %d times", n)
	}
}

// users checks that a user always gets the same notifier, and that users are distributed.
func (p *proxied) users(t *testing.T) {
	for _, kind := range []string{"Cookie", "Authorization"} {
		got := make(map[string]int)
		for user := range 40 {
			var of string
			for try := range 3 {
				value := fmt.Sprintf("Bearer user-%d", user)
				if kind == "Cookie" {
					value = fmt.Sprintf("theme=%d; hark_route=user-%d; hark_token=%d", try, user, try)
				}
				now := p.get("/", kind, value).Header.Get("Upstream")
				if try > 0 && now != of {
					t.Errorf("%s: user %d got %s, then %s", kind, user, of, now)
				}
				of = now
			}
			got[of]++
		}
		if len(got) != 2 {
			t.Errorf("%s: 40 users got %v", kind, got)
		}
	}
	// A cookie takes precedence over a token, which differs for each login.
	want := p.get("/", "Cookie", "hark_route=ana").Header.Get("Upstream")
	for i := range 20 {
		if got := p.get("/", "Cookie", "hark_route=ana", "Authorization", fmt.Sprint("Bearer ", i)).Header.Get("Upstream"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// retries checks that requests which may have had an effect are not retried, and idempotent ones are.
func (p *proxied) retries(t *testing.T) {
	p.a.breaks.Store(true)
	defer p.a.breaks.Store(false)
	before := p.a.posts.Load() + p.b.posts.Load()
	sent, broken := int64(0), 0
	for i := 0; broken == 0 && i < 40; i++ {
		a, err := p.ask(http.MethodPost, "/v1/jobs", "Cookie", fmt.Sprint("hark_route=user-", i))
		sent++
		if err != nil || a.StatusCode == http.StatusBadGateway {
			broken++
		}
	}
	if got := p.a.posts.Load() + p.b.posts.Load() - before; broken == 0 || got != sent {
		t.Errorf("%d requests came as %d; %d were broken off", sent, got, broken)
	}
	for i := range 40 {
		if a := p.get("/", "Cookie", fmt.Sprint("hark_route=user-", i)); a.StatusCode != http.StatusOK || a.Header.Get("Upstream") != p.b.name {
			t.Errorf("user %d got %s of %q", i, a.Status, a.Header.Get("Upstream"))
		}
	}
}

// stopped checks that the other notifier serves the requests when one has stopped.
func (p *proxied) stopped(t *testing.T) {
	polltest.Until(t, "the first notifier is taken in again", func() bool {
		return p.get("/", "Cookie", p.userOf(p.a)).Header.Get("Upstream") == p.a.name
	})
	p.a.server.CloseClientConnections()
	p.a.server.Close()
	for i := range 40 {
		cookie := fmt.Sprint("hark_route=user-", i)
		if a := p.get("/", "Cookie", cookie); a.StatusCode != http.StatusOK || a.Header.Get("Upstream") != p.b.name {
			t.Errorf("user %d got %s of %q", i, a.Status, a.Header.Get("Upstream"))
		}
		if a, err := p.ask(http.MethodPost, "/v1/jobs", "Cookie", cookie); err != nil || a.StatusCode != http.StatusOK {
			t.Errorf("user %d: %v, %v", i, a.Response, err)
		}
	}
}

// userOf returns a user of a notifier; any user, if it has none at the moment.
func (p *proxied) userOf(u *upstream) (cookie string) {
	for i := range 40 {
		cookie = fmt.Sprint("hark_route=user-", i)
		if p.get("/", "Cookie", cookie).Header.Get("Upstream") == u.name {
			break
		}
	}
	return cookie
}

// certificate creates a self-signed certificate for host.
type certificate struct {
	certFile, keyFile string
	pool              *x509.CertPool
}

func newCertificate(t *testing.T) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	c := certificate{filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem"), x509.NewCertPool()}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	c.pool.AppendCertsFromPEM(certPEM)
	writeFile(t, c.certFile, string(certPEM))
	writeFile(t, c.keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return c
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// rewritten returns a file of deploy/ with replacements, each of which must be found: pairs of old and new.
func rewritten(t *testing.T, path string, pairs ...string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !bytes.Contains(text, []byte(pairs[i])) {
			t.Fatalf("%s has no %q", path, pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(string(text))
}

// program finds a program that may be in a folder of root's PATH.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	path := filepath.Join("/usr/sbin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing: make setup", name)
	}
	return path
}

// start runs a server until the test ends, and logs its output if the test fails.
func start(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	var said logtest.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			t.Logf("%s:\n%s", cmd.Path, said.String())
		}
	})
}

func TestNginx(t *testing.T) {
	t.Parallel()
	cert, a, b := newCertificate(t), newUpstream(t, "a"), newUpstream(t, "b")
	dir, plain, addr := t.TempDir(), harkproc.FreeAddr(t), harkproc.FreeAddr(t)
	conf := filepath.Join(dir, "hark.conf")
	writeFile(t, conf, rewritten(t, "nginx/hark.conf",
		"10.0.0.11:4280", a.addr(), "10.0.0.12:4280", b.addr(),
		"/etc/ssl/hark/fullchain.pem", cert.certFile, "/etc/ssl/hark/privkey.pem", cert.keyFile,
		"listen 80;", "listen "+plain+";", "listen [::]:80;", "",
		"listen 443 ", "listen "+addr+" ", "listen [::]:443 ssl http2;", ""))
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s;\n", kind, dir, kind)
	}
	main := filepath.Join(dir, "nginx.conf")
	// This has the compression settings of Debian's configuration, with which streams must not be compressed either.
	writeFile(t, main, fmt.Sprintf(`user root;
daemon off;
worker_processes 2;
pid %s/pid;
error_log stderr;
events { worker_connections 256; }
http {
access_log off;
gzip on;
gzip_types *;
%sinclude %s;
}
`, dir, &temp, conf))
	nginx := program(t, "nginx")
	if out, err := exec.Command(nginx, "-t", "-p", dir, "-e", "stderr", "-c", main).CombinedOutput(); err != nil || bytes.Contains(out, []byte("[warn]")) && os.Getuid() == 0 {
		t.Fatalf("nginx -t: %v\n%s", err, out)
	}
	start(t, exec.Command(nginx, "-p", dir, "-e", "stderr", "-c", main))
	p := newProxied(t, addr, cert, a, b)
	resp, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+plain+"/v1/kinds?x=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Host = host
	redirect, err := http.DefaultTransport.RoundTrip(resp)
	if err != nil {
		t.Fatal(err)
	}
	redirect.Body.Close()
	if to := redirect.Header.Get("Location"); redirect.StatusCode != http.StatusPermanentRedirect || to != "https://"+host+"/v1/kinds?x=1" {
		t.Errorf("without TLS: %s, %q", redirect.Status, to)
	}
	checkProxy(t, p)
}

func TestCaddy(t *testing.T) {
	t.Parallel()
	caddy, home := program(t, "caddy"), t.TempDir()
	command := func(args ...string) *exec.Cmd {
		cmd := exec.Command(caddy, args...)
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_DATA_HOME="+home, "XDG_CONFIG_HOME="+home)
		return cmd
	}
	if out, err := command("validate", "--config", "caddy/Caddyfile", "--adapter", "caddyfile").CombinedOutput(); err != nil || bytes.Contains(out, []byte(`"level":"warn"`)) {
		t.Fatalf("caddy validate: %v\n%s", err, out)
	}
	cert, a, b := newCertificate(t), newUpstream(t, "a"), newUpstream(t, "b")
	addr := harkproc.FreeAddr(t)
	_, port, _ := net.SplitHostPort(addr)
	conf := filepath.Join(home, "Caddyfile")
	writeFile(t, conf, rewritten(t, "caddy/Caddyfile",
		"10.0.0.11:4280", a.addr(), "10.0.0.12:4280", b.addr(),
		"\tgrace_period 10s\n", "\tgrace_period 10s\n\tadmin off\n\tauto_https disable_redirects\n",
		host+" {\n", host+":"+port+" {\n\tbind 127.0.0.1\n",
		"# tls /etc/ssl/hark/fullchain.pem /etc/ssl/hark/privkey.pem", "tls "+cert.certFile+" "+cert.keyFile))
	start(t, command("run", "--config", conf, "--adapter", "caddyfile"))
	checkProxy(t, newProxied(t, addr, cert, a, b))
}
