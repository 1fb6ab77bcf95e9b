package export

import (
	"archive/zip"
	"context"
	"fmt"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/xuri/excelize/v2"
)

// maxZipBytes is the largest size of a workbook: see maxSheetBytes.
const maxZipBytes = 4_200_000_000

// deflateLevel is the fastest level. On the XML of a sheet, level 5 makes the file a sixth smaller and the export a sixth slower.
const deflateLevel = flate.BestSpeed

// writeZip makes excelize write the workbook directly to w, not to memory first as by default. It uses a deflate that is faster than
// that of the standard library, and replaces the heads of the sheets.
func writeZip(ctx context.Context, file *excelize.File, heads map[string][]byte, w io.Writer) error {
	file.SetZipWriter(func(io.Writer) excelize.ZipWriter {
		z := zip.NewWriter(&limitWriter{ctx: ctx, w: w})
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
			return flate.NewWriter(w, deflateLevel)
		})
		return &partWriter{Writer: z, heads: heads}
	})
	return file.Write(io.Discard)
}

// limitWriter returns an error if the workbook is too large, or ctx has ended.
type limitWriter struct {
	ctx context.Context
	w   io.Writer
	n   int64
}

func (l *limitWriter) Write(p []byte) (int, error) {
	if l.ctx.Err() != nil {
		return 0, context.Cause(l.ctx)
	}
	l.n += int64(len(p))
	if l.n > maxZipBytes {
		return 0, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("The workbook would be larger than %d GB; export it as CSV, or export less of it.", maxZipBytes/1_000_000_000)}
	}
	n, err := l.w.Write(p)
	if err != nil {
		err = fmt.Errorf("write the file: %w", err)
	}
	return n, err
}
