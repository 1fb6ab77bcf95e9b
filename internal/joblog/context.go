package joblog

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// callTimeout is the deadline of a call to the server when the caller's context has none.
const callTimeout = 5 * time.Second

func withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, callTimeout)
}

// The timeouts of the tries of one read or write, see [tries].
const (
	firstTry = time.Second
	nextTry  = 2 * time.Second
	// leaderTime is how long a read or write waits for a stream to have a leader. It is shorter than many elections: the caller may
	// reach another process, whose NATS server is not cut off from the leader.
	leaderTime = 4 * time.Second
)

// tries calls a read until it is answered, or ctx ends, or callTimeout is over if ctx has no deadline. A request or its answer
// is lost with a leader that dies, a route that is cut or a connection that is silent, and nothing says so: without a second
// try the caller would wait until its deadline, long after there is another leader. For leaderTime the read is tried again
// while there is none, too. After two tries without a connection the error is [nats.ErrDisconnected]: the caller may reach another process that
// has one.
func tries[T any](ctx context.Context, nc *nats.Conn, read func(context.Context) (T, error)) (T, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	begin := time.Now()
	for try, limit := 1, firstTry; ; try, limit = try+1, nextTry {
		short, cancel := context.WithTimeout(ctx, limit)
		result, err := read(short)
		if err == nil || ctx.Err() != nil || short.Err() == nil && (!isLeaderless(err) || time.Since(begin) > leaderTime) {
			cancel()
			return result, err
		}
		if isLeaderless(err) {
			select {
			case <-short.Done():
			case <-time.After(publishPause):
			}
		}
		cancel()
		if try > 1 && !nc.IsConnected() {
			return result, nats.ErrDisconnected
		}
	}
}

// untilAnswered makes a request that has the same effect if it is made twice, until it is answered, or ctx ends, or callTimeout is over if ctx
// has no deadline. While the servers of a cluster elect a leader they do not answer some requests of the JetStream API, and do not say
// so. Unlike [tries] it waits for a connection.
func untilAnswered[T any](ctx context.Context, request func(context.Context) (T, error)) (T, error) {
	ctx, cancel := withTimeout(ctx)
	defer cancel()
	for {
		short, cancel := context.WithTimeout(ctx, callTimeout)
		result, err := request(short)
		expired := short.Err() != nil
		cancel()
		if err == nil || !expired || ctx.Err() != nil {
			return result, err
		}
	}
}

// errCodeNoLeader is the server's JSClusterNotAvailErr: a stream, or the cluster, has no leader.
const errCodeNoLeader = 10008

// errNoLeader is the error for an info that is not of the leader: without one, a replica answers, also one that is cut off and has
// missed what was stored since.
var errNoLeader = errors.New("the stream has no leader: most of its NATS servers are down or unreachable")

// leaderLease is the time after contact with a majority of its followers for which a leader is certainly the only one. It is
// shorter than what a follower waits before it elects another (nats-server 2.15: four seconds).
const leaderLease = 3 * time.Second

// ErrCutOff is the error for an info of a leader that has no contact with a majority of its followers: its server is cut off from
// the others, or most of them are down. It takes itself for the leader for ten seconds, while the others elect another one after four.
var ErrCutOff = errors.New("the leader of the stream has no contact with most of the NATS servers: it is cut off, or they are down")

// CheckLeader returns nil if an info is of the stream's leader, so that nothing was stored that it does not know. Otherwise the error is
// [ErrCutOff], or says that there is no leader.
func CheckLeader(info *jetstream.StreamInfo) error {
	if info.Cluster == nil {
		return nil
	}
	if info.Cluster.Leader == "" {
		return errNoLeader
	}
	inContact := 1
	for _, replica := range info.Cluster.Replicas {
		if replica.Active < leaderLease {
			inContact++
		}
	}
	if inContact <= (1+len(info.Cluster.Replicas))/2 {
		return ErrCutOff
	}
	return nil
}

func isLeaderless(err error) bool {
	var api *jetstream.APIError
	return errors.Is(err, errNoLeader) || errors.As(err, &api) && api.ErrorCode == errCodeNoLeader
}
