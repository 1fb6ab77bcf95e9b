package notifier_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/hark-jobs/hark/client"
	"github.com/hark-jobs/hark/harktest"
	"github.com/hark-jobs/hark/internal/natstest"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/queue"
	"github.com/hark-jobs/hark/worker"
	"github.com/nats-io/nats.go/jetstream"
)

// paper is a kind whose jobs leave a file.
var paper = jobs.Define[none](jobs.Kind{Name: "paper"})

func writePaper(ctx context.Context, job *worker.Job, _ none) (jobs.Result, error) {
	return jobs.Result{Value: "written"}, job.WriteFile(ctx, "paper.txt", "text/plain", func(w io.Writer) error {
		_, err := io.WriteString(w, "of "+job.User)
		return err
	})
}

// A service reads and cancels the jobs that it enqueued for a user. It does nothing else with them, and finds no other job
// of that user. Another service, and a token of the same service without the scope, find none of them.
func TestServiceFollowsWhatItEnqueued(t *testing.T) {
	s := start(t, harktest.Secret(siteSecret), harktest.Handlers(worker.Handle(paper, writePaper)))
	shop, ana := s.as("shop", "enqueue"), s.as("ana")
	body := `{"kind":"paper","user":"ana"}`
	job := s.call("POST", "/v1/jobs", body, append(shop, "Prefer", "wait=60")...).want(200).job()
	path := "/v1/jobs/" + job.ID
	if job.User != "ana" || job.EnqueuedBy != "shop" || job.File == nil {
		t.Fatalf("the job is %+v, want one of ana, enqueued by shop, with a file", job)
	}
	for who, header := range map[string][]string{"the service": shop, "the user": ana, "an admin": s.as("boss", "admin")} {
		if seen := s.call("GET", path, "", header...).want(200).job(); seen.EnqueuedBy != "shop" || string(seen.Result) != `"written"` {
			t.Errorf("%s reads %+v", who, seen)
		}
	}

	s.call("GET", filePath(job), "", shop...).problem(403, "scope_missing")
	s.call("POST", filePath(job)+"/link", "", shop...).problem(403, "scope_missing")
	s.call("DELETE", filePath(job), "", shop...).problem(403, "scope_missing")
	s.call("POST", path+"/retry", "", shop...).problem(403, "scope_missing")
	s.call("GET", "/v1/jobs?user=ana", "", shop...).problem(403, "scope_missing")
	s.call("POST", path+"/cancel", "", shop...).problem(409, "job_ended")
	s.call("GET", filePath(job), "", ana...).want(200)

	own := s.finish("ana", `{"kind":"paper"}`)
	if own.EnqueuedBy != "" {
		t.Errorf("ana's own job is enqueued by %q", own.EnqueuedBy)
	}
	s.reachesNothing(own, "shop", "enqueue")
	s.reachesNothing(job, "bank", "enqueue", "notify")
	s.reachesNothing(job, "shop", "notify")
	s.reachesNothing(job, "shop")
	s.call("POST", "/v1/jobs", `{"kind":"paper","enqueued_by":"bank"}`, ana...).problem(400, "field_unknown")
	s.call("POST", "/v1/jobs", `{"kind":"paper","user":"ana","enqueued_by":"bank"}`, shop...).problem(400, "field_unknown")

	// The state has the service, too: it may be there for longer than the job request.
	log, err := s.Queue.Store().JetStream().Stream(t.Context(), defaultNS.LogStream())
	if err == nil {
		err = log.Purge(natstest.Context(t), jetstream.WithPurgeSubject(defaultNS.SpecSubject("ana", "paper", job.ID)))
	}
	if err != nil {
		t.Fatal(err)
	}
	s.call("GET", path, "", shop...).want(200)
	s.reachesNothing(job, "bank", "enqueue")
}

// reachesNothing checks that a user with these scopes cannot distinguish a job from one that does not exist.
func (s *site) reachesNothing(job jobs.Job, user string, scopes ...string) {
	s.t.Helper()
	header := s.as(user, scopes...)
	for _, id := range []string{job.ID, "01ARZ3NDEKTSV4RRFFQ69G5FAV"} {
		path := "/v1/jobs/" + id
		for _, call := range [][2]string{{"GET", ""}, {"POST", "/cancel"}, {"POST", "/retry"}, {"GET", "/file"}, {"DELETE", "/file"}, {"POST", "/file/link"}} {
			s.call(call[0], path+call[1], "", header...).problem(404, "job_not_found")
		}
	}
}

// A service cancels a job that it enqueued.
func TestServiceCancels(t *testing.T) {
	s := start(t)
	shop := s.as("shop", "enqueue")
	job := s.call("POST", "/v1/jobs", `{"kind":"sleep","user":"ana","params":{"seconds":600}}`, shop...).want(202).job()
	s.call("POST", "/v1/jobs/"+job.ID+"/cancel", "", s.as("bank", "enqueue")...).problem(404, "job_not_found")
	s.call("POST", "/v1/jobs/"+job.ID+"/cancel", "", shop...).want(200)
	s.inState("ana", job.ID, jobs.Cancelled)
	// What its user retries is still the job that the service enqueued.
	s.call("POST", "/v1/jobs/"+job.ID+"/retry", "", s.as("ana")...).want(200)
	if again := s.call("GET", "/v1/jobs/"+job.ID, "", shop...).want(200).job(); again.Run != 2 || again.EnqueuedBy != "shop" {
		t.Errorf("after a retry the service reads %+v", again)
	}
}

// With an idempotency key a service gets only a job that it enqueued itself.
func TestServiceKeys(t *testing.T) {
	s := start(t)
	post := func(key, body string, header []string) answer {
		t.Helper()
		return s.call("POST", "/v1/jobs", body, append(header, "Idempotency-Key", key)...)
	}
	shop, bank, forAna := s.as("shop", "enqueue"), s.as("bank", "enqueue"), `{"kind":"sleep","user":"ana","params":{"seconds":600}}`
	job := post("1", forAna, shop).want(202).job()
	if again := post("1", forAna, shop).want(202).job(); again.ID != job.ID {
		t.Errorf("the same request gives %s, want %s", again.ID, job.ID)
	}
	post("1", forAna, bank).problem(409, "key_reused")
	own := `{"kind":"sleep","params":{"seconds":600}}`
	if hers := post("1", own, s.as("ana")).want(202).job(); hers.ID != job.ID {
		t.Errorf("ana's own request gives %s, want %s", hers.ID, job.ID)
	}
	post("2", own, s.as("ana")).want(202)
	post("2", forAna, shop).problem(409, "key_reused")
}

// The Go client of a service follows what the service enqueued for a user, over HTTP or over NATS.
func TestServiceClient(t *testing.T) {
	s := start(t, harktest.Handlers(worker.Handle(paper, writePaper)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	shop, bank := s.Client("shop", "enqueue"), s.Client("bank", "enqueue")
	overHTTP, err := client.Enqueue(ctx, shop, paper, none{}, client.User("ana"))
	if err != nil {
		t.Fatal(err)
	}
	overNATS, err := queue.Enqueue(ctx, s.Queue, paper, "ana", none{}, queue.EnqueuedBy("shop"))
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range []jobs.Job{overHTTP, overNATS} {
		done, err := shop.Follow(ctx, job, client.FollowOptions{})
		if err != nil || done.State != jobs.Succeeded || done.EnqueuedBy != "shop" {
			t.Errorf("Follow returns %+v, %v", done, err)
		}
		if _, err := bank.Job(ctx, job.ID); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("another service gets %v, want ErrNotFound", err)
		}
		if _, err := shop.Cancel(ctx, job.ID); !errors.Is(err, jobs.ErrEnded) {
			t.Errorf("Cancel returns %v, want ErrEnded", err)
		}
	}
	for _, name := range []string{jobs.Everyone, "\xff"} {
		_, err := queue.Enqueue(ctx, s.Queue, paper, "ana", none{}, queue.EnqueuedBy(name))
		var invalid *jobs.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != "enqueued_by" {
			t.Errorf("enqueued by %q: %v, want an InvalidError for enqueued_by", name, err)
		}
	}
}
