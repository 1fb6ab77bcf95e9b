package hark

import (
	"fmt"
	"strings"

	"github.com/hark-jobs/hark/internal/joblog"
	"github.com/hark-jobs/hark/jobs"
)

// NATSConfigOptions are the options of [NATSConfig].
type NATSConfigOptions struct {
	// Namespace is that of the hark. Defaults to hark.
	Namespace string
	// JSDomain is the JetStream domain of the streams, if the users connect to a leaf node. Defaults to none.
	JSDomain string
	// JSAPIPrefix is the prefix of JetStream's API. It excludes JSDomain. Defaults to $JS.API.
	JSAPIPrefix string
	// Kinds are the kinds of all workers. If they are given, a worker may run no other kinds, and a notifier may not take jobs from
	// workers. Defaults to any kinds.
	Kinds []string
	// Streams is the number of streams of the log. Defaults to 1.
	Streams int
}

// roleHelp says what a role is for, in the configuration.
var roleHelp = map[joblog.Role]string{
	joblog.RoleSetup:    "hark setup: creates the streams and buckets, and changes their settings",
	joblog.RoleNotifier: "hark notifier",
	joblog.RoleWorker:   "hark worker, and programs with package worker",
	joblog.RoleService:  "programs with package queue that enqueue, notify, publish live events, and read jobs",
	joblog.RoleBackup:   "hark backup",
}

// NATSConfig returns a part of the configuration of a NATS server: an account for one hark, with a user for each role, who may do
// what the role needs and nothing else. The roles are setup, notifier, worker, service and backup. The passwords are variables,
// such as $HARK_WORKER_PASSWORD, which the configuration or the environment of the server must define; without them the server
// does not start. Each user has inboxes of its own, so its programs need the inbox prefix that the text names.
//
// With these users [Setup] must run first: notifiers, workers and services may not create streams. NATSConfig does no I/O. A mistake
// in the options is an [*Error].
func NATSConfig(o NATSConfigOptions) (string, error) {
	at := joblog.Location{Namespace: joblog.Namespace(o.Namespace), Domain: o.JSDomain, APIPrefix: o.JSAPIPrefix}.WithDefaults()
	if err := checkPlace(at); err != nil {
		return "", err
	}
	settings := joblog.Settings{Streams: o.Streams}
	if err := refused("setting_invalid", "Options.", settings.Check()); err != nil {
		return "", err
	}
	for _, kind := range o.Kinds {
		if err := jobs.CheckKind(kind); err != nil {
			return "", &Error{Code: "kind_invalid", Message: fmt.Sprintf("Options.Kinds has %.70q, which cannot be the name of a kind.", kind), Err: err}
		}
	}
	name := strings.ToUpper(strings.ReplaceAll(string(at.Namespace), "-", "_"))
	var b strings.Builder
	fmt.Fprintf(&b, "# The account of the hark with the namespace %s: a user for each role.\n", at.Namespace)
	fmt.Fprintf(&b, "# Define the passwords before it, or in the environment of the server: %s_SETUP_PASSWORD: \"...\"\n", name)
	fmt.Fprintf(&b, "accounts {\n  %s {\n    jetstream: enabled\n    users = [\n", name)
	for _, role := range joblog.Roles {
		p := at.Permissions(role, o.Kinds, max(o.Streams, 1))
		fmt.Fprintf(&b, "      # %s.\n", roleHelp[role])
		fmt.Fprintf(&b, "      # --nats-user %s_%s --nats-inbox-prefix %s\n", at.Namespace, role, at.Namespace.InboxPrefix(role))
		fmt.Fprintf(&b, "      {\n        user: %q\n        password: $%s_%s_PASSWORD\n        permissions {\n          publish {\n",
			string(at.Namespace)+"_"+string(role), name, strings.ToUpper(string(role)))
		writeSubjects(&b, "            ", "allow", p.Publish)
		writeSubjects(&b, "            ", "deny", p.DenyPublish)
		b.WriteString("          }\n          subscribe {\n")
		writeSubjects(&b, "            ", "allow", p.Subscribe)
		b.WriteString("          }\n        }\n      }\n")
	}
	b.WriteString("    ]\n  }\n}\n")
	return b.String(), nil
}

// writeSubjects writes a list of subjects, unless it is empty.
func writeSubjects(b *strings.Builder, indent, name string, subjects []string) {
	if len(subjects) == 0 {
		return
	}
	fmt.Fprintf(b, "%s%s: [\n", indent, name)
	for _, s := range subjects {
		fmt.Fprintf(b, "%s  %q\n", indent, s)
	}
	fmt.Fprintf(b, "%s]\n", indent)
}
