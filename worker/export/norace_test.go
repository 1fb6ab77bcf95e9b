//go:build !race

package export_test

// shopSum is the checksum of all rows of the sample shop. If it changes, screenshots and benchmarks change, too.
const (
	shopOrders = 100_000
	shopSum    = "8aa8655a60abe08ad1939d2f36ca0b2aa32e8f5ba8087b3e796726a49367f6c4"
)
