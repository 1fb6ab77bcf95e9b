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
		if err := checkTopic(name); err != nil {
			return nil, err
		}
		if !n.permitsTopic(name, id) {
			return nil, topicForbidden(name)
		}
	}
	return names, nil
}

// checkTopic returns a problem unless name is a topic as a reader names it.
func checkTopic(name string) error {
	if name == jobs.TopicUser || name == jobs.TopicAll {
		return nil
	}
	if err := jobs.CheckTopic(name); err != nil {
		return newProblem(http.StatusBadRequest, "topic_invalid", err.Error()+".").in("topic").of(name)
	}
	return nil
}

func topicForbidden(name string) *problem {
	return newProblem(http.StatusForbidden, "topic_forbidden",
		fmt.Sprintf("You may not listen to the topic %s; ask your administrator for access.", name)).in("topic").of(name)
}

// permitsTopic reports whether the token or a rule lets a caller listen to a topic. Where anybody signs in under any name,
// all topics are open, unless there are rules.
func (n *Notifier) permitsTopic(topic string, id *auth.Identity) bool {
	if topic == jobs.TopicUser || topic == jobs.TopicAll || n.allTopicsOpen() {
		return true
	}
	return slices.ContainsFunc(id.Topics, func(pattern string) bool { return jobs.MatchTopic(pattern, topic, id.User) }) ||
		slices.ContainsFunc(n.topicRules, func(r jobs.TopicRule) bool { return r.Permits(topic, id.User, grant(id)) })
}

func (n *Notifier) allTopicsOpen() bool { return n.naming != nil && len(n.topicRules) == 0 }

// showsListeners reports whether a caller who may listen to a topic may see who listens.
func (n *Notifier) showsListeners(topic string, id *auth.Identity) bool {
	if id.Has(auth.ScopeAdmin) || topic == jobs.TopicUser || n.allTopicsOpen() {
		return true
	}
	return slices.ContainsFunc(n.topicRules, func(r jobs.TopicRule) bool {
		return r.Announces(topic) || r.Listeners && r.Permits(topic, id.User, grant(id))
	})
}

// getTopic responds with how many streams and users listen to a topic, and who.
func (n *Notifier) getTopic(c *gin.Context) (answer, error) {
	topic, id := param(c, "topic"), identity(c)
	if err := checkTopic(topic); err != nil {
		return answer{}, err
	}
	if !n.permitsTopic(topic, id) && !id.Has(auth.ScopeNotify) && !id.Has(auth.ScopeAdmin) {
		return answer{}, topicForbidden(topic)
	}
	p, err := n.hub.Presence(c.Request.Context(), topic, id.User)
	if err != nil {
		return answer{}, err
	}
	p.Listeners = p.Listeners[:min(len(p.Listeners), jobs.MaxListeners)]
	if !n.showsListeners(topic, id) {
		p.Listeners = nil
	}
	c.Header("Cache-Control", "no-store")
	return answer{http.StatusOK, p}, nil
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
