package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
	"golang.org/x/sys/unix"
)

const secret = "a secret that only this test knows, and long enough"

func newClient(t *testing.T, url, user string, scopes ...string) *client.Client {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Options{URL: url, Token: token(t, user, scopes...), HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func token(t *testing.T, user string, scopes ...string) string {
	t.Helper()
	issuer, err := auth.NewIssuer(auth.IssuerOptions{Secret: []byte(secret)})
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := issuer.Issue(user, scopes, 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// On a full disk nothing is accepted that is not stored, and it is said so at once; streams stay open. When
// there is room again, all goes on by itself. The disk is a small one of the test's own, in a mount
// namespace that ends with it.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getenv("HARK_E2E_NAMESPACE") == "" {
		inNamespace(t)
		return
	}
	disk := t.TempDir()
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", disk, "tmpfs", 0, "size=48m")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(disk, unix.MNT_DETACH) })
	addr := harkproc.FreeAddr(t)
	url := "http://" + addr
	p := harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", filepath.Join(disk, "data"), "--jwt-secret", secret, "--drain", "1s")
	defer p.Stop()
	harkproc.Ready(t, url)
	service, ana := newClient(t, url, "service", "notify"), newClient(t, url, "ana")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	heard := make(chan string, 100)
	go func() {
		for event, err := range ana.Stream(ctx, client.StreamOptions{}) {
			if err == nil && event.Type == "notification" {
				heard <- string(event.Data)
			}
		}
	}()
	notify := func(title string) error {
		_, err := service.Notify(ctx, "ana", jobs.Notification{Type: "test", Title: title,
			Data: fmt.Appendf(nil, "%q", strings.Repeat("x", 12<<10))})
		return err
	}
	// The stream may not be open yet, so notifications are sent until one arrives.
	told := 0
	polltest.Until(t, "the stream receives a notification", func() bool {
		if err := notify(fmt.Sprintf("before %d", told)); err != nil {
			t.Fatal(err)
		}
		told++
		return len(heard) > 0
	})

	fill := filepath.Join(disk, "fill")
	f, err := os.Create(fill)
	if err != nil {
		t.Fatal(err)
	}
	for chunk := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(chunk)
	}
	f.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	var problem *client.Problem
	polltest.Until(t, "a notification is refused on a full disk", func() bool {
		if err := notify("lost"); err != nil && !errors.As(err, &problem) {
			t.Fatalf("on a full disk: %v", err)
		}
		return problem != nil && problem.Code == "storage_unavailable"
	})
	if problem.Status != http.StatusServiceUnavailable {
		t.Errorf("on a full disk: %+v", problem)
	}
	for _, call := range []string{"POST cancel", "POST retry", "DELETE file"} {
		method, what, _ := strings.Cut(call, " ")
		isRefused(t, method, url+"/v1/jobs/01JD3QF4X5S7H8J9K0M1N2P3R4/"+what)
	}
	isRefused(t, "POST", url+"/v1/stream/ticket")
	res, err := http.Get(url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("readyz on a full disk: %s", res.Status)
	}

	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	harkproc.Ready(t, url)
	polltest.Nil(t, "a notification is stored after it", func() error { return notify("after") })
	polltest.Until(t, "the stream receives it", func() bool {
		for len(heard) > 0 {
			if strings.Contains(<-heard, `"title":"after"`) {
				return true
			}
		}
		return false
	})
}

// isRefused expects that a call of ana's is refused for want of room, before anything is looked up or tried.
func isRefused(t *testing.T, method, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token(t, "ana"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(body), `"storage_unavailable"`) {
		t.Errorf("%s %s: %s %s, %v", method, url, res.Status, body, err)
	}
}

// inNamespace runs the test again in a mount namespace of its own, which needs no root where user namespaces
// are allowed.
func inNamespace(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "5m")
	cmd.Env = append(os.Environ(), "HARK_E2E_NAMESPACE=1", harkproc.BinaryVariable+"="+harkproc.Binary(t))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
