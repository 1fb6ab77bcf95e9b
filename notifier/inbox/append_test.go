package inbox_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/inbox"
)

func TestAppendIsIdempotent(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		batch := []inbox.Entry{entry("ana", 1), entry("ben", 2), entry("ana", 3), entry("ana", 3)}
		add(t, s, batch...)
		add(t, s, batch...)
		again := entry("ana", 9) // stored a second time, after the stream's dedupe window
		again.Notification.Key = "key-1"
		add(t, s, again, entry("ana", 10))
		add(t, s)
		if got := seqs(t, s, "ana", ""); !slices.Equal(got, []string{"10", "3", "1"}) {
			t.Errorf("ana's inbox: %v", got)
		}
		if n := unread(t, s, "ana"); n != 3 {
			t.Errorf("ana has %d unread, want 3", n)
		}
	})
}

// With any number of rows, each is stored once.
func TestAppendAnyNumber(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		want, seq := []string{}, uint64(0)
		for _, n := range []int{1, 9, 10, 11, 99, 100, 101, 256, 1119} {
			var batch []inbox.Entry
			for range n {
				seq++
				batch = append(batch, entry("ana", seq))
				want = append(want, fmt.Sprint(seq))
			}
			add(t, s, batch...)
			add(t, s, batch[len(batch)/2:]...)
		}
		slices.Reverse(want)
		if got := seqs(t, s, "ana", ""); !slices.Equal(got, want) {
			t.Errorf("ana's inbox holds %d: %.300v; want %d", len(got), got, len(want))
		}
	})
}

// Users do not share keys, and keys with a common beginning are different.
func TestKeysBelongToTheirUser(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		a, b, all := entry("ana", 1), entry("ben", 2), entry(jobs.Everyone, 3)
		b.Notification.Key, all.Notification.Key = a.Notification.Key, a.Notification.Key
		add(t, s, a, b, all)
		if got := seqs(t, s, "ana", ""); !slices.Equal(got, []string{"3", "1"}) {
			t.Errorf("ana's inbox: %v", got)
		}
		// The border between audience and key counts, too.
		for i, e := range []struct{ user, key string }{{"cem", "x"}, {"cemx", ""}, {"ce", "mx"}, {"c", "emx"}} {
			next := entry(e.user, uint64(10+i))
			next.Notification.Key = e.key + "invoice-2026-0001"
			add(t, s, next)
			next.ID, next.Notification.Key = at(uint64(20+i)), e.key+"invoice-2026-0002"
			add(t, s, next)
			if n := unread(t, s, e.user); n != 3 {
				t.Errorf("%s has %d unread, want 3", e.user, n)
			}
		}
	})
}

func TestKeyDefaultsToTheID(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		a, b := entry("ana", 1), entry("ana", 2)
		a.Notification.Key, b.Notification.Key = "", ""
		add(t, s, a, b)
		add(t, s, a, b)
		if got := seqs(t, s, "ana", ""); !slices.Equal(got, []string{"2", "1"}) {
			t.Errorf("ana's inbox: %v", got)
		}
	})
}

func TestAppendKeepsEverything(t *testing.T) {
	awkward := "nul \x00, \u2028, emoji 👩‍👩‍👧‍👦, rtl \u202eabc, quote ' \" \\ ; -- $1"
	stores(t, func(t *testing.T, s *inbox.Store) {
		data, err := json.Marshal(map[string]any{"text": awkward, "n": 12345678901234567, "nested": []any{nil, true}})
		if err != nil {
			t.Fatal(err)
		}
		want := jobs.Notification{
			Key: awkward, Type: "invoice.paid", Title: awkward, Body: awkward, Link: "/reports/7?a=1&b=%00",
			Data: data, JobID: "01JD3Q00000000000000000000", CreatedAt: noon,
			File: &jobs.File{Name: awkward, Size: 1 << 40, ContentType: "text/csv", ExpiresAt: noon},
		}
		e := inbox.Entry{User: "ana", ID: at(1), Notification: want}
		e.Notification.ID, e.Notification.Status, e.Notification.ReadAt = "gone", jobs.Read, noon
		add(t, s, e)
		want.ID, want.Status = at(1).String(), jobs.Unread
		got := list(t, s, "ana", inbox.ListOptions{}).Notifications
		if len(got) != 1 {
			t.Fatalf("%d notifications", len(got))
		}
		var a, b any
		if json.Unmarshal(got[0].Data, &a) != nil || json.Unmarshal(want.Data, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("data %s, want %s", got[0].Data, want.Data)
		}
		got[0].Data, want.Data = nil, nil
		if !reflect.DeepEqual(got[0], want) {
			t.Errorf("got  %+v\nwant %+v", got[0], want)
		}
	})
}

// No user sees the notifications of another, however similar their names are.
func TestUsersAreApart(t *testing.T) {
	long := strings.Repeat("é", jobs.MaxUserBytes/2)
	users := []string{
		"a@b.c", "aa@b.c", "A@b.c", "a@b.c ", " a@b.c", "a_b.c", "a%b.c", "a*b.c", "a>b.c", "é", "e\u0301", "👩‍👧", "👩", "a\x00b", "a\x00", "a",
		"_al", "_all_", "_ALL", "'; DROP TABLE hark_notifications; --", "0", "00", "1e0", "NULL", long, long[:len(long)-2] + "e",
	}
	stores(t, func(t *testing.T, s *inbox.Store) {
		for i, user := range users {
			add(t, s, entry(user, uint64(i+1)))
		}
		for i, user := range users {
			own := at(uint64(i + 1))
			if got := seqs(t, s, user, ""); !slices.Equal(got, []string{fmt.Sprint(own.Seq)}) {
				t.Errorf("%.20q sees %v, want %d alone", user, got, own.Seq)
			}
			for j := range users {
				if id := at(uint64(j + 1)); id != own {
					_, err1 := s.MarkRead(t.Context(), user, id)
					_, err2 := s.Delete(t.Context(), user, id)
					if err1 != inbox.ErrNotFound || err2 != inbox.ErrNotFound {
						t.Fatalf("%.20q may touch what is %.20q's: %v, %v", user, users[j], err1, err2)
					}
				}
			}
			if _, err := s.MarkReadUpTo(t.Context(), user, jobs.NotificationID{}); err != nil {
				t.Fatal(err)
			}
			for j, other := range users {
				if n, want := unread(t, s, other), min(1, max(0, j-i)); n != want {
					t.Fatalf("after %.20q read all, %.20q has %d unread, want %d", user, other, n, want)
				}
			}
		}
		if got := seqs(t, s, "nobody", ""); len(got) != 0 {
			t.Errorf("nobody sees %v", got)
		}
	})
}

func TestEpochsAreApart(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		older, newer := entry("ana", 5), entry("ana", 5)
		newer.ID.Epoch, newer.Notification.Key = epoch+1, "newer"
		add(t, s, newer, older)
		page := list(t, s, "ana", inbox.ListOptions{Limit: 1})
		if page.Notifications[0].ID != newer.ID.String() || page.Unread != 2 || page.Next == "" {
			t.Fatalf("first page %+v", page)
		}
		page = list(t, s, "ana", inbox.ListOptions{Limit: 1, Before: parse(t, page.Next)})
		if page.Notifications[0].ID != older.ID.String() || page.Next != "" {
			t.Fatalf("second page %+v", page)
		}
		c, err := s.MarkReadUpTo(t.Context(), "ana", older.ID)
		if err != nil || c.Unread != 1 {
			t.Errorf("read up to the older: %+v, %v", c, err)
		}
	})
}

func TestAppendRefusesInvalidEntries(t *testing.T) {
	stores(t, func(t *testing.T, s *inbox.Store) {
		for _, bad := range []inbox.Entry{entry("", 1), entry("ana", 0), entry("ana", 1<<63)} {
			if err := s.Append(t.Context(), []inbox.Entry{entry("ana", 1), bad}); err == nil {
				t.Errorf("Append of user %q, id %s succeeded", bad.User, bad.ID)
			}
		}
		if n := unread(t, s, "ana"); n != 0 {
			t.Errorf("%d unread of a batch that failed", n)
		}
	})
}
