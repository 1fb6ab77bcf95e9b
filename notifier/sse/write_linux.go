package sse

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// write writes as much as the socket accepts now. It does not block.
func write(fd int, p []byte) (n int, err error) {
	return written(func() (int, error) { return unix.Write(fd, p) })
}

// written returns the result of a write, without the errors that are none: a signal, and a full socket.
func written(write func() (int, error)) (n int, err error) {
	for {
		n, err = write()
		switch err {
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return 0, nil
		}
		return max(n, 0), err
	}
}

// writeBoth writes as much of a line and a frame as the socket accepts now. It does not block. A small frame, as most are, is
// copied behind the line on the stack: that costs less than writev, whose arguments are on the heap.
func writeBoth(fd int, line, frame []byte) (n int, err error) {
	if len(line) == 0 {
		return write(fd, frame)
	}
	var buf [1 << 10]byte
	if len(line)+len(frame) <= len(buf) {
		return write(fd, append(append(buf[:0], line...), frame...))
	}
	both := [][]byte{bytes.Clone(line), frame} // a clone, so that line itself stays on the stack
	return written(func() (int, error) { return unix.Writev(fd, both) })
}
