//go:build !linux

package sse

import "net/http"

// poller does nothing where there is no epoll: every stream is served by its handler.
type poller struct{}

func newPoller() (*poller, error) { return new(poller), nil }

func (*poller) run()  {}
func (*poller) stop() {}

func canTakeOver(http.ResponseWriter, *http.Request) bool { return false }

func (h *Hub) serveTakenOver(http.ResponseWriter, *http.Request, Subscriber) error {
	return http.ErrNotSupported
}
