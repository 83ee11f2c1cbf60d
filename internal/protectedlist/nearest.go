package protectedlist

import (
	"strings"
	"unicode"
)

// nearest returns the domain that an entry without a match was probably written for. Their names
// look the same or differ by a typing error, or their UUIDs differ by a few digits. It reports
// whether there is such a domain.
func (k domainIndex) nearest(entry string) (Domain, bool) {
	var best Domain
	if k.noNearest {
		return best, false
	}
	folded := fold(entry)
	least := -1
	take := func(d Domain, distance, limit int) {
		if distance <= limit && (least < 0 || distance < least || distance == least && d.Name < best.Name) {
			best, least = d, distance
		}
	}
	digits := []rune(strings.ToLower(strings.ReplaceAll(bareUUID(entry), "-", "")))
	isNear := isNearUUID(entry)
	for _, d := range k.domains {
		name := fold(d.Name)
		limit := max(edit, edit*max(len(folded), len(name))/5)
		if len(folded) < 3 {
			limit = edit - 1 // otherwise "vm" would be near to "db"
		}
		take(d, nameCosts.distance(folded, name, limit), limit)
		if id := []rune(strings.ToLower(strings.ReplaceAll(d.UUID, "-", ""))); isNear && len(id) == 32 {
			take(d, uuidCosts.distance(digits, id, 4*edit), 4*edit)
		}
	}
	return best, least >= 0
}

// The costs of edits.
const (
	edit   = 4 // an added, removed or replaced character
	accent = 1 // a character outside ASCII in place of one inside, which may look the same
	never  = 1000
)

// costs are the edit costs of names or of UUIDs. In names digits count: web-02 is not a misspelling
// of web-01, but web-1 is. In UUIDs two changed digits are a misspelling.
type costs struct{ digitsCount bool }

var nameCosts, uuidCosts = costs{digitsCount: true}, costs{}

// fold returns a name without differences that people overlook: case, quotes and marks around it,
// backslashes, combining accents, and invisible characters.
func fold(name string) []rune {
	name = strings.TrimFunc(plainDashes(strings.ToLower(name)), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsPunct(r) && r != '*' && r != '?' || unicode.IsSymbol(r)
	})
	for _, ending := range []string{".xml", ".qcow2", ".img"} {
		name = strings.TrimSuffix(name, ending)
	}
	var folded []rune
	for _, r := range name {
		switch {
		case unicode.IsMark(r), r == '\\':
		case unicode.IsSpace(r), r == '_':
			folded = append(folded, '-')
		default:
			folded = append(folded, r)
		}
	}
	return folded
}

// distance returns the cost of turning one text into the other, as by Levenshtein; two swapped
// neighbours are one edit. If the cost is above the limit, the result is only some number above the
// limit.
func (c costs) distance(a, b []rune, limit int) int {
	if n := len(a) - len(b); n*edit > limit || -n*edit > limit {
		return limit + 1
	}
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 && j == 0:
			case i == 0:
				rows[i][j] = rows[i][j-1] + c.insertion(b[j-1])
			case j == 0:
				rows[i][j] = rows[i-1][j] + c.insertion(a[i-1])
			default:
				cost := min(rows[i-1][j]+c.insertion(a[i-1]), rows[i][j-1]+c.insertion(b[j-1]), rows[i-1][j-1]+c.substitution(a[i-1], b[j-1]))
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] && !(c.digitsCount && isDigit(a[i-1]) && isDigit(b[j-1])) {
					cost = min(cost, rows[i-2][j-2]+edit)
				}
				rows[i][j] = cost
			}
		}
	}
	return rows[len(a)][len(b)]
}

func (c costs) insertion(r rune) int {
	if c.digitsCount && '1' <= r && r <= '9' {
		return never
	}
	return edit
}

func (c costs) substitution(a, b rune) int {
	switch {
	case a == b:
		return 0
	case c.digitsCount && isDigit(a) && isDigit(b):
		return never
	case (a >= 0x80) != (b >= 0x80):
		return accent
	}
	return edit
}

func isDigit(r rune) bool { return '0' <= r && r <= '9' }
