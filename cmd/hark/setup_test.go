package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natsd"
	"github.com/hark-jobs/hark/internal/natstest"
)

// serveNATS starts a server that needs a login, and returns flags with its URL and that login.
func serveNATS(t *testing.T) (s *natsd.Server, flags []string) {
	t.Helper()
	s, err := natsd.Start(natsd.Options{Dir: t.TempDir(), Listen: "127.0.0.1:0", User: "hark", Password: "s3cret"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	pw := filepath.Join(t.TempDir(), "pw")
	if err := os.WriteFile(pw, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, []string{"--nats", s.URL(), "--nats-user", "hark", "--nats-password-file", pw}
}

func TestSetup(t *testing.T) {
	freshAccount(t)
	s, flags := serveNATS(t)
	for _, c := range []struct {
		more []string
		code int
		want string
	}{
		{[]string{"--dry-run"}, 0, "hark_log created\nOBJ_hark_files created\nKV_hark_kinds created\nKV_hark_tickets created\nKV_hark_revoked created\nKV_hark_link_key created\nNothing was changed: this was a dry run.\n"},
		{[]string{"--max-age", "720h"}, 0, "hark_log created\nOBJ_hark_files created\nKV_hark_kinds created\nKV_hark_tickets created\nKV_hark_revoked created\nKV_hark_link_key created\n"},
		{nil, 0, "Nothing to change.\n"},
		{[]string{"--max-age", "240h", "--lease", "1m"}, 0, "hark_log: max_age 720h0m0s -> 240h0m0s\nhark_log: lease 30s -> 1m0s\n"},
		{[]string{"--namespace", "shop"}, 0, "shop_log created\nOBJ_shop_files created\nKV_shop_kinds created\nKV_shop_tickets created\nKV_shop_revoked created\nKV_shop_link_key created\n"},
		{[]string{"--namespace", "Shop"}, 2, ""},
		{[]string{"--js-domain", "a.b"}, 2, ""},
		{[]string{"--replicas", "3"}, 1, ""}, // refused at once, not waited for
		{[]string{"--lease", "1ms"}, 2, ""},
	} {
		code, out, errs := harkCommand(t.Context(), append(append([]string{"setup"}, flags...), c.more...)...)
		if code != c.code || out != c.want || (errs == "") != (code == 0) {
			t.Errorf("setup %v: %d\n%s%s\nwant %s", c.more, code, out, errs, c.want)
		}
	}
	nc, err := s.Connect()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(natstest.Context(t), joblog.DefaultNamespace.LogStream())
	if err != nil {
		t.Fatal(err)
	}
	if age := stream.CachedInfo().Config.MaxAge; age != 240*time.Hour {
		t.Errorf("max age %v", age)
	}
}

// Setup says why it fails, and never with a password.
func TestSetupFails(t *testing.T) {
	freshAccount(t)
	s, _ := serveNATS(t)
	login := strings.Replace(s.URL(), "nats://", "nats://hark:wr0ng@", 1)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "needs --nats"},
		{[]string{"--nats", "nats://127.0.0.1:1", "--wait", "0s"}, 1, "NATS at nats://127.0.0.1:1: "},
		{[]string{"--nats", login, "--wait", "2s"}, 1, "uthorization"},
		{[]string{"--nats", s.URL(), "--nats-user", "hark", "--nats-token", "t"}, 2, "More than one login"},
	} {
		code, out, errs := harkCommand(t.Context(), append([]string{"setup"}, c.args...)...)
		if code != c.code || !strings.Contains(errs, c.want) || out != "" || strings.Contains(errs, "wr0ng") {
			t.Errorf("setup %v: %d\n%s%s", c.args, code, out, errs)
		}
	}
}

func TestHealth(t *testing.T) {
	freshAccount(t)
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(`{"status":"x"}`))
	}))
	defer server.Close()
	if code, out, errs := harkCommand(t.Context(), "health", server.URL+"/readyz"); code != 0 || out != "{\"status\":\"x\"}\n" || errs != "" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	secured := httptest.NewTLSServer(server.Config.Handler)
	defer secured.Close()
	if code, out, errs := harkCommand(t.Context(), "health", secured.URL+"/readyz"); code != 0 || out != "{\"status\":\"x\"}\n" || errs != "" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	status = http.StatusServiceUnavailable
	if code, out, errs := harkCommand(t.Context(), "health", server.URL+"/readyz"); code != 1 || out != "" || !strings.Contains(errs, "503") || !strings.Contains(errs, `{"status":"x"}`) {
		t.Errorf("%d %s%s", code, out, errs)
	}
	server.Close()
	if code, _, errs := harkCommand(t.Context(), "health", server.URL+"/readyz"); code != 1 || !strings.Contains(errs, "does not answer") {
		t.Errorf("%d %s", code, errs)
	}
}

// Every flag whose value is a secret has a twin that reads it from a file, and is hidden from the list of processes.
func TestSecretFlags(t *testing.T) {
	parser, err := kong.New(&CLI{}, kong.Vars{"version": "test"})
	if err != nil {
		t.Fatal(err)
	}
	hidden := secretFlags(reflect.TypeFor[CLI]())
	secretName := regexp.MustCompile(`(password|secret|token|database)$`)
	seen := 0
	for _, command := range parser.Model.Children {
		var names []string
		for _, group := range command.AllFlags(false) {
			for _, flag := range group {
				names = append(names, flag.Name)
			}
		}
		for _, name := range names {
			if !secretName.MatchString(name) {
				continue
			}
			seen++
			if !slices.Contains(names, name+"-file") {
				t.Errorf("hark %s --%s has no --%[2]s-file", command.Name, name)
			}
			if _, ok := hidden[name]; !ok {
				t.Errorf("hark %s --%s is not hidden", command.Name, name)
			}
		}
	}
	if seen < 10 {
		t.Errorf("only %d secrets were looked at", seen)
	}
}

// TestMain of this package cannot be used for it: what is tested is the list of processes. The test runs itself.
func TestHideSecrets(t *testing.T) {
	if os.Getenv("HARK_TEST_HIDE") != "" {
		kept := hideSecrets(os.Args)
		shown, err := os.ReadFile("/proc/self/cmdline")
		if err != nil {
			panic(err)
		}
		os.Stdout.WriteString(strings.Join(kept, " ") + "\n" + strings.ReplaceAll(string(shown), "\x00", " ") + "\n")
		os.Exit(0)
	}
	args := []string{"-test.run=^TestHideSecrets$", "--", "serve", "--jwt-secret=s3cret-1", "--nats-password", "s3cret-2", "--data", "dir",
		"--nats", "nats://hark:s3cret-3@a:4222", "--database=postgres://hark:s3cret-4@b/hark", "--database", "postgres://b/hark?user=hark&password=s3cret-5", "--token"}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "HARK_TEST_HIDE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	kept, shown, _ := strings.Cut(string(out), "\n")
	for _, secret := range []string{"s3cret-1", "s3cret-2", "s3cret-3", "s3cret-4", "s3cret-5"} {
		if !strings.Contains(kept, secret) {
			t.Errorf("the program itself lost %s: %s", secret, kept)
		}
		if strings.Contains(shown, secret) {
			t.Errorf("the list of processes shows %s: %s", secret, shown)
		}
	}
	if !strings.Contains(shown, "--jwt-secret=xxxxxxxx ") || !strings.Contains(shown, "--data dir ") {
		t.Errorf("the list of processes shows %s", shown)
	}
}

func TestModuleVersion(t *testing.T) {
	for want, info := range map[string]debug.BuildInfo{
		"v1.2.3":  {Main: debug.Module{Version: "v1.2.3"}},
		"(devel)": {Main: debug.Module{Version: "(devel)"}},
		"0bd2257+dirty of 2026-11-25T20:00:00Z": {Main: debug.Module{Version: "(devel)"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0bd2257"}, {Key: "vcs.time", Value: "2026-11-25T20:00:00Z"}, {Key: "vcs.modified", Value: "true"}}},
	} {
		if got := moduleVersion(&info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
