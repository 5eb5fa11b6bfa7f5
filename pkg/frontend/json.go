package frontend

import (
	"time"
	"unicode/utf8"
)

// AppendString appends s as a JSON string. Unlike encoding/json it leaves <, > and &
// alone, as the real services do, because shell scripts read secrets out of these
// documents. What is no UTF-8 becomes U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for {
		n := plainPrefix(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		s = s[n:]
		r, size := utf8.DecodeRuneInString(s)
		dst = appendRune(dst, r)
		s = s[size:]
	}
}

func appendRune(dst []byte, r rune) []byte {
	const hex = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(dst, '\\', byte(r))
	case r == '\n':
		return append(dst, '\\', 'n')
	case r == '\r':
		return append(dst, '\\', 'r')
	case r == '\t':
		return append(dst, '\\', 't')
	case r < ' ':
		return append(dst, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
	default:
		return utf8.AppendRune(dst, r)
	}
}

// plainPrefix is how many bytes of s are ASCII that stands in JSON as it is. Session
// tokens have a thousand characters and were most of the time of a request, hence
// eight bytes at a time: a subtraction borrows into the top bit of each byte that is
// below the limit, or equal after the XOR. It may stop early but never late, so the
// bytes that follow are looked at one by one.
func plainPrefix(s string) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(s); n += 8 {
		b := s[n : n+8]
		v := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
			uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
		special := v | (v - ones*' ') | ((v ^ ones*'"') - ones) | ((v ^ ones*'\\') - ones)
		if special&tops != 0 {
			break
		}
	}
	for ; n < len(s); n++ {
		if c := s[n]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			break
		}
	}
	return n
}

// AppendTime appends t as a JSON string in UTC with whole seconds and a Z, the one
// form that every AWS SDK reads. A fraction is cut off, so that a credential never
// seems to live longer than it does.
func AppendTime(dst []byte, t time.Time) []byte {
	dst = t.UTC().AppendFormat(append(dst, '"'), time.RFC3339)
	return append(dst, '"')
}
