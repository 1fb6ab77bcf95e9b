package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// Identity is the identity of the job's user. Queries get it as :user and :claims.NAME.
type Identity struct {
	User string
	// Claims are claims of the verified token that the job was enqueued with, as encoding/json decodes them with UseNumber.
	Claims map[string]any
}

var (
	errNoIdentity  = errors.New("the identity does not have it")
	errNulIdentity = errors.New("it has the character U+0000, which PostgreSQL cannot store")
)

// argument returns the user, or a claim, as a text. A list or an object is its JSON. It is never NULL, since a query may treat NULL as
// "all".
func (i Identity) argument(claim string) (any, error) {
	value := i.Claims[claim]
	if claim == "" {
		value = i.User
		if i.User == "" {
			return nil, errNoIdentity
		}
	}
	switch v := value.(type) {
	case nil:
		return nil, errNoIdentity
	case string:
		if strings.ContainsRune(v, 0) {
			return nil, errNulIdentity
		}
		return v, nil
	case json.Number:
		return v.String(), nil
	default:
		text, err := json.Marshal(v)
		return string(text), err
	}
}

// claims returns the names of the claims that the dataset's queries need.
func (d *Dataset) claims() (names []string) {
	for _, arg := range slices.Concat(d.Query.Args, d.Count.Args) {
		if claim, ok := isIdentity(arg); ok && claim != "" && !slices.Contains(names, claim) {
			names = append(names, claim)
		}
	}
	slices.Sort(names)
	return names
}

// bindsIdentity reports whether the query depends on the user.
func (d *Dataset) bindsIdentity() bool {
	return slices.ContainsFunc(d.Query.Args, func(arg string) bool { _, ok := isIdentity(arg); return ok })
}

// checkIdentity returns an error if the identity lacks something that the dataset needs: the job was enqueued before the query needed
// it.
func (d *Dataset) checkIdentity(i Identity) error {
	for _, arg := range slices.Concat(d.Query.Args, d.Count.Args) {
		claim, ok := isIdentity(arg)
		if !ok {
			continue
		}
		if _, err := i.argument(claim); errors.Is(err, errNulIdentity) {
			return &Error{Code: CodeIdentityInvalid, Message: fmt.Sprintf(
				"The export of %s needs %s, which has the character U+0000; ask your administrator for another token.", d.Title, identityName(claim)), cause: err}
		} else if err != nil {
			return &Error{Code: CodeIdentityMissing, Message: fmt.Sprintf(
				"The export of %s needs %s, which the job was enqueued without; enqueue it again.", d.Title, identityName(claim)), cause: err}
		}
	}
	return nil
}

func identityName(claim string) string {
	if claim == "" {
		return "its user"
	}
	return "the claim " + claim
}

// Unguarded returns the names of the datasets that every signed-in user may export completely: they have no rules, and their queries
// do not depend on the user.
func (c *Config) Unguarded() (names []string) {
	for i := range c.Datasets {
		if d := &c.Datasets[i]; len(d.Allow) == 0 && !d.bindsIdentity() {
			names = append(names, d.Name)
		}
	}
	return names
}

// rules reads the key allow: a list of rules, of which one must hold.
func rules(n node) (rules []jobs.Rule, err error) {
	items, err := n.sequence("a list of rules like { scope: reports }")
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, n.errorf("is empty, and would allow nobody; leave it out to allow everybody who is signed in")
	}
	for _, item := range items {
		rule, err := readRule(item)
		if err != nil {
			return nil, err
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

func readRule(n node) (rule jobs.Rule, err error) {
	fields, err := n.mapping("a rule with a scope, with claims, or with both", "scope", "claims")
	if err != nil {
		return rule, err
	}
	for _, f := range fields {
		switch f.name {
		case "scope":
			rule.Scope, err = f.node.text("a scope")
		case "claims":
			rule.Claims, err = ruleClaims(f.node)
		}
		if err != nil {
			return rule, err
		}
	}
	if err := rule.Check(); err != nil {
		return rule, n.errorf("allows nothing; expected a scope, claims, or both")
	}
	return rule, nil
}

// ruleClaims reads the claims of a rule, each with one allowed value or a list of them.
func ruleClaims(n node) (map[string][]string, error) {
	entries, err := n.mapping("claims and their values")
	if err != nil {
		return nil, err
	}
	claims := make(map[string][]string, len(entries))
	for _, e := range entries {
		items, err := e.node.sequence("")
		if err != nil {
			items = []node{e.node}
		}
		for _, item := range items {
			value, err := item.scalar("a value of the claim, or a list of them")
			if err != nil {
				return nil, err
			}
			claims[e.name] = append(claims[e.name], value)
		}
	}
	return claims, nil
}
