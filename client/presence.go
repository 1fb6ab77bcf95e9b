package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/hark-jobs/hark/jobs"
)

// Presence returns who listens to a topic at this moment, at all notifiers. It is for users who may listen to the topic, and for
// services with the scope notify. It blocks for a round trip, and for a second more if a notifier does not answer.
//
// Errors: a [*Problem], such as topic_forbidden.
func (c *Client) Presence(ctx context.Context, topic string) (jobs.Presence, error) {
	var p jobs.Presence
	err := c.call(ctx, call{method: http.MethodGet, path: "/v1/topics/" + url.PathEscape(topic)}, &p)
	return p, err
}
