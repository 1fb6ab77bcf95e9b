package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hark-jobs/hark/bench/proc"
	"github.com/hark-jobs/hark/notifier/auth"
)

// server is the measured program, in a process of its own: it accepts notifications and serves event streams.
type server struct {
	addr    string
	admin   string           // the address for profiles
	service string           // lines of the head of a request that posts
	user    func(int) string // the same for a request of a user
	topic   func(int) string // the topic that a user's stream listens to; nil if none does
	reads   bool             // has an inbox

	path    string
	args    []string
	ready   string // a path that gets 200 when the server is ready
	data    string // folder
	log     *os.File
	process *proc.Process
}

func userName(i int) string { return fmt.Sprintf("user-%05d@example.com", i) }

// startHark starts the real program with an empty data folder, and creates tokens for the users.
func startHark(ctx context.Context, set *settings, users int) (*server, error) {
	return startCommand(ctx, set, users, "serve")
}

// startCommand starts a command of the real program, with flags.
func startCommand(ctx context.Context, set *settings, users int, command ...string) (*server, error) {
	addr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	admin, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(set.dir, "data-*")
	if err != nil {
		return nil, err
	}
	secret := rand.Text() + rand.Text()
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte(secret)})
	if err != nil {
		return nil, err
	}
	const valid = 12 * time.Hour
	service, _, err := issuer.Issue("bench", []string{auth.ScopeNotify}, valid)
	if err != nil {
		return nil, err
	}
	tokens := make([]string, users)
	for i := range tokens {
		if tokens[i], _, err = issuer.Issue(userName(i), nil, valid); err != nil {
			return nil, err
		}
	}
	s := &server{
		addr: addr, admin: admin, service: "Authorization: Bearer " + service + "\r\n", reads: true,
		user: func(i int) string { return "Authorization: Bearer " + tokens[i] + "\r\n" },
		path: set.hark, ready: "/readyz", data: data,
		args: append(command, "--listen", addr, "--data", data, "--jwt-secret", secret, "--admin", admin, "--log-level", "warn"),
	}
	return s, s.open(ctx)
}

// startPlain starts this program as one of the servers that hark is compared with: [baselineArg] or [floorArg].
func startPlain(ctx context.Context, set *settings, arg string) (*server, error) {
	addr, err := proc.FreeAddr()
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	data, err := os.MkdirTemp(set.dir, "plain-*")
	if err != nil {
		return nil, err
	}
	s := &server{
		addr: addr, user: func(i int) string { return "User: " + userName(i) + "\r\n" },
		path: self, ready: "/readyz", data: data, args: []string{arg, addr, data},
	}
	return s, s.open(ctx)
}

// open starts the process for the first time.
func (s *server) open(ctx context.Context) (err error) {
	if s.log, err = os.Create(filepath.Join(s.data, "bench.log")); err != nil {
		return err
	}
	err = s.start()
	if err == nil {
		err = s.wait(ctx)
	}
	if err != nil {
		s.close()
		return s.blame(err)
	}
	return nil
}

func (s *server) start() (err error) {
	s.process, err = proc.Start(s.log, s.path, s.args...)
	return err
}

// wait waits until the server is ready.
func (s *server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return s.process.Ready(ctx, "http://"+s.addr+s.ready)
}

// close ends the process and removes its data.
func (s *server) close() {
	if s.process != nil {
		s.process.Kill()
	}
	s.log.Close()
	os.RemoveAll(s.data)
}

// blame adds the end of the server's log to an error.
func (s *server) blame(err error) error {
	if err == nil {
		return nil
	}
	said, readErr := os.ReadFile(s.log.Name())
	if readErr != nil || len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w\nthe server said last: %s", err, said[max(0, len(said)-2000):])
}

func (s *server) cpu() (proc.CPU, error)       { return proc.CPUOf(s.process.PID()) }
func (s *server) memory() (proc.Memory, error) { return proc.MemoryOf(s.process.PID()) }

// profileRate is [runtime.MemProfileRate] in the server.
const profileRate = 512 << 10

// heapOf collects the server's garbage, and returns the bytes in use that a package has allocated. The heap profile estimates them from samples.
func (s *server) heapOf(ctx context.Context, pkg string) (int64, error) {
	text, err := s.heapProfile(ctx, "?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	sum := 0.0
	for record := range strings.SplitSeq(text, "\n\n") {
		if !strings.Contains(record, pkg+".") {
			continue
		}
		counts, _, _ := strings.Cut(record, "\n#") // what is in use, where it was allocated, and a frame a line
		counts = counts[strings.LastIndex(counts, "\n")+1:]
		var objects, bytes float64
		if _, err := fmt.Sscanf(counts, "%f: %f", &objects, &bytes); err != nil {
			return 0, fmt.Errorf("heap profile: %w", err)
		}
		if objects > 0 {
			sum += bytes / (1 - math.Exp(-bytes/objects/profileRate))
		}
	}
	return int64(sum), nil
}

func (s *server) heapProfile(ctx context.Context, query string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+"/debug/pprof/heap"+query, nil)
	if err != nil {
		return "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// memStats are the parts of the server's memory, in bytes.
type memStats struct{ stacks, live, garbage int64 }

// memStats reads them, and then collects the garbage.
func (s *server) memStats(ctx context.Context) (m memStats, err error) {
	before, err := s.heapProfile(ctx, "?debug=1")
	if err != nil {
		return m, err
	}
	after, err := s.heapProfile(ctx, "?gc=1&debug=1")
	if err != nil {
		return m, err
	}
	number := func(text, name string) (n int64) {
		_, rest, found := strings.Cut(text, "\n# "+name+" = ")
		if _, scanErr := fmt.Sscan(rest, &n); !found || scanErr != nil {
			err = fmt.Errorf("heap profile has no %s: %w", name, scanErr)
		}
		return n
	}
	m.stacks, m.live = number(before, "Stack"), number(after, "HeapAlloc")
	m.garbage = number(before, "HeapAlloc") - m.live
	return m, err
}

// inbox lists all notifications of a user, and returns their sequences, oldest first.
func (s *server) inbox(ctx context.Context, user int) (seqs []uint64, err error) {
	before := ""
	for {
		page, err := s.inboxPage(ctx, user, 100, before)
		if err != nil {
			return nil, err
		}
		for _, n := range page.Notifications {
			seq, err := seqOf([]byte(n.ID))
			if err != nil {
				return nil, err
			}
			seqs = append([]uint64{seq}, seqs...)
		}
		before = page.Next
		if before == "" {
			return seqs, nil
		}
	}
}

type inboxPage struct {
	Notifications []struct {
		ID string `json:"id"`
	} `json:"notifications"`
	Next string `json:"next"`
}

func (s *server) inboxPage(ctx context.Context, user, limit int, before string) (page inboxPage, err error) {
	url := fmt.Sprintf("http://%s/v1/notifications?limit=%d", s.addr, limit)
	if before != "" {
		url += "&before=" + before
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return page, err
	}
	_, token, _ := strings.Cut(strings.TrimSpace(s.user(user)), ": ")
	req.Header.Set("Authorization", token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return page, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return page, fmt.Errorf("inbox of %s: %s", userName(user), res.Status)
	}
	return page, json.NewDecoder(res.Body).Decode(&page)
}

// filled waits until the inbox has ingested the last notification, so that all work for the posted ones is done.
func (s *server) filled(ctx context.Context, l *ledger) error {
	var last note
	for _, n := range l.posted() {
		if n.seq > last.seq {
			last = n
		}
	}
	if !s.reads || last.seq == 0 {
		return nil
	}
	return until(ctx, time.Minute, "the inbox to be filled", func() (bool, error) {
		page, err := s.inboxPage(ctx, max(0, int(last.to)), 1, "")
		if err != nil || len(page.Notifications) == 0 {
			return false, err
		}
		seq, err := seqOf([]byte(page.Notifications[0].ID))
		return seq >= last.seq, err
	})
}

// until polls a condition.
func until(ctx context.Context, most time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// rest waits until the machine is idle again, which cannot be polled for.
func rest(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

var errEnded = errors.New("streams ended that should not have")
