package inbox_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

// model is an inbox in memory.
type model struct {
	notes []inbox.Entry // in order
	read  map[string]bool
	gone  map[string]bool
}

func (m *model) own(user string, e inbox.Entry) (key string, ok bool) {
	key = fmt.Sprint(user, "/", e.ID)
	return key, (e.User == user || e.User == jobs.Everyone) && !m.gone[key]
}

// seqs returns the same as [seqs] of a store.
func (m *model) seqs(user, status string) []string {
	got := []string{}
	for _, e := range slices.Backward(m.notes) {
		key, ok := m.own(user, e)
		switch {
		case !ok || m.read[key] && status == jobs.Unread:
		case m.read[key]:
			got = append(got, fmt.Sprint(e.ID.Seq, "r"))
		default:
			got = append(got, fmt.Sprint(e.ID.Seq))
		}
	}
	return got
}

// After any operations in any order, lists and counts are the same as those of the model.
func TestAgainstModel(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		users := []string{"ana", "ben", "cem"}
		m := &model{read: map[string]bool{}, gone: map[string]bool{}}
		seq := uint64(0)
		for step := range 600 {
			user, id := users[random.IntN(3)], at(random.Uint64N(seq+3))
			switch random.IntN(8) {
			case 0, 1, 2:
				seq += 1 + random.Uint64N(3)
				e := entry([]string{"ana", "ben", jobs.Everyone}[random.IntN(3)], seq)
				m.notes = append(m.notes, e)
				add(t, s, e)
			case 3:
				if len(m.notes) > 0 {
					add(t, s, m.notes[random.IntN(len(m.notes))])
				}
			case 4, 5:
				act(t, s.MarkRead, m, m.read, user, id)
			case 6:
				act(t, s.Delete, m, m.gone, user, id)
			case 7:
				if random.IntN(2) == 0 {
					id = jobs.NotificationID{}
				}
				if _, err := s.MarkReadUpTo(t.Context(), user, id); err != nil {
					t.Fatal(err)
				}
				for _, e := range m.notes {
					if key, ok := m.own(user, e); ok && (id == jobs.NotificationID{} || e.ID.Seq <= id.Seq) {
						m.read[key] = true
					}
				}
			}
			want := m.seqs(user, jobs.Unread)
			if n := unread(t, s, user); n != len(want) {
				t.Fatalf("step %d: %s has %d unread, want %d", step, user, n, len(want))
			}
			if step%10 != 0 {
				continue
			}
			for _, status := range []string{"", jobs.Unread} {
				if got, want := seqs(t, s, user, status), m.seqs(user, status); !slices.Equal(got, want) {
					t.Fatalf("step %d, %s %q:\n got %v\nwant %v", step, user, status, got, want)
				}
			}
		}
	})
}

// act marks or deletes id: in the store with do, and in the model by setting it in marks.
func act(t *testing.T, do func(context.Context, string, jobs.NotificationID) (inbox.Change, error), m *model, marks map[string]bool, user string, id jobs.NotificationID) {
	t.Helper()
	c, err := do(t.Context(), user, id)
	i := slices.IndexFunc(m.notes, func(e inbox.Entry) bool { return e.ID == id })
	if i >= 0 {
		if key, ok := m.own(user, m.notes[i]); ok {
			marks[key] = true
			if want := len(m.seqs(user, jobs.Unread)); err != nil || c.Unread != want {
				t.Fatalf("%s, %s: %+v, %v; want %d unread", user, id, c, err, want)
			}
			return
		}
	}
	if err != inbox.ErrNotFound {
		t.Fatalf("%s has no %s: %v", user, id, err)
	}
}

// Paging while notifications are appended returns each existing one exactly once.
func TestPagingWhileAppending(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		const before = 300
		var batch []inbox.Entry
		for seq := range uint64(before) {
			batch = append(batch, entry([]string{"ana", jobs.Everyone}[seq%2], seq+1))
		}
		add(t, s, batch...)
		stop := make(chan struct{})
		var appending sync.WaitGroup
		defer appending.Wait()
		defer close(stop)
		started := make(chan struct{})
		appending.Go(func() {
			for seq := uint64(before + 1); ; seq++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Append(t.Context(), []inbox.Entry{entry("ana", seq)}); err != nil {
					t.Error(err)
					return
				}
				if seq == before+10 {
					close(started)
				}
			}
		})
		<-started
		for _, status := range []string{"", jobs.Unread} {
			last := uint64(0)
			for o := (inbox.ListOptions{Limit: 7, Status: status}); ; {
				page := list(t, s, "ana", o)
				for _, n := range page.Notifications {
					seq := parse(t, n.ID).Seq
					if last != 0 && seq != last-1 {
						t.Fatalf("%d comes after %d", seq, last)
					}
					last = seq
				}
				if page.Next == "" {
					break
				}
				o.Before = parse(t, page.Next)
			}
			if last != 1 {
				t.Fatalf("paging ended at %d", last)
			}
		}
	})
}

func TestListRefusesOptions(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		for _, o := range []inbox.ListOptions{{Limit: -1}, {Limit: 101}, {Status: "seen"}} {
			if _, err := s.List(t.Context(), "ana", o); err == nil {
				t.Errorf("List with %+v succeeded", o)
			}
		}
	})
}

// Tabs, devices and ingesters write concurrently. At the end all see the same.
func TestAtOnce(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		one, two := open(t, url), open(t, url)
		const total = 400
		var all sync.WaitGroup
		for _, s := range []*inbox.Store{one, two} { // two processes append the same
			all.Go(func() {
				for first := uint64(1); first <= total; first += 20 {
					var batch []inbox.Entry
					for seq := first; seq < first+20; seq++ {
						batch = append(batch, entry([]string{"ana", "ben", jobs.Everyone}[seq%3], seq))
					}
					if err := s.Append(t.Context(), batch); err != nil {
						t.Error(err)
					}
				}
			})
		}
		for i, s := range []*inbox.Store{one, two, one, two} {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(i), 1))
				for range 60 {
					user, id := []string{"ana", "ben"}[random.IntN(2)], at(1+random.Uint64N(total))
					var err error
					switch random.IntN(4) {
					case 0:
						_, err = s.MarkRead(t.Context(), user, id)
					case 1:
						_, err = s.Delete(t.Context(), user, id)
					case 2:
						_, err = s.MarkReadUpTo(t.Context(), user, id)
					case 3:
						_, err = s.List(t.Context(), user, inbox.ListOptions{})
					}
					if err != nil && err != inbox.ErrNotFound {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		for _, user := range []string{"ana", "ben"} {
			if n, m := unread(t, one, user), len(seqs(t, two, user, jobs.Unread)); n != m {
				t.Errorf("%s has %d unread, but %d are listed", user, n, m)
			}
		}
		if got := seqs(t, two, "nobody", ""); len(got) != total/3 {
			t.Errorf("%d broadcasts, want %d", len(got), total/3)
		}
	})
}

func TestExpire(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		if n, err := s.Expire(t.Context(), noon); n != 0 || err != nil {
			t.Fatalf("an empty log expires %d, %v", n, err)
		}
		var batch []inbox.Entry
		const old, fresh = 2500, 10
		for seq := range uint64(old + fresh) {
			batch = append(batch, entry([]string{"ana", "ben", jobs.Everyone}[seq%3], seq+1))
		}
		add(t, s, batch...)
		for seq := range uint64(30) { // receipts for them
			if _, err := s.MarkRead(t.Context(), "ana", at(seq+1)); err != nil && err != inbox.ErrNotFound {
				t.Fatal(err)
			}
			if _, err := s.Delete(t.Context(), "ben", at(seq+1)); err != nil && err != inbox.ErrNotFound {
				t.Fatal(err)
			}
		}
		if _, err := s.MarkReadUpTo(t.Context(), "ana", at(old+3)); err != nil {
			t.Fatal(err)
		}
		unreadBen := seqs(t, s, "ben", jobs.Unread)[:7]

		n, err := s.Expire(t.Context(), noon.Add((old+1)*time.Second))
		if n != old || err != nil {
			t.Errorf("expired %d, %v; want %d", n, err, old)
		}
		if got, want := seqs(t, s, "ana", ""), []string{"2509", "2508", "2506", "2505", "2503r", "2502r"}; !slices.Equal(got, want) {
			t.Errorf("ana's inbox: %v, want %v", got, want)
		}
		if got := seqs(t, s, "ben", ""); !slices.Equal(got, unreadBen) {
			t.Errorf("ben's inbox: %v, want %v", got, unreadBen)
		}
		if n, err := s.Expire(t.Context(), noon.Add(time.Hour)); n != fresh || err != nil {
			t.Errorf("expired %d, %v; want %d", n, err, fresh)
		}
		next := entry(jobs.Everyone, old+fresh+1)
		next.Notification.CreatedAt = noon.Add(time.Hour)
		add(t, s, next)
		if n := unread(t, s, "ana"); n != 1 {
			t.Errorf("ana has %d unread, want 1", n)
		}
	})
}
