package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
)

// startProfile profiles CPU, mutexes, blocking and allocations until end is called, which writes the files.
func startProfile(s *settings, name string) (end func() error, err error) {
	if s.profiles == "" {
		return func() error { return nil }, nil
	}
	create := func(kind string) (*os.File, error) {
		return os.Create(filepath.Join(s.profiles, name+"."+kind+".prof"))
	}
	cpu, err := create("cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, errors.Join(err, cpu.Close())
	}
	runtime.SetMutexProfileFraction(10)
	runtime.SetBlockProfileRate(10_000)
	return func() error {
		pprof.StopCPUProfile()
		errs := []error{cpu.Close()}
		for _, kind := range []string{"mutex", "block", "allocs"} {
			f, err := create(kind)
			if err == nil {
				err = errors.Join(pprof.Lookup(kind).WriteTo(f, 0), f.Close())
			}
			errs = append(errs, err)
		}
		runtime.SetMutexProfileFraction(0)
		runtime.SetBlockProfileRate(0)
		return errors.Join(errs...)
	}, nil
}
