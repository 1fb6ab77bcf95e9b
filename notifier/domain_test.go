package notifier_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/queue"
)

// A hark that connects to a leaf node, and names the JetStream domain of the hub, has all its streams there: everything
// works, and the JetStream of the leaf node has nothing.
func TestJetStreamDomain(t *testing.T) {
	hubURL, leafURL := natstest.LeafNode(t, "hub")
	for name, set := range map[string]harktest.Option{
		"domain":     func(o *hark.Options) { o.Namespace, o.JSDomain = "one", "hub" },
		"API prefix": func(o *hark.Options) { o.Namespace, o.JSAPIPrefix = "two", "$JS.hub.API" },
	} {
		t.Run(name, func(t *testing.T) {
			inDomain(t, start(t, harktest.Handlers(leave), harktest.NATS(leafURL), set), hubURL, leafURL)
		})
	}
}

func inDomain(t *testing.T, s *site, hubURL, leafURL string) {
	ana, namespace := s.as("ana"), s.Queue.Store().Namespace()
	heard, _ := s.listen("/v1/stream", ana...)
	job := s.finish("ana", `{"kind":"leave","params":{"name":"n","text":"0123456789"}}`)
	if body := s.call("GET", filePath(job), "", ana...).want(200).body; string(body) != "0123456789" {
		t.Errorf("the file has %q", body)
	}
	if e := heard.until("notification"); !strings.Contains(e.data, job.ID) {
		t.Errorf("heard %+v", e)
	}
	s.tellAna("told")
	polltest.Until(t, "the inbox has it", func() bool { return slices.Contains(s.inboxOfAna(), "told unread") })
	var issued struct{ Ticket string }
	s.call("POST", "/v1/stream/ticket", "", ana...).into(&issued)
	s.listen("/v1/stream?ticket=" + issued.Ticket)
	s.call("POST", "/v1/revocations", `{"user":"eve"}`, s.as("root", "admin")...).want(201)
	s.call("GET", "/v1/jobs", "", s.as("eve")...).problem(401, "token_revoked")
	s.call("DELETE", filePath(job), "", ana...)
	s.ready()

	connect := func(url string) *nats.Conn {
		nc, err := nats.Connect(url, nats.Timeout(time.Minute))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return nc
	}
	hub, leaf := connect(hubURL), connect(leafURL)
	at := joblog.Location{Namespace: namespace, Domain: "hub"}
	changes, err := joblog.Setup(natstest.Context(t), leaf, at, joblog.Settings{}, false)
	if err != nil || len(changes) > 0 {
		t.Errorf("setup changes %v, %v", changes, err)
	}
	q, err := queue.Open(natstest.Context(t), leaf, queue.Options{Namespace: string(namespace), JSDomain: "hub"})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if seen, err := q.Get(natstest.Context(t), "ana", job.ID); err != nil || seen.ID != job.ID {
		t.Errorf("a service sees %+v, %v", seen, err)
	}
	for nc, want := range map[*nats.Conn]error{hub: nil, leaf: jetstream.ErrStreamNotFound} {
		js, err := jetstream.New(nc) // of the server itself
		if err != nil {
			t.Fatal(err)
		}
		for _, stream := range []string{namespace.LogStream(), namespace.FilesStream(), joblog.BucketStream(namespace.TicketsBucket())} {
			if _, err := js.Stream(natstest.Context(t), stream); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", stream, err, want)
			}
		}
	}
	// A lost log is created again in the domain, too.
	if err := q.Store().JetStream().DeleteStream(natstest.Context(t), namespace.LogStream()); err != nil {
		t.Fatal(err)
	}
	s.tellAna("told again")
	polltest.Until(t, "the inbox has it", func() bool { return slices.Contains(s.inboxOfAna(), "told again unread") })
}
