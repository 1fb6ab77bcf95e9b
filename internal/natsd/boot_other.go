//go:build !linux

package natsd

// bootID returns "", since only Linux has the id of a boot. So each stop that is not orderly counts as a power cut.
func bootID() string { return "" }
