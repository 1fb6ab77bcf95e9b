// Jobs measures the rate of no-op jobs of hark, River (on PostgreSQL) and Asynq (on Redis), from the enqueueing call to the finished job. Their
// rounds alternate in one run, so that other load on the machine affects all three.
//
//	cd bench/jobs && go run . [-n 20000] [-rounds 5] [-only hark,river] [-forms come,drain]
//
// It is a module of its own, so that hark does not depend on the other systems. It starts and stops their servers in temporary folders. It needs
// the programs of PostgreSQL and Redis, and Linux.
//
// It measures two forms. In "come", each client enqueues one job at a time, through the system's Go client, while the workers run. The clock runs
// from the first enqueue to the end of the last job. In "drain", all jobs are enqueued before the workers start, and the clock starts with them.
//
// A job is finished when its end is stored: in hark the state succeeded and also the notification of its user, which the others do not have; in
// River the state completed; in Asynq its removal from the queue. hark's jobs belong to -users different users.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// settings are the flags of a run.
type settings struct {
	n, clients, users int
	rounds            int
	only, forms       []string
	slots             int // of hark's worker
	riverWorkers      int
	riverConns        int
	asynqWorkers      int
	asynqCheck        time.Duration
	strict            bool // every system syncs to disk before it responds
	profiles          string
	dir               string // temporary
	log               *slog.Logger
}

// system is one of the compared systems. Its server runs from opening it until close.
type system interface {
	// reset empties the system before each round.
	reset(context.Context) error
	// enqueuer returns a function that enqueues a client's i-th job. The id is that of finished.
	enqueuer(ctx context.Context) (func(ctx context.Context, i int) (id string, err error), error)
	// work starts the workers, and calls finished for each job, from one goroutine at a time; stop ends them.
	work(ctx context.Context, finished func(id string)) (stop func() error, err error)
	// check returns an error unless n jobs are stored as finished.
	check(ctx context.Context, n int) error
	// serverCPU returns the CPU time of the server's processes so far; 0 if the server is in this process.
	serverCPU() (time.Duration, error)
	about() string
	close() error
}

// contestant is an entry of the comparison.
type contestant struct {
	name string
	open func(context.Context, *settings) (system, error)
}

var systems = []contestant{
	{"hark", openHark},
	{"river", openRiver},
	{"asynq", openAsynq},
}

func main() {
	s := &settings{log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	flag.IntVar(&s.n, "n", 20_000, "jobs in a round")
	flag.IntVar(&s.clients, "clients", 32, "clients that enqueue, one job at a time each")
	flag.IntVar(&s.users, "users", 1000, "users whom hark's jobs belong to")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds of each system and form")
	flag.IntVar(&s.slots, "slots", 128, "slots of hark's worker")
	flag.IntVar(&s.riverWorkers, "river-workers", 2000, "River's MaxWorkers; its own benchmark takes 2000")
	flag.IntVar(&s.riverConns, "river-conns", 32, "connections in River's pool")
	flag.IntVar(&s.asynqWorkers, "asynq-workers", 64, "Asynq's Concurrency")
	flag.DurationVar(&s.asynqCheck, "asynq-check", time.Second, "Asynq's TaskCheckInterval; 1s is its default")
	flag.BoolVar(&s.strict, "strict", false, "every system syncs to disk before it answers")
	flag.StringVar(&s.profiles, "profiles", "", "folder for profiles of each round's measured part; costs time itself")
	only := flag.String("only", "hark,river,asynq", "systems to measure")
	forms := flag.String("forms", "come,drain", "forms to measure")
	flag.Parse()
	s.only, s.forms = strings.Split(*only, ","), strings.Split(*forms, ",")

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, s)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s *settings) (err error) {
	if s.n < 1 || s.clients < 1 || s.users < 1 || s.rounds < 1 {
		return errors.New("-n, -clients, -users and -rounds must be at least 1")
	}
	for _, name := range s.only {
		if !slices.ContainsFunc(systems, func(one contestant) bool { return one.name == name }) {
			return fmt.Errorf("there is no system %q", name)
		}
	}
	for _, form := range s.forms {
		if form != "come" && form != "drain" {
			return fmt.Errorf("there is no form %q", form)
		}
	}
	// In /tmp, not in TMPDIR: PostgreSQL's user may have no access to a folder of root.
	if s.dir, err = os.MkdirTemp("/tmp", "hark-bench-jobs-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	if err := os.Chmod(s.dir, 0o755); err != nil {
		return err
	}

	results := make(map[string][]round) // by system and form
	var open []system
	var names []string
	defer func() {
		for _, one := range open {
			err = errors.Join(err, one.close())
		}
	}()
	fmt.Printf("%d jobs a round, %d rounds, %d clients, %d processors, %s\n", s.n, s.rounds, s.clients, runtime.NumCPU(), runtime.Version())
	for _, one := range systems {
		if !slices.Contains(s.only, one.name) {
			continue
		}
		opened, err := one.open(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		open, names = append(open, opened), append(names, one.name)
		fmt.Printf("%-6s %s\n", one.name, opened.about())
	}
	for i := range s.rounds {
		for _, form := range s.forms {
			for j, one := range open {
				r, err := measure(ctx, s, one, form, fmt.Sprintf("%s-%s-%d", names[j], form, i+1))
				if err != nil {
					return fmt.Errorf("%s, %s: %w", names[j], form, err)
				}
				fmt.Printf("round %d  %-6s %-6s %7.0f jobs/s  %4.0f µs CPU/job\n", i+1, form, names[j], r.rate, r.cpu*1e6)
				results[names[j]+form] = append(results[names[j]+form], r)
			}
		}
	}
	report(s, names, results)
	return nil
}

// round is the result of a round.
type round struct {
	rate     float64 // jobs a second
	cpu      float64 // seconds per job, of this process and the server
	p50, p99 time.Duration
}

// stamp is the time of something that happened to a job.
type stamp struct {
	id string
	at time.Time
}

// measure runs one round of one system.
func measure(ctx context.Context, s *settings, sys system, form, name string) (r round, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	if err := sys.reset(ctx); err != nil {
		return r, err
	}
	enqueue, err := sys.enqueuer(ctx)
	if err != nil {
		return r, err
	}
	ends, done := make([]stamp, 0, s.n), make(chan struct{})
	finished := func(id string) {
		ends = append(ends, stamp{id, time.Now()})
		if len(ends) == s.n {
			close(done)
		}
	}
	starts := make([][]stamp, s.clients)
	enqueueAll := func() error {
		var wg sync.WaitGroup
		errs := make([]error, s.clients)
		for c := range s.clients {
			wg.Go(func() {
				for i := c; i < s.n; i += s.clients {
					at := time.Now()
					id, err := enqueue(ctx, i)
					if err != nil {
						errs[c] = err
						return
					}
					starts[c] = append(starts[c], stamp{id, at})
				}
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	}
	if form == "drain" {
		if err := enqueueAll(); err != nil {
			return r, err
		}
	}
	stop := func() error { return nil }
	if form == "come" { // the workers are running and idle
		if stop, err = sys.work(ctx, finished); err != nil {
			return r, err
		}
		time.Sleep(500 * time.Millisecond)
	}
	runtime.GC()
	endProfile, err := startProfile(s, name)
	if err != nil {
		return r, err
	}
	cpu, err := allCPU(sys)
	if err != nil {
		return r, err
	}
	begin := time.Now()
	if form == "drain" {
		if stop, err = sys.work(ctx, finished); err != nil {
			return r, errors.Join(err, endProfile())
		}
	} else {
		err = enqueueAll()
	}
	if err == nil {
		select {
		case <-done:
		case <-ctx.Done():
			err = fmt.Errorf("not all of the %d jobs finished: %w", s.n, context.Cause(ctx))
		}
	}
	if err != nil {
		return r, errors.Join(err, endProfile(), stop())
	}
	took := ends[len(ends)-1].at.Sub(begin)
	after, err := allCPU(sys)
	if err := errors.Join(err, endProfile(), sys.check(ctx, s.n), stop()); err != nil {
		return r, err
	}
	r.rate, r.cpu = float64(s.n)/took.Seconds(), (after-cpu).Seconds()/float64(s.n)
	r.p50, r.p99 = latencies(slices.Concat(starts...), ends)
	return r, nil
}

// allCPU returns the CPU time of this process and the system's server so far.
func allCPU(sys system) (time.Duration, error) {
	server, err := sys.serverCPU()
	if err != nil {
		return 0, err
	}
	var own syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &own); err != nil {
		return 0, err
	}
	return server + time.Duration(own.Utime.Nano()+own.Stime.Nano()), nil
}

// latencies returns the median and the 99th percentile of the time from the enqueueing call to the end.
func latencies(starts, ends []stamp) (p50, p99 time.Duration) {
	began := make(map[string]time.Time, len(starts))
	for _, one := range starts {
		began[one.id] = one.at
	}
	took := make([]time.Duration, 0, len(ends))
	for _, one := range ends {
		took = append(took, one.at.Sub(began[one.id]))
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100]
}

func report(s *settings, names []string, results map[string][]round) {
	for _, form := range s.forms {
		what := map[string]string{"come": "as they come: enqueued one by one while workers run", "drain": "drain: workers start on a full queue"}[form]
		fmt.Printf("\n%s\n%-7s %10s %18s %14s", what, "", "jobs/s", "min..max", "CPU µs/job")
		if form == "come" {
			fmt.Printf(" %10s %10s", "p50", "p99")
		}
		fmt.Println()
		for _, name := range names {
			rounds := results[name+form]
			rates := sorted(rounds, func(r round) float64 { return r.rate })
			fmt.Printf("%-7s %10.0f %18s %14.0f", name, median(rates), fmt.Sprintf("%.0f..%.0f", rates[0], rates[len(rates)-1]),
				1e6*median(sorted(rounds, func(r round) float64 { return r.cpu })))
			if form == "come" {
				fmt.Printf(" %10v %10v", middle(rounds, func(r round) time.Duration { return r.p50 }), middle(rounds, func(r round) time.Duration { return r.p99 }))
			}
			fmt.Println()
		}
		if names[0] != "hark" {
			continue
		}
		for _, name := range names[1:] { // each round of hark and the following one of the other system
			ratios := make([]float64, s.rounds)
			for i := range ratios {
				ratios[i] = results["hark"+form][i].rate / results[name+form][i].rate
			}
			slices.Sort(ratios)
			fmt.Printf("hark / %-6s %.2f (%.2f..%.2f)\n", name, median(ratios), ratios[0], ratios[len(ratios)-1])
		}
	}
}

func sorted[T cmp.Ordered](rounds []round, of func(round) T) []T {
	all := make([]T, 0, len(rounds))
	for _, r := range rounds {
		all = append(all, of(r))
	}
	slices.Sort(all)
	return all
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

func middle(rounds []round, of func(round) time.Duration) time.Duration {
	all := sorted(rounds, of)
	return all[len(all)/2].Round(100 * time.Microsecond)
}
