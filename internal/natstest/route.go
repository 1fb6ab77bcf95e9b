package natstest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// appendEntries is what the subjects of Raft begin with on which a leader sends what is to be stored to its followers.
const appendEntries = "$NRG.AE."

// routes are the connections between the servers of a cluster. Each server is reached by the others through a listener here,
// so that a test can break them. It is safe for concurrent use.
type routes struct {
	names     []string // of the servers
	listeners []net.Listener
	targets   []string // where the servers listen for routes
	over      chan struct{}

	mu    sync.Mutex
	rules []rule
	links map[*link]bool
}

// rule is what is wrong with the routes of one server.
type rule struct {
	cut    bool
	frozen bool
	delay  time.Duration // of all that it sends and is sent
	lag    time.Duration // and of what it is sent to be stored
	lose   string        // what is sent to it on subjects that begin so is lost
}

// link is one connection between two servers.
type link struct {
	routes *routes
	to     int
	dialed net.Conn // from the server that has dialed
	target net.Conn // to the server to

	mu   sync.Mutex
	from int // -1 until the server that has dialed has said its name
}

func newRoutes() *routes {
	return &routes{over: make(chan struct{}), links: make(map[*link]bool)}
}

// listen takes over the routes to a server that listens at target, and returns where the others reach it.
func (r *routes) listen(name, target string) (addr string, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	r.mu.Lock()
	to := len(r.names)
	r.names, r.targets, r.listeners, r.rules = append(r.names, name), append(r.targets, target), append(r.listeners, l), append(r.rules, rule{})
	r.mu.Unlock()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go r.serve(c, to)
		}
	}()
	return l.Addr().String(), nil
}

// close ends all routes.
func (r *routes) close() {
	close(r.over)
	for _, l := range r.listeners {
		l.Close()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for l := range r.links {
		l.close()
	}
}

// set changes what is wrong with the routes of a server.
func (r *routes) set(server int, change func(*rule)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.rules[server])
	if !r.rules[server].cut {
		return
	}
	for l := range r.links {
		if l.to == server || l.dialer() == server {
			l.close()
		}
	}
}

// between is what is wrong with what one server sends to another.
func (r *routes) between(from, to int) rule {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.rules[to]
	if from >= 0 {
		of := r.rules[from]
		at.cut, at.frozen, at.delay = at.cut || of.cut, at.frozen || of.frozen, max(at.delay, of.delay)
	}
	return at
}

func (r *routes) serve(dialed net.Conn, to int) {
	r.mu.Lock()
	addr := r.targets[to]
	r.mu.Unlock()
	target, err := net.Dial("tcp", addr)
	if err != nil {
		dialed.Close()
		return
	}
	l := &link{routes: r, to: to, from: -1, dialed: dialed, target: target}
	r.mu.Lock()
	r.links[l] = true
	cut := r.rules[to].cut
	r.mu.Unlock()
	if cut {
		l.close()
	}
	var ended sync.WaitGroup
	ended.Go(func() { l.pump(dialed, target, true) })
	ended.Go(func() { l.pump(target, dialed, false) })
	ended.Wait()
	r.mu.Lock()
	delete(r.links, l)
	r.mu.Unlock()
}

func (l *link) close() {
	l.dialed.Close()
	l.target.Close()
}

func (l *link) dialer() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.from
}

// rule is what is wrong in one direction: forth is from the server that has dialed.
func (l *link) rule(forth bool) rule {
	from, to := l.dialer(), l.to
	if !forth && from >= 0 {
		from, to = to, from
	}
	return l.routes.between(from, to)
}

// meet learns who has dialed, from the first INFO that it sends. Later ones are of others.
func (l *link) meet(info []byte) {
	var said struct {
		Name string `json:"server_name"`
	}
	if json.Unmarshal(info, &said) != nil {
		return
	}
	l.routes.mu.Lock()
	names := l.routes.names
	l.routes.mu.Unlock()
	for i, name := range names {
		if name != said.Name {
			continue
		}
		l.mu.Lock()
		l.from = i
		l.mu.Unlock()
		if l.routes.between(i, l.to).cut {
			l.close()
		}
	}
}

// frame is a line of the protocol, with the payload that belongs to it.
type frame struct {
	text []byte
	came time.Time
	late *atomic.Int64 // counts it while it waits, if it is late by itself
}

// pump passes on what comes, in order but for what is to be stored, which can be late by itself. It closes both
// connections when one ends.
func (l *link) pump(from, to net.Conn, forth bool) {
	defer l.close()
	var writing sync.Mutex
	var late atomic.Int64 // what is to be stored and waits
	lane := func(by func(rule) time.Duration) chan<- frame {
		frames := make(chan frame, 1<<14)
		go func() {
			for f := range frames {
				for l.waits(f, forth, by) {
					time.Sleep(2 * time.Millisecond)
				}
				writing.Lock()
				_, err := to.Write(f.text)
				writing.Unlock()
				if err != nil {
					l.close()
				}
				if f.late != nil {
					f.late.Add(-1)
				}
			}
		}()
		return frames
	}
	rest := lane(func(r rule) time.Duration { return r.delay })
	stored := lane(func(r rule) time.Duration { return r.delay + r.lag })
	defer close(rest)
	defer close(stored)
	for in := bufio.NewReaderSize(from, 64<<10); ; {
		text, subjects, err := readFrame(in)
		if err != nil {
			return
		}
		if info, ok := bytes.CutPrefix(text, []byte("INFO ")); ok && forth && l.dialer() < 0 {
			l.meet(info)
		}
		switch r := l.rule(forth); {
		case r.lose != "" && begins(subjects, r.lose):
		case begins(subjects, appendEntries) && (r.lag > 0 || late.Load() > 0):
			late.Add(1)
			stored <- frame{text, time.Now(), &late}
		default:
			rest <- frame{text, time.Now(), nil}
		}
	}
}

// waits reports whether a frame is not to be passed on yet.
func (l *link) waits(f frame, forth bool, late func(rule) time.Duration) bool {
	select {
	case <-l.routes.over:
		return false
	default:
	}
	r := l.rule(forth)
	return !r.cut && (r.frozen || time.Since(f.came) < late(r))
}

// readFrame reads one line and its payload, and returns the words of a message one of which is its subject: the first, or,
// on a connection that several accounts share, the second.
func readFrame(in *bufio.Reader) (text []byte, subjects [][]byte, err error) {
	if text, err = in.ReadBytes('\n'); err != nil {
		return nil, nil, err
	}
	words := bytes.Fields(text)
	if len(words) < 3 || !bytes.Equal(words[0], []byte("RMSG")) && !bytes.Equal(words[0], []byte("HMSG")) {
		return text, nil, nil
	}
	size, err := strconv.Atoi(string(words[len(words)-1]))
	if err != nil {
		return nil, nil, err
	}
	line := len(text)
	text = append(text, make([]byte, size+len("\r\n"))...)
	_, err = io.ReadFull(in, text[line:])
	return text, words[1:3], err
}

func begins(words [][]byte, prefix string) bool {
	for _, w := range words {
		if bytes.HasPrefix(w, []byte(prefix)) {
			return true
		}
	}
	return false
}
