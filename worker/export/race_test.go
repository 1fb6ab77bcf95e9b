//go:build race

package export_test

import "github.com/hark-jobs/hark/worker/export"

// The race detector makes SQLite forty times slower, so the shop is smaller.
const (
	shopOrders = 1_200
	shopSum    = "5d917b013257446ce845ed5147956fd9fc8fdc0887bc41c8c5dd86d328807c36"
)

func init() { export.SetShopOrders(shopOrders) }
