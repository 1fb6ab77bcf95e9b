package export

// SetSheetRows has e start a new sheet after so many rows, the header among them.
func SetSheetRows(e *Exporter, n int) { e.maxRows = n }

// SetShopOrders makes a smaller sample shop. Call it before there is one.
func SetShopOrders(n int) { shopOrders = n }
