package chaos_test

import (
	"bufio"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// reader is a browser's event stream: it comes back with the last id that it saw, to whichever notifier. Some poll.
// It is written apart from hark's own clients, for it is the judge of what a stream delivers.
type reader struct {
	user   string
	token  string
	urls   []string
	client *http.Client
	polls  bool

	mu       sync.Mutex
	first    string   // the id of its first hello: it must get all that comes after
	ids      []string // of the notifications, as they came
	resets   int
	connects int
	last     string
	stream   string // of the last answer to a poll
}

func (r *reader) run(ctx context.Context) {
	listen := r.connect
	if r.polls {
		listen = r.poll
	}
	for ctx.Err() == nil {
		listen(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(200 * time.Millisecond)):
		}
	}
}

// connect reads one stream until it ends.
func (r *reader) connect(ctx context.Context) {
	// Now and then a laptop is closed.
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond+rand.N(20*time.Second))
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.urls[rand.IntN(len(r.urls))]+"/v1/stream", nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	r.mu.Lock()
	if r.last != "" {
		req.Header.Set("Last-Event-ID", r.last)
	}
	r.connects++
	r.mu.Unlock()
	res, err := r.client.Do(req)
	if err != nil {
		return
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	var event, id, data string
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if event != "" {
				r.take(event, id, data)
			}
			event, id, data = "", "", ""
		}
	}
}

// poll polls one notifier until it fails.
func (r *reader) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond+rand.N(20*time.Second))
	defer cancel()
	r.mu.Lock()
	r.connects++
	r.mu.Unlock()
	for at := r.urls[rand.IntN(len(r.urls))]; r.ask(ctx, at); {
	}
}

// ask polls once, and reports whether it was answered.
func (r *reader) ask(ctx context.Context, at string) bool {
	query := url.Values{"wait": {"5"}, "after": {r.position()}, "stream": {r.stream}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at+"/v1/events?"+query.Encode(), nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.token)
	res, err := r.client.Do(req)
	if err != nil {
		return false
	}
	defer res.Body.Close()
	var answer struct {
		Stream, ID string
		Events     []struct {
			Event, ID string
			Data      json.RawMessage
		}
	}
	if res.StatusCode != http.StatusOK || json.NewDecoder(res.Body).Decode(&answer) != nil {
		return false
	}
	if rand.IntN(20) == 0 {
		return true // and the answer was lost on its way
	}
	for _, e := range answer.Events {
		r.take(e.Event, e.ID, string(e.Data))
	}
	r.stream = answer.Stream
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = answer.ID
	return true
}

// take takes in a whole event; one that was cut off in the middle does not count (WHATWG HTML, 9.2.6).
func (r *reader) take(event, id, data string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if id != "" {
		r.last = id
	}
	switch event {
	case "hello":
		if r.first == "" {
			r.first = id
		}
	case "reset":
		r.resets++
	case "notification":
		var n struct {
			ID string `json:"id"`
		}
		if json.Unmarshal([]byte(data), &n) == nil {
			r.ids = append(r.ids, n.ID)
		}
	}
}

func (r *reader) position() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}
