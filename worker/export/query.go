package export

import (
	"fmt"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// Driver is a kind of database.
type Driver string

// The kinds of databases of datasets.
const (
	SQLite   Driver = "sqlite"
	Postgres Driver = "postgres"
	MySQL    Driver = "mysql"
)

// Drivers lists every driver.
var Drivers = []Driver{SQLite, Postgres, MySQL}

// Statement is a query with its named params (:from) replaced by the placeholders of its driver.
type Statement struct {
	SQL string
	// Args has the name of each placeholder's param, in order. PostgreSQL and SQLite have one entry per param, MySQL one per
	// occurrence.
	Args []string
}

// QueryError is a query that cannot be rewritten.
type QueryError struct {
	Offset int    // in the query, in bytes
	Reason string // continues a sentence that begins with "the query"
}

func (e *QueryError) Error() string { return "the query " + e.Reason }

// Rewrite replaces the named params of one SQL statement with the placeholders of its driver, and removes a trailing semicolon.
// Strings, quoted identifiers, comments and casts (::date) do not change.
//
// :user is the user of the job, and :claims.NAME a claim of the token that it was enqueued with. Both are texts.
//
// A placeholder has the declared type of its param, where the driver would have to guess it: PostgreSQL refuses "$1 IS NULL" without
// a type, and MySQL compares a decimal with a string as floating point. Params that are not in types get no type.
func Rewrite(driver Driver, query string, types map[string]jobs.ParamType) (Statement, error) {
	r := rewriter{driver: driver, query: query, types: types, index: make(map[string]int)}
	if err := r.run(); err != nil {
		return Statement{}, err
	}
	return Statement{SQL: strings.TrimSpace(r.out.String()), Args: r.args}, nil
}

type rewriter struct {
	driver Driver
	query  string
	types  map[string]jobs.ParamType
	out    strings.Builder
	args   []string
	index  map[string]int // the number of each param, from 1
}

func (r *rewriter) run() error {
	q := r.query
	end := -1 // the offset of the statement's semicolon
	empty := true
	for i := 0; i < len(q); {
		n, reason := r.skip(i)
		if reason != "" {
			return &QueryError{i, reason}
		}
		switch {
		case n > 0 && !isComment(q[i:]) && end >= 0:
			return &QueryError{i, "must be one statement, but continues after a semicolon"}
		case n > 0:
			empty = empty && isComment(q[i:])
			r.out.WriteString(q[i : i+n])
			i += n
		case q[i] == ';':
			if end >= 0 {
				return &QueryError{i, "must be one statement, but has a second semicolon"}
			}
			end = i
			i++
		case end >= 0 && !isSpace(q[i]):
			return &QueryError{i, "must be one statement, but continues after a semicolon"}
		case q[i] == ':':
			empty = false
			i += r.colon(i)
		case q[i] == '?' && r.driver != Postgres:
			return &QueryError{i, "has a ? placeholder; write a named param like :from"}
		case q[i] == '$' && r.driver == Postgres && i+1 < len(q) && isDigit(q[i+1]) && (i == 0 || !isWord(q[i-1])):
			return &QueryError{i, "has a $ placeholder; write a named param like :from"}
		default:
			empty = empty && isSpace(q[i])
			r.out.WriteByte(q[i])
			i++
		}
	}
	if empty {
		return &QueryError{0, "holds no SQL"}
	}
	return nil
}

// colon writes a cast, an assignment or a named param that begins with the colon at i, and returns its length in the query. A colon
// directly after a word or a bracket begins no param: array[lo:hi].
func (r *rewriter) colon(i int) int {
	q := r.query
	if strings.HasPrefix(q[i:], "::") {
		r.out.WriteString("::")
		return 2
	}
	j := i + 1
	for j < len(q) && isName(q[j]) {
		j++
	}
	if j == i+1 || isDigit(q[i+1]) || i > 0 && (isWord(q[i-1]) || strings.IndexByte(`)]"'`+"`", q[i-1]) >= 0) || j < len(q) && isWord(q[j]) {
		r.out.WriteByte(':')
		return 1
	}
	name := q[i+1 : j]
	if claim := claimName(q[j:]); name == identityClaims && claim != "" {
		name += "." + claim
		j += 1 + len(claim)
	}
	r.placeholder(name)
	return j - i
}

// The params of a query for the identity of the job's user.
const (
	identityUser   = "user"
	identityClaims = "claims" // followed by a dot and the claim's name
)

// claimName returns the name of the claim in a text like ".department = 1", or "".
func claimName(q string) string {
	end := 1
	for end < len(q) && (isName(q[end]) || 'A' <= q[end] && q[end] <= 'Z') {
		end++
	}
	if q == "" || q[0] != '.' {
		return ""
	}
	return q[1:end]
}

// isIdentity reports whether an argument of a statement comes from the identity of the job's user. claim is the name of its claim; empty
// for the user.
func isIdentity(arg string) (claim string, ok bool) {
	claim, isClaim := strings.CutPrefix(arg, identityClaims+".")
	if isClaim {
		return claim, true
	}
	return "", arg == identityUser
}

// sqliteName returns the name of an argument in SQLite, whose names have no dots. Names of params have no capitals.
func sqliteName(arg string) string {
	if claim, ok := isIdentity(arg); ok && claim != "" {
		return "CLAIM_" + claim
	}
	return arg
}

// pgTypes and myCasts have the databases' types for the declared types of params.
var (
	pgTypes = map[jobs.ParamType]string{
		jobs.TypeString: "text", jobs.TypeInteger: "bigint", jobs.TypeNumber: "numeric",
		jobs.TypeBoolean: "boolean", jobs.TypeDate: "date", jobs.TypeTime: "timestamptz",
	}
	myCasts = map[jobs.ParamType]string{
		jobs.TypeNumber: "DECIMAL(65,30)", jobs.TypeDate: "DATE", jobs.TypeTime: "DATETIME(6)",
	}
)

func (r *rewriter) placeholder(name string) {
	n := r.index[name]
	if n == 0 || r.driver == MySQL {
		r.args = append(r.args, name)
		n = len(r.args)
		r.index[name] = n
	}
	typ := r.types[name]
	if _, ok := isIdentity(name); ok {
		typ = jobs.TypeString
	}
	switch r.driver {
	case Postgres:
		fmt.Fprintf(&r.out, "$%d", n)
		if t := pgTypes[typ]; t != "" {
			r.out.WriteString("::" + t)
		}
	case MySQL:
		if t := myCasts[typ]; t != "" {
			r.out.WriteString("CAST(? AS " + t + ")")
		} else {
			r.out.WriteByte('?')
		}
	default:
		r.out.WriteString(":" + sqliteName(name))
	}
}

// skip returns the length of the string, quoted identifier or comment that begins at i, or 0 if there is none. unended is the reason if
// it never ends.
func (r *rewriter) skip(i int) (n int, unended string) {
	q := r.query[i:]
	switch {
	case q[0] == '\'':
		backslash := r.driver == MySQL || r.driver == Postgres && r.isEscapeString(i)
		return quoted(q, '\'', backslash, "has a string that never ends")
	case q[0] == '"' && r.driver == MySQL:
		return quoted(q, '"', true, "has a string that never ends")
	case q[0] == '"':
		return quoted(q, '"', false, "has a quoted name that never ends")
	case q[0] == '`' && r.driver != Postgres:
		return quoted(q, '`', false, "has a quoted name that never ends")
	case q[0] == '[' && r.driver == SQLite:
		if end := strings.IndexByte(q, ']'); end > 0 {
			return end + 1, ""
		}
		return 0, "has a quoted name that never ends"
	case isLineComment(q, r.driver):
		if end := strings.IndexByte(q, '\n'); end >= 0 {
			return end + 1, ""
		}
		return len(q), ""
	case strings.HasPrefix(q, "/*"):
		return blockComment(q, r.driver == Postgres)
	case q[0] == '$' && r.driver == Postgres && (i == 0 || !isWord(r.query[i-1])):
		return dollarQuoted(q)
	}
	return 0, ""
}

// isEscapeString reports whether the quote at i opens a PostgreSQL string like E'it\'s'.
func (r *rewriter) isEscapeString(i int) bool {
	return i > 0 && (r.query[i-1] == 'E' || r.query[i-1] == 'e') && (i == 1 || !isWord(r.query[i-2]))
}

func quoted(q string, quote byte, backslash bool, unended string) (int, string) {
	for i := 1; i < len(q); i++ {
		switch {
		case backslash && q[i] == '\\':
			i++
		case q[i] == quote && i+1 < len(q) && q[i+1] == quote:
			i++
		case q[i] == quote:
			return i + 1, ""
		}
	}
	return 0, unended
}

// isLineComment reports whether q begins with a line comment. In MySQL that is -- before a space, or #.
func isLineComment(q string, driver Driver) bool {
	if driver != MySQL {
		return strings.HasPrefix(q, "--")
	}
	return q[0] == '#' || strings.HasPrefix(q, "--") && (len(q) == 2 || isSpace(q[2]))
}

// isComment reports whether the text that skip has found is a comment, not a string or a name.
func isComment(q string) bool { return q[0] == '-' || q[0] == '#' || q[0] == '/' }

func blockComment(q string, nested bool) (int, string) {
	depth := 1
	for i := 2; i+1 < len(q); i++ {
		switch {
		case nested && q[i] == '/' && q[i+1] == '*':
			depth++
			i++
		case q[i] == '*' && q[i+1] == '/':
			i++
			depth--
			if depth == 0 {
				return i + 1, ""
			}
		}
	}
	return 0, "has a comment that never ends"
}

func dollarQuoted(q string) (int, string) {
	end := 1
	for end < len(q) && isWord(q[end]) && !(end == 1 && isDigit(q[end])) {
		end++
	}
	if end == len(q) || q[end] != '$' {
		return 0, ""
	}
	tag := q[:end+1]
	if close := strings.Index(q[len(tag):], tag); close >= 0 {
		return 2*len(tag) + close, ""
	}
	return 0, "has a string that never ends"
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
func isName(c byte) bool  { return 'a' <= c && c <= 'z' || isDigit(c) || c == '_' }
func isWord(c byte) bool  { return isName(c) || 'A' <= c && c <= 'Z' || c >= 0x80 }
