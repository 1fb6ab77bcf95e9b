package export

import (
	"fmt"
	"runtime/debug"
)

// The approximate number of cells in a batch of rows, and the number of batches.
const (
	batchCells = 4096
	batchCount = 4
)

// batchWriter passes rows to a goroutine that writes them, in batches whose memory is reused. Its methods must be called on one
// goroutine.
type batchWriter struct {
	width int
	batch []cell // the batch being filled
	full  chan []cell
	free  chan []cell
	done  chan struct{} // closed when the goroutine has ended
	err   error         // why it has ended; valid after done
}

func newBatchWriter(out sheet, width int) *batchWriter {
	p := &batchWriter{width: width, full: make(chan []cell, batchCount), free: make(chan []cell, batchCount), done: make(chan struct{})}
	for range batchCount {
		p.free <- make([]cell, 0, max(1, batchCells/max(1, width))*width)
	}
	p.batch = <-p.free
	go p.run(out)
	return p
}

func (p *batchWriter) run(out sheet) {
	defer close(p.done)
	defer func() {
		if v := recover(); v != nil { // without this, a panic on this goroutine would end hark
			p.err = fmt.Errorf("export: panic: %v\n%s", v, debug.Stack())
		}
	}()
	for batch := range p.full {
		for i := 0; i < len(batch); i += p.width {
			if p.err = out.write(batch[i : i+p.width]); p.err != nil {
				return
			}
		}
		p.free <- batch[:0]
	}
}

// row returns the cells of the next row, which the caller must set before the next call.
func (p *batchWriter) row() ([]cell, error) {
	n := len(p.batch)
	if n == cap(p.batch) {
		p.full <- p.batch // does not block: the channel has space for all batches
		p.batch = nil
		select {
		case p.batch = <-p.free:
		case <-p.done:
			return nil, p.err
		}
		n = 0
	}
	p.batch = p.batch[:n+p.width]
	return p.batch[n:], nil
}

// close writes the last rows and ends the goroutine.
func (p *batchWriter) close() error {
	p.full <- p.batch
	close(p.full)
	<-p.done
	return p.err
}
