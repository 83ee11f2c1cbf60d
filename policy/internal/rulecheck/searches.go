package rulecheck

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A searching function takes what it looks for and what it looks in, in an order that is easily
// mistaken.
type searching struct {
	given     string // how its arguments are to be given
	arity     int
	text      int // the argument that it looks in
	sought    int // the argument that it looks for
	isPattern bool
}

var searches = map[string]searching{
	"startswith":               {"startswith(text, beginning)", 2, 0, 1, false},
	"endswith":                 {"endswith(text, end)", 2, 0, 1, false},
	"contains":                 {"contains(text, part)", 2, 0, 1, false},
	"indexof":                  {"indexof(text, part)", 2, 0, 1, false},
	"strings.count":            {"strings.count(text, part)", 2, 0, 1, false},
	"strings.any_prefix_match": {"strings.any_prefix_match(texts, beginnings)", 2, 0, 1, false},
	"strings.any_suffix_match": {"strings.any_suffix_match(texts, ends)", 2, 0, 1, false},
	"regex.match":              {"regex.match(pattern, text)", 2, 1, 0, true},
	"glob.match":               {"glob.match(pattern, delimiters, text)", 3, 2, 0, true},
}

func (w *walker) search(s *scope, expr *ast.Expr, f searching) {
	text, sought := w.all(s, expr.Operand(f.text)), w.all(s, expr.Operand(f.sought))
	if w.isSwapped(expr, text, sought, f.given) {
		return
	}
	for _, in := range text {
		for _, part := range sought {
			if part.constant == nil {
				continue
			}
			if in.schema == nil {
				w.use(part)
				if isPart(expr, in, part) {
					w.use(in) // an entry that ends with *, say, is for another line than one that is a name
				}
				continue
			}
			if word, ok := part.text(); ok {
				if why := in.neverHas(expr, word, f.isPattern); why != "" {
					w.doubt(expr, part, why)
				} else {
					w.use(part)
				}
			}
		}
	}
}

// isPart reports whether a constant is known to be in another.
func isPart(expr *ast.Expr, in, part meaning) bool {
	text, ok := in.text()
	word, isWord := part.text()
	if !ok || !isWord {
		return false
	}
	switch expr.Operator().String() {
	case "startswith":
		return strings.HasPrefix(text, word)
	case "endswith":
		return strings.HasSuffix(text, word)
	}
	return strings.Contains(text, word)
}

// isSwapped refuses to look for a field in a constant.
func (w *walker) isSwapped(expr *ast.Expr, text, sought []meaning, given string) bool {
	isField := func(m meaning) bool { return strings.HasPrefix(m.name, "input.") }
	field := slices.IndexFunc(sought, isField)
	if field < 0 || slices.ContainsFunc(text, isField) || !slices.ContainsFunc(text, func(m meaning) bool { return m.constant != nil }) {
		return false
	}
	w.refuse(expr, "the arguments are swapped: %s is looked for in a constant; write %s", sought[field].name, given)
	return true
}

// neverHas says why a text is never a part of the value; "" if it may be.
func (m meaning) neverHas(expr *ast.Expr, word string, isPattern bool) string {
	op := expr.Operator().String()
	trimmed := strings.TrimRight(word, "\r\n")
	switch {
	case trimmed != word && !m.isFree():
		return fmt.Sprintf("%s never has the line feed at the end of %q; remove it (in YAML, write |- or quotes)", m.name, word)
	case op == "regex.match" && m.values() != nil:
		pattern, err := regexp.Compile(word)
		if err == nil && !slices.ContainsFunc(append(m.understood(), ""), pattern.MatchString) {
			return fmt.Sprintf("%s never matches %q; it is one of %s", m.name, word, strings.Join(m.values(), ", "))
		}
	case op == "glob.match":
		beginning := word[:max(strings.IndexAny(word+"*", `*?[{\`), 0)]
		if m.values() != nil && !slices.ContainsFunc(m.understood(), func(v string) bool { return strings.HasPrefix(v, beginning) }) {
			return fmt.Sprintf("%s never matches %q; it is one of %s", m.name, word, strings.Join(m.values(), ", "))
		}
		if isLower := strings.HasSuffix(m.name, ".uuid") || strings.HasSuffix(m.name, ".mac"); isLower && strings.ToLower(beginning) != beginning {
			return fmt.Sprintf("%s never matches %q; it is in lower case", m.name, word)
		}
	case isPattern:
	case m.values() != nil && !slices.ContainsFunc(m.understood(), func(v string) bool {
		return op == "startswith" && strings.HasPrefix(v, word) || op == "endswith" && strings.HasSuffix(v, word) ||
			op != "startswith" && op != "endswith" && strings.Contains(v, word)
	}):
		return fmt.Sprintf("%s never has %q; it is one of %s", m.name, word, strings.Join(m.values(), ", "))
	case (strings.HasSuffix(m.name, ".uuid") || strings.HasSuffix(m.name, ".mac")) && strings.ToLower(word) != word:
		return fmt.Sprintf("%s never has %q; it is in lower case", m.name, word)
	case m.name == "input.time" && op == "startswith" && !beginsTime(word):
		return fmt.Sprintf("%s never begins with %q; write it in UTC, as 2027-06-30 or 2027-06-30T12:00:00Z", m.name, word)
	case !m.isFree() && strings.HasPrefix(m.name, "input.") && strings.ContainsAny(word, "*?"):
		return fmt.Sprintf("%s looks for %q letter for letter; leave the * out, or write glob.match", op, word)
	}
	return ""
}

// beginsTime reports whether input.time may begin with a text.
func beginsTime(text string) bool {
	const form = "0000-00-00T00:00:00"
	for i := range min(len(text), len(form)) {
		isDigit := text[i] >= '0' && text[i] <= '9'
		if form[i] == '0' && !isDigit || form[i] != '0' && form[i] != text[i] {
			return false
		}
	}
	return true
}
