package door

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Limit limits the open connections. It is safe for concurrent use.
//
// A few connections above the limit get one response that says so. Further connections are closed without a response.
type Limit struct {
	max, perAddress int
	log             *slog.Logger

	mu        sync.Mutex
	open      int
	elsewhere func() int         // connections that were taken over from net/http
	by        map[netip.Addr]int // with perAddress
	warned    time.Time
}

// NewLimit returns a limit of max connections in all, and perAddress of each client address, or /64 network with IPv6; 0
// means no limit of that kind.
func NewLimit(max, perAddress int, log *slog.Logger) *Limit {
	return &Limit{max: max, perAddress: perAddress, elsewhere: func() int { return 0 }, log: log, by: make(map[netip.Addr]int)}
}

// CountElsewhere makes the limit count the connections that were taken over from net/http, too. Their number is the result of
// taken, which must not block.
func (l *Limit) CountElsewhere(taken func() int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.elsewhere = taken
}

// spare returns the number of connections above a limit that get a response.
func spare(limit int) int { return min(max(limit/8, 8), 256) }

func (l *Limit) admit(ctx context.Context, c net.Conn) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	over, all := 0, l.open+l.elsewhere() // over is the number of connections above the limit
	if l.max > 0 {
		over = all - l.max
	}
	most := spare(l.max)
	if l.perAddress > 0 {
		from := clientOf(c)
		l.by[from]++
		if n := l.by[from] - l.perAddress; n > 0 && n > over {
			over, most = n, min(most, spare(l.perAddress))
			if l.max == 0 {
				most = spare(l.perAddress)
			}
		}
	}
	if over <= 0 {
		return ctx
	}
	if now := time.Now(); now.Sub(l.warned) > time.Minute {
		l.warned = now
		l.log.Warn("too many connections; new ones are refused", "open", all, "limit", l.max, "per_address", l.perAddress, "from", c.RemoteAddr())
	}
	if over > most {
		c.Close()
	}
	return context.WithValue(ctx, fullKey{}, true)
}

func (l *Limit) leave(c net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if state == http.StateClosed {
		l.forgetLocked(clientOf(c))
	}
}

// Taken must be called for a connection that was taken over from net/http. It returns a function to call when the connection is
// closed, or nil if that is not needed.
func (l *Limit) Taken(c net.Conn) (closed func()) {
	if l.perAddress == 0 {
		return nil
	}
	from := clientOf(c)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.forgetLocked(from)
	}
}

// forgetLocked removes a connection of an address. l.mu must be held.
func (l *Limit) forgetLocked(from netip.Addr) {
	if l.perAddress == 0 {
		return
	}
	l.by[from]--
	if l.by[from] <= 0 {
		delete(l.by, from)
	}
}

// clientOf returns the address of a connection's client, or with IPv6 its /64 network, which a client usually has.
func clientOf(c net.Conn) netip.Addr {
	addr, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	ip := addr.Addr().Unmap().WithZone("")
	if ip.Is6() {
		if prefix, err := ip.Prefix(64); err == nil {
			return prefix.Addr()
		}
	}
	return ip
}

// Open returns the number of open connections that net/http serves.
func (l *Limit) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.open
}
