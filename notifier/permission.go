package notifier

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// grant is what the caller's token shows.
func grant(id *auth.Identity) jobs.Grant { return jobs.Grant{Scopes: id.Scope, Claims: id.Claims} }

// enqueue enqueues what the body asks for: for the caller, or if the caller is a service, for the user that it names. A
// service has no claims of that user, so it cannot enqueue what needs some.
func (n *Notifier) enqueue(ctx context.Context, c *gin.Context, body *jobRequest) (jobs.Job, error) {
	owner, g := user(c), grant(identity(c))
	if body.User != "" && body.User != owner {
		if !identity(c).Has(auth.ScopeEnqueue) {
			return jobs.Job{}, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope enqueue to enqueue jobs for others.").in("user")
		}
		if err := checkUser(body.User); err != nil {
			return jobs.Job{}, err
		}
		owner, g.Claims = body.User, nil
	}
	request := jobs.Request{
		User: owner, Kind: body.Kind, Title: body.Title, Params: body.Params, Claims: g.Claims,
		MaxAttempts: body.MaxAttempts, IdempotencyKey: c.GetHeader("Idempotency-Key"),
	}
	if err := request.Check(); err != nil {
		return jobs.Job{}, err
	}
	kind, err := n.queue.Kind(ctx, body.Kind)
	if err != nil {
		return jobs.Job{}, err
	}
	if err := kind.Permit(g, body.Params); err != nil {
		return jobs.Job{}, err
	}
	// What is wrong with the params is said by the kind as the caller sees it: the other names no options that they may not
	// know of.
	if seen, ok := kind.For(g); ok {
		if _, err := seen.Check(body.Params); err != nil {
			return jobs.Job{}, err
		}
	}
	if err := n.room(ctx, owner, kind, request.IdempotencyKey); err != nil {
		return jobs.Job{}, err
	}
	job, _, err := n.queue.Enqueue(ctx, request)
	return job, err
}

// room returns a problem if the user has as many jobs of the kind waiting as they may. A request that is made again under
// its key adds none.
func (n *Notifier) room(ctx context.Context, owner string, kind *jobs.Kind, key string) error {
	if kind.MaxWaiting <= 0 {
		return nil
	}
	waiting, err := n.backlogs.Count(ctx, owner, kind.Name)
	if err != nil || waiting < kind.MaxWaiting {
		return err
	}
	if key != "" {
		if _, err := n.queue.Find(ctx, owner, key); !errors.Is(err, jobs.ErrNotFound) {
			return err
		}
	}
	return newProblem(http.StatusTooManyRequests, "too_many_waiting", fmt.Sprintf(
		"There are %d jobs of the kind %s waiting for this user, and no more may; wait until some have run, or cancel some.", waiting, kind.Name)).retry(5)
}

// retry returns how the caller retries a job: an admin as its user, with the claims that it has, and everybody else with
// the claims of their own token, if the kind still allows it.
func (n *Notifier) retry(c *gin.Context) func(ctx context.Context, user, id string) (jobs.Job, error) {
	id := identity(c)
	if id.Has(auth.ScopeAdmin) {
		return func(ctx context.Context, user, job string) (jobs.Job, error) {
			return n.queue.Retry(ctx, user, job, nil)
		}
	}
	return func(ctx context.Context, user, job string) (jobs.Job, error) {
		s, err := n.queue.Read(ctx, user, job)
		if err != nil {
			return jobs.Job{}, err
		}
		if s.Order == nil {
			return jobs.Job{}, jobs.ErrNotFound
		}
		kind, err := n.queue.Kind(ctx, s.Order.Kind)
		if err == nil {
			err = kind.Permit(grant(id), s.Order.Params)
		}
		if err == nil {
			err = n.room(ctx, user, kind, "")
		}
		if err != nil {
			return jobs.Job{}, err
		}
		claims := id.Claims
		if claims == nil {
			claims = map[string]any{}
		}
		return n.queue.Retry(ctx, user, job, claims)
	}
}

// readable returns the job whose file the path names, if the caller may download it now: with a link to it, as an admin,
// or as its user for as long as the kind and what was chosen of it still allow that.
func (n *Notifier) readable(c *gin.Context) (jobs.Job, error) {
	ctx, id := c.Request.Context(), c.Param("id")
	if link := c.Query("link"); link != "" {
		owner, run, err := n.links.Verify(link, id)
		if err != nil {
			return jobs.Job{}, err
		}
		job, err := n.queue.Get(ctx, owner, id)
		if err == nil && job.Run != run {
			err = jobs.ErrFileGone
		}
		return job, err
	}
	owner, err := n.owner(c)
	if err != nil {
		return jobs.Job{}, err
	}
	s, err := n.queue.Read(ctx, owner, id)
	if err != nil || identity(c).Has(auth.ScopeAdmin) || s.File == nil {
		if s == nil {
			return jobs.Job{}, err
		}
		return s.Job, err
	}
	if s.Order == nil { // what was chosen is not known any more
		return jobs.Job{}, jobs.ErrFileGone
	}
	kind, err := n.queue.Kind(ctx, s.Order.Kind)
	if err == nil {
		err = kind.Permit(grant(identity(c)), s.Order.Params)
	}
	return s.Job, err
}

// postLink answers with a link to a job's file, which a browser can follow without a token.
func (n *Notifier) postLink(c *gin.Context) {
	job, err := n.readable(c)
	if err == nil && job.File == nil {
		err = errNoFile
	}
	if err != nil {
		n.fail(c, err)
		return
	}
	link, expiresAt := n.links.Sign(job.User, job.ID, job.Run)
	c.Header("Cache-Control", "no-store")
	c.JSON(http.StatusCreated, gin.H{"url": job.Public().File.URL + "?link=" + link, "expires_at": expiresAt})
}

// forbidden is the problem of a caller who may not use a kind, or something of it.
func forbidden(e *jobs.ForbiddenError) *problem {
	if e.Claim != "" {
		return newProblem(http.StatusForbidden, "claim_missing", fmt.Sprintf("%s needs the claim %s, which your token does not have; ask your administrator for it.", e.What, e.Claim))
	}
	return newProblem(http.StatusForbidden, "kind_forbidden", fmt.Sprintf("Your token does not allow %s; ask your administrator for access.", e.What))
}
