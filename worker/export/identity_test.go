package export_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hark-jobs/hark/internal/mariatest"
	"github.com/hark-jobs/hark/internal/pgtest"
	"github.com/hark-jobs/hark/worker/export"
)

const identityConfig = `databases:
  shop: {driver: %s, dsn: %q}
datasets:
  all: {database: shop, query: SELECT id FROM sales ORDER BY id}
  mine: {database: shop, query: "SELECT id FROM sales WHERE owner = :user ORDER BY id"}
  tenant: {database: shop, query: "SELECT id FROM sales WHERE tenant = :claims.tenant_ID%s AND (:from IS NULL OR id >= :from) ORDER BY id", params: [{name: from, type: integer}]}
  leaky: {database: shop, query: "SELECT id FROM sales WHERE :claims.tenant_ID IS NULL OR tenant = :claims.tenant_ID%[3]s"}
  guarded: {database: shop, query: SELECT id FROM sales, allow: [{scope: reports}, {claims: {department: [sales, 7], staff: true}}]}
`

const identityData = `CREATE TABLE sales (id INTEGER, owner TEXT, tenant INTEGER);
INSERT INTO sales VALUES (1, 'ana', 7), (2, 'ben', 7), (3, 'ana', 8), (4, '%', 9), (5, ':user', 7)`

// A query gets the user and the claims of the job's identity, as values and never as SQL, and nothing from the params.
func TestIdentityIsBound(t *testing.T) {
	lite := filepath.Join(t.TempDir(), "shop.db")
	for _, db := range []struct{ driver, open, dsn, cast string }{{"sqlite", "sqlite", lite, ""}, {"postgres", "pgx", pgtest.DSN(t), "::integer"}, {"mysql", "mysql", mariatest.Start(t), ""}} {
		t.Run(db.driver, func(t *testing.T) {
			conn, err := sql.Open(db.open, db.dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			for statement := range strings.SplitSeq(identityData, ";") {
				if _, err := conn.Exec(statement); err != nil {
					t.Fatal(err)
				}
			}
			c, err := export.Parse("hark.yaml", fmt.Appendf(nil, identityConfig, db.driver, db.dsn, db.cast))
			if err != nil {
				t.Fatal(err)
			}
			e := openConfig(t, c)
			who := func(user string, claims map[string]any) export.Identity {
				return export.Identity{User: user, Claims: claims}
			}
			for _, test := range []struct {
				dataset, params string
				who             export.Identity
				want            string // ids, or a code
			}{
				{"mine", `{}`, who("ana", nil), "1 3"},
				{"mine", `{}`, who("cho", nil), ""},
				{"mine", `{}`, who("%", nil), "4"},
				{"mine", `{}`, who("' OR '1'='1", nil), ""},
				{"mine", `{}`, who(":user", nil), "5"},
				{"mine", `{}`, who("", nil), "identity_missing"},
				{"mine", `{"user":"ben"}`, who("ana", nil), "param_invalid"},
				{"tenant", `{}`, who("ana", map[string]any{"tenant_ID": json.Number("7")}), "1 2 5"},
				{"tenant", `{"from":2}`, who("ana", map[string]any{"tenant_ID": "7"}), "2 5"},
				{"tenant", `{}`, who("ana", nil), "identity_missing"},
				{"tenant", `{}`, who("ana", map[string]any{"tenant_id": "7"}), "identity_missing"},
				{"tenant", `{"claims":{"tenant_ID":"7"}}`, who("ana", map[string]any{"tenant_ID": "8"}), "param_invalid"},
				{"leaky", `{}`, who("ana", map[string]any{"tenant_ID": nil}), "identity_missing"},
				{"leaky", `{}`, who("ana", map[string]any{"tenant_ID": "8"}), "3"},
			} {
				more := strings.TrimPrefix(test.params, "{")
				if more != "}" {
					more = "," + more
				}
				p := params(t, `{"dataset":"`+test.dataset+`","format":"csv"`+more)
				p.Identity = test.who
				var out bytes.Buffer
				_, err := e.Run(t.Context(), p, &out, nil)
				got := strings.Join(strings.Fields(strings.TrimPrefix(out.String(), "\ufeff\"id\"")), " ")
				var known *export.Error
				if errors.As(err, &known) {
					got = known.Code
				} else if err != nil {
					t.Fatal(err)
				}
				if got != test.want {
					t.Errorf("%s %s as %+v: got %q, want %q (%v)", test.dataset, test.params, test.who, got, test.want, err)
				}
			}
		})
	}
}

// The kind has the rules and claims of each dataset. The config lists the datasets that everybody may export completely.
func TestDatasetRules(t *testing.T) {
	c, err := export.Parse("hark.yaml", fmt.Appendf(nil, identityConfig, "sqlite", "shop.db", ""))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Unguarded(); len(got) != 1 || got[0] != "all" {
		t.Errorf("unguarded: %v", got)
	}
	said := make(map[string]string)
	for _, o := range c.Kind().Params[0].Options {
		text, err := json.Marshal(map[string]any{"allow": o.Allow, "claims": o.Claims})
		if err != nil {
			t.Fatal(err)
		}
		said[o.Value.(string)] = string(text)
	}
	for dataset, want := range map[string]string{
		"all":     `{"allow":null,"claims":null}`,
		"mine":    `{"allow":null,"claims":null}`,
		"tenant":  `{"allow":null,"claims":["tenant_ID"]}`,
		"guarded": `{"allow":[{"scope":"reports"},{"claims":{"department":["sales","7"],"staff":["true"]}}],"claims":null}`,
	} {
		if said[dataset] != want {
			t.Errorf("%s: %s, want %s", dataset, said[dataset], want)
		}
	}
}

func TestDatasetRulesSayWhatIsWrong(t *testing.T) {
	const head = "databases:\n  shop: {driver: sqlite, dsn: shop.db}\ndatasets:\n  a:\n    database: shop\n    query: SELECT 1\n"
	for text, want := range map[string]string{
		"    allow: reports\n":                          `c.yaml:7:12: datasets.a.allow is "reports"; expected a list of rules like { scope: reports }`,
		"    allow: []\n":                               "c.yaml:7:12: datasets.a.allow is empty, and would allow nobody; leave it out to allow everybody who is signed in",
		"    allow: [{}]\n":                             "datasets.a.allow[0] allows nothing; expected a scope, claims, or both",
		"    allow: [{scopes: x}]\n":                    "datasets.a.allow[0].scopes is not known; expected one of scope, claims",
		"    allow: [{scope: a b}]\n":                   "datasets.a.allow[0] allows nothing; expected a scope, claims, or both",
		"    allow: [{claims: {department: []}}]\n":     "datasets.a.allow[0] allows nothing; expected a scope, claims, or both",
		"    allow: [{claims: {department: {x: y}}}]\n": "datasets.a.allow[0].claims.department is a mapping; expected a value of the claim, or a list of them",
		"    params: [{name: user, type: string}]\n":    `is "user", which queries get from the identity of the job's user; expected another name`,
	} {
		_, err := export.Parse("c.yaml", []byte(head+text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}
