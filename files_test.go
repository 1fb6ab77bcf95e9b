package hark_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/hark-jobs/hark"
	"github.com/hark-jobs/hark/files"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/internal/polltest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
)

type sizeParams struct {
	Bytes int `json:"bytes"`
}

var sized = jobs.Define[sizeParams](jobs.Kind{Name: "sized", Title: "File"})

// sizedHandler writes a file of as many bytes as the job says.
var sizedHandler = worker.Handle(sized, func(ctx context.Context, job *worker.Job, p sizeParams) (jobs.Result, error) {
	return jobs.Result{}, job.WriteFile(ctx, "x.txt", "text/plain", func(w io.Writer) error {
		_, err := io.Copy(w, strings.NewReader(strings.Repeat("x", p.Bytes-1)+"y"))
		return err
	})
})

// With a folder for files, a notifier and a worker in processes of their own store nothing of them in JetStream, and files
// are downloaded in parts, limited for each user, deleted, and expire.
func TestFilesInAFolder(t *testing.T) {
	dir, nc := t.TempDir(), natstest.Connect(t)
	options := func() hark.Options {
		folder, err := files.OpenFolder(dir, files.FolderOptions{UserSpace: 300_000})
		if err != nil {
			t.Fatal(err)
		}
		return hark.Options{
			NATS: nc, Files: folder, Settings: hark.Settings{FileAge: time.Hour}, Drain: time.Second,
			Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		}
	}
	old := filepath.Join(dir, "old")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-26*time.Hour)); err != nil {
		t.Fatal(err)
	}
	n := options()
	n.Only, n.Auth, n.Listen, n.Database.Value = hark.Notifier, byHeader{}, "127.0.0.1:0", filepath.Join(t.TempDir(), "inbox.db")
	srv, _ := start(t, n)
	w := options()
	w.Only, w.Handlers = hark.Worker, []worker.Handler{sizedHandler}
	start(t, w)

	do := func(bytes int) jobs.Job {
		t.Helper()
		job, err := queue.Enqueue(natstest.Context(t), srv.Queue(), sized, "ana", sizeParams{Bytes: bytes})
		if err == nil {
			job, err = srv.Queue().Wait(natstest.Context(t), job, time.Minute)
		}
		if err != nil {
			t.Fatal(err)
		}
		return job
	}
	call := func(method, path, byteRange string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, srv.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-User", "ana")
		req.Close = true
		if byteRange != "" {
			req.Header.Set("Range", byteRange)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	job := do(200_000)
	if job.State != jobs.Succeeded || job.File == nil || job.File.Size != 200_000 {
		t.Fatalf("got %s, %+v; want a file of 200,000 bytes", job.State, job.File)
	}
	path := "/v1/jobs/" + job.ID + "/file"
	if code, body := call("GET", path, ""); code != 200 || len(body) != 200_000 {
		t.Errorf("got %d, %d bytes; want all", code, len(body))
	}
	if code, body := call("GET", path, "bytes=199998-"); code != 206 || body != "xy" {
		t.Errorf("got %d, %q; want the last two bytes", code, body)
	}
	if full := do(200_000); full.State != jobs.Failed || full.Error == nil || full.Error.Code != "user_files_full" {
		t.Errorf("got %s, %+v; want failed, since both files do not fit", full.State, full.Error)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := js.ObjectStore(natstest.Context(t), "hark_files")
	if err != nil {
		t.Fatal(err)
	}
	if status, err := bucket.Status(natstest.Context(t)); err != nil || status.Size() != 0 {
		t.Errorf("the bucket has %d bytes, %v; want none", status.Size(), err)
	}
	if code, _ := call("DELETE", path, ""); code != 200 {
		t.Errorf("deleting the file: got %d, want 200", code)
	}
	if code, body := call("GET", path, ""); code != 410 {
		t.Errorf("got %d, %s; want 410 for a file that was deleted", code, body)
	}
	polltest.Nil(t, "what expired and what was deleted is gone", func() error {
		if len(inFolder(t, dir)) > 0 {
			return fmt.Errorf("the folder has %q", inFolder(t, dir))
		}
		return nil
	})
}

func inFolder(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			list = append(list, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
