package faults

import (
	"context"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// limit is much longer than anything takes.
const limit = 3 * time.Minute

// Options say how a program is started, and what a test can see of it from inside.
type Options struct {
	// Start starts a process of the program, which serves HTTP on l until stop is called. It passes what answers requests
	// through track. The processes of one test have the same data.
	Start func(l net.Listener, track func(http.Handler) http.Handler) (stop func())
	// Events is the path of the stream. Defaults to /events.
	Events string
	// Hello says that a stream begins with an event that has an id. A tab reads it at once, also a slow one: if it is cut, it
	// resumes from there.
	Hello bool
	// Login says that users sign in: POST /login sets a cookie, or answers with a token for the URL. Without it the URL has
	// the name of the user.
	Login bool
	// TCP makes connections of TCP. Without it they are in memory and have no buffers, so that a tab that does not read
	// stops its writer at once.
	TCP bool

	// Lacks is how a test notices that a message does not come.
	Lacks Lacks
	// Stuck, if set, reports whether the program waits for ever after the first sent messages.
	Stuck func(sent int) bool
	// Twice, if set, waits until a report is made twice.
	Twice func()
	// Work is what makes a report.
	Work *Work
	// Log returns the log of the program.
	Log func() string
}

// Lacks is how a test notices that a message does not come. Each is right for some programs, and none of them waits for a time.
type Lacks int

const (
	Never     Lacks = iota // all messages come: a tab waits for them
	UntilMark              // a later message has come, and the program keeps them in order
	UntilEnd               // the process has ended. It sends what it has before it ends
)

// App is a running program.
type App struct {
	t       *testing.T
	o       Options
	process *process // the first, or the last that was started in place of it
	mu      sync.Mutex
	after   []func()
}

// New starts a program. It ends with the test.
func New(t *testing.T, o Options) *App {
	t.Helper()
	if o.Events == "" {
		o.Events = "/events"
	}
	a := &App{t: t, o: o}
	t.Cleanup(func() {
		for i := len(a.after) - 1; i >= 0; i-- {
			a.after[i]()
		}
	})
	a.process = a.start()
	return a
}

// Shown fails the test unless a user misses something: the fault of a step is there.
func Shown(t *testing.T, fault error) {
	t.Helper()
	if fault == nil {
		t.Fatal("the fault is not there")
	}
	t.Log("as docs/from-scratch.md says: ", fault)
}

// Repaired fails the test if a user misses something.
func Repaired(t *testing.T, fault error) {
	t.Helper()
	if fault != nil {
		t.Error(fault)
	}
}

// Serve serves a handler on l, for [Options.Start].
func Serve(l net.Listener, handler http.Handler) (stop func()) {
	server := &http.Server{Handler: handler}
	go server.Serve(l)
	return func() { server.Close() }
}

// later calls f at the end of the test, the last f first.
func (a *App) later(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.after = append(a.after, f)
}

// start starts one more process.
func (a *App) start() *process {
	a.t.Helper()
	p := &process{app: a, ending: make(chan struct{}), clients: map[string]*client{}}
	var l net.Listener
	if a.o.TCP {
		tcp, err := new(net.ListenConfig).Listen(a.t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			a.t.Fatal(err)
		}
		l = tcp
		p.url = "http://" + tcp.Addr().String()
		p.dial = new(net.Dialer).DialContext
	} else {
		memory := newListener()
		l, p.url, p.dial = memory, "http://app.example", memory.dial
	}
	p.end = sync.OnceFunc(p.stop)
	p.stopProgram = a.o.Start(l, p.track)
	a.later(p.end)
	return p
}

// URL is where the program is, without a slash at the end.
func (a *App) URL() string { return a.process.url }

// restart ends the process and starts another one.
func (a *App) restart() {
	a.t.Helper()
	a.process.end()
	a.process = a.start()
}

// Send sends a message to a user.
func (a *App) Send(to, text string) { a.process.send(to, text) }

// Open opens a tab of a user.
func (a *App) Open(user string) *Tab {
	a.t.Helper()
	tab := a.OpenSlow(user)
	tab.Read()
	return tab
}

// OpenSlow opens a tab of a user that does not read before [Tab.Read].
func (a *App) OpenSlow(user string) *Tab {
	a.t.Helper()
	return a.process.open(user, "")
}

// report begins a report as a user, and returns when the work has begun. leave closes the tab that asked for it, and returns when
// the program has noticed.
func (a *App) report(user string) (leave func()) {
	a.t.Helper()
	p := a.process
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	c := p.as(user)
	go func() {
		defer close(ended)
		if res, err := c.do(ctx, "POST", "/report", "", nil); err == nil {
			res.Body.Close()
		}
	}()
	a.later(func() {
		cancel()
		<-ended
	})
	a.o.Work.wait(a.t)
	return func() {
		cancel()
		<-ended
		p.waitFor("/report")
	}
}

// Work is work that goes on until a test ends it.
type Work struct {
	began  chan struct{}
	finish chan struct{}
	mu     sync.Mutex
	runs   int
}

// NewWork returns work that nobody does yet.
func NewWork() *Work {
	return &Work{began: make(chan struct{}, 100), finish: make(chan struct{})}
}

// Do does the work until [Work.Finish] or the end of ctx, whose error it returns.
func (w *Work) Do(ctx context.Context) error {
	w.mu.Lock()
	w.runs++
	w.mu.Unlock()
	w.began <- struct{}{}
	select {
	case <-w.finish:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// Runs returns how often the work was begun.
func (w *Work) Runs() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.runs
}

// Finish ends the work, also that which begins later. It must be called once at most.
func (w *Work) Finish() { close(w.finish) }

func (w *Work) wait(t *testing.T) {
	t.Helper()
	select {
	case <-w.began:
	case <-time.After(limit):
		t.Fatal("the work has not begun")
	}
}
