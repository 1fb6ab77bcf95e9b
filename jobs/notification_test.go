package jobs_test

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
)

// Only a path on the same server or an http(s) URL is a link. The page's own rule is tested with the same table.
func TestSafeLink(t *testing.T) {
	table, err := os.ReadFile("../notifier/web/test/links.json")
	if err != nil {
		t.Fatal(err)
	}
	var links struct{ Safe, Unsafe []string }
	if err := json.Unmarshal(table, &links); err != nil || len(links.Safe) == 0 || len(links.Unsafe) == 0 {
		t.Fatal(err, links)
	}
	for want, links := range map[bool][]string{true: links.Safe, false: links.Unsafe} {
		for _, link := range links {
			if jobs.SafeLink(link) != want {
				t.Errorf("%q: safe is %t", link, !want)
			}
			n := jobs.Notification{Type: "t", Title: "t", Link: link}
			if err := n.Check(); link != "" && (err == nil) != want {
				t.Errorf("%q: %v", link, err)
			}
		}
	}
}

// No notification is larger than what a stream may owe its reader, however its text grows when it is stored; and all that
// the limits of the fields allow in plain text fits.
func TestNotificationsAreSmall(t *testing.T) {
	data := func(text string) json.RawMessage { return json.RawMessage(`"` + text + `"`) }
	for name, c := range map[string]struct {
		n  jobs.Notification
		ok bool
	}{
		"plain":     {jobs.Notification{Body: strings.Repeat("日", 4000), Data: data(strings.Repeat("x", 16<<10-2)), Link: "/" + strings.Repeat("x", 1999), Key: strings.Repeat("k", 255)}, true},
		"some tags": {jobs.Notification{Body: strings.Repeat("<b>", 1300), Data: data(strings.Repeat("x", 16<<10-2))}, true},
		"escapes":   {jobs.Notification{Body: strings.Repeat("<", 4000), Data: data(strings.Repeat("<", 16<<10-2))}, false},
		"data":      {jobs.Notification{Data: data(strings.Repeat("&", 9<<10))}, false},
		"controls":  {jobs.Notification{Body: strings.Repeat("\x01", 4000), Data: data(strings.Repeat("<", 5<<10))}, false},
	} {
		c.n.Type, c.n.Title = "t", strings.Repeat("ü", 200)
		var invalid *jobs.InvalidError
		if err := c.n.Check(); c.ok && err != nil || !c.ok && (!errors.As(err, &invalid) || invalid.Field != "data") {
			t.Errorf("%s: %v", name, err)
		}
		if text, err := json.Marshal(&c.n); err != nil || (len(text) <= jobs.MaxNotificationBytes) != c.ok {
			t.Errorf("%s: %d bytes, %v", name, len(text), err)
		}
	}
}
