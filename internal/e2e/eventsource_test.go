package e2e_test

import (
	"fmt"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
)

// Pages that do without hark.js use the browser's EventSource: with the cookie it comes back by itself, and a ticket lets a
// page in that has a token.
func TestEventSource(t *testing.T) {
	t.Parallel()
	hark := harktest.Start(t, harktest.Secret(secret))
	network, url := newRelay(t, hark.URL)
	s := newTabs(t, url)
	s.service = newClient(t, hark.URL, "service", "notify")
	s.signIn("ana")
	cookie := s.browser.Tab(s.url + "/assets/link.js")
	listen := `(url) => {
		Object.assign(window, { got: [], source: new EventSource(url) });
		source.addEventListener("notification", (event) => got.push(JSON.parse(event.data).title));
		return true;
	}`
	browsertest.Eval[bool](cookie, fmt.Sprintf(`(%s)("/v1/stream")`, listen))
	ticket := s.browser.Tab(s.url + "/assets/link.js")
	browsertest.Await[bool](ticket, fmt.Sprintf(`fetch("/v1/stream/ticket", { method: "POST", credentials: "omit", headers: { Authorization: "Bearer %s" } })
		.then((answer) => answer.json()).then(({ ticket }) => (%s)("/v1/stream?ticket=" + ticket))`, token(t, "bob"), listen))
	for _, p := range []*browsertest.Tab{cookie, ticket} {
		p.Until("the stream is open", "source.readyState === EventSource.OPEN")
	}
	s.tell("ana", 1)
	s.tell("bob", 1)
	s.got(1, 1, cookie)
	s.got(2, 2, ticket)

	network.Cut(true)
	cookie.Until("the stream is lost", "source.readyState !== EventSource.OPEN")
	s.tell("ana", 1)
	network.Cut(false)
	cookie.Until("the stream is back, with what was missed", `got.join() === "1,3"`)
}
