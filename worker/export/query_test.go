package export_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker/export"
)

var queryTypes = map[string]jobs.ParamType{
	"from": jobs.TypeDate, "to": jobs.TypeDate, "n": jobs.TypeInteger, "price": jobs.TypeNumber, "s": jobs.TypeString,
	"at": jobs.TypeTime, "on": jobs.TypeBoolean,
}

func TestRewrite(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		driver export.Driver
		query  string
		want   string
		args   string
	}{
		{"sqlite", "SELECT :from, :from, :n", "SELECT :from, :from, :n", "from n"},
		{"postgres", "SELECT :from, :from, :n", "SELECT $1::date, $1::date, $2::bigint", "from n"},
		{"mysql", "SELECT :s, :from, :s", "SELECT ?, CAST(? AS DATE), ?", "s from s"},
		{"postgres", "SELECT :price, :s, :at, :on", "SELECT $1::numeric, $2::text, $3::timestamptz, $4::boolean", "price s at on"},
		{"mysql", "SELECT :price LIMIT :n", "SELECT CAST(? AS DECIMAL(65,30)) LIMIT ?", "price n"},
		{"mysql", "SELECT :at", "SELECT CAST(? AS DATETIME(6))", "at"},
		{"postgres", "SELECT :unknown", "SELECT $1", "unknown"},

		// Casts, slices, assignments, times.
		{"postgres", "SELECT x::date, :s::varchar, '{1,2}'::int[]", "SELECT x::date, $1::text::varchar, '{1,2}'::int[]", "s"},
		{"postgres", "SELECT a[lo:hi], a[1:n], a[f(x):n], b[(1):n]", "SELECT a[lo:hi], a[1:n], a[f(x):n], b[(1):n]", ""},
		{"mysql", "SELECT @a := 1, @b:=2", "SELECT @a := 1, @b:=2", ""},
		{"postgres", "SELECT :From, :1, : n", "SELECT :From, :1, : n", ""},
		{"postgres", "SELECT (:n),:n+:n=:n", "SELECT ($1::bigint),$1::bigint+$1::bigint=$1::bigint", "n"},
		{"postgres", "SELECT :n::int/:n", "SELECT $1::bigint::int/$1::bigint", "n"},
		{"postgres", "SELECT data ? 'key', data ?| array[:s]", "SELECT data ? 'key', data ?| array[$1::text]", "s"},

		// Strings and names.
		{"sqlite", "SELECT ':n', 'it''s :n', \":n\", [:n], `:n`, :n", "SELECT ':n', 'it''s :n', \":n\", [:n], `:n`, :n", "n"},
		{"sqlite", `SELECT '\', :n`, `SELECT '\', :n`, "n"},
		{"postgres", `SELECT '\', :n`, `SELECT '\', $1::bigint`, "n"},
		{"postgres", `SELECT E'\':n', :n`, `SELECT E'\':n', $1::bigint`, "n"},
		{"postgres", `SELECT some'x\', :n`, `SELECT some'x\', $1::bigint`, "n"},
		{"postgres", `SELECT "a"":n", :n`, `SELECT "a"":n", $1::bigint`, "n"},
		{"mysql", `SELECT '\':n', "\":n", :n`, `SELECT '\':n', "\":n", ?`, "n"},
		{"mysql", "SELECT `a``:n?`, :n", "SELECT `a``:n?`, ?", "n"},
		{"postgres", "SELECT $$:n$$, $x$ $$ :n $x$, :n", "SELECT $$:n$$, $x$ $$ :n $x$, $1::bigint", "n"},
		{"postgres", "SELECT a$b, c$1, :n", "SELECT a$b, c$1, $1::bigint", "n"},
		{"sqlite", "SELECT 'é:n', é, :n", "SELECT 'é:n', é, :n", "n"},

		// Comments.
		{"sqlite", "SELECT 1 -- :n ' \n, :n", "SELECT 1 -- :n ' \n, :n", "n"},
		{"sqlite", "SELECT /* :n ' */ :n", "SELECT /* :n ' */ :n", "n"},
		{"postgres", "SELECT /* /* :n */ ' */ :n", "SELECT /* /* :n */ ' */ $1::bigint", "n"},
		{"mysql", "SELECT /* /* :n */ :n # ' :n", "SELECT /* /* :n */ ? # ' :n", "n"},
		{"mysql", "SELECT 1--:n", "SELECT 1--?", "n"},

		// The end.
		{"sqlite", " SELECT 1 ; \n -- that is all; really\n", "SELECT 1  \n -- that is all; really", ""},
	} {
		got, err := export.Rewrite(test.driver, test.query, queryTypes)
		if err != nil {
			t.Errorf("%s: %s: %v", test.driver, test.query, err)
			continue
		}
		if got.SQL != test.want || !slices.Equal(got.Args, strings.Fields(test.args)) {
			t.Errorf("%s: %s\n got %s %v\nwant %s %s", test.driver, test.query, got.SQL, got.Args, test.want, test.args)
		}
	}
}

func TestRewriteRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		driver export.Driver
		query  string
		offset int
		reason string
	}{
		{"sqlite", "SELECT 'a", 7, "a string that never ends"},
		{"mysql", `SELECT "a\"`, 7, "a string that never ends"},
		{"postgres", `SELECT "a`, 7, "a quoted name that never ends"},
		{"sqlite", "SELECT [a", 7, "a quoted name that never ends"},
		{"sqlite", "SELECT 1 /* a", 9, "a comment that never ends"},
		{"postgres", "SELECT /* /* a */", 7, "a comment that never ends"},
		{"postgres", "SELECT $x$ a $$", 7, "a string that never ends"},
		{"sqlite", "SELECT 1; DROP TABLE a", 10, "one statement"},
		{"sqlite", "SELECT 1; 'x'", 10, "one statement"},
		{"sqlite", "SELECT 1;;", 9, "one statement"},
		{"sqlite", "", 0, "no SQL"},
		{"mysql", " # all\n; /* comments */", 0, "no SQL"},
		{"sqlite", "SELECT ?", 7, "?"},
		{"mysql", "SELECT ?", 7, "?"},
		{"postgres", "SELECT $1", 7, "$"},
	} {
		_, err := export.Rewrite(test.driver, test.query, nil)
		var wrong *export.QueryError
		if !errors.As(err, &wrong) || wrong.Offset != test.offset || !strings.Contains(wrong.Reason, test.reason) {
			t.Errorf("%s: %s: got %v (%+v), want %q at %d", test.driver, test.query, err, wrong, test.reason, test.offset)
		}
	}
}

func FuzzRewrite(f *testing.F) {
	for _, q := range []string{
		"SELECT :from", "a::date :n", "'it''s' \"x\" `y` [z] -- c\n /* d */", "$$:n$$ $tag$ :n $tag$", "E'\\'' :s", "a[1:n]; ", "# :n", ":user :claims.a_B :claims.x::text :claims. :claims",
	} {
		f.Add(q)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, driver := range export.Drivers {
			s, err := export.Rewrite(driver, query, queryTypes)
			if err != nil {
				var wrong *export.QueryError
				if !errors.As(err, &wrong) || wrong.Offset < 0 || wrong.Offset > len(query) {
					t.Fatalf("%s: %q: %#v", driver, query, err)
				}
				continue
			}
			if len(s.Args) == 0 && strings.Count(query, ";") == 0 && s.SQL != strings.TrimSpace(query) {
				t.Fatalf("%s: %q became %q without params", driver, query, s.SQL)
			}
			// SQLite keeps the names, so rewriting again changes nothing.
			if driver == export.SQLite && !strings.Contains(s.SQL, ":CLAIM_") {
				again, err := export.Rewrite(driver, s.SQL, queryTypes)
				if err != nil || again.SQL != s.SQL || !slices.Equal(again.Args, s.Args) {
					t.Fatalf("%q became %q %v, then %q %v (%v)", query, s.SQL, s.Args, again.SQL, again.Args, err)
				}
			}
		}
	})
}
