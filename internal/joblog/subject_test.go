package joblog_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/nats-io/nats-server/v2/server"
)

var hardUsers = []string{
	"ana", "a@b.c", "aa@b.c", "*", ">", "a.b", "a b", "/", `\`, "=", "=2E", "a=2Eb", "_", "-", "_all ", "ALL",
	"🦉", "Zoë", "\x00", "\r\n", strings.Repeat("🦉", 300), strings.Repeat("x", jobs.MaxUserBytes),
}

// Whatever a user is called, their name is one literal token of a subject, which leads back to it and to
// nobody else.
func FuzzEscapeUser(f *testing.F) {
	for _, user := range hardUsers {
		f.Add(user, "other")
	}
	f.Fuzz(func(t *testing.T, user, other string) {
		token := joblog.EscapeUser(user)
		if back, err := joblog.UnescapeUser(token); err != nil || back != user {
			t.Fatalf("%q escaped to %q and back to %q, %v", user, token, back, err)
		}
		if user != other && joblog.EscapeUser(other) == token {
			t.Fatalf("%q and %q share the token %q", user, other, token)
		}
		if jobs.CheckUser(user) != nil {
			return
		}
		subject := defaultNS.NotificationSubject(user)
		if !server.IsValidLiteralSubject(subject) || strings.Count(subject, ".") != 4 {
			t.Fatalf("%q makes the subject %q", user, subject)
		}
		got, class, ok := joblog.ParseSubject(subject)
		if !ok || got != token || class != joblog.ClassNotification {
			t.Fatalf("%q is parsed to %q %q %v", subject, got, class, ok)
		}
		if len(defaultNS.LiveStateSubject(user, strings.Repeat("0", 26))) > 3800 {
			t.Fatalf("%q makes a subject of %d bytes", user, len(subject))
		}
	})
}

// Only what EscapeUser writes is read.
func FuzzUnescapeUser(f *testing.F) {
	for _, user := range hardUsers {
		f.Add(joblog.EscapeUser(user))
	}
	for _, token := range []string{"=", "=4", "=41", "=2e", "a.b", "", "=GG", "=ÿ0"} {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		if user, err := joblog.UnescapeUser(token); err == nil && joblog.EscapeUser(user) != token {
			t.Fatalf("%q is read as %q, whose token is %q", token, user, joblog.EscapeUser(user))
		}
	})
}

func FuzzParseNotificationID(f *testing.F) {
	for _, text := range []string{"", "-", "0-0", "mwpujqa9-10", "mwpujqa9-010", "-1-5", "1--5", "1-18446744073709551615", "1-18446744073709551616", "zz-1\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if id, err := jobs.ParseNotificationID(text); err == nil && id.String() != text {
			t.Fatalf("%q is read as %q", text, id)
		}
	})
}

func FuzzParsePosition(f *testing.F) {
	for _, text := range []string{"", "--", "0-0-0", "mwpujqa9-10-zz", "mwpujqa9-010-1", "-1-5-5", "1--5-5", "1-3w5e11264sgsf-1", "1-3w5e11264sgsg-1", "zz-1-1\n", "A-1-1", "1-+1-1", "1-1-1-1", "1-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, err := jobs.ParsePosition(text)
		if err == nil && at.String() != text {
			t.Fatalf("%q is read as %q", text, at)
		}
		if _, other := jobs.ParseNotificationID(text); err == nil && other == nil {
			t.Fatalf("%q is both a position and the id of a notification", text)
		}
	})
}

func TestCheckUser(t *testing.T) {
	for _, user := range hardUsers {
		if err := jobs.CheckUser(user); err != nil {
			t.Errorf("%.20q: %v", user, err)
		}
	}
	for _, user := range []string{"", "_all", strings.Repeat("x", jobs.MaxUserBytes+1), "\xff"} {
		if jobs.CheckUser(user) == nil {
			t.Errorf("%.20q (valid UTF-8: %t) may be a user", user, utf8.ValidString(user))
		}
	}
}
