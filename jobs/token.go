package jobs

import "fmt"

// EscapeToken escapes a text into one token of a topic or a NATS subject: letters, digits, _ and - stay, every other byte becomes
// =XX. Different texts have different tokens.
func EscapeToken(text string) string {
	const hex = "0123456789ABCDEF"
	plain := 0
	for plain < len(text) && isPlain(text[plain]) {
		plain++
	}
	if plain == len(text) {
		return text
	}
	b := []byte(text[:plain])
	for i := plain; i < len(text); i++ {
		if c := text[i]; isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '=', hex[c>>4], hex[c&15])
		}
	}
	return string(b)
}

// UnescapeToken is the inverse of [EscapeToken]. It returns an error for any other token.
func UnescapeToken(token string) (string, error) {
	text := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		if c := token[i]; isPlain(c) {
			text = append(text, c)
			continue
		}
		if token[i] != '=' || i+2 >= len(token) {
			return "", fmt.Errorf("jobs: %.60q is not an escaped token", token)
		}
		hi, lo := unhex(token[i+1]), unhex(token[i+2])
		if hi < 0 || lo < 0 || isPlain(byte(hi<<4|lo)) {
			return "", fmt.Errorf("jobs: %.60q is not an escaped token", token)
		}
		text = append(text, byte(hi<<4|lo))
		i += 2
	}
	return string(text), nil
}

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-'
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
