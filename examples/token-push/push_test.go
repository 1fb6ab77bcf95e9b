package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/hark-jobs/hark/internal/browsertest"
	"github.com/hark-jobs/hark/internal/polltest"
)

// runs makes this test run the program in its place: in the processes that startServers starts.
const runs = "TOKEN_PUSH_RUNS"

func TestMain(m *testing.M) {
	if os.Getenv(runs) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

var announced = regexp.MustCompile(`the (first|second) server is at (http://\S+)`)

// servers are the two servers of the program, which are processes of their own.
type servers struct {
	first, second string // their URLs
	process       *os.Process
	ended         chan error // has the result of the first one, once both have ended
}

// start runs the program, as its one command does, until the test ends.
func start(t *testing.T) *servers {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "-listen", "localhost:0", "-second", "localhost:0", "-data", t.TempDir())
	command.Env = append(os.Environ(), runs+"=1")
	output, log := io.Pipe()
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // the second server is in the group, too
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	s := &servers{process: command.Process, ended: make(chan error, 1)}
	go func() {
		err := command.Wait() // the second server has the same output, so this waits for both
		log.Close()
		s.ended <- err
	}()
	urls := make(chan []string, 2)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			fmt.Fprintln(t.Output(), lines.Text())
			if found := announced.FindStringSubmatch(lines.Text()); found != nil {
				urls <- found[1:]
			}
		}
		close(urls)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-s.process.Pid, syscall.SIGKILL) // nothing is left running; there is no such group if both have ended
		<-read
	})
	for range 2 {
		switch found := <-urls; {
		case found == nil:
			t.Fatal("the program has ended")
		case found[0] == "first":
			s.first = found[1]
		default:
			s.second = found[1]
		}
	}
	for _, url := range []string{s.first, s.second} {
		polltest.Until(t, url+" is ready", func() bool {
			res, err := http.Get(url + "/hark/readyz")
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			return res.StatusCode == http.StatusOK
		})
	}
	return s
}

// end waits until both servers have ended, and returns the result of the first one.
func (s *servers) end(t *testing.T) (err error) {
	t.Helper()
	polltest.Until(t, "both servers have ended", func() bool {
		select {
		case err = <-s.ended:
			return true
		default:
			return false
		}
	})
	for _, url := range []string{s.first, s.second} {
		if conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://")); err == nil {
			conn.Close()
			t.Errorf("%s is still there", url)
		}
	}
	return err
}

// signIn opens a page in a tab and signs a user in.
func signIn(browser *browsertest.Browser, url, user string) *browsertest.Tab {
	tab := browser.Tab(url)
	tab.Fill("[name=name]", user)
	tab.Click("#form button")
	tab.Shows("#user", user)
	return tab
}

// lists waits until a page lists these users, in this order.
func lists(t *testing.T, tab *browsertest.Tab, users string) {
	t.Helper()
	tab.Until("the page lists "+users, fmt.Sprintf(`[...document.querySelectorAll("#users li")].map((li) => li.dataset.user).join(" ") === %q`, users))
}

// Two users are connected, each to another server, in another process. The manager's page lists both. When the manager ends the
// streams of one, the page of that user says so, the other pages no longer list the user, and the other user stays.
func TestManagerEndsStreams(t *testing.T) {
	s := start(t)
	one, two := browsertest.New(t, browsertest.Options{}), browsertest.New(t, browsertest.Options{})
	ana, bo := signIn(one, s.first, "ana"), signIn(two, s.second, "bo")
	manager := signIn(one, s.first, "manager")
	for _, tab := range []*browsertest.Tab{manager, ana, bo} {
		lists(t, tab, "ana bo manager")
	}
	for _, tab := range []*browsertest.Tab{ana, bo} {
		tab.Hides("#users button")
		status := browsertest.Await[int](tab, `fetch("/hark/v1/revocations", {
			method: "POST", body: '{"user":"manager"}', headers: {Authorization: "Bearer " + JSON.parse(sessionStorage.session).token},
		}).then((response) => response.status)`)
		if status != http.StatusForbidden {
			t.Errorf("a user who is no manager may end streams: %d", status)
		}
	}
	token := browsertest.Eval[string](bo, `JSON.parse(sessionStorage.session).token`)

	manager.Click(`li[data-user="bo"] button`)
	bo.Shows("#message", "The token was revoked; sign in again.")
	bo.Hides("#desk")
	urls := browsertest.Eval[string](bo, `performance.getEntriesByType("resource").map(({ name }) => name).join(" ")`)
	if !strings.Contains(urls, "/v1/stream?") || strings.Contains(urls, token) {
		t.Errorf("the page has requested %s; want the stream, and the token in none of the URLs", urls)
	}
	lists(t, manager, "ana manager")
	lists(t, ana, "ana manager")
	ana.Until("ana is still live", `document.getElementById("status").textContent === "" && document.getElementById("message").textContent === ""`)

	bo.Reload()
	bo.Until("the page asks for a name", `!document.getElementById("form").hidden`)
	bo.Fill("[name=name]", "bo")
	bo.Click("#form button")
	lists(t, manager, "ana bo manager")

	if err := s.process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.end(t); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// The second server ends when the first one is killed: nothing is left running.
func TestKilled(t *testing.T) {
	s := start(t)
	if err := s.process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.end(t); err == nil {
		t.Error("the program ended without an error, although it was killed")
	}
}
