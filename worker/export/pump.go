package export

import (
	"fmt"
	"runtime/debug"
)

// pumpCells is about how many cells a batch of rows has, and pumpBatches how many batches there are.
const (
	pumpCells   = 4096
	pumpBatches = 4
)

// pump hands rows to a goroutine that writes them, in batches whose memory is used again and again. Its
// methods are called from one goroutine.
type pump struct {
	width int
	batch []cell // the batch being filled
	full  chan []cell
	free  chan []cell
	done  chan struct{} // closed when the goroutine has ended
	err   error         // why it ended; to be read after done
}

func newPump(out sheet, width int) *pump {
	p := &pump{width: width, full: make(chan []cell, pumpBatches), free: make(chan []cell, pumpBatches), done: make(chan struct{})}
	for range pumpBatches {
		p.free <- make([]cell, 0, max(1, pumpCells/max(1, width))*width)
	}
	p.batch = <-p.free
	go p.run(out)
	return p
}

func (p *pump) run(out sheet) {
	defer close(p.done)
	defer func() {
		if v := recover(); v != nil { // in this goroutine nobody else would, and hark would end
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

// row returns the cells of the next row, to be filled in before the next call.
func (p *pump) row() ([]cell, error) {
	n := len(p.batch)
	if n == cap(p.batch) {
		p.full <- p.batch // which has room for all batches
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

// close has the last rows written and ends the goroutine.
func (p *pump) close() error {
	p.full <- p.batch
	close(p.full)
	<-p.done
	return p.err
}
