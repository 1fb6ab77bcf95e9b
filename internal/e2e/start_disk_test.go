package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/internal/harkproc"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"golang.org/x/sys/unix"
)

// smallDisk mounts a disk of the test's own, and runs the test in a mount namespace that ends with it. It returns false in
// the process that has run it there.
func smallDisk(t *testing.T, options string) (dir string, here bool) {
	t.Helper()
	if os.Getenv("HARK_E2E_NAMESPACE") == "" {
		inNamespace(t)
		return "", false
	}
	dir = t.TempDir()
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("tmpfs", dir, "tmpfs", 0, options)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, true
}

// fillUp writes a file until the disk takes no more.
func fillUp(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 64<<10); len(chunk) > 0 && err == nil; {
		if _, err = f.Write(chunk); errors.Is(err, syscall.ENOSPC) {
			chunk, err = chunk[:len(chunk)/2], nil // to the last byte
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A hark that is started on a full disk serves the jobs, files and notifications that are there, says at once that it
// accepts nothing, and works by itself when there is room again.
func TestStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk, here := smallDisk(t, "size=48m")
	if !here {
		return
	}
	addr := harkproc.FreeAddr(t)
	url := "http://" + addr
	p := harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", filepath.Join(disk, "data"), "--jwt-secret", secret, "--drain", "1s", "--demo")
	defer p.Stop()
	harkproc.Ready(t, url)
	ana, service := newClient(t, url, "ana"), newClient(t, url, "service", "notify")
	enqueue := func(seconds string) (jobs.Job, error) {
		return ana.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":` + seconds + `}`)})
	}
	job, err := enqueue("0")
	if err == nil {
		_, err = service.Notify(t.Context(), "ana", jobs.Notification{Type: "test", Title: "there"})
	}
	if err != nil {
		t.Fatal(err)
	}
	awaitState(t, ana, job.ID, jobs.Succeeded)
	p.Stop()
	fill := filepath.Join(disk, "fill")
	fillUp(t, fill)
	p.Restart()

	awaitState(t, ana, job.ID, jobs.Succeeded)
	listed := 0
	for _, err := range ana.Jobs(t.Context(), client.JobsQuery{}) {
		if err != nil {
			t.Fatal(err)
		}
		listed++
	}
	if listed != 1 {
		t.Errorf("%d jobs are listed", listed)
	}
	page := awaitInbox(t, ana, 2)
	if len(page.Notifications) != 2 {
		t.Fatalf("the inbox is %+v", page)
	}
	fillUp(t, fill+".more") // what it has given up to get so far
	var problem *client.Problem
	polltest.Until(t, "a job is refused", func() bool {
		if _, err := enqueue("0"); err != nil && !errors.As(err, &problem) {
			t.Fatalf("enqueued: %v", err)
		}
		return problem != nil && problem.Code == "storage_unavailable"
	})
	untilHealth(t, url, `"queue":"no room on the disk"`)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	after, err := jobs.ParseNotificationID(page.Notifications[1].ID)
	if err != nil {
		t.Fatal(err)
	}
	for event, err := range ana.Stream(ctx, client.StreamOptions{LastEventID: after.Position().String()}) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == "notification" {
			if !strings.Contains(string(event.Data), page.Notifications[0].ID) {
				t.Errorf("after %s the stream replays %s", page.Notifications[1].ID, event.Data)
			}
			break
		}
	}

	if err := errors.Join(os.Remove(fill), os.Remove(fill+".more")); err != nil {
		t.Fatal(err)
	}
	harkproc.Ready(t, url)
	var again jobs.Job
	polltest.Nil(t, "a job is enqueued", func() (err error) { again, err = enqueue("0"); return err })
	awaitState(t, ana, again.ID, jobs.Succeeded)
}

// A hark that was started on a full disk before, and has given up its reserve, starts there again, killed or stopped: it
// serves jobs, and says that it accepts nothing.
func TestStartAgainOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk, here := smallDisk(t, "size=48m")
	if !here {
		return
	}
	addr, data := harkproc.FreeAddr(t), filepath.Join(disk, "data")
	url := "http://" + addr
	p := harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", data, "--jwt-secret", secret, "--drain", "1s", "--demo")
	defer p.Stop()
	harkproc.Ready(t, url)
	ana := newClient(t, url, "ana")
	job, err := ana.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":0}`)})
	if err != nil {
		t.Fatal(err)
	}
	awaitState(t, ana, job.ID, jobs.Succeeded)
	for _, stop := range []func(){p.Kill, func() { p.Stop() }, func() { p.Stop() }} {
		stop()
		if err := os.Remove(filepath.Join(data, "reserve")); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		fillUp(t, filepath.Join(disk, "fill"+time.Now().Format("150405.000")))
		p.Restart()
		untilHealth(t, url, `"queue":"no room on the disk"`)
		awaitState(t, ana, job.ID, jobs.Succeeded)
	}
	fills, err := os.ReadDir(disk)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fills {
		if strings.HasPrefix(f.Name(), "fill") {
			if err := os.Remove(filepath.Join(disk, f.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	harkproc.Ready(t, url)
}

// The first start on a full disk ends at once, with one sentence that says what to do.
func TestFirstStartOnAFullDisk(t *testing.T) {
	t.Parallel()
	disk, here := smallDisk(t, "size=1m")
	if !here {
		return
	}
	data := filepath.Join(disk, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	fillUp(t, filepath.Join(disk, "fill"))
	var out bytes.Buffer
	p := harkproc.Start(t, &out, "serve", "--listen", harkproc.FreeAddr(t), "--data", data, "--jwt-secret", secret)
	if code := p.Wait(); code != 1 || !strings.Contains(out.String(), "The disk of the data folder "+data+" is full, and hark cannot start without some room there.") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
}

// untilHealth waits until /readyz says something.
func untilHealth(t *testing.T, url, what string) {
	t.Helper()
	polltest.Nil(t, "readyz says "+what, func() error {
		res, err := http.Get(url + "/readyz")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && !strings.Contains(string(body), what) {
			err = fmt.Errorf("it says %s", body)
		}
		return err
	})
}

// A hark that is started on a data folder that it cannot write to serves the jobs, files and notifications that are there, from
// a copy, and says so; it changes nothing.
func TestReadOnlyDataFolder(t *testing.T) {
	t.Parallel()
	disk, here := smallDisk(t, "size=48m")
	if !here {
		return
	}
	temp := t.TempDir()
	if err := os.Setenv("TMPDIR", temp); err != nil { // this process runs this test alone
		t.Fatal(err)
	}
	addr, data := harkproc.FreeAddr(t), filepath.Join(disk, "data")
	url := "http://" + addr
	p := harkproc.Start(t, t.Output(), "serve", "--listen", addr, "--data", data, "--jwt-secret", secret, "--drain", "1s", "--demo")
	defer p.Stop()
	harkproc.Ready(t, url)
	ana := newClient(t, url, "ana")
	job, err := ana.Enqueue(t.Context(), client.Request{Kind: "export", Params: json.RawMessage(`{"dataset":"products"}`)})
	if err != nil {
		t.Fatal(err)
	}
	awaitState(t, ana, job.ID, jobs.Succeeded)
	awaitInbox(t, ana, 1) // the notification is stored after the state, and nothing can be stored later
	p.Kill()
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	p.Restart()
	untilHealth(t, url, `"data":"the data folder is read-only"`)

	page := awaitInbox(t, ana, 1)
	if len(page.Notifications) != 1 {
		t.Fatalf("the inbox is %+v", page)
	}
	got, err := ana.Job(t.Context(), job.ID)
	if err != nil || got.State != jobs.Succeeded {
		t.Errorf("the job is %+v, %v", got, err)
	}
	var file bytes.Buffer
	if _, err := ana.Download(t.Context(), job.ID, &file); err != nil || file.Len() == 0 {
		t.Errorf("the file has %d bytes, %v", file.Len(), err)
	}
	_, enqueued := ana.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":0}`)})
	_, read := ana.MarkRead(t.Context(), page.Notifications[0].ID)
	for what, err := range map[string]error{"enqueue": enqueued, "mark read": read} {
		var problem *client.Problem
		if !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || problem.Code != "data_read_only" {
			t.Errorf("%s: %v", what, err)
		}
	}
	p.Stop()
	if left, err := filepath.Glob(filepath.Join(temp, "hark-read-only-*")); err != nil || len(left) > 0 {
		t.Errorf("the copy is left behind: %v, %v", left, err)
	}

	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	p.Restart()
	harkproc.Ready(t, url)
	again, err := ana.Enqueue(t.Context(), client.Request{Kind: "sleep", Params: json.RawMessage(`{"seconds":0}`)})
	if err != nil {
		t.Fatal(err)
	}
	awaitState(t, ana, again.ID, jobs.Succeeded)
}

// A first start on a folder that cannot be written to ends at once, with one sentence.
func TestFirstStartOnAReadOnlyFolder(t *testing.T) {
	disk, here := smallDisk(t, "size=1m")
	if !here {
		return
	}
	data := filepath.Join(disk, "data")
	if err := errors.Join(os.Mkdir(data, 0o700), os.WriteFile(filepath.Join(data, "lock"), nil, 0o600),
		unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	p := harkproc.Start(t, &out, "serve", "--listen", harkproc.FreeAddr(t), "--data", data, "--jwt-secret", secret)
	if code := p.Wait(); code != 1 || !strings.Contains(out.String(), "The data folder "+data+" cannot be written to: read-only file system.") {
		t.Errorf("exit code %d: %s", code, out.String())
	}
}

// So does one on a folder in it that cannot be written to, as one that another user has made.
func TestReadOnlyFolderOfTheLog(t *testing.T) {
	t.Parallel()
	disk, here := smallDisk(t, "size=48m")
	if !here {
		return
	}
	addr, data := harkproc.FreeAddr(t), filepath.Join(disk, "data")
	for _, folder := range []string{filepath.Join(data, "nats"), filepath.Join(data, "nats", "jetstream")} {
		for _, sync := range []string{"interval", "always"} {
			if err := os.MkdirAll(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount("tmpfs", folder, "tmpfs", unix.MS_RDONLY, "size=1m"); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			began := time.Now()
			p := harkproc.Start(t, &out, "serve", "--listen", addr, "--data", data, "--jwt-secret", secret, "--sync", sync)
			if code := p.Wait(); code != 1 || !strings.Contains(out.String(), "hark: The folder "+folder+" cannot be written to: read-only file system.") {
				t.Errorf("exit code %d: %s", code, out.String())
			}
			if took := time.Since(began); took > 40*time.Second { // hark waits a minute for a server that takes long to start
				t.Errorf("that took %v", took)
			}
			if err := unix.Unmount(folder, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
}
