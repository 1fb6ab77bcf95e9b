package hark_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// asyncAPI is the part of docs/asyncapi.json that the tests read. Decoding is strict, so the document has no other fields than
// these, each of which AsyncAPI 3.0 knows.
type asyncAPI struct {
	AsyncAPI string `json:"asyncapi"`
	Info     struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
		License     struct {
			Name string `json:"name"`
			URL  string `json:"url"`
		} `json:"license"`
	} `json:"info"`
	DefaultContentType string `json:"defaultContentType"`
	Servers            map[string]struct {
		Host        string `json:"host"`
		Protocol    string `json:"protocol"`
		Description string `json:"description"`
	} `json:"servers"`
	Channels   map[string]asyncChannel   `json:"channels"`
	Operations map[string]asyncOperation `json:"operations"`
	Components struct {
		Messages   map[string]asyncMessage   `json:"messages"`
		Parameters map[string]asyncParameter `json:"parameters"`
		Schemas    map[string]schema         `json:"schemas"`
	} `json:"components"`
}

type asyncRef struct {
	Ref string `json:"$ref"`
}

type asyncChannel struct {
	Address     *string             `json:"address"` // nil for the reply subject of a request
	Title       string              `json:"title"`
	Description string              `json:"description"`
	Messages    map[string]asyncRef `json:"messages"`
	Parameters  map[string]asyncRef `json:"parameters"`
}

type asyncOperation struct {
	Action   string     `json:"action"`
	Channel  asyncRef   `json:"channel"`
	Summary  string     `json:"summary"`
	Messages []asyncRef `json:"messages"`
	Reply    *struct {
		Channel  asyncRef   `json:"channel"`
		Messages []asyncRef `json:"messages"`
	} `json:"reply"`
}

type asyncMessage struct {
	Name        string  `json:"name"`
	Title       string  `json:"title"`
	ContentType string  `json:"contentType"`
	Headers     *schema `json:"headers"`
	Payload     *schema `json:"payload"`
}

type asyncParameter struct {
	Description string   `json:"description"`
	Default     string   `json:"default"`
	Examples    []string `json:"examples"`
}

// schema is a JSON schema with the keywords that the document uses.
type schema struct {
	Ref         string            `json:"$ref"`
	Description string            `json:"description"`
	Type        any               `json:"type"` // a text, or a list of them
	Required    []string          `json:"required"`
	Properties  map[string]schema `json:"properties"`
	Additional  json.RawMessage   `json:"additionalProperties"` // false, or a schema
	Items       *schema           `json:"items"`
	Enum        []string          `json:"enum"`
	Pattern     string            `json:"pattern"`
	Format      string            `json:"format"`
	MinLength   int               `json:"minLength"`
	MaxLength   int               `json:"maxLength"`
	Minimum     *float64          `json:"minimum"`
	Maximum     *float64          `json:"maximum"`
}

func strictly(data []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	return dec.Decode(out)
}

func readAsyncAPI(t *testing.T) *asyncAPI {
	t.Helper()
	text, err := os.ReadFile("docs/asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	doc := new(asyncAPI)
	if err := strictly(text, doc); err != nil {
		t.Fatalf("docs/asyncapi.json: %v", err)
	}
	return doc
}

// The document has the structure that AsyncAPI 3.0 demands: each reference leads to something of its sort, the parameters of a
// channel are those of its address, and the messages of an operation are those of its channel.
func TestAsyncAPIIsWellFormed(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	if !regexp.MustCompile(`^3\.0\.\d+$`).MatchString(doc.AsyncAPI) || doc.Info.Title == "" || doc.Info.Version == "" || doc.Info.License.Name == "" {
		t.Errorf("the head: %q, %+v", doc.AsyncAPI, doc.Info)
	}
	name := regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	for kind, names := range map[string][]string{
		"channel": slices.Collect(maps.Keys(doc.Channels)), "operation": slices.Collect(maps.Keys(doc.Operations)), "message": slices.Collect(maps.Keys(doc.Components.Messages)),
		"parameter": slices.Collect(maps.Keys(doc.Components.Parameters)), "schema": slices.Collect(maps.Keys(doc.Components.Schemas)), "server": slices.Collect(maps.Keys(doc.Servers)),
	} {
		if len(names) == 0 {
			t.Errorf("there is no %s", kind)
		}
		for _, n := range names {
			if !name.MatchString(n) {
				t.Errorf("%s %q: not a name", kind, n)
			}
		}
	}
	used := make(map[string]bool) // components and channels that something refers to
	addresses := make(map[string]string)
	for id, c := range doc.Channels {
		if c.Title == "" || c.Description == "" || len(c.Messages) == 0 {
			t.Errorf("channel %s: without a title, a description or messages", id)
		}
		for m, ref := range c.Messages {
			used[ref.Ref] = true
			if _, ok := doc.Components.Messages[m]; !ok || ref.Ref != "#/components/messages/"+m {
				t.Errorf("channel %s: the message %s refers to %s", id, m, ref.Ref)
			}
		}
		var inAddress []string
		if c.Address != nil {
			if other := addresses[*c.Address]; other != "" {
				t.Errorf("channels %s and %s have one address", id, other)
			}
			addresses[*c.Address] = id
			for _, p := range parameter.FindAllStringSubmatch(*c.Address, -1) {
				inAddress = append(inAddress, p[1])
			}
		}
		slices.Sort(inAddress)
		if given := slices.Sorted(maps.Keys(c.Parameters)); !slices.Equal(given, inAddress) {
			t.Errorf("channel %s: the parameters %v, and in the address %v", id, given, inAddress)
		}
		for p, ref := range c.Parameters {
			used[ref.Ref] = true
			if doc.Components.Parameters[p].Description == "" || ref.Ref != "#/components/parameters/"+p {
				t.Errorf("channel %s: the parameter %s refers to %s", id, p, ref.Ref)
			}
		}
	}
	for id, op := range doc.Operations {
		if op.Action != "send" && op.Action != "receive" || op.Summary == "" {
			t.Errorf("operation %s: %q, %q", id, op.Action, op.Summary)
		}
		used[op.Channel.Ref] = true
		checkOperation(t, doc, id, op.Channel, op.Messages)
		if op.Reply != nil {
			used[op.Reply.Channel.Ref] = true
			checkOperation(t, doc, id, op.Reply.Channel, op.Reply.Messages)
		}
	}
	for id, m := range doc.Components.Messages {
		if m.Name != id || m.Title == "" || m.ContentType == "" || m.Payload == nil {
			t.Errorf("message %s: %+v", id, m)
		}
		for _, s := range []*schema{m.Headers, m.Payload} {
			if s != nil {
				checkSchema(t, doc, "message "+id, *s, used)
			}
		}
	}
	for id, s := range doc.Components.Schemas {
		checkSchema(t, doc, "schema "+id, s, used)
	}
	for id := range doc.Channels {
		if !used["#/channels/"+id] {
			t.Errorf("channel %s: without an operation", id)
		}
	}
	for prefix, names := range map[string][]string{
		"messages": slices.Collect(maps.Keys(doc.Components.Messages)), "parameters": slices.Collect(maps.Keys(doc.Components.Parameters)), "schemas": slices.Collect(maps.Keys(doc.Components.Schemas)),
	} {
		for _, n := range names {
			if !used["#/components/"+prefix+"/"+n] {
				t.Errorf("nothing refers to #/components/%s/%s", prefix, n)
			}
		}
	}
}

// checkOperation checks the references of an operation to a channel and its messages.
func checkOperation(t *testing.T, doc *asyncAPI, id string, channel asyncRef, messages []asyncRef) {
	t.Helper()
	name, ok := strings.CutPrefix(channel.Ref, "#/channels/")
	c, found := doc.Channels[name]
	if !ok || !found || len(messages) == 0 {
		t.Errorf("operation %s: the channel %s, with %d messages", id, channel.Ref, len(messages))
	}
	for _, m := range messages {
		if m, ok := strings.CutPrefix(m.Ref, channel.Ref+"/messages/"); !ok || c.Messages[m].Ref == "" {
			t.Errorf("operation %s: the message %s is not of the channel %s", id, m, channel.Ref)
		}
	}
}

var jsonTypes = []string{"object", "array", "string", "integer", "number", "boolean", "null"}

// checkSchema checks that a schema is well-formed.
func checkSchema(t *testing.T, doc *asyncAPI, of string, s schema, used map[string]bool) {
	t.Helper()
	if s.Ref != "" {
		used[s.Ref] = true
		name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/")
		if _, found := doc.Components.Schemas[name]; !ok || !found {
			t.Errorf("%s: refers to %s", of, s.Ref)
		}
		if !reflect.DeepEqual(s, schema{Ref: s.Ref}) {
			t.Errorf("%s: has more than the reference to %s", of, s.Ref)
		}
		return
	}
	for _, typ := range s.types() {
		if !slices.Contains(jsonTypes, typ) {
			t.Errorf("%s: the type %q", of, typ)
		}
	}
	if _, err := regexp.Compile(s.Pattern); err != nil {
		t.Errorf("%s: %v", of, err)
	}
	if s.Format != "" && s.Format != "date-time" {
		t.Errorf("%s: the format %s", of, s.Format)
	}
	for _, name := range s.Required {
		if _, ok := s.Properties[name]; !ok {
			t.Errorf("%s: %s is required and not described", of, name)
		}
	}
	for name, property := range s.Properties {
		checkSchema(t, doc, of+"."+name, property, used)
	}
	if s.Items != nil {
		checkSchema(t, doc, of+"[]", *s.Items, used)
	}
	if others, err := s.others(); err != nil {
		t.Errorf("%s: additionalProperties: %v", of, err)
	} else if others != nil {
		checkSchema(t, doc, of+".*", *others, used)
	}
}

func (s *schema) types() (all []string) {
	switch typ := s.Type.(type) {
	case string:
		return []string{typ}
	case []any:
		for _, one := range typ {
			all = append(all, fmt.Sprint(one))
		}
	}
	return all
}

// others returns the schema of the properties that are not named, or nil.
func (s *schema) others() (*schema, error) {
	if len(s.Additional) == 0 || string(s.Additional) == "false" {
		return nil, nil
	}
	others := new(schema)
	return others, strictly(s.Additional, others)
}

// expressions has the compiled patterns of the document: thousands of messages are checked.
var expressions sync.Map

func compiled(pattern string) *regexp.Regexp {
	if re, ok := expressions.Load(pattern); ok {
		return re.(*regexp.Regexp)
	}
	re := regexp.MustCompile(pattern)
	expressions.Store(pattern, re)
	return re
}

// problem returns what is wrong with a value, as encoding/json decodes it, or "".
func (doc *asyncAPI) problem(s schema, v any) string {
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		return doc.problem(doc.Components.Schemas[name], v)
	}
	typ := map[reflect.Kind]string{reflect.Map: "object", reflect.Slice: "array", reflect.String: "string", reflect.Float64: "number", reflect.Bool: "boolean", reflect.Invalid: "null"}[reflect.ValueOf(v).Kind()]
	if types := s.types(); len(types) > 0 && !slices.Contains(types, typ) && !(slices.Contains(types, "integer") && typ == "number") {
		return fmt.Sprintf("is a %s, not %v", typ, types)
	}
	switch v := v.(type) {
	case string:
		_, err := time.Parse(time.RFC3339Nano, v)
		switch {
		case s.Enum != nil && !slices.Contains(s.Enum, v), s.Pattern != "" && !compiled(s.Pattern).MatchString(v):
			return fmt.Sprintf("is %q", v)
		case len([]rune(v)) < s.MinLength, s.MaxLength > 0 && len([]rune(v)) > s.MaxLength:
			return fmt.Sprintf("has %d characters", len([]rune(v)))
		case s.Format == "date-time" && err != nil:
			return err.Error()
		}
	case float64:
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum || slices.Equal(s.types(), []string{"integer"}) && v != math.Trunc(v) {
			return fmt.Sprintf("is %v", v)
		}
	case []any:
		for i, one := range v {
			if s.Items == nil {
				continue
			}
			if p := doc.problem(*s.Items, one); p != "" {
				return fmt.Sprintf("[%d]%s", i, " "+p)
			}
		}
	case map[string]any:
		for _, name := range s.Required {
			if _, ok := v[name]; !ok {
				return "lacks " + name
			}
		}
		others, _ := s.others()
		for name, one := range v {
			property, ok := s.Properties[name]
			switch {
			case ok:
			case others != nil:
				property = *others
			case len(s.Additional) > 0:
				return "has " + name
			}
			if p := doc.problem(property, one); p != "" {
				return "." + name + " " + p
			}
		}
	}
	return ""
}

var (
	parameter       = regexp.MustCompile(`\{(\w+)\}`)
	quotedParameter = regexp.MustCompile(`\\\{\w+\\\}`)
)

// tokens are what the parameters of an address match.
var tokens = map[string]string{
	"namespace": `[a-z0-9][a-z0-9_-]{0,30}`, "shard": `[0-6][0-9]`, "user": `(?:[A-Za-z0-9_-]|=[0-9A-F]{2})+`, "kind": `[a-z0-9][a-z0-9_-]{0,62}`, "id": `[0-7][0-9A-HJKMNP-TV-Z]{25}`,
	"topic": `[A-Za-z0-9_=-]+(?:\.[A-Za-z0-9_=-]+)*`, "notifier": `[A-Z2-7]{26}`, "ticket": `[A-Z2-7]{26}`, "name": `[A-Za-z0-9_-]+`, "object": `[A-Za-z0-9_-]+=*`, "chunks": `[^.]+(?:\.[^.]+){3}`,
}

// channelsOf returns the channels whose address matches a subject.
func (doc *asyncAPI) channelsOf(t *testing.T, subject string) (ids []string) {
	t.Helper()
	for id, c := range doc.Channels {
		if c.Address == nil {
			continue
		}
		pattern := quotedParameter.ReplaceAllStringFunc(regexp.QuoteMeta(*c.Address), func(p string) string {
			token := tokens[strings.Trim(p, `\{}`)]
			if token == "" {
				t.Fatalf("the parameter %s of %s is new to this test", p, id)
			}
			return token
		})
		if compiled("^" + pattern + "$").MatchString(subject) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// Each subject that the package joblog builds is that of a channel. A function that is new there must be added here, and to the
// documents.
func TestAsyncAPIHasAllSubjects(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	text, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	ns := joblog.Namespace("acme")
	checked := make(map[string]bool)
	const id, user, kind = "01JD3Q00000000000000000007", "a@b.c", "export"
	for method, want := range map[string]struct{ subject, channels string }{
		"SpecSubject":         {ns.SpecSubject(user, kind, id), "jobRequest"},
		"StateSubject":        {ns.StateSubject(user, id), "jobState"},
		"NotificationSubject": {ns.NotificationSubject(user), "notification"},
		"BroadcastSubject":    {ns.BroadcastSubject(1, 4), "notification"},
		"LiveStateSubject":    {ns.LiveStateSubject(user, id), "liveJobState"},
		"LiveInboxSubject":    {ns.LiveInboxSubject(user), "inboxChange"},
		"PollSubject":         {ns.PollSubject(strings.Repeat("A", 26)), "poll"},
		"TopicSubject":        {ns.TopicSubject("comments.42"), "liveEvent"},
		"HubsSubject":         {ns.HubsSubject(), "beats"},
		"PresenceSubject":     {ns.PresenceSubject(), "presence"},
		"AudienceSubject":     {ns.AudienceSubject("comments.42"), "audience"},
		// The next ones have wildcards.
		"LogSubjects":          {ns.LogSubjects(), "jobRequest jobState notification"},
		"LiveSubjects":         {ns.LiveSubjects(), "inboxChange liveJobRequest liveJobState liveNotification"},
		"UserSubjects":         {ns.UserSubjects(user), "jobRequest jobState notification"},
		"SpecSubjects":         {ns.SpecSubjects("*", "*"), "jobRequest"},
		"StateSubjects":        {ns.StateSubjects("*"), "jobState"},
		"NotificationSubjects": {ns.NotificationSubjects(), "notification"},
		"LiveBroadcastSubject": {ns.LiveBroadcastSubject(1, 4), "inboxChange liveJobRequest liveJobState liveNotification"},
		"LiveSubject":          {ns.LiveSubject(user), "inboxChange liveJobRequest liveJobState liveNotification"},
	} {
		var got []string
		if strings.ContainsAny(want.subject, "*>") {
			for channel, c := range doc.Channels {
				if c.Address != nil && overlaps(want.subject, *c.Address) {
					got = append(got, channel)
				}
			}
			slices.Sort(got)
		} else {
			got = doc.channelsOf(t, want.subject)
		}
		if strings.Join(got, " ") != want.channels {
			t.Errorf("%s: %s is of the channels %v, want %s", method, want.subject, got, want.channels)
		}
		checked[method] = true
	}
	of := reflect.TypeFor[joblog.Namespace]()
	for i := range of.NumMethod() {
		if m := of.Method(i).Name; strings.Contains(m, "Subject") && !checked[m] {
			t.Errorf("joblog.Namespace.%s is in no channel of docs/asyncapi.json", m)
		}
	}
	// docs/protocol.md names all of it.
	for channel, c := range doc.Channels {
		if c.Address == nil {
			continue
		}
		address := strings.NewReplacer("{namespace}", "hark", "{", "<", "}", ">").Replace(*c.Address)
		address = strings.NewReplacer("_revoked.user.<name>", "_revoked.user.<user>", "_revoked.jti.<name>", "_revoked.jti.<jti>").Replace(address)
		if prefix, isLive := strings.CutPrefix(address, "hark.live.<shard>.<user>."); isLive && prefix != "inbox" {
			address = "hark.live.<shard>.<user>.…"
		}
		if !strings.Contains(string(text), "`"+address+"`") {
			t.Errorf("docs/protocol.md does not have the subject %s of the channel %s", address, channel)
		}
	}
	for _, name := range []string{joblog.DefaultNamespace.LogStream(), joblog.DefaultNamespace.FilesBucket(), joblog.DefaultNamespace.FilesStream(), joblog.DefaultNamespace.KindsBucket(),
		joblog.DefaultNamespace.TicketsBucket(), joblog.DefaultNamespace.RevokedBucket(), joblog.DefaultNamespace.LinkBucket(), joblog.DefaultNamespace.WorkerConsumer("<kind>")} {
		if !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/protocol.md does not have the name %s", name)
		}
	}
}

// overlaps reports whether an address has subjects that match a subject with wildcards.
func overlaps(subject, address string) bool {
	want, have := strings.Split(subject, "."), strings.Split(address, ".")
	for i, token := range want {
		switch {
		case token == ">":
			return i < len(have)
		case i >= len(have) || token != "*" && token != have[i] && !parameter.MatchString(have[i]):
			return false
		}
	}
	return len(want) == len(have)
}

// Each field of the Go types that are stored is described, and nothing else is.
func TestAsyncAPIHasAllFields(t *testing.T) {
	t.Parallel()
	doc := readAsyncAPI(t)
	for name, of := range map[string]struct {
		typ     reflect.Type
		without []string // fields of the API that are not stored
	}{
		"jobRequest": {reflect.TypeFor[joblog.Spec](), nil}, "jobState": {reflect.TypeFor[jobs.Job](), []string{"revision"}}, "progress": {reflect.TypeFor[jobs.Progress](), nil},
		"error": {reflect.TypeFor[jobs.Error](), nil}, "file": {reflect.TypeFor[jobs.File](), nil}, "notification": {reflect.TypeFor[jobs.Notification](), []string{"id", "status", "read_at"}},
		"kind": {reflect.TypeFor[jobs.Kind](), nil}, "param": {reflect.TypeFor[jobs.Param](), nil}, "option": {reflect.TypeFor[jobs.Option](), nil}, "rule": {reflect.TypeFor[jobs.Rule](), nil},
		"liveEvent": {reflect.TypeFor[jobs.LiveEvent](), []string{"topic"}},
	} {
		var want, required []string
		for i := range of.typ.NumField() {
			field, rest, _ := strings.Cut(of.typ.Field(i).Tag.Get("json"), ",")
			if slices.Contains(of.without, field) {
				continue
			}
			want = append(want, field)
			if rest == "" {
				required = append(required, field)
			}
		}
		slices.Sort(want)
		slices.Sort(required)
		s := doc.Components.Schemas[name]
		if got := slices.Sorted(maps.Keys(s.Properties)); !slices.Equal(got, want) {
			t.Errorf("schema %s has %v, want %v", name, got, want)
		}
		if got := slices.Sorted(slices.Values(s.Required)); !slices.Equal(got, required) {
			t.Errorf("schema %s requires %v, want %v", name, got, required)
		}
	}
	if got, want := doc.Components.Schemas["jobState"].Properties["state"].Enum, jobs.States; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the states %v, want %v", got, want)
	}
	if got, want := doc.Components.Schemas["param"].Properties["type"].Enum, jobs.ParamTypes; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the types of params %v, want %v", got, want)
	}
}
