package main

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dial begins to connect to an address from one of several loopback addresses, since each has its own ports. A deaf reader's socket has a minimal
// buffer, and segments of the size of Ethernet: with those of the loopback interface a server's socket would buffer megabytes.
func dial(to netip.AddrPort, from int, deaf bool) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socket: %w", err)
	}
	options := [][3]int{
		{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1},
		{unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1}, // the port is chosen for the pair of addresses
	}
	if deaf {
		options = append(options, [3]int{unix.SOL_SOCKET, unix.SO_RCVBUF, 4 << 10}, [3]int{unix.SOL_TCP, unix.TCP_MAXSEG, 1400})
	}
	for _, o := range options {
		if err = unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
			break
		}
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + from%sources)}})
	}
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())})
		if err == unix.EINPROGRESS {
			err = nil
		}
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// sources is the number of addresses of the readers.
const sources = 8

// receiver reads sockets, with the time when the kernel received the bytes. It is for one goroutine.
type receiver struct {
	buf     []byte
	control [64]byte
	iov     unix.Iovec
	msg     unix.Msghdr
}

func newReceiver() *receiver {
	r := &receiver{buf: make([]byte, 256<<10)}
	r.iov.Base = &r.buf[0]
	r.iov.SetLen(len(r.buf))
	r.msg.Iov, r.msg.Iovlen = &r.iov, 1
	r.msg.Control = &r.control[0]
	return r
}

// receive reads a socket without blocking. The bytes are valid until the next call. The time of the last byte is in Unix nanoseconds; 0 if it is
// unknown. It does not use the runtime's poller.
func (r *receiver) receive(fd int) (b []byte, stamp int64, err error) {
	r.msg.SetControllen(len(r.control))
	n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&r.msg)), 0)
	if errno != 0 {
		return nil, 0, errno
	}
	const head = int(unsafe.Sizeof(unix.Cmsghdr{}))
	if int(r.msg.Controllen) >= head+int(unsafe.Sizeof(unix.Timespec{})) {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&r.control[0]))
		if h.Level == unix.SOL_SOCKET && h.Type == unix.SCM_TIMESTAMPNS {
			stamp = (*unix.Timespec)(unsafe.Pointer(&r.control[head])).Nano()
		}
	}
	return r.buf[:n], stamp, nil
}
