// Package nearest finds the word that was probably meant by a misspelt one.
package nearest

import "slices"

// Word returns the candidate with the fewest typing errors. It returns "" if each has more than one
// error in four letters, or more than three. Of equal candidates, it returns the first in the
// alphabet.
func Word(word string, candidates []string) string {
	best, least := "", min(max(1, len(word)/4), 3)+1
	if len(word) < 3 {
		return "" // any two letters may be another word
	}
	for _, candidate := range slices.Sorted(slices.Values(candidates)) {
		if d := Slips(word, candidate, least-1); d < least && d > 0 {
			best, least = candidate, d
		}
	}
	return best
}

// Hint returns a candidate in parentheses for an error's cure, as in "correct the name (match?)",
// or "".
func Hint(word string, candidates []string) string {
	if found := Word(word, candidates); found != "" {
		return " (" + found + "?)"
	}
	return ""
}

// Slips returns the number of bytes to add, remove, replace or swap with a neighbour to turn one
// text into the other. It returns limit+1 if the number is above limit.
func Slips(a, b string, limit int) int {
	if d := len(a) - len(b); d > limit || -d > limit {
		return limit + 1
	}
	var before []int // the row above the last
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			replace := last[j]
			if a[i] != b[j] {
				replace++
			}
			row[j+1] = min(replace, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return min(last[len(b)], limit+1)
}
