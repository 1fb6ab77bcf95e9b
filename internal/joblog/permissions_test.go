package joblog_test

import (
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/joblog"
)

// Every request to JetStream has the prefix of the location, and every subject the namespace. Tests of package hark try the rest
// with a NATS server.
func TestPermissionsOfPlace(t *testing.T) {
	for api, at := range map[string]joblog.Location{
		"$JS.API.":        {Namespace: "shop"},
		"$JS.hub.API.":    {Namespace: "shop", Domain: "hub"},
		"JS.shared.API.":  {Namespace: "shop", APIPrefix: "JS.shared.API"},
		"JS.another.API.": {Namespace: "shop", APIPrefix: "JS.another.API."},
	} {
		for _, role := range joblog.Roles {
			p := at.Permissions(role, []string{"report"}, 1)
			for _, subject := range append(append(p.Publish, p.DenyPublish...), p.Subscribe...) {
				if strings.Contains(subject, "API.") && !strings.HasPrefix(subject, api) {
					t.Errorf("%s with %s: %s", role, api, subject)
				}
				if !strings.Contains(subject, "shop") || strings.Contains(subject, "hark") && !strings.Contains(subject, "shop-worker") {
					t.Errorf("%s of shop: %s", role, subject)
				}
			}
		}
		keys := at.Permissions(joblog.RoleWorker, nil, 1).Publish
		want := "$KV.shop_kinds.*"
		if api != "$JS.API." { // nats.go writes keys through the API of the location
			want = api + want
		}
		if !strings.Contains(strings.Join(keys, " ")+" ", " "+want+" ") {
			t.Errorf("with %s a worker may not write %s: %q", api, want, keys)
		}
	}
}
