package inbox

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed migrations
var migrations embed.FS

// migrate brings the tables up to date in one transaction. Several processes may do so at once. It
// refuses a database that a newer hark has changed.
func migrate(ctx context.Context, db *sql.DB, d dialect) error {
	files, err := fs.Glob(migrations, "migrations/"+d.name+"/*.sql")
	if err != nil {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer tx.Rollback() // does nothing after Commit
	if _, err := tx.ExecContext(ctx, d.lockMigrations); err != nil {
		return fmt.Errorf("migrate: lock: %w", err)
	}
	const table = `CREATE TABLE IF NOT EXISTS hark_migrations (version BIGINT PRIMARY KEY)`
	if _, err := tx.ExecContext(ctx, table); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var at int
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM hark_migrations`).Scan(&at); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	newest := 0
	for _, file := range files { // Glob sorts them
		version, err := migrationVersion(file)
		if err != nil {
			return err
		}
		newest = version
		if version <= at {
			continue
		}
		text, err := migrations.ReadFile(file)
		if err != nil {
			return err
		}
		if err := apply(ctx, tx, version, string(text)); err != nil {
			return fmt.Errorf("migrate: %s: %w", file, err)
		}
	}
	if at > newest {
		return fmt.Errorf("migrate: the database is at version %d, made by a newer hark; this one knows %d", at, newest)
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// apply runs a file's statements one by one, as PostgreSQL's protocol wants it. Each ends with a semicolon
// at the end of a line.
func apply(ctx context.Context, tx *sql.Tx, version int, text string) error {
	for statement := range strings.SplitSeq(text, ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO hark_migrations (version) VALUES ($1)`, version)
	return err
}

// migrationVersion reads the number that a file's name begins with.
func migrationVersion(file string) (int, error) {
	name := file[strings.LastIndexByte(file, '/')+1:]
	number, _, _ := strings.Cut(name, "_")
	version, err := strconv.Atoi(number)
	if err != nil || version < 1 {
		return 0, fmt.Errorf("migrate: %s does not begin with a number", name)
	}
	return version, nil
}
