package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/hark-jobs/hark/internal/logtest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// harkCommand runs a command line as in a fresh account, whose data folder dataDir returns.
func harkCommand(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs logtest.Buffer // NATS may still log while an error is reported
	code = run(ctx, args, Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	return code, out.String(), errs.String()
}

// freshAccount hides the environment of the user who runs the test.
func freshAccount(t *testing.T) (dataDir string) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "HARK_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
	home := t.TempDir()
	for _, name := range []string{"XDG_DATA_HOME", "LocalAppData", "HOME"} {
		t.Setenv(name, home)
	}
	dir, err := DefaultDataDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// fake is a server with one export. It checks the caller.
type fake struct {
	t      *testing.T
	verify *auth.Verifier
	server *httptest.Server

	mu     sync.Mutex
	job    jobs.Job
	params string
	asked  []string
	scope  string
	file   string
}

func newFake(t *testing.T, secret []byte) *fake {
	f := &fake{t: t, file: "id,total\n1,2\n", job: jobs.Job{
		ID: "J", Kind: "export", Title: "Orders", State: jobs.Queued, Attempt: 0, MaxAttempts: 3, Revision: 1,
		CreatedAt: time.Date(2026, 1, 31, 15, 4, 5, 0, time.UTC),
	}}
	var err error
	if f.verify, err = auth.New(auth.Options{Secret: secret}); err != nil {
		t.Fatal(err)
	}
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

func (f *fake) change(change func(*jobs.Job)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.job)
	f.job.Revision++
}

func (f *fake) succeed() {
	f.change(func(j *jobs.Job) {
		j.State, j.Progress.Done = jobs.Succeeded, 1
		j.File = &jobs.File{Name: "../orders.csv", Size: int64(len(f.file))}
	})
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token, _ := auth.FromRequest(r)
	id, err := f.verify.Verify(r.Context(), token)
	if err != nil {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnauthorized)
		json.NewEncoder(w).Encode(map[string]string{"code": "token_invalid", "detail": err.Error()})
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, r.Method+" "+r.URL.Path+" "+id.User)
	f.scope = strings.Join(id.Scope, " ")
	switch r.Method + " " + r.URL.Path {
	case "GET /v1/kinds":
		fmt.Fprintf(w, `{"kinds":[{"name":"other"},%s]}`, exports)
	case "POST /v1/jobs":
		body, _ := io.ReadAll(r.Body)
		f.params = string(body)
		w.WriteHeader(http.StatusAccepted)
		json.NewEncoder(w).Encode(f.job)
	case "GET /v1/jobs/J":
		json.NewEncoder(w).Encode(f.job)
	case "GET /v1/jobs":
		json.NewEncoder(w).Encode(map[string]any{"jobs": []jobs.Job{f.job}})
	case "POST /v1/jobs/J/cancel":
		f.job.State = jobs.Cancelled
		f.job.Revision++
		json.NewEncoder(w).Encode(f.job)
	case "GET /v1/jobs/J/file":
		io.WriteString(w, f.file)
	case "POST /v1/notifications":
		body, _ := io.ReadAll(r.Body)
		f.params = string(body)
		io.WriteString(w, `{"id":"e-7"}`)
	case "POST /v1/revocations":
		body, _ := io.ReadAll(r.Body)
		f.params = string(body)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"user":"ana","revoked_at":"2026-01-31T15:04:05.5Z"}`)
	case "DELETE /v1/revocations":
		f.params = r.URL.RawQuery
		w.WriteHeader(http.StatusNoContent)
	case "GET /v1/stream":
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "event: hello\nid: e-1\ndata: {\"user\":\"ana\"}\n\n")
		data, _ := json.Marshal(f.job)
		fmt.Fprintf(w, "event: job\ndata: %s\n\n", data)
		fmt.Fprint(w, "event: notification\nid: e-2\ndata: {\"title\":\"Ready\\u001b[2J\",\"body\":\"1 row\",\"link\":\"/x\"}\n\n")
		fmt.Fprint(w, "event: inbox\ndata: {\"unread\":3}\n\n")
		w.(http.Flusher).Flush()
		f.mu.Unlock()
		<-r.Context().Done()
		f.mu.Lock()
	default:
		f.t.Errorf("unexpected %s %s", r.Method, r.URL)
	}
}

func TestExitCodes(t *testing.T) {
	dir := freshAccount(t)
	secret, err := auth.LoadOrCreateSecret(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, secret)
	url := "--url=" + f.server.URL
	gone := httptest.NewServer(nil)
	gone.Close()
	for line, want := range map[string]struct {
		code   int
		stderr string
	}{
		"":                                    {exitUsage, `hark: expected one of`},
		"frobnicate":                          {exitUsage, "hark: unexpected argument frobnicate"},
		"jobs --what":                         {exitUsage, "hark: unknown flag --what"},
		"export":                              {exitUsage, `hark: expected "<dataset>"`},
		"--help":                              {exitOK, ""},
		"--version":                           {exitOK, ""},
		"export --help":                       {exitOK, ""},
		"jobs --state=done " + url:            {exitUsage, "hark: --state done is not one of queued running"},
		"jobs --limit=-1 " + url:              {exitUsage, "hark: --limit must be 0 or more"},
		"jobs --url=localhost":                {exitUsage, "hark: no token"},
		"jobs --token=x --url=localhost":      {exitUsage, "hark: --url localhost is not a URL"},
		"jobs --url=https://hark.example.com": {exitUsage, "hark: no token: give --token or HARK_TOKEN to call https://hark.example.com"},
		"jobs --token=x " + url:               {exitFailed, "hark: The token is not a well-formed JWT\n"},
		"jobs --jwt-secret=short " + url:      {exitFailed, "hark: auth: the JWT secret has 5 bytes"},
		"jobs --data=none " + url:             {exitUsage, "hark: no token: give --token or HARK_TOKEN, or run hark serve"},
		"jobs " + url:                         {exitOK, ""},
		"jobs --token=x --url=" + gone.URL:    {exitFailed, "hark: cannot reach " + gone.URL},
		"export orders --param=form=x " + url: {exitUsage, "hark: form is not a param of export orders"},
		"export nonsense " + url:              {exitUsage, "hark: dataset must be one of orders"},
		"export orders -o none/x.csv " + url:  {exitUsage, "hark: -o none/x.csv: there is no such folder"},
		"notify --user=bob " + url:            {exitUsage, "hark: missing flags: --title"},
		"notify --title=x " + url:             {exitUsage, "hark: missing flags: --user=NAME or --everyone"},
		"notify --title=x --user=bob --everyone " + url: {exitUsage, "hark: --user and --everyone can't be used together"},
		"token":                        {exitUsage, "hark: missing flags: --user"},
		"token --user=_all":            {exitUsage, "hark: --user must not be _all"},
		"notify --user=_all --title=T": {exitUsage, "hark: --user must not be _all"},
		"token --user=ana --ttl=1ms":   {exitUsage, "hark: --ttl must be at least 1s"},
		`token --user=ana --scope=x"`:  {exitUsage, "hark: --scope \"x\\\"\" is not a scope"},
		"token --user=ana --ttl=soon":  {exitUsage, "hark: --ttl: expected duration"},
	} {
		code, _, stderr := harkCommand(t.Context(), strings.Fields(line)...)
		if code != want.code || !strings.HasPrefix(stderr, want.stderr) || want.stderr == "" && stderr != "" || strings.Count(stderr, "\n") > 1 {
			t.Errorf("hark %s: got %d, %q, want %d, %q", line, code, stderr, want.code, want.stderr)
		}
	}
	for _, asked := range f.asked {
		if strings.HasPrefix(asked, "POST") {
			t.Errorf("something was enqueued: %s", asked)
		}
	}
}

func TestVersionAndVariables(t *testing.T) {
	freshAccount(t)
	if code, out, _ := harkCommand(t.Context(), "--version"); code != exitOK || !strings.HasPrefix(out, "hark ") {
		t.Errorf("--version: %d, %q", code, out)
	}
	secret := "a secret from the environment, long enough"
	t.Setenv("HARK_JWT_SECRET", secret)
	f := newFake(t, []byte(secret))
	t.Setenv("HARK_URL", f.server.URL)
	t.Setenv("HARK_USER", "ana")
	if code, _, stderr := harkCommand(t.Context(), "jobs"); code != exitOK || fmt.Sprint(f.asked) != "[GET /v1/jobs ana]" {
		t.Errorf("got %d, %s, %v", code, stderr, f.asked)
	}
	if code, _, stderr := harkCommand(t.Context(), "jobs", "--user=bob"); code != exitOK || f.asked[1] != "GET /v1/jobs bob" {
		t.Errorf("the flag goes first: got %d, %s, %v", code, stderr, f.asked)
	}
}

func TestToken(t *testing.T) {
	dir := freshAccount(t)
	code, token, stderr := harkCommand(t.Context(), "token", "--user", "ana", "--scope", "notify admin", "--ttl", "2h")
	if code != exitOK || !strings.Contains(stderr, filepath.Join(dir, "secret")) {
		t.Fatalf("got %d, %s", code, stderr)
	}
	secret, err := auth.LoadSecret(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := auth.New(auth.Options{Secret: secret})
	if err != nil {
		t.Fatal(err)
	}
	id, err := v.Verify(t.Context(), strings.TrimSpace(token))
	if err != nil || id.User != "ana" || !id.Has("notify") || !id.Has("admin") || time.Until(id.ExpiresAt) < 119*time.Minute {
		t.Errorf("got %+v, %v", id, err)
	}
	if code, _, stderr = harkCommand(t.Context(), "token", "--user", "ana"); code != exitOK || stderr != "" {
		t.Errorf("the second time: %d, %s", code, stderr)
	}
}

func TestNotify(t *testing.T) {
	dir := freshAccount(t)
	secret, err := auth.LoadOrCreateSecret(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, secret)
	t.Setenv("HARK_USER", "eve") // the caller in other commands, and not the recipient
	code, out, stderr := harkCommand(t.Context(), "notify", "--everyone", "--title", "Lunch", "--body", "is ready", "--key", "k", "--url", f.server.URL)
	if code != exitOK || out != "e-7\n" || f.scope != "notify" ||
		f.params != `{"everyone":true,"type":"message","title":"Lunch","body":"is ready","key":"k"}` {
		t.Errorf("got %d, %q, %q, scope %s, %s", code, out, stderr, f.scope, f.params)
	}
}

func TestJobs(t *testing.T) {
	dir := freshAccount(t)
	secret, err := auth.LoadOrCreateSecret(filepath.Join(dir, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t, secret)
	f.change(func(j *jobs.Job) { j.State, j.Progress = jobs.Running, jobs.Progress{Done: 1500, Total: 6000} })
	code, out, stderr := harkCommand(t.Context(), "jobs", "--url", f.server.URL, "--user", "ana")
	lines := strings.Split(out, "\n")
	if code != exitOK || stderr != "" || len(lines) != 3 || !strings.HasPrefix(lines[0], "ID  STATE    KIND") ||
		!strings.HasPrefix(lines[1], "J   running  export") || !strings.HasSuffix(lines[1], "Orders  25% (1,500 of 6,000)") {
		t.Errorf("got %d, %s\n%s", code, stderr, out)
	}
	code, out, _ = harkCommand(t.Context(), "jobs", "--url", f.server.URL, "--json")
	var job jobs.Job
	if err := json.Unmarshal([]byte(out), &job); code != exitOK || err != nil || job.ID != "J" || job.Progress.Total != 6000 {
		t.Errorf("got %d, %s, %v", code, out, err)
	}
}
