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

// migrate migrates the tables in one transaction. Several processes may call it at a time. It refuses a database that a newer
// hark has migrated.
func migrate(ctx context.Context, db *sql.DB, d dialect, n *names) error {
	files, err := fs.Glob(migrations, "migrations/"+d.name+"/*.sql")
	if err != nil {
		return err
	}
	begun, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	defer begun.Rollback() // does nothing after Commit
	tx := transaction{begun, n}
	if _, err := tx.ExecContext(ctx, d.lockMigrations); err != nil {
		return fmt.Errorf("migrate: lock: %w", err)
	}
	if err := prepareSchema(ctx, tx, d); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	var at int
	if err := tx.QueryRowContext(ctx, `SELECT COALESCE(MAX(version), 0) FROM {migrations}`).Scan(&at); err != nil {
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
			return fmt.Errorf("migrate: %s: %w", file, tx.names.explain(d, err))
		}
	}
	if at > newest {
		return fmt.Errorf("migrate: the database has version %d, from a newer hark; this hark supports up to %d", at, newest)
	}
	if err := begun.Commit(); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// prepareSchema creates the schema and the table of migrations if they are missing. It checks first: without the right to
// create, PostgreSQL refuses CREATE … IF NOT EXISTS also for what exists.
func prepareSchema(ctx context.Context, tx transaction, d dialect) error {
	if tx.names.schema != "" {
		var there bool
		if err := tx.QueryRowContext(ctx, d.hasSchema, tx.names.schema).Scan(&there); err != nil {
			return err
		}
		if !there {
			if _, err := tx.ExecContext(ctx, d.createSchema); err != nil {
				if d.isDenied(err) {
					return fmt.Errorf("schema %[1]s does not exist, and this database user is not allowed to create it; run CREATE SCHEMA %[1]s AUTHORIZATION <user>: %[2]w",
						tx.names.quotedSchema(), err)
				}
				return fmt.Errorf("create schema %s: %w", tx.names.quotedSchema(), err)
			}
		}
	}
	var there bool
	if err := tx.QueryRowContext(ctx, d.hasTable, tx.names.table("migrations")).Scan(&there); err != nil || there {
		return tx.names.explain(d, err)
	}
	_, err := tx.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS {migrations} (version BIGINT PRIMARY KEY)`)
	return tx.names.explain(d, err)
}

// explain adds to a permission error what to grant.
func (n *names) explain(d dialect, err error) error {
	if err == nil || !d.isDenied(err) {
		return err
	}
	if n.schema == "" {
		return fmt.Errorf("this database user is not allowed to create tables in the first schema of its search_path; run GRANT USAGE, CREATE ON SCHEMA public TO <user>, or give the inbox a schema: %w", err)
	}
	return fmt.Errorf("this database user is not allowed to create tables in schema %[1]s; run GRANT USAGE, CREATE ON SCHEMA %[1]s TO <user>: %[2]w", n.quotedSchema(), err)
}

// apply runs the statements of a file one by one, as PostgreSQL's protocol requires. Each ends with a semicolon at the end of a
// line.
func apply(ctx context.Context, tx transaction, version int, text string) error {
	for statement := range strings.SplitSeq(text, ";\n") {
		statement = strings.TrimSpace(statement)
		if statement == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO {migrations} (version) VALUES ($1)`, version)
	return err
}

// migrationVersion returns the number at the start of a file's name.
func migrationVersion(file string) (int, error) {
	name := file[strings.LastIndexByte(file, '/')+1:]
	number, _, _ := strings.Cut(name, "_")
	version, err := strconv.Atoi(number)
	if err != nil || version < 1 {
		return 0, fmt.Errorf("migrate: %s does not begin with a number", name)
	}
	return version, nil
}
