// Package cluster holds the test of hark on a cluster: three NATS servers, PostgreSQL, two notifiers and workers, all of them
// real processes. While users post, enqueue and listen, one part after another fails or is restarted. An independent ledger
// counts what was lost, repeated, out of order or announced differently, and measures for how long each fault was felt.
// `make cluster-test` is the long form; a short one runs in `make test`.
package cluster
