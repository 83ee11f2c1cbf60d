package module

import (
	"errors"
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stopguard/stopguard/internal/lazyregexp"
	"github.com/stopguard/stopguard/internal/nearest"
	"github.com/stopguard/stopguard/internal/problem"
)

// Error returns OPA's errors, each in one line with its place, and in words if OPA's are for its
// own authors. A misspelt function is compared with the given ones, which may be nil.
func Error(err error, functions func() []string) error {
	var errs ast.Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		return fmt.Errorf("%s; correct the rule", problem.OneLine(err.Error()))
	}
	var all []error
	for _, e := range errs {
		all = append(all, fmt.Errorf("%s: %s", e.Location, problem.OneLine(explainCompileError(e, functions))))
	}
	return problem.Join(all...)
}

var (
	undefinedFunction = lazyregexp.New(`^undefined function ([\w.]+)`)
	unsafeVar         = lazyregexp.New(`^var (\w+) is unsafe$`)
	argumentsOf       = lazyregexp.New(`^([\w.]+): (invalid argument\(s\)|arity mismatch)$`)
	generatedVar      = lazyregexp.New(`__local\d+__`)
)

// explainCompileError returns the text for an error of OPA's, and its cure.
func explainCompileError(err *ast.Error, functions func() []string) string {
	if m := undefinedFunction().FindStringSubmatch(err.Message); m != nil {
		if knownBuiltin(m[1]) {
			return fmt.Sprintf("rules may not call %s; write the rule without it", m[1])
		}
		return undefinedFunctionText(m[1], functions)
	}
	if m := unsafeVar().FindStringSubmatch(err.Message); m != nil {
		return fmt.Sprintf("nothing gives %s a value (%s); give it one, as in %s := ..., or correct its name", m[1], err.Message, m[1])
	}
	switch d := err.Details.(type) {
	case nil:
	case *ast.RefErrInvalidDetail:
		return invalidRef(d)
	case *ast.RefErrUnsupportedDetail:
		return unsupportedRef(d)
	case *ast.UnificationErrDetail:
		if !types.Nil(d.Left) && !types.Nil(d.Right) {
			return fmt.Sprintf("%s and %s are never the same (%s); correct the rule", ofType(d.Left), ofType(d.Right), err.Message)
		}
	case *ast.ArgErrDetail:
		if m := argumentsOf().FindStringSubmatch(err.Message); m != nil {
			return arguments(m[1], m[2] == "invalid argument(s)", d)
		}
	case *ast.ParserErrorDetail:
		where, line := "before", d.Line[min(max(d.Idx, 0), len(d.Line)):]
		if strings.Contains(err.Message, "eof token") { // the error is behind the text at OPA's position
			where, line = "behind", d.Line
		}
		return fmt.Sprintf("%s %s %.60q; correct the rule", err.Message, where, problem.OneLine(line))
	default:
		return fmt.Sprintf("%s (%s); correct the rule", err.Message, strings.Join(d.Lines(), " "))
	}
	return err.Message + "; correct the rule"
}

// undefinedFunctionText explains the call of a function that does not exist. A function of a
// package also matches by its last names, because a rule that imports the package calls it so.
func undefinedFunctionText(name string, functions func() []string) string {
	var known []string
	if functions != nil {
		known = functions()
	}
	for _, function := range known {
		if of, ok := strings.CutSuffix(function, "."+name); ok && strings.Contains(name, ".") {
			return fmt.Sprintf("there is no function %s here; import %s", name, of+"."+name[:strings.LastIndex(name, ".")])
		}
	}
	parts := strings.Count(name, ".") + 1
	var alike []string
	for _, function := range known {
		if names := strings.Split(function, "."); len(names) >= parts {
			alike = append(alike, strings.Join(names[len(names)-parts:], "."))
		}
	}
	return fmt.Sprintf("there is no function %s; correct its name%s, or import what has it", name, nearest.Hint(name, alike))
}

// invalidRef explains a reference with a name that the value before it does not have.
func invalidRef(d *ast.RefErrInvalidDetail) string {
	in := refText(d.Ref[:d.Pos])
	key := refText(ast.Ref{d.Ref[d.Pos]})
	if d.Have != nil { // the value of a variable
		key = ofType(d.Have)
	}
	switch {
	case len(d.OneOf) > 0:
		there := make([]string, len(d.OneOf))
		for i, v := range d.OneOf {
			there[i] = v.String()
			if s, ok := v.(ast.String); ok {
				there[i] = string(s)
			}
		}
		if d.Have != nil {
			return fmt.Sprintf("%s is no name in %s; there are: %s", key, in, strings.Join(there, ", "))
		}
		return fmt.Sprintf("there is no %s; there are: %s", refText(d.Ref[:d.Pos+1]), strings.Join(there, ", "))
	case d.Want == nil:
		return fmt.Sprintf("there is no %s, and nothing else in %s; correct the rule", refText(d.Ref[:d.Pos+1]), in)
	case types.Compare(d.Want, types.N) == 0:
		return fmt.Sprintf("%s has members and no names, so that %s is nothing; write some x in %s", in, refText(d.Ref[:d.Pos+1]), in)
	}
	return fmt.Sprintf("%s has no %s; its keys are of the type %s", in, key, types.Sprint(d.Want))
}

// unsupportedRef explains a reference into a value that does not have members, such as a string.
func unsupportedRef(d *ast.RefErrUnsupportedDetail) string {
	what := refText(d.Ref[:d.Pos+1])
	if _, ok := d.Have.(*types.Function); ok {
		return fmt.Sprintf("%s is a function, and is not called; write %s(...)", what, what)
	}
	return fmt.Sprintf("%s is %s, so that %s is nothing; correct the rule", what, ofType(d.Have), refText(d.Ref))
}

// refText returns a reference without the names that OPA generates.
func refText(ref ast.Ref) string {
	if len(ref) == 1 {
		if s, ok := ref[0].Value.(ast.String); ok {
			return string(s)
		}
		return generatedVar().ReplaceAllString(ref[0].Value.String(), "_")
	}
	return generatedVar().ReplaceAllString(ref.String(), "_")
}

func ofType(t types.Type) string {
	name := types.Sprint(t)
	switch t.(type) {
	case types.Null:
		return "null"
	case *types.Object, *types.Array:
		name, _, _ = strings.Cut(name, "[")
		name, _, _ = strings.Cut(name, "<")
		return "an " + name
	case types.Any:
		return "one of several types"
	}
	name, _, _ = strings.Cut(name, "[")
	return "a " + name
}

// arguments explains the call of a function with the wrong arguments. OPA counts a result among
// them.
func arguments(function string, withResult bool, d *ast.ArgErrDetail) string {
	have, want := d.Have, d.Want.Args
	if withResult && len(want) > 0 {
		want = want[:len(want)-1]
		have = have[:min(len(have), len(want))]
	}
	return fmt.Sprintf("%s is given (%s), and takes (%s); correct the rule", function, typeNames(have), typeNames(want))
}

func typeNames(all []types.Type) string {
	names := make([]string, len(all))
	for i, t := range all {
		names[i] = "?"
		if !types.Nil(t) {
			names[i] = types.Sprint(t)
		}
	}
	return strings.Join(names, ", ")
}

func knownBuiltin(name string) bool {
	_, ok := ast.BuiltinMap[name]
	return ok
}

// EvaluationError makes one line of an evaluation's error, with its place.
func EvaluationError(err error) string {
	var e *topdown.Error
	if errors.As(err, &e) && e.Location != nil {
		return fmt.Sprintf("%s: %s", e.Location, problem.OneLine(e.Message))
	}
	return problem.OneLine(err.Error())
}
