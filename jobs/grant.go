package jobs

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Grant is what the verified token of a requester grants: scopes and claims.
type Grant struct {
	Scopes []string
	Claims map[string]any // as encoding/json decodes them with UseNumber
}

// Rule is one way to be allowed to enqueue a job. Everything that is set in it must hold.
type Rule struct {
	// Scope is a scope that the requester must have.
	Scope string `json:"scope,omitempty"`
	// Claims are claims that the requester must have. Each must be one of the values, or a list that contains one of them.
	Claims map[string][]string `json:"claims,omitempty"`
}

// Check returns an error if the rule is empty or can never hold.
func (r *Rule) Check() error {
	if r.Scope == "" && len(r.Claims) == 0 {
		return fmt.Errorf("jobs: a rule without a scope or a claim allows nothing")
	}
	if strings.ContainsAny(r.Scope, " \t\r\n") {
		return fmt.Errorf("jobs: %q is not one scope", r.Scope)
	}
	for name, values := range r.Claims {
		if name == "" || len(values) == 0 {
			return fmt.Errorf("jobs: the claim %q of a rule has no values", name)
		}
	}
	return nil
}

// holds reports whether g fulfils the rule.
func (r *Rule) holds(g *Grant) bool {
	if r.Scope == "" && len(r.Claims) == 0 || r.Scope != "" && !slices.Contains(g.Scopes, r.Scope) {
		return false
	}
	for name, values := range r.Claims {
		if !slices.ContainsFunc(claimTexts(g.Claims[name]), func(text string) bool { return slices.Contains(values, text) }) {
			return false
		}
	}
	return true
}

// claimTexts returns a claim's value as texts: one for a plain value, several for a list, none for anything else.
func claimTexts(claim any) (texts []string) {
	values, isList := claim.([]any)
	if !isList {
		values = []any{claim}
	}
	for _, v := range values {
		switch v := v.(type) {
		case string:
			texts = append(texts, v)
		case json.Number:
			texts = append(texts, v.String())
		case bool:
			texts = append(texts, fmt.Sprint(v))
		}
	}
	return texts
}

// allowed reports whether one of the rules holds. Without rules everybody is allowed.
func allowed(rules []Rule, g *Grant) bool {
	return len(rules) == 0 || slices.ContainsFunc(rules, func(r Rule) bool { return r.holds(g) })
}

// ForbiddenError is returned for a job that its requester may not enqueue, or whose file they may not download.
type ForbiddenError struct {
	Code string // kind_forbidden or claim_missing
	What string // the kind, and the forbidden option
	// Claim is the claim that the requester lacks, if that is the reason.
	Claim string
}

func (e *ForbiddenError) Error() string {
	if e.Claim != "" {
		return fmt.Sprintf("jobs: %s needs the claim %s, which the requester does not have", e.What, e.Claim)
	}
	return fmt.Sprintf("jobs: the requester is not allowed to use %s", e.What)
}

// Permit returns nil if a requester with this grant may enqueue a job of the kind with these params, and a [*ForbiddenError]
// otherwise. The params need not be valid. A missing claim that the job needs is forbidden too: a query that gets NULL for it
// might return all rows.
func (k *Kind) Permit(g Grant, params json.RawMessage) error {
	given, err := decodeParams(params)
	if err != nil {
		return err
	}
	if !allowed(k.Allow, &g) {
		return &ForbiddenError{Code: "kind_forbidden", What: k.Name}
	}
	for _, o := range k.chosen(given) {
		if !allowed(o.Allow, &g) {
			return &ForbiddenError{Code: "kind_forbidden", What: fmt.Sprintf("%s %v", k.Name, o.Value)}
		}
	}
	for _, name := range k.claims(given) {
		if g.Claims[name] == nil {
			return &ForbiddenError{Code: "claim_missing", What: k.what(given), Claim: name}
		}
	}
	return nil
}

// For returns the kind as a requester with this grant may see it: without the rules, and without forbidden options. It
// reports false if the kind itself is forbidden.
func (k *Kind) For(g Grant) (Kind, bool) {
	if !allowed(k.Allow, &g) || !hasClaims(k.Claims, &g) {
		return Kind{}, false
	}
	seen := *k
	seen.Allow, seen.Claims = nil, nil
	var ok bool
	seen.Params, ok = paramsFor(k.Params, &g)
	return seen, ok
}

// paramsFor reports false if a param has no option left.
func paramsFor(params []Param, g *Grant) ([]Param, bool) {
	seen := slices.Clone(params)
	for i := range seen {
		if len(seen[i].Options) == 0 {
			continue
		}
		var options []Option
		for _, o := range seen[i].Options {
			if !allowed(o.Allow, g) || !hasClaims(o.Claims, g) {
				continue
			}
			var ok bool
			if o.Params, ok = paramsFor(o.Params, g); !ok {
				continue
			}
			o.Allow, o.Claims = nil, nil
			options = append(options, o)
		}
		if len(options) == 0 {
			return nil, false
		}
		seen[i].Options = options
	}
	return seen, true
}

func hasClaims(names []string, g *Grant) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return g.Claims[name] == nil })
}

// chosen returns the chosen options, including those of the params that chosen options add.
func (k *Kind) chosen(given map[string]any) (options []Option) {
	var walk func([]Param)
	walk = func(params []Param) {
		for i := range params {
			p := &params[i]
			v := given[p.Name]
			if v == nil {
				v = p.Default
			}
			for _, o := range p.Options {
				if v != nil && sameValue(o.Value, v) {
					options = append(options, o)
					walk(o.Params)
				}
			}
		}
	}
	walk(k.Params)
	return options
}

// claims returns the names of the claims that are stored with a job with these params.
func (k *Kind) claims(given map[string]any) []string {
	names := slices.Clone(k.Claims)
	for _, o := range k.chosen(given) {
		names = append(names, o.Claims...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TakeClaims returns the claims that are stored with a job with these params.
func (k *Kind) TakeClaims(claims map[string]any, params json.RawMessage) (map[string]any, error) {
	given, err := decodeParams(params)
	if err != nil {
		return nil, err
	}
	var taken map[string]any
	for _, name := range k.claims(given) {
		if v := claims[name]; v != nil {
			if taken == nil {
				taken = make(map[string]any)
			}
			taken[name] = v
		}
	}
	return taken, nil
}
