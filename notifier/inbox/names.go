package inbox

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// defaultPrefix is the default of [Options.TablePrefix].
const defaultPrefix = "hark_"

// prefixPattern matches a prefix that needs no quotes. With the longest name it has at most the 63 bytes of PostgreSQL.
var prefixPattern = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,31}$`)

// maxSchema is the largest size of a name that PostgreSQL does not truncate, in bytes.
const maxSchema = 63

// names has the names of a store's tables. Queries and migrations in this package have a table's name in braces, such as
// {notifications}, and {prefix} before the name of an index. Queries have the schema of each table: behind a pooler in
// transaction mode a search_path does not last until the next transaction.
//
// {kept} is a condition for the notifications that have not expired, where the database keeps others for a while.
type names struct {
	schema   string // unquoted; empty for the first schema in the search_path
	prefix   string
	replacer *strings.Replacer
	texts    sync.Map // query of this package to query for the database
}

// OptionError is a mistake in [Options].
type OptionError struct {
	// Option is the name of the field, such as TablePrefix.
	Option string
	// Problem continues a sentence that begins with the option.
	Problem string
}

func (e *OptionError) Error() string { return e.Option + " " + e.Problem }

func newNames(d dialect, o Options) (*names, error) {
	n := &names{schema: o.Schema, prefix: o.TablePrefix}
	if n.prefix == "" {
		n.prefix = defaultPrefix
	}
	switch {
	case !prefixPattern.MatchString(n.prefix):
		return nil, &OptionError{"TablePrefix", fmt.Sprintf("%.40q is not possible; use 1 to 32 of a-z, 0-9 and _, beginning with a letter or _", n.prefix)}
	case n.schema != "" && d.createSchema == "":
		return nil, &OptionError{"Schema", fmt.Sprintf("%.40q is not possible with SQLite, which has no schemas; use a table prefix", n.schema)}
	case len(n.schema) > maxSchema || !utf8.ValidString(n.schema) || strings.Contains(n.schema, "\x00"):
		return nil, &OptionError{"Schema", fmt.Sprintf("%.80q is not possible; use up to %d bytes of UTF-8", n.schema, maxSchema)}
	}
	pairs := []string{"{prefix}", n.prefix, "{schema}", n.quotedSchema()}
	for _, table := range []string{"notifications", "receipts", "read_positions", "positions", "migrations", "expiry", "moves"} {
		pairs = append(pairs, "{"+table+"}", n.table(table))
	}
	if d.partitioned {
		// With + 0 no index fits. Otherwise PostgreSQL would combine the index by time with another one, and sort.
		pairs = append(pairs, "{kept}", "AND created_at + 0 >= (SELECT created_before FROM "+n.table("expiry")+")")
	} else {
		pairs = append(pairs, " {kept}", "")
	}
	if d.parameter != "$" {
		pairs = append(pairs, "$", d.parameter)
	}
	n.replacer = strings.NewReplacer(pairs...)
	return n, nil
}

// table returns the name of a table for a query.
func (n *names) table(table string) string {
	if n.schema == "" {
		return n.prefix + table
	}
	return n.quotedSchema() + "." + n.prefix + table
}

func (n *names) quotedSchema() string { return pgx.Identifier{n.schema}.Sanitize() }

// sql replaces the names in a query. It caches each query, so there must not be many different ones.
func (n *names) sql(query string) string {
	if text, ok := n.texts.Load(query); ok {
		return text.(string)
	}
	text := n.replacer.Replace(query)
	n.texts.Store(query, text)
	return text
}
