package natstest

import "go.uber.org/goleak"

// VerifyTestMain runs the tests of a package, and fails if goroutines are left. It tolerates those of a file store of a
// stream that a server of a cluster has created while it shut down: the server (2.15.2) does not stop that store.
func VerifyTestMain(m goleak.TestingM) {
	const server = "github.com/nats-io/nats-server/v2/server"
	goleak.VerifyTestMain(m,
		goleak.IgnoreTopFunction(server+".(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreTopFunction(server+"/ats.Register.func1"))
}
