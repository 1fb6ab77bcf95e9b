package export

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

//go:embed sample.yaml
var sampleYAML []byte

//go:embed sample.sql
var sampleSQL string

const sampleFile = "shop.db"

// SampleConfig returns the config without a hark.yaml: the datasets of a sample shop, whose database is in dir. [Exporter.Prepare], or
// the first export that needs the database, creates it.
func SampleConfig(dir string) (*Config, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("sample shop: %w", err)
	}
	c, err := parse("sample.yaml", sampleYAML, dir)
	if err != nil {
		return nil, err
	}
	for i := range c.Databases {
		c.Databases[i].preparing = "Preparing the sample shop"
		c.Databases[i].prepare = func(ctx context.Context) error {
			_, err := SampleShop(ctx, dir)
			return err
		}
	}
	return c, nil
}

// SampleYAML returns the text of the sample shop's config, as a template.
func SampleYAML() []byte { return append([]byte(nil), sampleYAML...) }

// SampleShop creates the database of the sample shop in dir unless it exists, and returns its path. The data is always the same. The
// file gets its name when it is complete, so that a killed process leaves no incomplete database. Several processes may call it at a
// time.
func SampleShop(ctx context.Context, dir string) (dbPath string, err error) {
	dbPath = filepath.Join(dir, sampleFile)
	if _, err := os.Stat(dbPath); err == nil {
		return dbPath, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("sample shop: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("sample shop: %w", err)
	}
	tmp, err := os.CreateTemp(dir, "."+sampleFile+"-*")
	if err != nil {
		return "", fmt.Errorf("sample shop: %w", err)
	}
	defer os.Remove(tmp.Name()) // does nothing after the rename
	if err := errors.Join(tmp.Chmod(0o644), tmp.Close(), fillShop(ctx, tmp.Name())); err != nil {
		return "", fmt.Errorf("sample shop: %w", err)
	}
	if err := os.Rename(tmp.Name(), dbPath); err != nil {
		return "", fmt.Errorf("sample shop: %w", err)
	}
	return dbPath, nil
}

// fillShop writes without a journal and without syncing, since an incomplete file is removed anyway. It syncs once, at the end.
func fillShop(ctx context.Context, path string) (err error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+
		"?_pragma=journal_mode(off)&_pragma=synchronous(off)&_pragma=locking_mode(exclusive)&_pragma=cache_size(-8000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	if _, err := tx.ExecContext(ctx, sampleSQL); err != nil {
		return err
	}
	if err := newShop().fill(ctx, tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return syncFile(path)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// inserter collects rows and inserts many with one statement.
type inserter struct {
	ctx     context.Context
	tx      *sql.Tx
	table   string
	columns int
	stmt    *sql.Stmt
	args    []any
}

// rowsPerInsert is large enough that the cost per statement does not matter.
const rowsPerInsert = 100

func (in *inserter) add(values ...any) error {
	in.columns = len(values)
	in.args = append(in.args, values...)
	if len(in.args) < rowsPerInsert*in.columns {
		return nil
	}
	if in.stmt == nil {
		var err error
		if in.stmt, err = in.tx.PrepareContext(in.ctx, in.statement(rowsPerInsert)); err != nil {
			return err
		}
	}
	_, err := in.stmt.ExecContext(in.ctx, in.args...)
	in.args = in.args[:0]
	return err
}

// close inserts the remaining rows.
func (in *inserter) close() error {
	if in.stmt != nil {
		defer in.stmt.Close()
	}
	if len(in.args) == 0 {
		return nil
	}
	_, err := in.tx.ExecContext(in.ctx, in.statement(len(in.args)/in.columns), in.args...)
	return err
}

func (in *inserter) statement(rows int) string {
	row := "(" + strings.TrimSuffix(strings.Repeat("?,", in.columns), ",") + ")"
	return "INSERT INTO " + in.table + " VALUES " + strings.TrimSuffix(strings.Repeat(row+",", rows), ",")
}
