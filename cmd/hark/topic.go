package main

import (
	"fmt"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// topicRule is the value of --topic: a pattern, and after spaces what a user needs besides being signed in, all of it, and the words
// listeners and announce.
type topicRule jobs.TopicRule

// UnmarshalText implements [encoding.TextUnmarshaler].
func (r *topicRule) UnmarshalText(text []byte) error {
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return fmt.Errorf("%.40q has no topic", text)
	}
	*r = topicRule{Topic: fields[0]}
	var need jobs.Rule
	restricted := false
	for _, field := range fields[1:] {
		switch field {
		case "listeners":
			r.Listeners = true
			continue
		case "announce":
			r.Announce = true
			continue
		}
		restricted = true
		if scope, ok := strings.CutPrefix(field, "scope:"); ok && need.Scope == "" {
			need.Scope = scope
			continue
		}
		claim, ok := strings.CutPrefix(field, "claim:")
		name, values, hasValues := strings.Cut(claim, "=")
		if !ok || !hasValues {
			return fmt.Errorf("%.40q is none of scope:NAME, once, claim:NAME=VALUE,VALUE, listeners and announce", field)
		}
		if need.Claims == nil {
			need.Claims = make(map[string][]string)
		}
		need.Claims[name] = append(need.Claims[name], strings.Split(values, ",")...)
	}
	if restricted {
		r.Allow = []jobs.Rule{need}
	}
	return (*jobs.TopicRule)(r).Check()
}
