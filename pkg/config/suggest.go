package config

import (
	"slices"
	"strings"
)

// DidYouMean ends a message about an unknown word with the nearest known one, if
// one is near.
func DidYouMean(word string, known []string) string {
	if near := nearest(word, known); near != "" {
		return "; did you mean " + quote(near) + "?"
	}
	return ""
}

// nearest returns the known word that a typing mistake may have turned into word,
// or nothing. Case does not count, nor which of - . _ joins words.
func nearest(word string, known []string) string {
	const longest = 64 // the distance costs the product of the lengths
	if len(word) > longest {
		return ""
	}
	best, fewest := "", min(3, (len(word)+2)/3)+1
	for _, candidate := range slices.Sorted(slices.Values(known)) {
		if len(candidate) > longest {
			continue
		}
		if n := distance(fold(word), fold(candidate)); n < fewest {
			best, fewest = candidate, n
		}
	}
	return best
}

// fold makes names comparable that differ in case and punctuation only.
func fold(name string) string {
	return strings.Map(func(r rune) rune {
		if r == '-' || r == '.' || r == ':' {
			return '_'
		}
		return r
	}, strings.ToLower(name))
}

// distance counts the bytes to insert, drop, replace or swap with their neighbour
// in order to turn a into b.
func distance(a, b string) int {
	before, previous, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, previous, row = previous, row, before
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(previous[j]+cost, previous[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
