package e2e_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
)

// blockedByCORS is what Chromium itself says of an answer that a page may not read.
const blockedByCORS = "blocked by CORS policy"

// otherOrigin serves a page of another origin, with what it says on the console in said, and a token for ana at /hark-token.
func otherOrigin(t *testing.T) (origin string, show func(snippet string)) {
	t.Helper()
	page := ""
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><script>
			Object.assign(window, { said: [], alerts: [], alert: (text) => alerts.push(text) });
			console.error = (...all) => said.push(all.join(" "));
		</script>`+page)
	})
	mux.HandleFunc("GET /hark-token", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, token(t, "ana")) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return strings.Replace(server.URL, "127.0.0.1", "localhost", 1), func(snippet string) { page = snippet }
}

// snippet returns README's script for a browser, as printed but for hark's address.
func snippet(t *testing.T, url string) string {
	t.Helper()
	_, rest, _ := strings.Cut(readFile(t, "../../README.md"), "## In a browser\n")
	_, rest, _ = strings.Cut(rest, "```html\n")
	script, _, ok := strings.Cut(rest, "```\n")
	if !ok || !strings.Contains(script, "http://localhost:4280/") {
		t.Fatal("README has no script under In a browser")
	}
	return strings.ReplaceAll(script, "http://localhost:4280", url)
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// README's lines for a browser work on a page of another origin, as they stand there.
func TestReadmeInABrowser(t *testing.T) {
	t.Parallel()
	origin, show := otherOrigin(t)
	hark := harktest.Start(t, harktest.Secret(secret), harktest.AllowOrigins(origin))
	show(snippet(t, hark.URL))
	p := browsertest.New(t, browsertest.Options{}).Tab(origin)
	// The page keeps its connection for itself: that it is live shows in what arrives.
	service := newClient(t, hark.URL, "service", "notify")
	polltest.Nil(t, "a notification arrives", func() error {
		if browsertest.Eval[bool](p, `alerts.length > 0`) {
			return nil
		}
		if _, err := service.Notify(t.Context(), "ana", jobs.Notification{Type: "test", Title: "Hello"}); err != nil {
			t.Fatal(err)
		}
		return fmt.Errorf("the console says %q", browsertest.Eval[[]string](p, "said"))
	})
	if got := browsertest.Eval[string](p, "alerts[0]"); got != "Hello" {
		t.Errorf("alert says %q", got)
	}
	if said := browsertest.Eval[[]string](p, "said"); len(said) > 0 {
		t.Errorf("the console says %q, want nothing", said)
	}
}

// What another origin's page lacks is on the console, in one sentence: the flag, the token, or hark itself.
func TestConsoleSaysWhatAPageLacks(t *testing.T) {
	t.Parallel()
	origin, show := otherOrigin(t)
	closed := harktest.Start(t, harktest.Secret(secret))
	open := harktest.Start(t, harktest.Secret(secret), harktest.AllowOrigins(origin))
	nowhere := "http://" + harkproc.FreeAddr(t)
	connect := func(options string) string {
		return `<script type="module">import { connect } from "` + open.URL + `/hark.js"; connect({ ` + options + ` })</script>`
	}
	browser := browsertest.New(t, browsertest.Options{Expected: []string{blockedByCORS}})
	for _, c := range []struct{ name, page, says string }{
		{"the flag", snippet(t, closed.URL), "start hark with --allow-origin " + origin + " so that pages of that origin may read the responses of " + closed.URL + "."},
		{"a token", connect(""), open.URL + " does not know the user of this page: give connect() a token callback, because browsers send the cookie only from pages of hark's own site, after a sign-in there."},
		{"a URL that answers a token", connect(`token: () => fetch("/nothing").then((answer) => answer.text())`),
			"The token callback of connect() returned something that is not a token; check the response of its URL."},
		{"a good token", connect(`token: () => "a.b.c"`),
			open.URL + " refuses the token that the callback of connect() returned: The token is not a well-formed JWT."},
		{"hark", connect(`base: "` + nowhere + `", token: () => "a.b.c"`),
			nowhere + " does not respond to this page: start hark there, or set base in connect(), and allow it in the page's Content-Security-Policy (connect-src) if the page has one."},
	} {
		t.Run(c.name, func(t *testing.T) {
			show(c.page)
			p := browser.Tab(origin)
			defer p.Close()
			p.Until("the console says something", `said.length > 0`)
			if said := browsertest.Eval[[]string](p, "said"); len(said) != 1 || said[0] != "hark: "+c.says {
				t.Errorf("the console says %q, want %q", said, c.says)
			}
		})
	}
}

// A page of another origin, but of hark's site, works with hark's cookie where its origin is allowed.
func TestCookieOfAnotherOriginOfTheSite(t *testing.T) {
	t.Parallel()
	origin, show := otherOrigin(t)
	hark := harktest.Start(t, harktest.Secret(secret), harktest.AllowOrigins(origin))
	s := newTabs(t, strings.Replace(hark.URL, "127.0.0.1", "localhost", 1))
	s.signIn("ana")
	show(`<script type="module">import { connect } from "` + s.url + `/hark.js"; window.hark = connect()</script>`)
	p := s.browser.Tab(origin)
	p.Until("the page is live as ana", `window.hark?.status === "live" && hark.user === "ana"`)
	if got := browsertest.Await[string](p, `hark.enqueue("sleep", { seconds: 0 }).then((job) => job.kind)`); got != "sleep" {
		t.Errorf("the page enqueued %q", got)
	}
}

// The page and the server of docs/embed.md are those in examples/embed-page. They work with a real hark that is started as
// the page says: a user signs in there, enqueues an export, is notified, and downloads the file.
func TestEmbeddedPage(t *testing.T) {
	doc := readFile(t, "../../docs/embed.md")
	for name, language := range map[string]string{"main.go": "go", "page.html": "html"} {
		text := readFile(t, "../../examples/embed-page/"+name)
		if !strings.Contains(doc, "```"+language+"\n"+text+"```\n") {
			t.Errorf("docs/embed.md does not show examples/embed-page/%s as it is", name)
		}
	}

	dir, addr, app, out := t.TempDir(), harkproc.FreeAddr(t), harkproc.FreeAddr(t), new(logtest.Buffer)
	_, port, err := net.SplitHostPort(app)
	if err != nil {
		t.Fatal(err)
	}
	origin := "http://localhost:" + port
	t.Setenv("HARK_JWT_SECRET_FILE", writeFile(t, filepath.Join(dir, "jwt-secret"), secret+"\n")) // of both
	harkproc.Start(t, out, "serve", "--listen", addr, "--data", filepath.Join(dir, "data"), "--allow-origin", origin)
	program := exec.Command(buildExample(t, dir, "embed-page", strings.NewReplacer("localhost:5173", "localhost:"+port, "http://localhost:4280", "http://"+addr), "main.go", "page.html"))
	program.Stdout, program.Stderr = out, out
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Process.Kill(); program.Wait() })
	harkproc.Ready(t, "http://"+addr)
	answers(t, origin, http.StatusOK, "A page with hark in it")

	p := browsertest.New(t, browsertest.Options{}).Tab(origin)
	files := t.TempDir()
	p.Downloads(files)
	p.Fill(`[name="user"]`, "ana")
	p.Click("#sign-in button")
	p.Shows("#unread", "0 unread, live")
	p.Click("#export")
	p.Shows("#unread", "1 unread, live")
	p.Shows("#notifications li", "Export: Orders is ready")
	p.Click("#notifications button")
	browsertest.Downloaded(t, files, "*.xlsx")
	p.Shows("#unread", "live") // the page is still there
}

// buildExample builds a program of examples, with other addresses in these of its files.
func buildExample(t *testing.T, dir, example string, addresses *strings.Replacer, files ...string) string {
	t.Helper()
	replace := make(map[string]string)
	for _, name := range files {
		path, err := filepath.Abs("../../examples/" + example + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		replace[path] = writeFile(t, filepath.Join(dir, example+"-"+name), addresses.Replace(readFile(t, path)))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, example)
	file := writeFile(t, filepath.Join(dir, example+"-overlay.json"), string(overlay))
	build := exec.Command("go", "build", "-overlay", file, "-o", binary, "../../examples/"+example)
	build.Env = harkproc.GoEnv()
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return binary
}
