//go:build !linux

package door

import "net"

func fewUnsent(net.Conn) {}

// files returns a number of files that a process can usually open.
func files() int { return 10_000 }
