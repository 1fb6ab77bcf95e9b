package notifier

import (
	"context"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"
)

// What a notifier does at a time of what may be large. A user who asks for more waits, or is refused, and the others
// notice nothing.
const (
	userLists     = 2   // lists of one user, until they are answered; an answer has hardly more than 2 MiB
	serviceLists  = 16  // lists of one service, and of all of them that are being read
	allLists      = 16  // lists of all users that are being read
	userDownloads = 8   // downloads of one user
	allDownloads  = 128 // downloads; each holds up to 1 MiB
)

type gates struct{ lists, serviceLists, downloads *gate }

func newGates() gates {
	return gates{newGate(userLists, allLists), newGate(serviceLists, serviceLists), newGate(userDownloads, allDownloads)}
}

// gate bounds how many requests of each user, and of all, are served at a time. It is safe for concurrent use.
type gate struct {
	most int // of one user
	all  chan struct{}

	mu    sync.Mutex
	users map[string]*place // of those who have requests here
}

type place struct {
	taken chan struct{}
	known int // requests that wait or are served
}

func newGate(most, all int) *gate {
	return &gate{most: most, all: make(chan struct{}, all), users: make(map[string]*place)}
}

func (g *gate) of(user string) *place {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.users[user]
	if p == nil {
		p = &place{taken: make(chan struct{}, g.most)}
		g.users[user] = p
	}
	p.known++
	return p
}

func (g *gate) forget(user string, p *place) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p.known--; p.known == 0 {
		delete(g.users, user)
	}
}

// wait blocks until a request of user may be served, or ctx ends. leave must be called when that is over, the answer's
// writing included. The places of all are for [gate.during] then.
func (g *gate) wait(ctx context.Context, user string) (leave func(), err error) {
	p := g.of(user)
	if err := put(ctx, p.taken); err != nil {
		g.forget(user, p)
		return nil, err
	}
	return func() { <-p.taken; g.forget(user, p) }, nil
}

// during does what may not be done by too many at a time: never what waits for a client.
func (g *gate) during(ctx context.Context, do func() error) error {
	if err := put(ctx, g.all); err != nil {
		return err
	}
	defer func() { <-g.all }()
	return do()
}

func put(ctx context.Context, places chan struct{}) error {
	select {
	case places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// try takes a place of user and one of all, or returns the problem that says what there is too much of.
func (g *gate) try(user string) (leave func(), err error) {
	p := g.of(user)
	select {
	case p.taken <- struct{}{}:
	default:
		g.forget(user, p)
		return nil, errUserDownloads
	}
	select {
	case g.all <- struct{}{}:
	default:
		<-p.taken
		g.forget(user, p)
		return nil, errAllDownloads
	}
	return func() { <-g.all; <-p.taken; g.forget(user, p) }, nil
}

var (
	errUserDownloads = newProblem(http.StatusTooManyRequests, "too_many_downloads", "You have too many downloads under way; wait for one to end.").retry(5)
	errAllDownloads  = newProblem(http.StatusServiceUnavailable, "downloads_busy", "This server has too many downloads under way; try again in a few seconds.").retry(5)
)

// list reads something that is listed, when there is a place for it. leave must be called when it has been answered.
func (n *Notifier) list(c *gin.Context, read func(context.Context) error) (leave func(), err error) {
	lists, ctx := n.gates.lists, c.Request.Context()
	if identity(c).Service() {
		lists = n.gates.serviceLists // they ask on behalf of many
	}
	leave, err = lists.wait(ctx, user(c))
	if err != nil {
		return func() {}, err
	}
	return leave, lists.during(ctx, func() error { return read(ctx) })
}
