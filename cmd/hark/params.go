package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// splitParams reads the values of --param, each NAME=VALUE, into given.
func splitParams(given map[string]string, params []string) error {
	for _, p := range params {
		name, value, ok := strings.Cut(p, "=")
		if !ok || name == "" {
			return badUsage("--param %s is not like name=value", p)
		}
		if _, twice := given[name]; twice {
			return badUsage("the param %s is given twice", name)
		}
		given[name] = value
	}
	return nil
}

// typeParams converts the given texts to params: each value gets the JSON type that its kind declares. Invalid params are a
// [*usageError], so that no invalid job is enqueued.
func typeParams(kind *jobs.Kind, given map[string]string) (json.RawMessage, error) {
	typed := make(map[string]any, len(given))
	for name, text := range given {
		typed[name] = text // Check reports undeclared params
	}
	typeAll(kind.Params, given, typed)
	raw, err := json.Marshal(typed)
	if err != nil {
		return nil, fmt.Errorf("write the params: %w", err)
	}
	if _, err := kind.Check(raw); err != nil {
		var invalid *jobs.InvalidError
		if errors.As(err, &invalid) {
			return nil, badUsage("%s %s", strings.TrimPrefix(invalid.Field, "params."), invalid.Reason)
		}
		return nil, err
	}
	return raw, nil
}

// typeAll converts the params, and those of the options that they choose, by default too.
func typeAll(params []jobs.Param, given map[string]string, typed map[string]any) {
	for i := range params {
		p := &params[i]
		chosen, isGiven := given[p.Name]
		if isGiven {
			typed[p.Name] = typeValue(p, chosen)
		} else if p.Default != nil {
			chosen = asText(p.Default)
		} else {
			continue
		}
		for _, option := range p.Options {
			if asText(option.Value) == chosen {
				typeAll(option.Params, given, typed)
			}
		}
	}
}

// typeValue returns text as a value of the param, or unchanged if it is not a valid one.
func typeValue(p *jobs.Param, text string) any {
	for _, option := range p.Options {
		if asText(option.Value) == text {
			return option.Value
		}
	}
	switch p.Type {
	case jobs.TypeInteger:
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return n
		}
	case jobs.TypeNumber:
		if _, err := strconv.ParseFloat(text, 64); err == nil && json.Valid([]byte(text)) {
			return json.Number(text)
		}
	case jobs.TypeBoolean:
		switch strings.ToLower(text) {
		case "true", "yes", "on", "1":
			return true
		case "false", "no", "off", "0":
			return false
		}
	case jobs.TypeAny:
		if json.Valid([]byte(text)) {
			return json.RawMessage(text)
		}
	}
	return text
}

// asText returns a declared value as a user would type it.
func asText(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}
