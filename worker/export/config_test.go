package export_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/jobs"
	"github.com/hark-jobs/hark/worker/export"
)

const goodConfig = `# a comment
databases:
  shop: { driver: sqlite, dsn: shop.db, max_open: 2 }
  pg:
    driver: postgres
    dsn: postgres://hark:${HARK_TEST_PASSWORD}@db.example.com/shop
  my: { driver: mysql, dsn: "hark:secret@tcp(db.example.com:3306)/shop" }
datasets:
  orders:
    title: All orders
    database: shop
    query: |
      SELECT id, total FROM orders -- :nothing
      WHERE (:from IS NULL OR ordered_on >= :from)
        AND (:status IS NULL OR status = :status) AND total >= :least;
    params: &params
      - { name: from, title: Since, type: date, default: 2026-01-01 }
      - name: status
        type: string
        options: [new, { value: paid, title: Paid up }]
      - { name: least, type: number, default: 0.10, required: true }
    columns:
      total: { title: Total, format: money, width: 14 }
      id: { format: '0000' }
    sheet: Orders
  more-orders:
    database: pg
    query: SELECT :from, :status, :least
    count: none
    params: *params
`

// A password can come from a file, with an absolute path or one relative to the config.
func TestDSNFromFile(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"pw": "s3cret\n",
		"hark.yaml": "databases:\n  a: {driver: postgres, dsn: \"postgres://hark:${file:pw}@db/shop\"}\n" +
			"  b: {driver: postgres, dsn: \"postgres://hark:${file:" + filepath.Join(dir, "pw") + "}@db/shop\"}\n" +
			"datasets:\n  d: {database: a, query: SELECT 1}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err := export.Load(filepath.Join(dir, "hark.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, db := range c.Databases {
		if db.DSN != "postgres://hark:s3cret@db/shop" {
			t.Errorf("%s: %s", db.Name, db.DSN)
		}
	}
}

func TestParse(t *testing.T) {
	t.Setenv("HARK_TEST_PASSWORD", "s3cret")
	c, err := export.Parse("hark.yaml", []byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Databases) != 3 || c.Databases[0].MaxOpen != 2 || c.Databases[1].MaxOpen != 4 ||
		c.Databases[1].DSN != "postgres://hark:s3cret@db.example.com/shop" || c.Databases[2].DSN != "hark:secret@tcp(db.example.com:3306)/shop" {
		t.Errorf("databases: %+v", c.Databases)
	}
	d := c.Dataset("orders")
	if d == nil || d.Title != "All orders" || d.Sheet != "Orders" || len(d.Params) != 3 || strings.HasSuffix(d.Query.SQL, ";") || !d.CountOptional {
		t.Fatalf("orders: %+v", d)
	}
	if d.Columns["total"] != (export.Column{Title: "Total", Format: "money", Width: 14}) {
		t.Errorf("columns: %+v", d.Columns)
	}
	if more := c.Dataset("more-orders"); more.Title != "More orders" || more.Sheet != "More orders" || more.Count.SQL != "" ||
		more.Query.SQL != "SELECT $1::date, $2::text, $3::numeric" {
		t.Errorf("more-orders: %+v", more)
	}

	kind := c.Kind()
	got, err := kind.Check(json.RawMessage(`{"dataset":"orders","status":"paid"}`))
	if err != nil || string(got) != `{"dataset":"orders","format":"xlsx","from":"2026-01-01","least":0.1,"status":"paid","timezone":"UTC"}` {
		t.Errorf("checked params: %s, %v", got, err)
	}
	var invalid *jobs.InvalidError
	if _, err := kind.Check(json.RawMessage(`{"dataset":"orders","status":"lost"}`)); !errors.As(err, &invalid) {
		t.Errorf("an unknown option: %v", err)
	}
	if _, err := json.Marshal(kind); err != nil {
		t.Error(err)
	}
}

func TestSampleConfig(t *testing.T) {
	t.Parallel()
	c, err := export.SampleConfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Datasets) != 6 {
		t.Errorf("%d datasets", len(c.Datasets))
	}
	if _, err := export.Parse("copy.yaml", export.SampleYAML()); err != nil {
		t.Error(err)
	}
}

// TestParseSaysWhatIsWrongAndWhere parses configs with one error each.
func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	const dbs = "databases:\n  shop: {driver: sqlite, dsn: shop.db}\n" // lines 1 and 2
	const dataset = dbs + "datasets:\n  orders:\n    database: shop\n" // lines 3 to 5
	const query = dataset + "    query: SELECT :from\n"                // line 6
	const params = query + "    params:\n"                             // line 7
	const from = "      - {name: from, type: date}\n"                  // line 8
	const whole = dataset + "    query: SELECT 1\n"                    // line 6
	for _, test := range []struct{ config, want string }{
		{"", "c.yaml:1:1: the config is empty; expected databases and datasets"},
		{"databases: [", "c.yaml:1:12: this is not valid YAML: "},
		{"a: b", "c.yaml:1:1: a is not known; expected one of databases, datasets"},
		{"- 1", "c.yaml:1:1: the config is a list; expected databases and datasets"},
		{"datasets: {}", "c.yaml:1:1: databases is missing; expected the databases, each under its name"},
		{"databases:\n", `c.yaml:1:1: databases is empty; expected the databases, each under its name`},
		{dbs, "c.yaml:1:1: datasets is missing; expected the datasets, each under its name"},
		{"databases:\n  Shop: {}\n", `c.yaml:2:3: "Shop" is no name for a database; expected 1 to 63 characters of a-z, 0-9, _ and -, beginning with a letter or digit`},
		{"databases:\n  shop: {dsn: a}\n", "c.yaml:2:3: databases.shop.driver is missing; expected one of sqlite, postgres, mysql"},
		{"databases:\n  shop: {driver: oracle}\n", `c.yaml:2:18: databases.shop.driver is "oracle"; expected one of sqlite, postgres, mysql`},
		{"databases:\n  shop: {driver: sqlite}\n", "c.yaml:2:3: databases.shop.dsn is missing; expected a data source name"},
		{"databases:\n  shop: {driver: sqlite, dsn: 7}\n", "c.yaml:2:31: databases.shop.dsn is the number 7; expected a data source name"},
		{"databases:\n  shop: {driver: sqlite, dsn: a, max_open: 0}\n", "c.yaml:2:44: databases.shop.max_open is 0; expected a whole number from 1 to 1000"},
		{"databases:\n  shop: {driver: sqlite, dsn: \"${HARK_NOT_SET}/a\"}\n", "c.yaml:2:31: databases.shop.dsn uses ${HARK_NOT_SET}, which is not set in the environment"},
		{"databases:\n  shop: {driver: sqlite, dsn: \"${file:/nowhere/pw}/a\"}\n", "c.yaml:2:31: databases.shop.dsn uses ${file:/nowhere/pw}, which cannot be read: open /nowhere/pw: no such file or directory"},
		{"databases:\n  shop: {driver: sqlite, dsn: \":memory:\"}\n", "c.yaml:2:31: databases.shop.dsn is not a data source name of sqlite; expected one like shop.db or file:shop.db"},
		{"databases:\n  shop:\n    driver: postgres\n    dsn: postgres://u:topsecret@h:port/\n", "c.yaml:4:10: databases.shop.dsn is not a data source name of postgres; expected one like postgres://user:password@host:5432/shop?sslmode=require"},
		{"databases:\n  shop:\n    driver: mysql\n    dsn: u:topsecret@h\n", "c.yaml:4:10: databases.shop.dsn is not a data source name of mysql; expected one like user:password@tcp(host:3306)/shop"},
		{"databases:\n  shop: {driver: sqlite, dsn: a}\n  shop: {driver: sqlite, dsn: b}\n", "c.yaml:3:3: "},

		{dbs + "datasets: 7\n", "c.yaml:3:11: datasets is the number 7; expected the datasets, each under its name"},
		{dbs + "datasets:\n  a b: {}\n", `c.yaml:4:3: "a b" is no name for a dataset; expected 1 to 63 characters of a-z, 0-9, _ and -, beginning with a letter or digit`},
		{dbs + "datasets:\n  orders:\n    query: SELECT 1\n", "c.yaml:4:3: datasets.orders.database is missing; expected one of shop"},
		{dbs + "datasets:\n  orders:\n    database: store\n", `c.yaml:5:15: datasets.orders.database is "store", which is not among the databases; expected one of shop`},
		{dataset, "c.yaml:4:3: datasets.orders.query is missing; expected an SQL query"},
		{dataset + "    query: ''\n", "c.yaml:6:12: datasets.orders.query is empty; expected an SQL query"},
		{dataset + "    querry: SELECT 1\n", "c.yaml:6:5: datasets.orders.querry is not known; expected one of title, database, query, count, params, columns, sheet, allow, csv, timezone"},
		{dataset + "    query: SELECT 'a\n", "c.yaml:6:12: datasets.orders.query has a string that never ends"},
		{dataset + "    query: |\n      SELECT a,\n        'b\n", "c.yaml:8:9: datasets.orders.query has a string that never ends"},
		{dataset + "    query: |\n      SELECT a\n      WHERE b = :from\n", "c.yaml:8:17: datasets.orders.query uses :from, which is not among the params of orders"},
		{dataset + "    query: -- nothing\n", "c.yaml:6:12: datasets.orders.query holds no SQL"},
		{query, "c.yaml:6:12: datasets.orders.query uses :from, which is not among the params of orders"},
		{whole + "    count: SELECT :x\n", "c.yaml:7:12: datasets.orders.count uses :x, which is not among the params of orders"},
		{whole + "    sheet: a/b\n", `c.yaml:7:12: datasets.orders.sheet is "a/b"; expected at most 31 characters without : \ / ? * [ ] and without ' at the ends`},
		{whole + "    title: [a]\n", "c.yaml:7:12: datasets.orders.title is a list; expected one line of at most 200 characters"},

		{params + "      - {name: from, type: dat}\n", `c.yaml:8:28: datasets.orders.params[0].type is "dat"; expected one of string, integer, number, boolean, date, time`},
		{params + "      - {name: from}\n", "c.yaml:8:9: datasets.orders.params[0].type is missing; expected one of string, integer, number, boolean, date, time"},
		{params + "      - {type: date}\n", "datasets.orders.params[0].name is missing; expected 1 to 63 characters of a-z, 0-9 and _, beginning with a letter"},
		{params + "      - {name: format, type: date}\n", `c.yaml:8:16: datasets.orders.params[0].name is "format", which every export has already; expected another name`},
		{params + "      - {name: a-b, type: date}\n", `c.yaml:8:16: datasets.orders.params[0].name is "a-b"; expected 1 to 63 characters of a-z, 0-9 and _, beginning with a letter`},
		{params + "      - {name: from, type: date, required: 1}\n", "c.yaml:8:44: datasets.orders.params[0].required is the number 1; expected true or false"},
		{params + "      - {name: from, type: date, default: tomorrow}\n", `c.yaml:8:43: datasets.orders.params[0].default is "tomorrow"; expected a date like 2026-01-31`},
		{params + "      - {name: from, type: integer, default: 1.5}\n", `c.yaml:8:46: datasets.orders.params[0].default is the number 1.5; expected an integer`},
		{params + "      - {name: from, type: string, options: [1]}\n", "c.yaml:8:46: datasets.orders.params[0].options[0] is the number 1; expected a text, in quotes if it looks like a number"},
		{params + "      - {name: from, type: string, options: []}\n", "datasets.orders.params[0].options is empty; expected a list of values"},
		{params + "      - {name: from, type: string, options: [a], default: b}\n", "datasets.orders.params[0].default is b, which is not among the options"},
		{params + "      - {name: from, type: string, options: [{title: b}]}\n", "datasets.orders.params[0].options[0].value is missing; expected a text, in quotes if it looks like a number"},
		{params + from + from, "datasets.orders.params[1] is a second param called from"},
		{params + from + "      - {name: to, type: date}\n", "datasets.orders.params[1]: the query of orders does not use :to"},
		{params + "      - {name: from, type: date, not_before: to}\n", `datasets.orders.params[0] is not before "to"; expected the name of another param of the dataset`},
		{params + "      - {name: from, type: date, not_before: to}\n      - {name: to, type: time}\n", "datasets.orders.params[0] is not before to, which cannot be compared with it; expected two dates, times, integers or numbers"},
		{params + "      - {name: from, type: date, minimum: 1}\n", "datasets.orders.params[0] has a minimum or a maximum, and is a date; only an integer or a number has those"},
		{params + "      - {name: from, type: integer, minimum: one}\n", `datasets.orders.params[0].minimum is "one"; expected a number`},
		{params + "      - {name: from, type: integer, maximum: 2, default: 3}\n", "datasets.orders.params[0].default is 3, which is beyond the minimum or the maximum"},
		{params + "      name: from\n", "c.yaml:8:7: datasets.orders.params is a mapping; expected a list of params"},

		{whole + "    columns:\n      id: {format: moneyy}\n", `c.yaml:8:20: datasets.orders.columns.id.format is "moneyy"; expected date, datetime, money, percent, text, or an Excel number format like "0.000", with letters that mean nothing in it in quotes`},
		{whole + "    columns:\n      id: {width: 300}\n", "c.yaml:8:19: datasets.orders.columns.id.width is 300; expected a number of characters from 1 to 255"},
		{whole + "    columns:\n      id: {widht: 30}\n", "c.yaml:8:12: datasets.orders.columns.id.widht is not known; expected one of title, format, width, utc"},
		{whole + "    columns: [id]\n", "c.yaml:7:14: datasets.orders.columns is a list; expected the columns, each under its name in the query"},
		{whole + "---\na: b\n", "a second document begins; a config is one document"},
	} {
		_, err := export.Parse("c.yaml", []byte(test.config))
		if err == nil {
			t.Errorf("this config is accepted, want %s:\n%s", test.want, test.config)
			continue
		}
		if strings.Contains(err.Error(), "topsecret") {
			t.Errorf("an error tells the password: %v", err)
		}
		full := strings.HasPrefix(test.want, "c.yaml") && !strings.HasSuffix(test.want, ": ")
		if full && err.Error() != test.want || !full && !strings.Contains(err.Error(), test.want) {
			t.Errorf("got  %v\nwant %s\nfor:\n%s", err, test.want, test.config)
		}
		var wrong *export.ConfigError
		if !errors.As(err, &wrong) || wrong.Line < 1 || wrong.Column < 1 || wrong.Line > strings.Count(test.config, "\n")+1 {
			t.Errorf("%v says no place in the file", err)
		}
	}
}

// The config in docs/export.md is valid, and with a misspelt type it gives the error in that file.
func TestConfigOfTheDocs(t *testing.T) {
	t.Setenv("SHOP_PASSWORD", "s3cret")
	doc, err := os.ReadFile("../../docs/export.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```yaml\n")
	config, rest, ok := strings.Cut(rest, "```\n")
	_, rest, _ = strings.Cut(rest, "```\n")
	message, _, ok2 := strings.Cut(rest, "\n```\n")
	if !ok || !ok2 {
		t.Fatal("docs/export.md has no config, or no error after it")
	}
	if _, err := export.Parse("hark.yaml", []byte(config)); err != nil {
		t.Error(err)
	}
	_, err = export.Parse("hark.yaml", []byte(strings.Replace(config, "type: date }", "type: dat }", 1)))
	if err == nil || err.Error() != message {
		t.Errorf("got  %v\nwant %s", err, message)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "hark.yaml")
	if _, err := export.Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	if err := os.WriteFile(path, export.SampleYAML(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := export.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.Databases[0].DSN, "file:"+dir+"/shop.db?") {
		t.Errorf("the DSN is %s, not beside the config", c.Databases[0].DSN)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(goodConfig))
	f.Add(export.SampleYAML())
	for _, s := range []string{"", "a: &a [*a]", "databases: *x", "<<: {a: b}", "? [a]\n: b", "!!str a: b", "databases:\n  shop: {driver: sqlite, dsn: a}\ndatasets:\n  a:\n    database: shop\n    query: >-\n      SELECT\n      :a\n", "- |\n \t", "\"\\", "---\n---\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := export.Parse("c.yaml", data)
		if err != nil {
			var wrong *export.ConfigError
			if !errors.As(err, &wrong) || wrong.Message == "" {
				t.Fatalf("%#v", err)
			}
			return
		}
		if _, err := json.Marshal(c.Kind()); err != nil {
			t.Fatal(err)
		}
	})
}
