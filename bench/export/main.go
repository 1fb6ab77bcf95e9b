// Command export compares exports: excelize's StreamWriter as in its documentation, hark's xlsx and hark's CSV. All three read the
// same ten columns of mixed types from the same SQLite table. Every run is a process, so that its peak memory can be measured
// (VmHWM, so it needs Linux). The rounds are interleaved, so that a busy machine slows all of them.
//
//	go run ./bench/export -rows 1000000
package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"time"

	"github.com/xuri/excelize/v2"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/hark-jobs/hark/worker/export"
)

const query = "SELECT id, ordered_on, shipped_at, customer, country, status, items, total, paid, note FROM orders"

const table = `
CREATE TABLE orders (id INTEGER PRIMARY KEY, ordered_on DATE, shipped_at DATETIME, customer TEXT, country TEXT,
	status TEXT, items INT, total REAL, paid BOOLEAN, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
INSERT INTO orders SELECT i, date('2024-01-01', '+' || (i / 1000) || ' days'),
	CASE WHEN i % 4 THEN datetime('2024-01-02', '+' || (i * 37) || ' seconds') END, 'Customer Zoë ' || (i * 7919 % 20000),
	substr('ATCHCNDEESFRGBJPPLUS', 1 + i * 31 % 10 * 2, 2), CASE i % 3 WHEN 0 THEN 'new' WHEN 1 THEN 'paid' ELSE 'shipped' END,
	1 + i * 13 % 7, i * 7907 % 1000000 / 100.0, i % 2, CASE WHEN i % 3 = 0 THEN 'Leave it with the neighbour & ring twice, no. ' || i END
	FROM n`

// Run is the result of a run.
type Run struct {
	Seconds   float64
	PeakBytes int64
	FileBytes int64
}

// variants are the measured exports. The first one is the reference.
var variants = []struct {
	name string
	run  func(dir string, w io.Writer) error
}{
	{"excelize", plain},
	{"hark-xlsx", func(dir string, w io.Writer) error { return hark(dir, export.XLSX, w) }},
	{"hark-csv", func(dir string, w io.Writer) error { return hark(dir, export.CSV, w) }},
}

func main() {
	log.SetFlags(0)
	rows := flag.Int("rows", 200_000, "how many rows are exported")
	rounds := flag.Int("rounds", 5, "how often each is run")
	child := flag.String("child", "", "run this one alone and print what it came to as JSON (what the program runs itself with)")
	dir := flag.String("dir", "", "where the database is, with -child")
	profile := flag.String("cpuprofile", "", "a file for a CPU profile, with -child")
	flag.Parse()
	var err error
	if *child != "" {
		err = runChild(*child, *dir, *profile)
	} else {
		err = runAll(*rows, *rounds)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func runAll(rows, rounds int) error {
	dir, err := os.MkdirTemp("", "hark-bench-export-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := fill(dir, rows); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runs := make(map[string][]Run)
	for range rounds {
		for _, v := range variants {
			cmd := exec.Command(self, "-child", v.name, "-dir", dir)
			cmd.Stderr = os.Stderr
			out, err := cmd.Output()
			if err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			var r Run
			if err := json.Unmarshal(out, &r); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			runs[v.name] = append(runs[v.name], r)
		}
	}
	fmt.Printf("%d rows of ten columns, %d rounds, %s, %d CPUs\n\n", rows, rounds, runtime.Version(), runtime.NumCPU())
	fmt.Printf("%-10s %10s %22s %22s %10s %10s\n", "", "rows/s", "min..max", "times excelize", "peak MB", "file MB")
	for _, v := range variants {
		var speeds, ratios []float64
		var peak int64
		for i, r := range runs[v.name] {
			speeds = append(speeds, float64(rows)/r.Seconds)
			ratios = append(ratios, runs[variants[0].name][i].Seconds/r.Seconds)
			peak = max(peak, r.PeakBytes)
		}
		fmt.Printf("%-10s %10.0f %22s %22s %10.0f %10.1f\n", v.name, median(speeds),
			fmt.Sprintf("%.0f..%.0f", slices.Min(speeds), slices.Max(speeds)),
			fmt.Sprintf("%.2f (%.2f..%.2f)", median(ratios), slices.Min(ratios), slices.Max(ratios)),
			float64(peak)/1e6, float64(runs[v.name][0].FileBytes)/1e6)
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// fill creates the database.
func fill(dir string, rows int) error {
	db, err := sql.Open("sqlite", filepath.Join(dir, "shop.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	_, err = db.Exec(table, rows)
	return err
}

func runChild(name, dir, profile string) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	for _, v := range variants {
		if v.name != name {
			continue
		}
		var r Run
		start := time.Now()
		if err := v.run(dir, (*counter)(&r.FileBytes)); err != nil {
			return err
		}
		r.Seconds = time.Since(start).Seconds()
		var err error
		if r.PeakBytes, err = peak(); err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(r)
	}
	return fmt.Errorf("there is no %s", name)
}

// counter counts the bytes that are written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

var highWater = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// peak returns the peak memory of this process.
func peak() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	m := highWater.FindSubmatch(status)
	if m == nil {
		return 0, fmt.Errorf("no VmHWM in /proc/self/status")
	}
	kB, err := strconv.ParseInt(string(m[1]), 10, 64)
	return kB * 1024, err
}

func hark(dir string, format export.Format, w io.Writer) error {
	c, err := export.Parse("bench.yaml", fmt.Appendf(nil, `
databases: {shop: {driver: sqlite, dsn: %q}}
datasets: {orders: {database: shop, query: %q, count: none}}
`, filepath.Join(dir, "shop.db"), query))
	if err != nil {
		return err
	}
	e, err := export.Open(c)
	if err != nil {
		return err
	}
	defer e.Close()
	_, err = e.Run(context.Background(), export.Params{Dataset: "orders", Format: format}, w, nil)
	return err
}

// plain is the export of excelize's documentation: a slice of cells for each row, and excelize's own zip. Dates have a style; without
// one excelize looks for a style for each date, which takes much longer.
func plain(dir string, w io.Writer) error {
	db, err := sql.Open("sqlite", filepath.Join(dir, "shop.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	rows, err := db.Query(query)
	if err != nil {
		return err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	f := excelize.NewFile()
	defer f.Close()
	stream, err := f.NewStreamWriter("Sheet1")
	if err != nil {
		return err
	}
	date, err := f.NewStyle(&excelize.Style{NumFmt: 22})
	if err != nil {
		return err
	}
	header := make([]any, len(columns))
	for i, c := range columns {
		header[i] = c
	}
	if err := stream.SetRow("A1", header); err != nil {
		return err
	}
	dest := make([]any, len(columns))
	for n := 2; rows.Next(); n++ {
		values := make([]any, len(columns))
		for i := range dest {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		for i, v := range values {
			if _, ok := v.(time.Time); ok {
				values[i] = excelize.Cell{StyleID: date, Value: v}
			}
		}
		cell, err := excelize.CoordinatesToCellName(1, n)
		if err != nil {
			return err
		}
		if err := stream.SetRow(cell, values); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if err := stream.Flush(); err != nil {
		return err
	}
	return f.Write(w)
}
