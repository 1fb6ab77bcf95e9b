package cluster_test

import (
	"bufio"
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// reader is the event stream of a user: it comes back with the last id that it got, which it does not look into. It is
// written apart from hark's own clients, for it is the judge of what a stream delivers.
type reader struct {
	user   string
	all    string // who notifications for all are for, in their titles
	token  string
	client *http.Client
	// churns makes the reader end each connection after 120 to 150 ms, and connect again at once.
	churns atomic.Bool

	mu       sync.Mutex
	last     string
	retry    time.Duration          // as the server has said
	got      map[string][]time.Time // when each notification of the ledger came, by title
	ends     map[string][]end       // the announced ends of each job
	strange  []string               // notifications that nobody has posted
	counts   [2]int                 // the greatest number of a title that came, of the user's and of those for all
	repeated []string               // titles that came again
	disorder []string               // titles that came after a later one
	resets   int
	connects int
}

// end is one announced end of a job.
type end struct {
	kind string // type of the notification
	at   time.Time
}

// maxSilence is how long a stream may be silent before the reader connects again, as hark.js does.
const maxSilence = 20 * time.Second

func newReader(user, all, token string, client *http.Client) *reader {
	return &reader{user: user, all: all, token: token, client: client, got: make(map[string][]time.Time), ends: make(map[string][]end)}
}

// run keeps the stream open until ctx ends.
func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.connect(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(r.pause()):
		}
	}
}

// pause is how long the reader waits before it connects again: as hark.js does, as long as the server has said with bye, or else
// some hundred milliseconds.
func (r *reader) pause() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	pause := r.retry
	r.retry = 0
	switch {
	case r.churns.Load():
		return 0
	case pause == 0:
		pause = 200*time.Millisecond + rand.N(300*time.Millisecond)
	}
	return pause
}

// connect reads one stream until it ends.
func (r *reader) connect(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://hark/v1/stream", nil)
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
	silence := time.AfterFunc(maxSilence, cancel)
	defer silence.Stop()
	if r.churns.Load() {
		defer time.AfterFunc(120*time.Millisecond+rand.N(30*time.Millisecond), cancel).Stop()
	}
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
	var retry time.Duration
	for lines.Scan() {
		silence.Reset(maxSilence)
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "event":
			event = value
		case "id":
			id = value
		case "data":
			data = value
		case "retry":
			ms, _ := strconv.Atoi(value)
			retry = time.Duration(ms) * time.Millisecond
		case "": // a whole event; one that was cut off in the middle does not count (WHATWG HTML, 9.2.6)
			r.take(event, id, data, retry)
			event, id, data = "", "", "" // and what the server said about retrying holds until it says something else
		}
	}
}

func (r *reader) take(event, id, data string, retry time.Duration) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if id != "" {
		r.last = id
	}
	switch event {
	case "bye":
		r.retry = max(retry, time.Millisecond)
	case "reset":
		r.resets++
	case "notification":
		var n struct {
			Type, Title string
			JobID       string `json:"job_id"`
		}
		if err := json.Unmarshal([]byte(data), &n); err != nil {
			r.strange = append(r.strange, data)
			return
		}
		if n.JobID != "" {
			r.ends[n.JobID] = append(r.ends[n.JobID], end{n.Type, now})
			return
		}
		r.takeNotification(n.Title, now)
	}
}

// takeNotification takes in a notification of the ledger. Those of one sender are numbered.
func (r *reader) takeNotification(title string, now time.Time) {
	of, number, ok := r.parse(title)
	if !ok {
		r.strange = append(r.strange, title)
		return
	}
	switch {
	case len(r.got[title]) > 0:
		r.repeated = append(r.repeated, title)
	case number < r.counts[of]:
		r.disorder = append(r.disorder, title)
	}
	r.counts[of] = max(r.counts[of], number)
	r.got[title] = append(r.got[title], now)
}

// came returns when a notification came first, and whether it did.
func (r *reader) came(title string) (time.Time, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at := r.got[title]; len(at) > 0 {
		return at[0], true
	}
	return time.Time{}, false
}

// endsOf returns the announced ends of a job.
func (r *reader) endsOf(id string) []end {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]end(nil), r.ends[id]...)
}

func (r *reader) position() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

// titleOf is the title of a notification, by who it is for.
func titleOf(who string, number int) string { return "for " + who + ", " + strconv.Itoa(number) }

// parse returns whether a notification is for the reader's user (0) or for all (1), and its number.
func (r *reader) parse(title string) (of, number int, ok bool) {
	for of, who := range []string{r.user, r.all} {
		if rest, found := strings.CutPrefix(title, "for "+who+", "); found {
			number, err := strconv.Atoi(rest)
			return of, number, err == nil
		}
	}
	return 0, 0, false
}
