package notifier

import (
	"context"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"
)

// Limits for concurrent requests with large responses. A user's request beyond them waits or is refused, and the
// requests of others go on.
const (
	userLists     = 2   // lists of one user until they are written; a response rarely has more than 2 MiB
	serviceLists  = 16  // lists of one service until they are written, and of all services while they are read
	allLists      = 16  // lists of all users while they are read
	userDownloads = 8   // downloads of one user
	allDownloads  = 128 // downloads of all users; each uses up to 1 MiB of memory
)

type gates struct{ lists, serviceLists, downloads *gate }

func newGates() gates {
	return gates{newGate(userLists, allLists), newGate(serviceLists, serviceLists), newGate(userDownloads, allDownloads)}
}

// gate limits the concurrent requests of each user and of all users. It is safe for concurrent use.
type gate struct {
	perUser int
	all     chan struct{} // a semaphore

	mu    sync.Mutex
	users map[string]*userGate // users with requests
}

type userGate struct {
	semaphore chan struct{}
	requests  int // waiting or being served; gate.mu guards it
}

func newGate(perUser, all int) *gate {
	return &gate{perUser: perUser, all: make(chan struct{}, all), users: make(map[string]*userGate)}
}

// add counts a request of the user. The caller must call remove when it ends.
func (g *gate) add(user string) *userGate {
	g.mu.Lock()
	defer g.mu.Unlock()
	u := g.users[user]
	if u == nil {
		u = &userGate{semaphore: make(chan struct{}, g.perUser)}
		g.users[user] = u
	}
	u.requests++
	return u
}

func (g *gate) remove(user string, u *userGate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	u.requests--
	if u.requests == 0 {
		delete(g.users, user)
	}
}

// acquire blocks until the user's limit allows another request, or ctx ends. The caller must call release after the
// response is written. acquire does not count for the limit of all users: see [gate.run].
func (g *gate) acquire(ctx context.Context, user string) (release func(), err error) {
	u := g.add(user)
	if err := acquire(ctx, u.semaphore); err != nil {
		g.remove(user, u)
		return nil, err
	}
	return func() { <-u.semaphore; g.remove(user, u) }, nil
}

// run blocks until the limit of all users allows it, or ctx ends, and calls do. do must not wait for a client.
func (g *gate) run(ctx context.Context, do func() error) error {
	if err := acquire(ctx, g.all); err != nil {
		return err
	}
	defer func() { <-g.all }()
	return do()
}

func acquire(ctx context.Context, semaphore chan struct{}) error {
	select {
	case semaphore <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tryAcquire counts a request for both limits. At a limit it does not block, and returns a problem.
func (g *gate) tryAcquire(user string) (release func(), err error) {
	u := g.add(user)
	select {
	case u.semaphore <- struct{}{}:
	default:
		g.remove(user, u)
		return nil, errUserDownloads
	}
	select {
	case g.all <- struct{}{}:
	default:
		<-u.semaphore
		g.remove(user, u)
		return nil, errAllDownloads
	}
	return func() { <-g.all; <-u.semaphore; g.remove(user, u) }, nil
}

var (
	errUserDownloads = newProblem(http.StatusTooManyRequests, "too_many_downloads", "You have too many running downloads; wait until one ends.").retry(5)
	errAllDownloads  = newProblem(http.StatusServiceUnavailable, "downloads_busy", "This server has too many running downloads; try again in a few seconds.").retry(5)
)

// releaseKey is the key of the function that [Notifier.handle] calls after the response is written.
const releaseKey = "hark.release"

// list calls read when the limits for lists allow it. The request counts for the user's limit until the response is
// written.
func (n *Notifier) list(c *gin.Context, read func(context.Context) error) error {
	lists, ctx := n.gates.lists, c.Request.Context()
	if identity(c).Service() {
		lists = n.gates.serviceLists // a service lists for many users
	}
	release, err := lists.acquire(ctx, user(c))
	if err != nil {
		return err
	}
	c.Set(releaseKey, release)
	return lists.run(ctx, func() error { return read(ctx) })
}
