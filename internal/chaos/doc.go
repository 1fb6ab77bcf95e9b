// Package chaos holds the test that hark's promise rests on: real processes that are killed at random
// moments while jobs run and browsers listen, and then a count of what was lost, stuck, repeated, out of order
// or told differently from what happened. `make chaos` is its long form; a short one runs in `make test`. Another test cuts the power: the end of the log is lost, too.
package chaos
