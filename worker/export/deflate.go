package export

import (
	"archive/zip"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/xuri/excelize/v2"
)

// maxZipBytes is the largest workbook; see maxSheetBytes.
const maxZipBytes = 4_200_000_000

// deflateLevel is the fastest that there is. On the XML of a sheet, level 5 saves a sixth of the file and makes
// the export a sixth slower.
const deflateLevel = flate.BestSpeed

// writeZip has excelize write the workbook to w itself, not to memory first as it does by default, with a
// deflate that is faster than that of the standard library.
func writeZip(ctx context.Context, file *excelize.File, w io.Writer) error {
	file.SetZipWriter(func(io.Writer) excelize.ZipWriter {
		z := zip.NewWriter(&limitWriter{ctx: ctx, w: w})
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
			return flate.NewWriter(w, deflateLevel)
		})
		return z
	})
	return file.Write(io.Discard)
}

// limitWriter ends a workbook that grows too large, or that nobody waits for any more.
type limitWriter struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	if l.n += int64(len(p)); l.n > maxZipBytes {
		return 0, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("The workbook would be larger than %d GB; export it as CSV, or export less of it.", maxZipBytes/1_000_000_000)}
	}
	n, err := l.w.Write(p)
	if err != nil {
		err = fmt.Errorf("write the file: %w", err)
	}
	return n, err
}
