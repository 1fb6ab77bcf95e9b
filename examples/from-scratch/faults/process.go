package faults

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"sync"
	"time"
)

// process is one process of a program.
type process struct {
	app         *App
	url         string
	dial        func(ctx context.Context, network, address string) (net.Conn, error)
	end         func() // stop, once
	stopProgram func()
	ending      chan struct{}

	mu       sync.Mutex
	requests []*request
	tabs     []*Tab

	signIn  sync.Mutex         // while a user signs in
	clients map[string]*client // by user
}

// request is a request that the process answers.
type request struct {
	path   string
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

// track notes which requests are answered.
func (p *process) track(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		one := &request{path: r.URL.Path, ended: make(chan struct{})}
		one.ctx, one.cancel = context.WithCancel(r.Context())
		p.mu.Lock()
		p.requests = append(p.requests, one)
		p.mu.Unlock()
		defer close(one.ended)
		defer one.cancel()
		next.ServeHTTP(w, r.WithContext(one.ctx))
	})
}

// waitFor returns when the requests for a path have ended, or their clients are gone.
func (p *process) waitFor(path string) {
	p.mu.Lock()
	requests := p.requests
	p.mu.Unlock()
	for _, one := range requests {
		if one.path == path {
			<-one.ctx.Done()
		}
	}
}

// waitUntilAnswered returns when the requests for a path have been answered.
func (p *process) waitUntilAnswered(path string) {
	p.mu.Lock()
	requests := p.requests
	p.mu.Unlock()
	for _, one := range requests {
		if one.path == path {
			<-one.ended
		}
	}
}

// stop ends the process as its operator does: first the requests, one after the other, since not all programs have a lock, and then the program.
func (p *process) stop() {
	close(p.ending)
	p.mu.Lock()
	tabs, requests := p.tabs, p.requests
	p.mu.Unlock()
	for _, tab := range tabs {
		tab.Read()
	}
	for _, one := range requests {
		one.cancel()
		<-one.ended
	}
	p.stopProgram()
	for _, tab := range tabs {
		<-tab.ended
	}
	p.signIn.Lock()
	defer p.signIn.Unlock()
	for _, c := range p.clients {
		c.http.CloseIdleConnections()
	}
}

// client is the browser of a user.
type client struct {
	process *process
	http    *http.Client
	query   url.Values
	secret  string // what shows who the user is
}

// as returns the browser of a user, who is signed in.
func (p *process) as(user string) *client {
	p.app.t.Helper()
	p.signIn.Lock()
	defer p.signIn.Unlock()
	if c := p.clients[user]; c != nil {
		return c
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		p.app.t.Fatal(err)
	}
	c := &client{process: p, http: &http.Client{Jar: jar, Transport: &http.Transport{DialContext: p.dialSmall}}, query: url.Values{}}
	p.clients[user] = c
	if !p.app.o.Login {
		c.query.Set("user", user)
		return c
	}
	res, err := c.do(context.Background(), "POST", "/login", "", url.Values{"user": {user}})
	if err != nil {
		p.app.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 400 {
		p.app.t.Fatalf("signing in: %s, %s, %v", res.Status, body, err)
	}
	c.secret = string(body)
	at, err := url.Parse(p.url)
	if err != nil {
		p.app.t.Fatal(err)
	}
	if cookies := jar.Cookies(at); len(cookies) > 0 {
		c.secret = cookies[0].Value
	} else {
		c.query.Set("token", c.secret)
	}
	if c.secret == "" {
		p.app.t.Fatal("signing in returns no cookie and no token")
	}
	return c
}

// dialSmall opens a connection that has no room for many messages.
func (p *process) dialSmall(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.dial(ctx, network, address)
	if tcp, ok := conn.(*net.TCPConn); ok {
		err = tcp.SetReadBuffer(64 << 10)
	}
	return conn, err
}

func (c *client) do(ctx context.Context, method, path, lastEventID string, form url.Values) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.process.url+path+"?"+c.query.Encode(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if lastEventID != "" {
		req.Header.Set("Last-Event-ID", lastEventID)
	}
	return c.http.Do(req)
}

// send sends a message to a user, and returns when the program has answered.
func (p *process) send(to, text string) {
	res, err := p.as("sender").do(context.Background(), "POST", "/send", "", url.Values{"to": {to}, "text": {text}})
	if err != nil {
		p.app.t.Error(err)
		return
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode >= 400 {
		p.app.t.Errorf("sending: %s, %s", res.Status, body)
	}
}

// open opens a tab of a user, which resumes after an event.
func (p *process) open(user, last string) *Tab {
	p.app.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	tab := &Tab{process: p, client: p.as(user), user: user, last: last, ctx: ctx, cancel: cancel, messages: make(chan string, 1<<16), ended: make(chan struct{})}
	tab.Read = sync.OnceFunc(func() { go tab.read() })
	if err := tab.connect(); err != nil {
		p.app.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tabs = append(p.tabs, tab)
	return tab
}

// listener is a [net.Listener] in memory.
type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newListener() *listener {
	return &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (l *listener) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case l.conns <- there:
		return here, nil
	case <-l.closed:
		return nil, cmp.Or(ctx.Err(), net.ErrClosed)
	case <-time.After(limit):
		return nil, errors.New("nobody accepts connections")
	}
}
