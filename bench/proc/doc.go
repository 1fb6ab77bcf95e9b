// Package proc runs the real program for the measurements in bench, and reads its CPU time and memory from /proc. It is for Linux.
package proc
