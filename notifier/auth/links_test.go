package auth_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/notifier/auth"
)

const linkJob = "01JD3QF4X5S7H8J9K0M1N2P3R4"

// All processes accept a link that one has signed, for one job and run of one user, until it expires, and nothing else.
func TestLinks(t *testing.T) {
	store := openStore(t, natstest.Connect(t), 1)
	all := make([]*auth.Links, 8)
	var opened sync.WaitGroup
	for i := range all {
		opened.Go(func() {
			var err error
			if all[i], err = auth.OpenLinks(natstest.Context(t), store); err != nil {
				t.Error(err)
			}
		})
	}
	opened.Wait()
	if t.Failed() {
		return
	}
	link, expiresAt := all[0].Sign("ana 1 \n", linkJob, 2)
	if left := time.Until(expiresAt); left > auth.LinkTTL || left < auth.LinkTTL-10*time.Second {
		t.Errorf("it is valid for %v", left)
	}
	for _, l := range all {
		if user, run, err := l.Verify(link, linkJob); user != "ana 1 \n" || run != 2 || err != nil {
			t.Errorf("%q %d, %v", user, run, err)
		}
	}
	other := must(auth.OpenLinks(natstest.Context(t), openStore(t, natstest.Connect(t), 1)))
	for name, c := range map[string]struct{ link, job string }{
		"another job":     {link, strings.Replace(linkJob, "01JD", "01JE", 1)},
		"another key":     {other.SignUntil("ana", linkJob, 1, time.Now().Add(time.Minute)), linkJob},
		"expired":         {all[0].SignUntil("ana", linkJob, 1, time.Now().Add(-time.Second)), linkJob},
		"changed":         {link[:len(link)-2] + "A" + link[len(link)-1:], linkJob},
		"changed mac":     {string(rune('A'+link[0]%2)) + link[1:], linkJob}, // A or B, whichever the link does not begin with
		"cut":             {link[:len(link)-4], linkJob},
		"a mac alone":     {link[:43], linkJob},
		"nothing":         {"", linkJob},
		"no base64":       {"?" + link, linkJob},
		"with a line end": {link + "\n", linkJob},
	} {
		_, _, err := all[0].Verify(c.link, c.job)
		var refused *auth.Error
		if !errors.As(err, &refused) || refused.Code != auth.CodeLinkInvalid || refused.Status() != 401 {
			t.Errorf("%s: %v", name, err)
		}
	}
}
