package joblog

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Namespace begins the name of each stream, bucket, consumer and subject of a hark. Harks with different namespaces can
// use one account of NATS. They share nothing. A namespace is one token of a subject. This file and subject.go build all
// names; no other code knows one.
type Namespace string

// DefaultNamespace is the namespace of a hark that is given none.
const DefaultNamespace Namespace = "hark"

// maxNamespace is the greatest length of a namespace in bytes.
const maxNamespace = 31

// Check returns an [*InvalidError] unless the namespace is well-formed: 1 to 31 letters a-z, digits, _ and -, beginning with a letter
// or a digit.
func (ns Namespace) Check() error {
	ok := ns != "" && len(ns) <= maxNamespace
	for i := range len(ns) {
		c := ns[i]
		ok = ok && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || i > 0 && (c == '_' || c == '-'))
	}
	if !ok {
		return &InvalidError{"Namespace", fmt.Sprintf("%.40q is not possible; use 1 to %d of a-z, 0-9, _ and -, beginning with a letter or a digit",
			string(ns), maxNamespace)}
	}
	return nil
}

// LogStream returns the name of the stream of jobs, states and notifications.
func (ns Namespace) LogStream() string { return string(ns) + "_log" }

// FilesBucket returns the name of the object store of files.
func (ns Namespace) FilesBucket() string { return string(ns) + "_files" }

// FilesStream returns the name of the stream of [Namespace.FilesBucket].
func (ns Namespace) FilesStream() string { return "OBJ_" + ns.FilesBucket() }

// KindsBucket returns the name of the bucket of the kinds that workers run.
func (ns Namespace) KindsBucket() string { return string(ns) + "_kinds" }

// TicketsBucket returns the name of the bucket of tickets.
func (ns Namespace) TicketsBucket() string { return string(ns) + "_tickets" }

// RevokedBucket returns the name of the bucket of revocations.
func (ns Namespace) RevokedBucket() string { return string(ns) + "_revoked" }

// LinkBucket returns the name of the bucket of the key that links are signed with.
func (ns Namespace) LinkBucket() string { return string(ns) + "_link_key" }

// buckets returns the names of all key-value buckets.
func (ns Namespace) buckets() []string {
	return []string{ns.KindsBucket(), ns.TicketsBucket(), ns.RevokedBucket(), ns.LinkBucket()}
}

// BucketStream returns the name of the stream of a key-value bucket (NATS ADR-8).
func BucketStream(bucket string) string { return "KV_" + bucket }

// KeySubject returns the subject of a key in a key-value bucket.
func KeySubject(bucket, key string) string { return "$KV." + bucket + "." + key }

// WorkerConsumer returns the name of the consumer that all workers of a kind share.
func (ns Namespace) WorkerConsumer(kind string) string { return ns.workerPrefix() + kind }

// workerPrefix begins the names of the workers' consumers.
func (ns Namespace) workerPrefix() string { return string(ns) + "-worker-" }

// Location says where in an account of NATS the streams of a hark are. The zero value is the namespace hark, in the
// JetStream of the servers that the process connects to.
type Location struct {
	// Namespace defaults to [DefaultNamespace].
	Namespace Namespace
	// Domain is the JetStream domain of the streams, for a process that connects to a leaf node. Defaults to none.
	Domain string
	// APIPrefix is the prefix of JetStream's API, for an account that imports it under another name. It excludes Domain.
	// Defaults to $JS.API.
	APIPrefix string
}

// Check returns an [*InvalidError] if a field is invalid.
func (l Location) Check() error {
	switch {
	case l.Domain != "" && l.APIPrefix != "":
		return &InvalidError{"JSDomain", "excludes JSAPIPrefix; give one of them"}
	case strings.ContainsAny(l.Domain, ".*> \t\r\n"):
		return &InvalidError{"JSDomain", fmt.Sprintf("%.40q is not possible; it has no dots, spaces and wildcards", l.Domain)}
	case strings.ContainsAny(l.APIPrefix, "*> \t\r\n") || strings.HasPrefix(l.APIPrefix, ".") || strings.Contains(l.APIPrefix, ".."):
		return &InvalidError{"JSAPIPrefix", fmt.Sprintf("%.40q is not possible; it is like $JS.API, without spaces and wildcards", l.APIPrefix)}
	}
	return l.WithDefaults().Namespace.Check()
}

// WithDefaults returns the location with its namespace set.
func (l Location) WithDefaults() Location {
	l.Namespace = cmp.Or(l.Namespace, DefaultNamespace)
	return l
}

// JetStream returns a JetStream context for the streams. It does no I/O.
func (l Location) JetStream(nc *nats.Conn) (jetstream.JetStream, error) {
	switch {
	case l.Domain != "":
		return jetstream.NewWithDomain(nc, l.Domain)
	case l.APIPrefix != "":
		return jetstream.NewWithAPIPrefix(nc, l.APIPrefix)
	}
	return jetstream.New(nc)
}

// APISubject returns the subject of a request to the API of a JetStream context, such as STREAM.INFO.<stream>.
func APISubject(js jetstream.JetStream, request string) string { return apiPrefix(js) + request }

// apiPrefix returns the prefix of a JetStream context's requests. It ends with a dot.
func apiPrefix(js jetstream.JetStream) string {
	o := js.Options()
	return Location{Domain: o.Domain, APIPrefix: o.APIPrefix}.apiPrefix()
}

// apiPrefix returns the prefix of requests to JetStream. It ends with a dot.
func (l Location) apiPrefix() string {
	switch {
	case l.Domain != "":
		return "$JS." + l.Domain + ".API."
	case l.APIPrefix != "":
		return strings.TrimSuffix(l.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}
