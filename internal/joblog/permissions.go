package joblog

import "slices"

// Role is what a process does with the streams of a hark. Each role has its own permissions in NATS.
type Role string

// The roles.
const (
	RoleSetup    Role = "setup"    // hark setup: creates streams and buckets, and changes their settings
	RoleNotifier Role = "notifier" // hark notifier
	RoleWorker   Role = "worker"   // hark worker, or a program with package worker
	RoleService  Role = "service"  // a program that enqueues, notifies and publishes live events with package queue
	RoleBackup   Role = "backup"   // hark backup
)

// Roles are all roles.
var Roles = []Role{RoleSetup, RoleNotifier, RoleWorker, RoleService, RoleBackup}

// Permissions are subjects of NATS, with wildcards. A denied subject is refused although an allowed one matches it.
type Permissions struct {
	Publish, DenyPublish []string
	Subscribe            []string
}

// InboxPrefix returns the prefix of the inboxes of a role, without the dot at the end. Responses of JetStream arrive there, so no
// other role may subscribe to it: a notifier reads tickets and the key of links.
func (ns Namespace) InboxPrefix(role Role) string { return "_INBOX_" + string(ns) + "_" + string(role) }

// Permissions returns what a role needs: on the streams of the location, and on nothing else. Kinds are those of all workers. If
// there are none, workers may run any kind; wildcards of NATS match whole tokens, and cannot match the workers' consumers alone.
//
// Limits of NATS: the subject of a request names its stream, and not what the request reads or purges there. So a role that may
// read one message of a stream may read all of them, and one that may purge a file may purge all files.
//
// Streams is the number of streams of the log.
func (l Location) Permissions(role Role, kinds []string, streams int) Permissions {
	l = l.WithDefaults()
	p := permitted{Location: l, ns: l.Namespace, api: l.apiPrefix(), kinds: kinds, logs: l.Namespace.LogStreams(streams)}
	p.Subscribe = append(p.Subscribe, p.ns.InboxPrefix(role)+".>")
	switch role {
	case RoleSetup:
		p.setup()
	case RoleNotifier:
		p.notifier()
	case RoleWorker:
		p.worker()
	case RoleService:
		p.service()
	case RoleBackup:
		p.backup()
	}
	return p.Permissions
}

// permitted builds the permissions of a role.
type permitted struct {
	Permissions
	Location
	ns    Namespace
	api   string
	kinds []string
	logs  []string // the streams of the log
}

// request allows requests to JetStream's API.
func (p *permitted) request(requests ...string) {
	for _, r := range requests {
		p.Publish = append(p.Publish, p.api+r)
	}
}

// info allows the info of streams.
func (p *permitted) info(streams ...string) {
	for _, s := range streams {
		p.request("STREAM.INFO." + s)
	}
}

// get allows reads of single messages from the leader of streams.
func (p *permitted) get(streams ...string) {
	for _, s := range streams {
		p.request("STREAM.MSG.GET." + s)
	}
}

// put allows writes of a key in a bucket. With another API than the default, nats.go writes through that.
func (p *permitted) put(bucket, key string) {
	subject := KeySubject(bucket, key)
	if p.Domain != "" || p.APIPrefix != "" {
		subject = p.api + subject
	}
	p.Publish = append(p.Publish, subject)
}

// watch allows to list and to watch the keys of a bucket. nats.go does that with a push consumer.
func (p *permitted) watch(bucket string) {
	stream := BucketStream(bucket)
	p.request("CONSUMER.CREATE."+stream+".*."+KeySubject(bucket, ">"), "CONSUMER.DELETE."+stream+".*")
	p.Publish = append(p.Publish, "$JS.FC."+stream+".>") // flow control
}

// pull allows consumers that read a stream. Filters are what they may filter by; none is no filter. The consumers of workers are
// denied where their names are known.
func (p *permitted) pull(stream string, filters ...string) {
	p.request("CONSUMER.CREATE."+stream+".*", "CONSUMER.INFO."+stream+".*", "CONSUMER.MSG.NEXT."+stream+".*", "CONSUMER.DELETE."+stream+".*")
	for _, f := range filters {
		p.request("CONSUMER.CREATE." + stream + ".*." + f)
	}
	if !slices.Contains(p.logs, stream) {
		return
	}
	for _, kind := range p.kinds {
		consumer := stream + "." + p.ns.WorkerConsumer(kind)
		for _, request := range []string{"CONSUMER.CREATE." + consumer, "CONSUMER.CREATE." + consumer + ".>", "CONSUMER.MSG.NEXT." + consumer, "CONSUMER.DELETE." + consumer} {
			p.DenyPublish = append(p.DenyPublish, p.api+request)
		}
	}
}

// open allows what [Open] needs if everything exists.
func (p *permitted) open() {
	p.info(p.logs...)
	p.info(p.ns.FilesStream(), BucketStream(p.ns.KindsBucket()))
	p.get(BucketStream(p.ns.KindsBucket()))
}

// readLog allows direct gets of the log, and reads from its leader.
func (p *permitted) readLog() {
	p.get(p.logs...)
	for _, log := range p.logs {
		p.request("DIRECT.GET." + log)
	}
}

// readFiles allows reads of the bucket of files.
func (p *permitted) readFiles() {
	stream := p.ns.FilesStream()
	p.get(stream)
	p.request("DIRECT.GET."+stream, "DIRECT.GET."+stream+"."+p.ns.fileInfos("*"))
}

// store allows messages of the log.
func (p *permitted) store(subjects ...string) { p.Publish = append(p.Publish, subjects...) }

func (p *permitted) setup() {
	streams := append(slices.Clone(p.logs), p.ns.FilesStream())
	for _, bucket := range p.ns.buckets() {
		streams = append(streams, BucketStream(bucket))
	}
	p.info(streams...)
	if len(p.logs) == 1 {
		p.info(p.ns.LogStreams(2)[1]) // it looks whether there are several
	}
	for _, s := range streams {
		p.request("STREAM.CREATE."+s, "STREAM.UPDATE."+s)
	}
	for _, log := range p.logs { // the lease is in the consumers of the workers
		p.request("CONSUMER.NAMES."+log, "CONSUMER.INFO."+log+".*", "CONSUMER.CREATE."+log+".*."+p.ns.SpecSubjects("*", "*"))
	}
}

func (p *permitted) notifier() {
	ns := p.ns
	p.open()
	p.readLog()
	p.readFiles()
	p.request("STREAM.PURGE." + ns.FilesStream()) // a user deletes a file
	p.store(ns.SpecSubjects("*", "*"), ns.StateSubjects("*"), ns.NotificationSubjects())
	for _, log := range p.logs {
		p.pull(log, ns.NotificationSubjects()) // the end of the log for the hub, and notifications for the inbox
	}
	p.watch(ns.KindsBucket())

	revoked, tickets, link := BucketStream(ns.RevokedBucket()), BucketStream(ns.TicketsBucket()), BucketStream(ns.LinkBucket())
	p.info(revoked, tickets, link)
	p.get(revoked, tickets, link)
	p.put(ns.TicketsBucket(), "*")
	p.put(ns.RevokedBucket(), ">")
	p.put(ns.LinkBucket(), "*")
	p.watch(ns.RevokedBucket())
	p.request("STREAM.PURGE." + revoked) // those that have expired

	between := []string{ns.TopicSubject(">"), ns.HubsSubject(), ns.PresenceSubject(), ns.AudienceSubject(">"), ns.PollSubject("*")}
	p.Publish = append(append(p.Publish, between...), ns.liveInboxSubjects(),
		ns.InboxPrefix(RoleNotifier)+".>") // answers to other notifiers
	p.Subscribe = append(append(p.Subscribe, between...), ns.LiveSubjects())
}

func (p *permitted) worker() {
	ns := p.ns
	p.open()
	p.readLog()
	p.readFiles()
	p.request("STREAM.PURGE." + ns.FilesStream()) // a file of a worker that has died
	p.Publish = append(p.Publish, ns.fileChunks(">"), ns.fileInfos("*"))
	p.store(ns.StateSubjects("*"), ns.NotificationSubjects())
	for i := range p.logs {
		p.DenyPublish = append(p.DenyPublish, ns.BroadcastSubject(i, len(p.logs)))
	}
	kinds, consumers := p.kinds, []string{"*"}
	if len(kinds) == 0 {
		kinds = []string{"*"}
	} else {
		consumers = nil
		for _, kind := range kinds {
			consumers = append(consumers, ns.WorkerConsumer(kind))
		}
	}
	for i, kind := range kinds {
		p.store(ns.SpecSubjects(kind, "*")) // a job that it puts back to the end of the queue
		p.put(ns.KindsBucket(), kind)
		p.put(ns.KindsBucket(), clockPrefix+kind)
		if len(p.logs) > 1 {
			p.put(ns.KindsBucket(), clockPrefix+kind+".*")
		}
		for _, log := range p.logs {
			consumer := log + "." + consumers[i]
			p.request("CONSUMER.INFO."+consumer, "CONSUMER.CREATE."+consumer+"."+ns.SpecSubjects(kind, "*"), "CONSUMER.MSG.NEXT."+consumer, "CONSUMER.RESET."+consumer, "CONSUMER.LEADER.STEPDOWN."+consumer)
			p.Publish = append(p.Publish, "$JS.ACK."+consumer+".>")
		}
	}
	p.Subscribe = append(p.Subscribe, ns.liveStateSubjects()) // a cancel
}

func (p *permitted) service() {
	ns := p.ns
	p.open()
	p.readLog()
	p.store(ns.SpecSubjects("*", "*"), ns.NotificationSubjects())
	p.Publish = append(p.Publish, ns.TopicSubject(">"))
	p.Subscribe = append(p.Subscribe, ns.liveStateSubjects())
}

func (p *permitted) backup() {
	for _, s := range append(slices.Clone(p.logs), BucketStream(p.ns.KindsBucket()), p.ns.FilesStream()) {
		p.info(s)
		p.get(s)
		p.request("CONSUMER.NAMES." + s)
		p.pull(s)
	}
}
