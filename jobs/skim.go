package jobs

import "bytes"

// withoutParams returns the JSON object of a stored order without its params, which may be many times larger than all
// the rest, and are not shown by what only shows jobs. They are stepped over, and neither checked nor copied. It returns
// data as it is if that is not such an object.
func withoutParams(data []byte) []byte {
	const name = `"params"`
	if len(data) == 0 || data[0] != '{' {
		return data
	}
	for i := 1; i < len(data) && data[i] == '"'; {
		colon := skipValue(data, i)
		if colon >= len(data) || data[colon] != ':' {
			return data
		}
		end := skipValue(data, colon+1)
		if string(data[i:colon]) == name && end < len(data) {
			rest := data[end:]
			if rest[0] == ',' { // another member follows
				rest = rest[1:]
			} else { // it is the last, after a comma or the brace
				i = len(bytes.TrimSuffix(data[:i], []byte(",")))
			}
			return append(append(make([]byte, 0, i+len(rest)), data[:i]...), rest...)
		}
		if end >= len(data) || data[end] != ',' {
			return data
		}
		i = end + 1
	}
	return data
}

// skipValue returns where the JSON value ends that begins at i, in JSON as encoding/json writes it, without spaces.
func skipValue(data []byte, i int) int {
	for depth := 0; i < len(data); {
		switch data[i] {
		case '"':
			i = skipString(data, i)
		case '{', '[':
			depth++
			i++
			continue
		case '}', ']':
			depth--
			i++
		case ',', ':':
			if depth == 0 {
				return i
			}
			i++
			continue
		default: // a number or a word
			for i < len(data) && data[i] != ',' && data[i] != '}' && data[i] != ']' {
				i++
			}
		}
		if depth <= 0 {
			return i
		}
	}
	return len(data)
}

// skipString returns where the JSON string ends that begins at i.
func skipString(data []byte, i int) int {
	for i++; i < len(data); {
		quote := bytes.IndexByte(data[i:], '"')
		if quote < 0 {
			break
		}
		end := i + quote
		escapes := 0
		for end-escapes > i && data[end-1-escapes] == '\\' {
			escapes++
		}
		if i = end + 1; escapes%2 == 0 {
			return i
		}
	}
	return len(data)
}
