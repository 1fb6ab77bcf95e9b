package export

// SetSheetRows sets the largest number of rows of a sheet, with the header.
func SetSheetRows(e *Exporter, n int) { e.maxRows = n }

// SetShopOrders sets the size of the sample shop. It must be called before the shop is created.
func SetShopOrders(n int) { shopOrders = n }
