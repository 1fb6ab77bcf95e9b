package notifier_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
)

// A user above the rate limit gets Retry-After; other users, and services, are not limited.
func TestRateLimit(t *testing.T) {
	hark := harktest.Start(t, harktest.RateLimit(0.1)) // a burst of one, then one in ten seconds
	ask := func(token string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", hark.URL+"/v1/jobs", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close(); http.DefaultClient.CloseIdleConnections() })
		return res
	}
	ana := hark.Token("ana")
	if res := ask(ana); res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	res := ask(ana)
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") == "" ||
		!strings.Contains(res.Header.Get("Content-Type"), "problem") {
		t.Errorf("%s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
	}
	if res := ask(hark.Token("bob")); res.StatusCode != http.StatusOK {
		t.Errorf("another user: %s", res.Status)
	}
	service := hark.Token("billing", "notify")
	for range 5 {
		if res := ask(service); res.StatusCode != http.StatusOK {
			t.Errorf("a service: %s", res.Status)
		}
	}
}
