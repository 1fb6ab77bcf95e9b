// Package jobs defines jobs, kinds, notifications and their rules: what may be enqueued, by whom, and with which params. It
// imports the standard library alone; package queue sends jobs over NATS, package client over HTTP, and package worker runs them.
//
// # The life of a job
//
//	              enqueue                     lease
//	(nothing) ───────────────▶ queued ─────────────────▶ running ──────▶ succeeded
//	                             ▲  │                     │   │  ▲
//	                       retry │  │ cancel        fails │   │  │ lease again, when the delay is over
//	                             │  │                     │   ▼  │
//	                             │  │                     │  retrying ──▶ cancelled
//	                             │  ▼                     ▼
//	                             ├─ cancelled           failed
//	                             └────────────────────────┘
package jobs
