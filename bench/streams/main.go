// Streams measures the real program, hark serve, with many open event streams: the memory of a stream and the cost of opening it; the cost and
// the latency of a notification; the cost of a live event; the effects of broadcasts, of readers that do not read, and of a crash after which everybody reconnects.
//
//	go run ./bench/streams [-only memory,publish,…] [-n 15000] [-rounds 3]
//
// Each case has a fresh server in a process of its own, over loopback, and also checks the arrivals. The readers are in this process: one goroutine
// reads them all, since they share the machine with the server.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/hark-jobs/hark/bench/proc"
)

// settings are the flags of the cases.
type settings struct {
	n    int    // streams of cases about many streams
	mid  int    // streams of other cases
	rows int    // of the inbox
	log  string // SQLite file that keeps the inbox between runs; temporary if empty
	hark string // the program
	dir  string // temporary
}

// bench is a case.
type bench struct {
	name string
	rare bool // only runs by name
	run  func(context.Context, *settings, *report) error
}

var benches = []bench{
	{name: "memory", run: memory},
	{name: "publish", run: publish},
	{name: "paced", run: paced},
	{name: "broadcast", run: broadcast},
	{name: "slow", run: slow},
	{name: "storm", run: storm},
	{name: "live", run: live},
	{name: "polling", run: polling, rare: true},
	{name: "compare", run: compare, rare: true},
	{name: "inbox", run: inboxes, rare: true},
}

func main() {
	if len(os.Args) == 4 {
		switch os.Args[1] {
		case baselineArg:
			fail(serveBaseline(os.Args[2]))
		case floorArg:
			fail(serveFloor(os.Args[2], os.Args[3]))
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "streams:", err)
	os.Exit(1)
}

func run(ctx context.Context) error {
	var names, rare []string
	for _, b := range benches {
		names = append(names, b.name)
		if b.rare {
			rare = append(rare, b.name)
		}
	}
	var s settings
	only := flag.String("only", "", "cases to run, with commas; all but "+strings.Join(rare, ", ")+" if empty: "+strings.Join(names, ", "))
	rounds := flag.Int("rounds", 1, "how often to run each case")
	flag.IntVar(&s.n, "n", 15_000, "streams of memory, broadcast and storm; the others have a third")
	flag.IntVar(&s.rows, "rows", 10_000_000, "notifications of inbox")
	flag.StringVar(&s.log, "log", "", "SQLite file of inbox, kept for the next run; temporary if empty")
	flag.StringVar(&s.hark, "hark", "", "program to measure; built from this module if empty")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 || s.n < 30 || s.rows < 10_000 {
		flag.Usage()
		os.Exit(2)
	}
	chosen, err := choose(*only, names)
	if err != nil {
		return err
	}
	s.mid = s.n / 3

	files, err := proc.RaiseFiles()
	if err != nil {
		return err
	}
	if need := uint64(s.n + 500); files < need {
		return fmt.Errorf("a process may open %d files here, but %d streams need %d; give a smaller -n", files, s.n, need)
	}
	debug.SetGCPercent(800) // the cores are for the server
	if s.dir, err = os.MkdirTemp("", "hark-bench-*"); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if s.hark == "" {
		s.hark = filepath.Join(s.dir, "hark")
		if err := proc.Build(ctx, "github.com/hark-jobs/hark/cmd/hark", s.hark); err != nil {
			return err
		}
	}
	fmt.Println(proc.Machine())
	r := newReport(os.Stdout)
	for round := range *rounds {
		if *rounds > 1 {
			fmt.Printf("\nround %d of %d, %s\n", round+1, *rounds, proc.Machine())
		}
		for _, b := range chosen {
			r.bench = b.name
			if err := b.run(ctx, &s, r); err != nil {
				return fmt.Errorf("%s: %w", b.name, err)
			}
		}
	}
	if *rounds > 1 {
		r.summary()
	}
	return nil
}

func choose(only string, names []string) (chosen []bench, err error) {
	var wanted []string
	if only != "" {
		wanted = strings.Split(only, ",")
	}
	for _, name := range wanted {
		if !slices.Contains(names, name) {
			return nil, fmt.Errorf("there is no case %q; there are %s", name, strings.Join(names, ", "))
		}
	}
	for _, b := range benches {
		if slices.Contains(wanted, b.name) || wanted == nil && !b.rare {
			chosen = append(chosen, b)
		}
	}
	return chosen, nil
}
