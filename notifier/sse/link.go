package sse

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/hark-jobs/hark/jobs"
)

// dropUnsafeLink returns a stored notification without its link if [jobs.SafeLink] refuses that: the message may
// be older than that rule, or foreign. Nearly all messages are returned as they are. It returns nil for malformed
// JSON.
func dropUnsafeLink(stored []byte) []byte {
	if !mayHaveLink(stored) {
		return stored
	}
	type field struct {
		name  string
		value json.RawMessage
	}
	var others []field
	safe := true
	dec := json.NewDecoder(bytes.NewReader(stored))
	if start, err := dec.Token(); err != nil || start != json.Delim('{') {
		return stored // not an object: the caller checks that
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil
		}
		f := field{name: name.(string)} // the decoder accepts nothing else as a member name
		if err := dec.Decode(&f.value); err != nil {
			return nil
		}
		// Go decoders accept LINK for link.
		if !strings.EqualFold(f.name, "link") {
			others = append(others, f)
			continue
		}
		var link string
		safe = safe && json.Unmarshal(f.value, &link) == nil && (link == "" || jobs.SafeLink(link))
	}
	if safe {
		return stored
	}
	b := make([]byte, 0, len(stored))
	b = append(b, '{')
	for i, f := range others {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil
		}
		b = append(append(append(b, name...), ':'), f.value...)
	}
	return append(b, '}')
}

// mayHaveLink reports whether a string in the JSON begins like the word link, in any case or with an escape.
func mayHaveLink(stored []byte) bool {
	for {
		i := bytes.IndexByte(stored, '"')
		if i < 0 || i+2 >= len(stored) {
			return false
		}
		first, second := stored[i+1], stored[i+2]
		if first == '\\' || (first|0x20 == 'l' && (second|0x20 == 'i' || second == '\\')) {
			return true
		}
		stored = stored[i+1:]
	}
}
