package notifier_test

import (
	"strings"
	"testing"

	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
)

// The files of a user have reached their limit. A job whose file does not fit fails, with a sentence that says to delete
// another file. After that deletion the other job still exists. Other users cannot delete the file.
func TestUserFilesFull(t *testing.T) {
	s := start(t, harktest.Handlers(leave))
	if _, err := joblog.Setup(natstest.Context(t), s.Queue.Store().Conn(), joblog.Location{}, joblog.Settings{UserFileSpace: 256 << 10}, false); err != nil {
		t.Fatal(err)
	}
	body := `{"kind":"leave","params":{"name":"a.txt","text":"` + strings.Repeat("a", 150<<10) + `"}}`
	first := s.finish("ana", body)
	if first.State != jobs.Succeeded {
		t.Fatalf("%+v %+v", first, first.Error)
	}
	full := s.finish("ana", body)
	if full.State != jobs.Failed || full.Attempt != 1 || full.Error.Code != "user_files_full" || full.File != nil ||
		!strings.Contains(full.Error.Message, "256 KiB") || !strings.Contains(full.Error.Message, "delete some") {
		t.Fatalf("%+v %+v", full, full.Error)
	}
	if other := s.finish("bob", body); other.State != jobs.Succeeded {
		t.Errorf("of another user: %+v %+v", other, other.Error)
	}

	remove := func(job jobs.Job, as ...string) answer {
		t.Helper()
		return s.call("DELETE", "/v1/jobs/"+job.ID+"/file", "", as...)
	}
	remove(first).problem(401, "token_missing")
	remove(first, s.as("bob")...).problem(404, "job_not_found")
	remove(full, s.as("ana")...).problem(404, "file_missing")
	s.call("GET", filePath(first), "", s.as("ana")...).want(200)
	for range 2 {
		if job := remove(first, s.as("ana")...).want(200).job(); job.State != jobs.Succeeded || job.File == nil || job.Revision <= first.Revision {
			t.Errorf("%+v", job)
		}
	}
	s.call("GET", filePath(first), "", s.as("ana")...).problem(410, "file_gone")
	s.call("POST", "/v1/jobs/"+full.ID+"/retry", "", s.as("ana")...).want(200)
	again := s.inState("ana", full.ID, jobs.Succeeded)
	s.call("GET", filePath(again), "", s.as("ana")...).want(200)
	remove(again, s.as("root", "admin")...).want(200)
	s.call("GET", filePath(again), "", s.as("ana")...).problem(410, "file_gone")
}
