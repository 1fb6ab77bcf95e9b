//go:build !linux

package door

import "net"

func fewUnsent(net.Conn) {}

// files is how many files a process may be expected to open.
func files() int { return 10_000 }
