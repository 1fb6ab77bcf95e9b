package jobs_test

import (
	"encoding/json"
	"os"
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
