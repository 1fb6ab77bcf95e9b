package natsd

import "golang.org/x/sys/unix"

// Room returns the free bytes on the disk of dir; 0 if they are unknown.
func Room(dir string) int64 {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return 0
	}
	return int64(fs.Bavail) * fs.Bsize
}
