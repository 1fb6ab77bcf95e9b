package export

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hark-jobs/hark/internal/secret"
	"github.com/hark-jobs/hark/jobs"
)

// parse parses a config. Relative paths of SQLite files start at base.
func parse(name string, data []byte, base string) (*Config, error) {
	if len(data) > maxConfigBytes {
		return nil, &ConfigError{File: name, Message: "is larger than 1 MiB; that is no config"}
	}
	file := &configFile{name: name, data: string(data), base: base}
	root, err := parseYAML(file)
	if err != nil {
		return nil, err
	}
	if root.isNull() {
		return nil, &ConfigError{File: name, Line: 1, Column: 1, Message: "the config is empty; expected databases and datasets"}
	}
	top, err := root.mapping("databases and datasets", "databases", "datasets")
	if err != nil {
		return nil, err
	}
	c := new(Config)
	// Read the databases first, since the datasets need them, in any order of the file.
	for _, read := range []struct {
		key      string
		expected string
		entry    func(*Config, entry) error
	}{
		{"databases", "the databases, each under its name", (*Config).addDatabase},
		{"datasets", "the datasets, each under its name", (*Config).addDataset},
	} {
		i := slices.IndexFunc(top, func(e entry) bool { return e.name == read.key })
		if i < 0 {
			return nil, root.missing(read.key, read.expected)
		}
		entries, err := top[i].node.mapping(read.expected)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 {
			return nil, top[i].node.errorf("is empty; expected %s", read.expected)
		}
		for _, e := range entries {
			if err := read.entry(c, e); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

var (
	namePattern     = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
	paramPattern    = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	variablePattern = regexp.MustCompile(`\$\{([^}]*)\}`)
)

const (
	nameExpected  = "1 to 63 characters of a-z, 0-9, _ and -, beginning with a letter or digit"
	paramExpected = "1 to 63 characters of a-z, 0-9 and _, beginning with a letter"
)

func (c *Config) addDatabase(e entry) error {
	if !namePattern.MatchString(e.name) {
		return at(e.node.file, e.node.key, "%.60q is no name for a database; expected %s", e.name, nameExpected)
	}
	fields, err := e.node.mapping("driver and dsn", "driver", "dsn", "max_open")
	if err != nil {
		return err
	}
	db := Database{Name: e.name, MaxOpen: 4}
	var dsn node
	for _, f := range fields {
		switch f.name {
		case "driver":
			db.Driver, err = oneOf(f.node, Drivers)
		case "dsn":
			dsn = f.node
			db.DSN, err = f.node.text("a data source name")
			if err == nil {
				db.DSN, err = expand(f.node, db.DSN)
			}
		case "max_open":
			var n float64
			const expected = "a whole number from 1 to 1000"
			n, _, err = f.node.number(expected)
			db.MaxOpen = int(n)
			if err == nil && (n != float64(db.MaxOpen) || n < 1 || n > 1000) {
				err = f.node.errorf("is %v; expected %s", n, expected)
			}
		}
		if err != nil {
			return err
		}
	}
	switch {
	case db.Driver == "":
		return e.node.missing("driver", "one of "+join(Drivers))
	case db.DSN == "":
		return e.node.missing("dsn", "a data source name")
	}
	if db.DSN, err = checkDSN(db.Driver, db.DSN, e.node.file.base); err != nil {
		var known dsnError
		if errors.As(err, &known) {
			return dsn.errorf("%s", known)
		}
		// The driver's error may contain the DSN, with its password.
		return dsn.errorf("is not a data source name of %s; expected one like %s", db.Driver, dsnExample[db.Driver])
	}
	c.Databases = append(c.Databases, db)
	return nil
}

// expand replaces ${NAME} with a variable of the environment, and ${file:PATH} with the content of a file. Relative paths start at the
// folder of the config.
func expand(n node, s string) (string, error) {
	var failed error
	s = variablePattern.ReplaceAllStringFunc(s, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if path, isFile := strings.CutPrefix(name, "file:"); isFile {
			if !filepath.IsAbs(path) {
				path = filepath.Join(n.file.base, path)
			}
			value, err := secret.Secret{File: path}.Read()
			if err != nil && failed == nil {
				failed = n.errorf("uses %s, which cannot be read: %s", ref, strings.TrimPrefix(err.Error(), "secret: "))
			}
			return value
		}
		value, ok := os.LookupEnv(name)
		if !ok && failed == nil {
			failed = n.errorf("uses %s, which is not set in the environment", ref)
		}
		return value
	})
	return s, failed
}

func (c *Config) addDataset(e entry) error {
	if !namePattern.MatchString(e.name) {
		return at(e.node.file, e.node.key, "%.60q is no name for a dataset; expected %s", e.name, nameExpected)
	}
	fields, err := e.node.mapping("database and query",
		"title", "database", "query", "count", "params", "columns", "sheet", "allow", "csv", "timezone")
	if err != nil {
		return err
	}
	d := Dataset{Name: e.name, Title: titled(e.name), CSV: defaultCSV, Timezone: defaultZone}
	var query, count node
	var params []paramNode
	for _, f := range fields {
		switch f.name {
		case "title":
			d.Title, err = title(f.node)
		case "sheet":
			if d.Sheet, err = f.node.text("the name of the sheet"); err == nil && sheetName(d.Sheet) != d.Sheet {
				err = f.node.errorf(`is %.60q; expected at most 31 characters without : \ / ? * [ ] and without ' at the ends`, d.Sheet)
			}
		case "database":
			d.Database, err = f.node.text("the name of a database")
			if err == nil && c.database(d.Database) == nil {
				err = f.node.errorf("is %.60q, which is not among the databases; expected one of %s", d.Database, c.databaseNames())
			}
		case "query":
			query = f.node
			_, err = f.node.text("an SQL query")
		case "count":
			count = f.node
			_, err = f.node.text("an SQL query, or none")
		case "params":
			params, err = readParams(f.node)
		case "columns":
			d.Columns, err = columns(f.node)
		case "allow":
			d.Allow, err = rules(f.node)
		case "csv":
			d.CSV, err = csvFormat(f.node)
		case "timezone":
			d.Timezone, err = timezone(f.node)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case d.Database == "":
		return e.node.missing("database", "one of "+c.databaseNames())
	case query.ast == nil:
		return e.node.missing("query", "an SQL query")
	}
	if d.Sheet == "" {
		d.Sheet = sheetName(d.Title)
	}
	for _, p := range params {
		d.Params = append(d.Params, p.param)
	}
	if err := d.statements(c.database(d.Database).Driver, query, count, params); err != nil {
		return err
	}
	c.Datasets = append(c.Datasets, d)
	return nil
}

// statements rewrites the queries, and compares the params that they use with the declared ones.
func (d *Dataset) statements(driver Driver, query, count node, params []paramNode) (err error) {
	types := make(map[string]jobs.ParamType, len(params))
	for _, p := range params {
		types[p.param.Name] = p.param.Type
	}
	used := make(map[string]bool)
	read := func(n node) (Statement, error) {
		text, err := n.text("an SQL query")
		if err != nil {
			return Statement{}, err
		}
		s, err := Rewrite(driver, text, types)
		var wrong *QueryError
		if errors.As(err, &wrong) {
			return s, n.inText(text, wrong.Offset, "%s %s", n.path, wrong.Reason)
		}
		for _, name := range s.Args {
			if _, ok := isIdentity(name); ok {
				continue
			}
			used[name] = true
			if _, ok := types[name]; !ok {
				return s, n.inText(text, strings.Index(text, ":"+name), "%s uses :%s, which is not among the params of %s", n.path, name, d.Name)
			}
		}
		return s, nil
	}
	if d.Query, err = read(query); err != nil {
		return err
	}
	switch text := ""; {
	case count.ast == nil:
		d.CountOptional = true
		d.Count = Statement{"SELECT count(*) FROM (\n" + d.Query.SQL + "\n) AS counted", d.Query.Args}
	default:
		if text, err = count.text("an SQL query, or none"); err != nil {
			return err
		}
		if text == "none" {
			break
		}
		if d.Count, err = read(count); err != nil {
			return err
		}
	}
	for _, p := range params {
		if !used[p.param.Name] {
			return at(p.node.file, p.node.token(), "%s: the query of %s does not use :%s", p.node.path, d.Name, p.param.Name)
		}
	}
	return nil
}

// inText returns an error at an offset of a text. In a block text (|) it has the line of the offset in the file.
func (n node) inText(text string, offset int, format string, args ...any) *ConfigError {
	e := at(n.file, n.token(), format, args...)
	if offset < 0 || !n.isBlock() || e.Line == 0 {
		return e
	}
	before := text[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	line := e.Line + 1 + strings.Count(before, "\n")
	end := strings.IndexByte(text[start:], '\n')
	if end < 0 {
		end = len(text) - start
	}
	lines := strings.Split(n.file.data, "\n")
	if line > len(lines) {
		return e
	}
	if indent := strings.Index(lines[line-1], text[start:start+end]); indent >= 0 {
		e.Line, e.Column = line, indent+offset-start+1
	}
	return e
}

func (c *Config) databaseNames() string {
	names := make([]string, len(c.Databases))
	for i, db := range c.Databases {
		names[i] = db.Name
	}
	return strings.Join(names, ", ")
}

// oneOf returns n if it is one of the words.
func oneOf[T ~string](n node, words []T) (T, error) {
	expected := "one of " + join(words)
	s, err := n.text(expected)
	if err != nil {
		return "", err
	}
	if !slices.Contains(words, T(s)) {
		return "", n.errorf("is %.60q; expected %s", s, expected)
	}
	return T(s), nil
}

func join[T ~string](words []T) string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = string(w)
	}
	return strings.Join(list, ", ")
}

func title(n node) (string, error) {
	const expected = "one line of at most 200 characters"
	s, err := n.text(expected)
	if err == nil && (len([]rune(s)) > jobs.MaxTitleChars || strings.ContainsAny(s, "\r\n")) {
		err = n.errorf("is too long; expected %s", expected)
	}
	return s, err
}

// titled returns the title of a name: "order_lines" becomes "Order lines".
func titled(name string) string {
	words := strings.TrimSpace(strings.NewReplacer("_", " ", "-", " ").Replace(name))
	if words == "" {
		return name
	}
	return strings.ToUpper(words[:1]) + words[1:]
}
