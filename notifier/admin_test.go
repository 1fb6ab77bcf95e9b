package notifier_test

import (
	"io"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
)

// With a listener for operators only that listener serves the metrics. Both serve the health checks: load balancers use
// the public one, operators the other.
func TestAdminListenerHasTheMetrics(t *testing.T) {
	s := start(t, harktest.Admin("127.0.0.1:0"))
	s.call("GET", "/metrics", "").problem(404, "not_found")
	s.call("GET", "/livez", "").want(200)
	s.call("GET", "/readyz", "").want(200)
	admin := *s
	admin.Hark = &harktest.Hark{URL: s.AdminURL}
	for path, says := range map[string]string{"/livez": "ok", "/readyz": `"ready"`, "/metrics": "hark_streams", "/debug/pprof/": "goroutine"} {
		res := admin.open(t.Context(), "GET", path, "")
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || !strings.Contains(string(body), says) {
			t.Errorf("%s: %s %v", path, res.Status, err)
		}
		// On a loopback address the listener refuses requests with another Host than localhost, except health checks.
		status, code, _ := admin.raw("GET " + path + " HTTP/1.1\r\nHost: evil.example\r\n\r\n")
		if health := path == "/livez" || path == "/readyz"; health != (status == 200) || !health && code != "host_not_local" {
			t.Errorf("%s as evil.example: %d %s", path, status, code)
		}
	}
	if res := admin.open(t.Context(), "GET", "/v1/session", ""); res.StatusCode != 404 {
		t.Errorf("the API is there: %s", res.Status)
	} else {
		res.Body.Close()
	}
}
