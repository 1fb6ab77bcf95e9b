// Package joblog stores jobs and notifications in JetStream: subjects, publishing, reads, and the consumers of workers. No
// other package knows how they are stored.
//
// # The log
//
// One stream holds everything. A job is one message, its spec, on its own subject. Its state is the last message on another
// subject; a job without a state is queued. Every write of a state is a compare-and-swap on the revision (the stream
// sequence) that was last read. This fences a worker that lost its lease, and delivers a cancel to a worker.
//
// # The commit rule
//
// A job ends in four steps:
//
//  1. Its file is stored.
//  2. Its state becomes terminal, by compare-and-swap.
//  3. Its notification is published under a key of its own.
//  4. Its message is acked.
//
// A crash between two steps is repaired by redelivery. A worker that finds a terminal state repeats steps 3 and 4, and never
// runs the handler again.
package joblog
