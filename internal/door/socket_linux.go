package door

import (
	"net"

	"golang.org/x/sys/unix"
)

// unsent is the limit for bytes of a response in the kernel that were not sent yet. Without it a socket accepts megabytes, and is
// writable again only when a third of them was sent: a slow reader would seem to read nothing.
const unsent = 64 << 10

func fewUnsent(c net.Conn) {
	if inside, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = inside.NetConn()
	}
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

// files returns the number of files that this process may open.
func files() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<30))
}
