// Package proc runs the real program for the measurements in bench, and reads from /proc what it costs: the
// time of the processor it has used and the memory it holds. It is for Linux.
package proc
