package inbox

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A batch of a move has at most moveBatch rows, and all except the last have at most moveBytes.
const (
	moveBatch = 1000
	moveBytes = 4 << 20
)

// moveTable is a table that [Move] copies in the order of a unique index.
type moveTable struct {
	name        string
	columns     []string
	types       []string // of PostgreSQL
	key         []int    // the columns of the index
	condition   string   // selects the rows to copy
	partitioned bool
}

var moveTables = []moveTable{
	{
		name:    "notifications",
		columns: []string{"audience", "epoch", "seq", "key_id", "job_id", "created_at", "read_at", "deleted", "body"},
		types:   []string{"bytea", "bigint", "bigint", "bytea", "bytea", "bigint", "bigint", "smallint", "bytea"},
		key:     []int{3}, condition: " {kept}", partitioned: true,
	},
	{
		name:    "receipts",
		columns: []string{"reader", "epoch", "seq", "read_at", "deleted"},
		types:   []string{"bytea", "bigint", "bigint", "bigint", "smallint"},
		key:     []int{0, 1, 2},
	},
	{
		name:    "read_positions",
		columns: []string{"reader", "epoch", "seq", "read_at"},
		types:   []string{"bytea", "bigint", "bigint", "bigint"},
		key:     []int{0, 1, 2},
	},
}

// createdAtColumn is the column of notifications that decides the partition.
const createdAtColumn = 5

// next reads the next rows of a table. A value is an int64 or a []byte, which may be nil.
func (m *move) next(ctx context.Context, t moveTable) (batch [][]any, err error) {
	key := make([]string, len(t.key))
	for i, c := range t.key {
		key[i] = t.columns[c]
	}
	order := strings.Join(key, ", ")
	query := fmt.Sprintf(`SELECT %s FROM {%s} WHERE (%s) > ($1) %s ORDER BY %s LIMIT %d`, strings.Join(t.columns, ", "), t.name, order, t.condition, order, moveBatch)
	args := []any{m.at.key}
	if len(t.key) > 1 {
		query = strings.Replace(query, "($1)", "($1, $2, $3)", 1)
		args = append(args, m.at.epoch, m.at.seq)
	}
	rows, err := m.src.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	oldest, now := time.Now().Add(-oldest).UnixMilli(), time.Now().UnixMilli()
	for size := 0; size <= moveBytes && rows.Next(); {
		row, targets := make([]any, len(t.columns)), make([]any, len(t.columns))
		for i := range row {
			targets[i] = &row[i]
		}
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		for i, typ := range t.types {
			if typ != "bytea" {
				continue
			}
			value, ok := row[i].([]byte)
			if ok && value == nil {
				value = []byte{} // not NULL
			}
			row[i] = value
			size += len(value)
		}
		if t.partitioned && m.to.dialect.partitioned {
			row[createdAtColumn] = min(max(row[createdAtColumn].(int64), oldest), now)
		}
		batch = append(batch, row)
	}
	return batch, rows.Err()
}

// cursor returns the key of a row.
func (t moveTable) cursor(row []any) (key []byte, epoch, seq int64) {
	key = row[t.key[0]].([]byte)
	if len(t.key) > 1 {
		epoch, seq = row[t.key[1]].(int64), row[t.key[2]].(int64)
	}
	return key, epoch, seq
}

func createdAt(rows [][]any) (all []int64) {
	for _, row := range rows {
		all = append(all, row[createdAtColumn].(int64))
	}
	return all
}

// insert returns a function that inserts rows into the target.
func (t moveTable) insert(to *Store, rows [][]any) func(context.Context, transaction) error {
	if to.dialect.partitioned {
		return t.insertArrays(rows)
	}
	query := fmt.Sprintf(`INSERT INTO {%s} (%s) VALUES (?%s)`, t.name, strings.Join(t.columns, ", "), strings.Repeat(", ?", len(t.columns)-1))
	return func(ctx context.Context, tx transaction) error {
		insert, err := tx.tx.PrepareContext(ctx, tx.names.sql(query))
		if err != nil {
			return err
		}
		defer insert.Close()
		for _, row := range rows {
			for i := range row {
				if value, ok := row[i].([]byte); ok && value == nil {
					row[i] = nil // NULL
				}
			}
			if _, err := insert.ExecContext(ctx, row...); err != nil {
				return err
			}
		}
		return nil
	}
}

// insertArrays is insert for PostgreSQL: one statement, with an array for each column.
func (t moveTable) insertArrays(rows [][]any) func(context.Context, transaction) error {
	arrays, args := make([]string, len(t.columns)), make([]any, len(t.columns))
	for i, typ := range t.types {
		arrays[i] = "$" + strconv.Itoa(i+1) + "::" + typ + "[]"
		if typ == "bytea" {
			args[i] = column[[]byte](rows, i)
		} else {
			args[i] = column[int64](rows, i)
		}
	}
	names := strings.Join(t.columns, ", ")
	query := fmt.Sprintf(`INSERT INTO {%s} (%s) SELECT * FROM unnest(%s)`, t.name, names, strings.Join(arrays, ", "))
	return func(ctx context.Context, tx transaction) error {
		_, err := tx.ExecContext(ctx, query, args...)
		return err
	}
}

func column[T any](rows [][]any, i int) []T {
	values := make([]T, 0, len(rows))
	for _, row := range rows {
		values = append(values, row[i].(T))
	}
	return values
}
