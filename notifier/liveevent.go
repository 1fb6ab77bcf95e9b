package notifier

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"
	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/notifier/auth"
)

// maxTopics is the largest number of topics of one stream.
const maxTopics = 100

// topics returns the topics of live events that a request names, if the caller may listen to them.
func (n *Notifier) topics(c *gin.Context, id *auth.Identity) ([]string, error) {
	if c.Request.URL.RawQuery == "" { // few streams have one, and c.QueryArray allocates a map
		return nil, nil
	}
	names := c.QueryArray("topic")
	if len(names) > maxTopics {
		return nil, newProblem(http.StatusBadRequest, "too_many_topics", fmt.Sprintf("A stream listens to at most %d topics.", maxTopics)).in("topic")
	}
	for _, name := range names {
		if name == jobs.TopicUser || name == jobs.TopicAll {
			continue
		}
		if err := jobs.CheckTopic(name); err != nil {
			return nil, newProblem(http.StatusBadRequest, "topic_invalid", err.Error()+".").in("topic").of(name)
		}
		if !n.permitsTopic(name, id) {
			return nil, newProblem(http.StatusForbidden, "topic_forbidden",
				fmt.Sprintf("You may not listen to the topic %s; ask your administrator for access.", name)).in("topic").of(name)
		}
	}
	return names, nil
}

// permitsTopic reports whether the token or a rule lets a caller listen to a topic. Where anybody signs in under any name,
// all topics are open, unless there are rules.
func (n *Notifier) permitsTopic(topic string, id *auth.Identity) bool {
	if n.naming != nil && len(n.topicRules) == 0 {
		return true
	}
	return slices.ContainsFunc(id.Topics, func(pattern string) bool { return jobs.MatchTopic(pattern, topic, id.User) }) ||
		slices.ContainsFunc(n.topicRules, func(r jobs.TopicRule) bool { return r.Permits(topic, id.User, grant(id)) })
}

// eventRequest is the body of POST /v1/events.
type eventRequest struct {
	User     string          `json:"user"`
	Everyone bool            `json:"everyone"`
	Topic    string          `json:"topic"`
	Type     string          `json:"type"`
	Data     json.RawMessage `json:"data"`
}

// event returns the live event with its topic.
func (r *eventRequest) event() (jobs.LiveEvent, error) {
	e := jobs.LiveEvent{Topic: r.Topic, Type: r.Type, Data: r.Data}
	given := 0
	if r.Topic != "" {
		given++
		if err := jobs.CheckTopic(r.Topic); err != nil {
			return e, err
		}
	}
	if r.Everyone {
		given++
		e.Topic = jobs.TopicAll
	}
	if r.User != "" {
		given++
		if err := checkUser(r.User); err != nil {
			return e, err
		}
		e.Topic = jobs.UserTopic(r.User)
	}
	if given != 1 {
		return e, newProblem(http.StatusBadRequest, "audience_invalid", "Give one of a topic, a user, and everyone: true.").in("topic")
	}
	return e, e.Check()
}

// postEvent publishes a live event.
func (n *Notifier) postEvent(c *gin.Context) (answer, error) {
	if !identity(c).Has(auth.ScopeNotify) {
		return answer{}, newProblem(http.StatusForbidden, "scope_missing", "Your token needs the scope notify for this.")
	}
	var body eventRequest
	if err := decode(c, &body); err != nil {
		return answer{}, err
	}
	e, err := body.event()
	if err != nil {
		return answer{}, err
	}
	if err := n.store.PublishEvent(c.Request.Context(), e); err != nil {
		return answer{}, err
	}
	return answer{status: http.StatusNoContent}, nil
}
