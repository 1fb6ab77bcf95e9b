package door

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsent is how many bytes of an answer may wait in the kernel to be sent for the first time. Without this a socket takes
// megabytes, and says that it takes more only once a third of that has gone: a slow reader would seem to take nothing.
const unsent = 64 << 10

func fewUnsent(c net.Conn) {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent) // sockets do not inherit it
	})
}

// files is how many files this process may open.
func files() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<30))
}
