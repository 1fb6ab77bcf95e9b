package web_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/notifier/web"
)

func get(t *testing.T, method, target string, header ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	web.Handler().ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestHandlerServesTheFiles(t *testing.T) {
	for target, contentType := range map[string]string{
		"/":                       "text/html; charset=utf-8",
		"/hark.js":                "text/javascript; charset=utf-8",
		"/assets/app.js":          "text/javascript; charset=utf-8",
		"/assets/page.css":        "text/css; charset=utf-8",
		"/assets/icon.svg":        "image/svg+xml",
		"/assets/icon-unread.svg": "image/svg+xml",
	} {
		t.Run(target, func(t *testing.T) {
			resp := get(t, "GET", target)
			if resp.StatusCode != http.StatusOK || text(t, resp) == "" {
				t.Fatalf("status %d", resp.StatusCode)
			}
			if got := resp.Header.Get("Content-Type"); got != contentType {
				t.Errorf("Content-Type %q, want %q", got, contentType)
			}
			if got := resp.Header.Get("X-Content-Type-Options"); got != "nosniff" {
				t.Errorf("X-Content-Type-Options %q", got)
			}
			if got := resp.Header.Get("Cache-Control"); got != "no-cache" {
				t.Errorf("Cache-Control %q", got)
			}
			tag := resp.Header.Get("ETag")
			again := get(t, "GET", target, "If-None-Match", tag)
			if again.StatusCode != http.StatusNotModified || text(t, again) != "" {
				t.Errorf("asked again with ETag %s: status %d", tag, again.StatusCode)
			}
		})
	}
}

func TestHandlerHeaders(t *testing.T) {
	if got := get(t, "GET", "/").Header.Get("Content-Security-Policy"); got != web.CSP {
		t.Errorf("Content-Security-Policy of the page %q", got)
	}
	// Without it a page of another origin cannot import the client, nor the module that it imports in turn.
	for _, target := range []string{"/hark.js", "/assets/state.js"} {
		if got := get(t, "GET", target).Header.Get("Access-Control-Allow-Origin"); got != "*" {
			t.Errorf("Access-Control-Allow-Origin of %s %q", target, got)
		}
	}
}

func TestHandlerRefuses(t *testing.T) {
	for _, target := range []string{"/nothing", "/index.html", "/assets", "/assets/", "/assets/nothing.js", "/web.go", "/test/inbox.test.mjs", "/package.json"} {
		if resp := get(t, "GET", target); resp.StatusCode != http.StatusNotFound {
			t.Errorf("GET %s: status %d", target, resp.StatusCode)
		}
	}
	resp := get(t, "POST", "/")
	if resp.StatusCode != http.StatusMethodNotAllowed || resp.Header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: status %d, Allow %q", resp.StatusCode, resp.Header.Get("Allow"))
	}
	if resp := get(t, "HEAD", "/"); resp.StatusCode != http.StatusOK || text(t, resp) != "" {
		t.Errorf("HEAD /: status %d", resp.StatusCode)
	}
}

var (
	reference = regexp.MustCompile(`(?:src|href)="([^"#][^"]*)"`)
	imported  = regexp.MustCompile(`(?m)^(?:import|export) .*from "([^"]+)"`)
	inline    = regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+="|javascript:|<script(?:\s+type="module")?>`)
)

// Every file that is referred to is there, and is ours.
func TestPageIsWhole(t *testing.T) {
	page := text(t, get(t, "GET", "/"))
	if found := inline.FindString(page); found != "" {
		t.Errorf("the page holds %q, which its policy forbids", found)
	}
	seen := make(map[string]bool)
	var visit func(from, ref string)
	visit = func(from, ref string) {
		if strings.Contains(ref, "://") || strings.HasPrefix(ref, "//") {
			t.Errorf("%s refers to %s, which is not ours", from, ref)
			return
		}
		target := path.Join(path.Dir(from), ref)
		if ref == "./" {
			target = "/"
		}
		if seen[target] {
			return
		}
		seen[target] = true
		resp := get(t, "GET", target)
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s refers to %s: status %d", from, ref, resp.StatusCode)
			return
		}
		if path.Ext(target) == ".js" {
			for _, m := range imported.FindAllStringSubmatch(text(t, resp), -1) {
				visit(target, m[1])
			}
		}
	}
	for _, m := range reference.FindAllStringSubmatch(page, -1) {
		visit("/", m[1])
	}
	for _, target := range []string{"/hark.js", "/assets/state.js", "/assets/app.js", "/assets/jobs.css"} {
		if !seen[target] {
			t.Errorf("nothing refers to %s", target)
		}
	}
}
