//go:build !linux

package sse

import "net/http"

// poller is empty on systems without epoll: handlers serve all streams there.
type poller struct{}

func newPoller() (*poller, error) { return new(poller), nil }

func (*poller) run()  {}
func (*poller) stop() {}

func canTakeOver(http.ResponseWriter, *http.Request) bool { return false }

func (h *Hub) serveTakenOver(http.ResponseWriter, *http.Request, Subscriber) error {
	return http.ErrNotSupported
}
