package inbox

import "time"

// SetGather sets how long f gathers, before it runs.
func (f *Filler) SetGather(d time.Duration) { f.gather = d }
