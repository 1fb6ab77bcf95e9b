package inbox_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

func TestMarkRead(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		add(t, s, entry("ana", 1), entry(jobs.Everyone, 2), entry("ana", 3), entry("ben", 4))
		for _, test := range []struct {
			seq    uint64
			unread string
		}{{1, "2"}, {2, "1"}} {
			id := at(test.seq)
			c, err := s.MarkRead(t.Context(), "ana", id)
			if err != nil {
				t.Fatal(err)
			}
			wantJSON(t, "the first time", c, `{"unread":`+test.unread+`,"read":["`+id.String()+`"],"up_to":"`+at(4).String()+`"}`)
			first := readAt(t, s, "ana", id)
			if c, err = s.MarkRead(t.Context(), "ana", id); err != nil {
				t.Fatal(err)
			}
			wantJSON(t, "again", c, `{"unread":`+test.unread+`,"up_to":"`+at(4).String()+`"}`)
			if again := readAt(t, s, "ana", id); again != first {
				t.Errorf("read at %s, after marking again at %s", first, again)
			}
		}
		if got := seqs(t, s, "ana", jobs.Unread); !slices.Equal(got, []string{"3"}) {
			t.Errorf("ana's unread: %v", got)
		}
		if got := seqs(t, s, "ben", ""); !slices.Equal(got, []string{"4", "2"}) {
			t.Errorf("ben's inbox: %v", got)
		}
		for _, none := range []jobs.NotificationID{at(4), at(99), {Epoch: epoch + 1, Seq: 1}, {}, at(1 << 63)} {
			if _, err := s.MarkRead(t.Context(), "ana", none); err != inbox.ErrNotFound {
				t.Errorf("marking %s: %v", none, err)
			}
		}
		if _, err := s.MarkRead(t.Context(), jobs.Everyone, at(2)); err != inbox.ErrNotFound {
			t.Errorf("everyone marks: %v", err)
		}
	})
}

func readAt(t *testing.T, s *inbox.Store, user string, id jobs.NotificationID) string {
	t.Helper()
	for _, n := range list(t, s, user, inbox.ListOptions{}).Notifications {
		if n.ID == id.String() {
			return n.ReadAt.String()
		}
	}
	t.Fatalf("%s is not in the inbox", id)
	return ""
}

func TestMarkReadUpTo(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		c, err := s.MarkReadUpTo(t.Context(), "ana", jobs.NotificationID{})
		if err != nil {
			t.Fatal(err)
		}
		wantJSON(t, "all of nothing", c, `{"unread":0}`)

		add(t, s, entry(jobs.Everyone, 1), entry("ana", 2), entry("ana", 3), entry(jobs.Everyone, 4), entry("ben", 5))
		if c, err = s.MarkReadUpTo(t.Context(), "ana", at(2)); err != nil {
			t.Fatal(err)
		}
		wantJSON(t, "up to 2", c, `{"unread":2,"read_up_to":"`+at(2).String()+`","up_to":"`+at(5).String()+`"}`)
		if got := seqs(t, s, "ana", ""); !slices.Equal(got, []string{"4", "3", "2r", "1r"}) {
			t.Errorf("ana's inbox: %v", got)
		}
		first := readAt(t, s, "ana", at(1))

		if c, err = s.MarkReadUpTo(t.Context(), "ana", jobs.NotificationID{}); err != nil {
			t.Fatal(err)
		}
		wantJSON(t, "all", c, `{"unread":0,"read_up_to":"`+at(5).String()+`","up_to":"`+at(5).String()+`"}`)
		if again := readAt(t, s, "ana", at(1)); again != first {
			t.Errorf("read at %s, after a later reading at %s", first, again)
		}
		if got := seqs(t, s, "ben", jobs.Unread); !slices.Equal(got, []string{"5", "4", "1"}) {
			t.Errorf("ben's unread: %v", got)
		}
	})
}

// Marking up to a future id does not mark later notifications.
func TestMarkReadUpToTheFuture(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		add(t, s, entry(jobs.Everyone, 1), entry("ana", 2))
		if _, err := s.MarkReadUpTo(t.Context(), "ana", at(1<<63)); err != nil {
			t.Fatal(err)
		}
		add(t, s, entry(jobs.Everyone, 3), entry("ana", 4))
		if got := seqs(t, s, "ana", jobs.Unread); !slices.Equal(got, []string{"4", "3"}) {
			t.Errorf("ana's unread: %v", got)
		}
	})
}

func TestDelete(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		batch := []inbox.Entry{entry("ana", 1), entry(jobs.Everyone, 2), entry("ana", 3), entry(jobs.Everyone, 4), entry("ana", 5)}
		add(t, s, batch...)
		for seq, want := range map[uint64]string{1: "", 2: "", 5: ""} {
			c, err := s.Delete(t.Context(), "ana", at(seq))
			if err != nil || !slices.Equal(c.Deleted, []string{at(seq).String()}) || c.UpTo != at(5).String() {
				t.Errorf("delete %d%s: %+v, %v", seq, want, c, err)
			}
			if _, err := s.Delete(t.Context(), "ana", at(seq)); err != inbox.ErrNotFound {
				t.Errorf("delete %d again: %v", seq, err)
			}
			if _, err := s.MarkRead(t.Context(), "ana", at(seq)); err != inbox.ErrNotFound {
				t.Errorf("read %d after deleting it: %v", seq, err)
			}
		}
		add(t, s, batch...) // deleted notifications stay deleted
		if got := seqs(t, s, "ana", ""); !slices.Equal(got, []string{"4", "3"}) {
			t.Errorf("ana's inbox: %v", got)
		}
		if n := unread(t, s, "ana"); n != 2 {
			t.Errorf("ana has %d unread, want 2", n)
		}
		if got := seqs(t, s, "ben", ""); !slices.Equal(got, []string{"4", "2"}) {
			t.Errorf("ben's inbox: %v", got)
		}
		// A broadcast can be deleted after it was read, in both ways of reading.
		if _, err := s.MarkRead(t.Context(), "ben", at(2)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.MarkReadUpTo(t.Context(), "ben", at(4)); err != nil {
			t.Fatal(err)
		}
		for _, seq := range []uint64{2, 4} {
			if c, err := s.Delete(t.Context(), "ben", at(seq)); err != nil || c.Unread != 0 {
				t.Errorf("ben deletes %d: %+v, %v", seq, c, err)
			}
		}
		if got := seqs(t, s, "ben", ""); len(got) != 0 {
			t.Errorf("ben's inbox: %v", got)
		}
	})
}

func TestByJob(t *testing.T) {
	const job, other = "01JD3Q00000000000000000000", "01JD3Q00000000000000000001"
	stores(t, func(t *testing.T, s *inbox.Store) {
		e := entry("ana", 1)
		e.Notification.JobID, e.Notification.Key = job, job+".succeeded"
		add(t, s, e, entry("ana", 2))
		check := func(user, id string, want bool) {
			t.Helper()
			if found, err := s.ByJob(t.Context(), user, id); err != nil || found != want {
				t.Errorf("%s, %s: found %v, %v; want %v", user, id, found, err, want)
			}
		}
		check("ana", job, true)
		check("ana", other, false)
		check("ana", "", false)
		check("ana", "01JD3Q0000", false)
		check("ben", job, false)
		if _, err := s.Delete(t.Context(), "ana", at(1)); err != nil {
			t.Fatal(err)
		}
		check("ana", job, true)
	})
}

// Up to the limit a count is exact: of own notifications, of broadcasts and of both. Above, it is the limit.
func TestCountLimit(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		const most = inbox.CountLimit
		var batch []inbox.Entry
		for seq := range uint64(2 * (most + 2)) { // ana has most+2 of her own, and so has everyone
			batch = append(batch, entry([]string{"ana", jobs.Everyone}[seq%2], seq+1))
		}
		add(t, s, batch...)
		want := func(user string, n int) {
			t.Helper()
			if got := unread(t, s, user); got != n {
				t.Errorf("%s has %d unread, want %d", user, got, n)
			}
			if got := list(t, s, user, inbox.ListOptions{Limit: 1}).Unread; got != n {
				t.Errorf("%s's page says %d unread, want %d", user, got, n)
			}
		}
		mark := func(user string, seq uint64, n int) {
			t.Helper()
			c, err := s.MarkRead(t.Context(), user, at(seq))
			if err != nil || c.Unread != n {
				t.Errorf("%s, after marking %d: %d unread, %v; want %d", user, seq, c.Unread, err, n)
			}
		}
		want("ana", most)
		want("ben", most) // most+2 broadcasts
		mark("ben", 2, most)
		mark("ben", 4, most)
		mark("ben", 6, most-1)
		for left, n := range map[uint64]int{most + 200: most, most: most, most - 2: most - 2, 10: 10} { // half own ones, half broadcasts
			user := fmt.Sprint("reader-", left)
			own := make([]inbox.Entry, 0, left/2)
			for seq := range left / 2 {
				own = append(own, entry(user, 1_000_000*left+seq))
			}
			add(t, s, own...)
			if _, err := s.MarkReadUpTo(t.Context(), user, at(2*(most+2)-left)); err != nil {
				t.Fatal(err)
			}
			want(user, n)
		}
	})
}

// A page has the position of the inbox, so that a reader can distinguish deleted notifications from future ones.
func TestListHasThePosition(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		if page := list(t, s, "ana", inbox.ListOptions{}); page.UpTo != "" {
			t.Errorf("an empty log: %q", page.UpTo)
		}
		add(t, s, entry("ana", 1), entry("ana", 2), entry("ben", 3))
		if _, err := s.Delete(t.Context(), "ana", at(2)); err != nil {
			t.Fatal(err)
		}
		for _, o := range []inbox.ListOptions{{}, {Status: jobs.Unread}, {Before: at(2)}} {
			if page := list(t, s, "ana", o); page.UpTo != at(3).String() || len(page.Notifications) != 1 {
				t.Errorf("%+v: %+v", o, page)
			}
		}
	})
}
