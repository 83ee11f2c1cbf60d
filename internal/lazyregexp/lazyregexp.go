// Package lazyregexp compiles regular expressions when they are first used. A hook is started for
// each stop, and most stops do not use any.
package lazyregexp

import (
	"regexp"
	"sync"
)

// New returns a function that returns the compiled expression. It panics when it is called if the
// expression cannot be compiled.
func New(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
