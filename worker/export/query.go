package export

import (
	"fmt"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// Driver names a kind of database.
type Driver string

// The databases that a dataset can live in.
const (
	SQLite   Driver = "sqlite"
	Postgres Driver = "postgres"
	MySQL    Driver = "mysql"
)

// Drivers lists every driver.
var Drivers = []Driver{SQLite, Postgres, MySQL}

// Statement is a query whose named params (:from) were rewritten to the placeholders of its driver.
type Statement struct {
	SQL string
	// Args names the param behind each placeholder, in order. PostgreSQL and SQLite have one entry for
	// each param, MySQL one for each time that it is mentioned.
	Args []string
}

// QueryError is a query that cannot be rewritten.
type QueryError struct {
	Offset int    // where in the query, in bytes
	Reason string // to follow "the query"
}

func (e *QueryError) Error() string { return "the query " + e.Reason }

// Rewrite replaces the named params of one SQL statement by the placeholders of its driver, and drops a
// semicolon at its end. Strings, quoted identifiers, comments and casts (::date) are left as they are.
//
// :user is the user of the job, and :claims.NAME a claim of the token that it was enqueued with. Both are texts.
//
// A placeholder carries the type that the param was declared with, where the driver would otherwise have
// to guess it: PostgreSQL refuses "$1 IS NULL" for want of a type, and MySQL compares a decimal with a
// string as floating point. Params that types does not name are left untyped.
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
	index  map[string]int // param name to its number, from 1
}

func (r *rewriter) run() error {
	q := r.query
	end := -1 // where the statement's semicolon stands
	empty := true
	for i := 0; i < len(q); {
		n, reason := r.skip(i)
		if reason != "" {
			return &QueryError{i, reason}
		}
		switch {
		case n > 0 && !isComment(q[i:]) && end >= 0:
			return &QueryError{i, "must be one statement, but goes on after a semicolon"}
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
			return &QueryError{i, "must be one statement, but goes on after a semicolon"}
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

// colon writes what begins with the colon at i, and returns how long it is: a cast, an assignment, or a
// named param. A colon right behind a word or a bracket is none: array[lo:hi].
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

// What a query can take of the identity of the job's user.
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

// isIdentity reports whether an argument of a statement comes from the identity of the job's user. Claim is its claim,
// if it is one.
func isIdentity(arg string) (claim string, ok bool) {
	claim, isClaim := strings.CutPrefix(arg, identityClaims+".")
	if isClaim {
		return claim, true
	}
	return "", arg == identityUser
}

// sqliteName is what an argument is called in SQLite, whose names have no dots. No param has capitals.
func sqliteName(arg string) string {
	if claim, ok := isIdentity(arg); ok && claim != "" {
		return "CLAIM_" + claim
	}
	return arg
}

// pgTypes and myCasts are how a param's declared type is told to the database.
var (
	pgTypes = map[jobs.ParamType]string{
		jobs.TypeString: "text", jobs.TypeInteger: "bigint", jobs.TypeNumber: "numeric",
		jobs.TypeBoolean: "boolean", jobs.TypeDate: "date", jobs.TypeTime: "timestamptz",
	}
	myCasts = map[jobs.ParamType]string{
		jobs.TypeNumber: "DECIMAL(65,30)", jobs.TypeDate: "DATE",
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

// skip returns the length of the string, quoted identifier or comment that begins at i, or 0 if none
// does, and what is wrong with it if it never ends.
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

// isLineComment: MySQL takes -- only before a space, and # as well.
func isLineComment(q string, driver Driver) bool {
	if driver != MySQL {
		return strings.HasPrefix(q, "--")
	}
	return q[0] == '#' || strings.HasPrefix(q, "--") && (len(q) == 2 || isSpace(q[2]))
}

// isComment reports whether what skip has found is a comment, not a string or a name.
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
			if depth--; depth == 0 {
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
