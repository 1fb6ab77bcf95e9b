package notifier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// grant returns the scopes and claims of the caller's token.
func grant(id *auth.Identity) jobs.Grant { return jobs.Grant{Scopes: id.Scope, Claims: id.Claims} }

// enqueue enqueues the job of the body: for the caller, or for the user that a service names. A service does not have
// the claims of that user, so it cannot enqueue kinds that need claims.
func (n *Notifier) enqueue(ctx context.Context, c *gin.Context, body *jobRequest) (jobs.Job, error) {
	owner, service, g := user(c), "", grant(identity(c))
	if body.User != "" && body.User != owner {
		if !identity(c).Has(auth.ScopeEnqueue) {
			return jobs.Job{}, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope enqueue to enqueue jobs for others.").in("user")
		}
		if err := checkUser(body.User); err != nil {
			return jobs.Job{}, err
		}
		owner, service, g.Claims = body.User, owner, nil
	}
	request := jobs.Request{
		User: owner, EnqueuedBy: service, Kind: body.Kind, Title: body.Title, Params: body.Params, Claims: g.Claims, Metadata: body.Metadata,
		MaxAttempts: body.MaxAttempts, IdempotencyKey: c.GetHeader("Idempotency-Key"),
	}
	if err := request.Check(); err != nil {
		return jobs.Job{}, err
	}
	kind, err := n.store.Kind(ctx, body.Kind)
	if err != nil {
		return jobs.Job{}, err
	}
	if err := kind.Permit(g, body.Params); err != nil {
		return jobs.Job{}, err
	}
	// Check the params against the kind as the caller sees it, so that an error sentence lists no hidden options.
	if seen, ok := kind.For(g); ok {
		if _, err := seen.Check(body.Params); err != nil {
			return jobs.Job{}, err
		}
	}
	if err := n.checkBacklog(ctx, owner, kind, request.IdempotencyKey); err != nil {
		return jobs.Job{}, err
	}
	job, created, err := n.store.Enqueue(ctx, request)
	if err == nil && !created && request.EnqueuedBy != "" && job.EnqueuedBy != request.EnqueuedBy {
		// The key is the user's or that of another service. The caller may not see the job.
		return jobs.Job{}, jobs.ErrKeyReused
	}
	if err == nil && identity(c).Service() {
		n.owners.add(job.ID, job.User)
	}
	return job, err
}

// checkBacklog returns a problem if the user's waiting jobs of the kind have reached their limit. A request that repeats
// an idempotency key passes, since it adds no job.
func (n *Notifier) checkBacklog(ctx context.Context, owner string, kind *jobs.Kind, key string) error {
	if kind.MaxWaiting <= 0 {
		return nil
	}
	waiting, err := n.backlogs.Count(ctx, owner, kind.Name, kind.MaxWaiting)
	if err != nil || waiting < kind.MaxWaiting {
		return err
	}
	if key != "" {
		if _, err := n.store.Find(ctx, owner, key); !errors.Is(err, jobs.ErrNotFound) {
			return err
		}
	}
	return newProblem(http.StatusTooManyRequests, "too_many_waiting", fmt.Sprintf(
		"%d jobs of the kind %s are waiting for this user, which is the limit; wait until some have run, or cancel some.", waiting, kind.Name)).retry(5)
}

// retry returns the function that retries a job for the caller. An admin retries it with the claims that the job has.
// Other callers retry it with the claims of their token, if the kind still allows it.
func (n *Notifier) retry(c *gin.Context) func(ctx context.Context, user, id string) (jobs.Job, error) {
	id := identity(c)
	if id.Has(auth.ScopeAdmin) {
		return func(ctx context.Context, user, job string) (jobs.Job, error) {
			return n.store.Retry(ctx, user, job, nil)
		}
	}
	return func(ctx context.Context, user, job string) (jobs.Job, error) {
		s, err := n.store.ReadLeader(ctx, user, "*", job)
		if err != nil {
			return jobs.Job{}, err
		}
		if s.Spec == nil {
			return jobs.Job{}, jobs.ErrNotFound
		}
		kind, err := n.store.Kind(ctx, s.Spec.Kind)
		if err == nil {
			err = kind.Permit(grant(id), s.Spec.Params)
		}
		if err == nil {
			err = n.checkBacklog(ctx, user, kind, "")
		}
		if err != nil {
			return jobs.Job{}, err
		}
		claims := id.Claims
		if claims == nil {
			claims = map[string]any{}
		}
		return n.store.Retry(ctx, user, job, claims)
	}
}

// permittedFileJob returns the job whose file the path names, if the caller may download it now: with a link to the
// file, as an admin, or as the job's user if the kind still permits its params.
func (n *Notifier) permittedFileJob(c *gin.Context) (jobs.Job, error) {
	ctx, id := c.Request.Context(), param(c, "id")
	if link := c.Query("link"); link != "" {
		owner, run, err := n.links.Verify(link, id)
		if err != nil {
			return jobs.Job{}, err
		}
		s, err := n.finished(ctx, owner, id, run)
		if err != nil {
			return jobs.Job{}, err
		}
		if s.Job.Run != run {
			return jobs.Job{}, jobs.ErrFileGone
		}
		return s.Job, nil
	}
	owner, err := n.owner(c, toOwn)
	if err != nil {
		return jobs.Job{}, err
	}
	s, err := n.finished(ctx, owner, id, 0)
	if err != nil || identity(c).Has(auth.ScopeAdmin) || s.File == nil {
		if s == nil {
			return jobs.Job{}, err
		}
		return s.Job, err
	}
	if s.Spec == nil { // without the params, permission cannot be checked
		return jobs.Job{}, jobs.ErrFileGone
	}
	kind, err := n.store.Kind(ctx, s.Spec.Kind)
	if err == nil {
		err = kind.Permit(grant(identity(c)), s.Spec.Params)
	}
	return s.Job, err
}

// finished returns a job. If the job has no file, or an earlier run, finished asks the leader of the stream: a replica
// that lags behind may not have the end of the job yet.
func (n *Notifier) finished(ctx context.Context, owner, id string, run int) (*joblog.Snapshot, error) {
	s, err := n.store.Read(ctx, owner, id)
	if err == nil && (s.File == nil || s.Job.Run < run) {
		s, err = n.store.ReadLeader(ctx, owner, "*", id)
	}
	return s, err
}

// postLink responds with a link to a job's file, which a browser can follow without a token. The link is relative to the
// root of hark, since a proxy may serve hark below a path.
func (n *Notifier) postLink(c *gin.Context) (answer, error) {
	job, err := n.fileJob(c)
	if err == nil {
		// Check that the file exists: a browser that follows a dead link shows the JSON of a problem.
		var file io.Closer
		if file, err = n.store.OpenFile(c.Request.Context(), &job); err == nil {
			file.Close()
		}
	}
	if err != nil {
		return answer{}, err
	}
	link, expiresAt := n.links.Sign(job.User, job.ID, job.Run)
	c.Header("Cache-Control", "no-store")
	return answer{http.StatusCreated, gin.H{"url": "v1/jobs/" + job.ID + "/file?link=" + link, "expires_at": expiresAt}}, nil
}

// forbidden returns the problem of a caller who may not use a kind, or an option of it.
func forbidden(e *jobs.ForbiddenError) *problem {
	if e.Claim != "" {
		return newProblem(http.StatusForbidden, "claim_missing", fmt.Sprintf("%s needs the claim %s, which your token does not have; ask your administrator for it.", e.What, e.Claim))
	}
	return newProblem(http.StatusForbidden, "kind_forbidden", fmt.Sprintf("Your token does not allow %s; ask your administrator for access.", e.What))
}
