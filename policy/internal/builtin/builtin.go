// Package builtin has the functions that rules may call: OPA's that are allowed, and stopguard's
// own.
package builtin

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"

	"github.com/stopguard/stopguard/internal/calendar"
	"github.com/stopguard/stopguard/internal/glob"
	"github.com/stopguard/stopguard/internal/quote"
	"github.com/stopguard/stopguard/internal/uuid"
	"github.com/stopguard/stopguard/policy/internal/regovalue"
)

// allowed are OPA's built-in functions that a rule may call: those that return the same for
// the same arguments, reach nothing outside the evaluation, and do not take minutes over a short
// argument (as bits.lsh and graph.* can). A built-in of a later OPA is not allowed until it is
// named here.
var allowed = strings.Fields(`
	assign eq equal gt gte lt lte neq
	abs ceil div floor minus mul plus rem round numbers.range numbers.range_step
	and or intersection union set_diff
	count max min product sort sum
	array.concat array.flatten array.reverse array.slice
	object.filter object.get object.keys object.remove object.subset object.union object.union_n
	json.filter json.is_valid json.marshal json.patch json.remove json.unmarshal
	concat contains endswith format_int indexof indexof_n lower replace split sprintf startswith
	strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse strings.split_n
	substring trim trim_left trim_prefix trim_right trim_space trim_suffix upper internal.template_string
	regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace regex.split
	glob.match glob.quote_meta
	base64.decode base64.encode base64.is_valid hex.decode hex.encode urlquery.decode urlquery.encode
	crypto.sha256
	is_array is_boolean is_null is_number is_object is_set is_string type_name to_number
	internal.member_2 internal.member_3 walk
	net.cidr_contains net.cidr_is_valid
	semver.compare semver.is_valid units.parse units.parse_bytes uuid.parse
	time.add_date time.clock time.date time.diff time.format time.parse_duration_ns time.parse_ns
	time.parse_rfc3339_ns time.weekday
`)

// Capabilities returns those of this OPA with stopguard's built-ins, without every built-in that is
// not allowed, and without a host to fetch from. The result is shared: do not change it.
var Capabilities = sync.OnceValue(func() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.AllowNet = []string{} // nil would mean any host
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool {
		return !slices.Contains(allowed, b.Name) && !isOwn(b.Name)
	})
	return c
})

// A function is a function of ours that rules may call. It returns the same for the same arguments.
//
// An argument of another type than the declared one is an error when a rule is loaded, where the
// compiler can tell. Any other argument that the function is not made for is an error of the
// evaluation, and the rule vetoes in its own name: the function would otherwise be false, and the
// rule silent.
type function struct {
	name        string
	description string
	args        []types.Type
	result      types.Type
	call        func(args []ast.Value) (*ast.Term, error)
}

var (
	textType   = types.S
	textsType  = types.NewAny(types.NewArray(nil, types.S), types.NewSet(types.S))
	objectType = types.NewObject(nil, types.NewDynamicProperty(types.S, types.A))
)

func argument(name, description string, t types.Type) types.Type {
	return types.Named(name, t).Description(description)
}

var (
	nowArgument  = argument("now", "input.time", textType)
	zoneArgument = argument("zone", "the time zone, such as Europe/Berlin, where the object has no time_zone of its own", textType)
)

var own = []function{
	{
		name:        "stopguard.match",
		description: "Reports whether an entry names the domain: its name, its UUID in any way of writing it, or a pattern for its name.",
		args: []types.Type{
			argument("entries", "names, UUIDs and patterns, as in the protected list", textsType),
			argument("name", "the domain's name", textType),
			argument("uuid", "the domain's UUID", textType),
		},
		result: argument("result", "whether an entry names the domain", types.B),
		call:   callMatch,
	},
	{
		name:        "stopguard.readable",
		description: "Reports whether text is a point in time: an RFC 3339 time, or a date, which means that day's end in UTC.",
		args:        []types.Type{argument("text", "text", textType)},
		result:      argument("result", "whether it is a point in time between the years 1970 and 9999", types.B),
		call: func(args []ast.Value) (*ast.Term, error) {
			text, err := textOf(args[0], "the point in time")
			_, ok := calendar.ParseMoment(text)
			return ast.InternedTerm(ok), err
		},
	},
	{
		name:        "stopguard.passed",
		description: "Reports whether a point in time lies at or before now.",
		args:        []types.Type{argument("until", "a point in time, as stopguard.readable knows it", textType), nowArgument},
		result:      argument("result", "whether it has passed", types.B),
		call: func(args []ast.Value) (*ast.Term, error) {
			moment, err := momentOf(args[0])
			if err != nil {
				return nil, err
			}
			now, err := nowOf(args[1])
			return ast.InternedTerm(moment.Passed(now)), err
		},
	},
	{
		name:        "stopguard.shown",
		description: "Returns a point in time as a reason shows it: 2027-06-30 for a date and for midnight in UTC, else 2027-06-30T12:00Z.",
		args:        []types.Type{argument("until", "a point in time, as stopguard.readable knows it", textType)},
		result:      argument("result", "the point in time in UTC", types.S),
		call: func(args []ast.Value) (*ast.Term, error) {
			moment, err := momentOf(args[0])
			return ast.StringTerm(moment.String()), err
		},
	},
	{
		name:        "stopguard.freeze",
		description: "Computes a change freeze.",
		args: []types.Type{
			argument("freeze", "from and until: dates, or times; time_zone", objectType),
			zoneArgument,
			nowArgument,
		},
		result: argument("result", "whether the freeze is in force, whether it is empty because it ends before it starts, and until when it lasts, in UTC",
			objectOf("in_force", types.B, "is_empty", types.B, "until", types.S)),
		call: callFreeze,
	},
	{
		name:        "stopguard.window",
		description: "Computes a maintenance window.",
		args: []types.Type{
			argument("window", "start and end: times of day; days, all of them if it has none; time_zone", objectType),
			zoneArgument,
			nowArgument,
		},
		result: argument("result", "whether the window is open, and if it is not, when it opens next, in UTC; \"\" if it never does",
			objectOf("is_open", types.B, "opens", types.S)),
		call: callWindow,
	},
	{
		name:        "stopguard.quoted",
		description: "Returns text that somebody else wrote, fit for a reason: as it is if it cannot be taken for our own words, else in quotes; cut to 200 bytes.",
		args:        []types.Type{argument("text", "text, such as a domain's title", textType)},
		result:      argument("result", "the text", types.S),
		call: func(args []ast.Value) (*ast.Term, error) {
			text, ok := args[0].(ast.String)
			if !ok {
				return nil, typeError("what is quoted", args[0], "text")
			}
			return ast.StringTerm(quote.Text(string(text))), nil
		},
	},
}

// Everything that compiles or evaluates rules in this process has the built-ins: the engine, a
// policy's tests, OPA's own packages.
func init() {
	for _, b := range own {
		ast.RegisterBuiltin(&ast.Builtin{Name: b.name, Description: b.description, Decl: types.NewFunction(b.args, b.result)})
		topdown.RegisterBuiltinFunc(b.name, func(_ topdown.BuiltinContext, terms []*ast.Term, iterate func(*ast.Term) error) error {
			args := make([]ast.Value, len(terms))
			for i, term := range terms {
				args[i] = term.Value
			}
			result, err := b.call(args)
			if err != nil {
				return err
			}
			return iterate(result)
		})
	}
}

// IsAllowed reports whether rules may call the function.
func IsAllowed(function string) bool {
	return slices.Contains(allowed, function) || isOwn(function)
}

func isOwn(name string) bool {
	return slices.ContainsFunc(own, func(b function) bool { return b.name == name })
}

func callMatch(args []ast.Value) (*ast.Term, error) {
	name, err := textOf(args[1], "the domain's name")
	if err != nil {
		return nil, err
	}
	id, err := textOf(args[2], "the domain's UUID")
	if err != nil {
		return nil, err
	}
	u, ok := uuid.Parse(id)
	if !ok {
		return nil, fmt.Errorf("the domain's UUID is %.60q, which is not one; give entries, name, UUID in this order", id)
	}
	matches := false
	err = eachText(args[0], "the entries", func(entry string) error {
		if err := glob.Check(entry); err != nil {
			return fmt.Errorf("the entry %.60q %w", entry, err)
		}
		if of, ok := uuid.Parse(entry); ok && of == u || glob.Match(entry, name) {
			matches = true
		}
		return nil
	})
	return ast.InternedTerm(matches), err
}

func callFreeze(args []ast.Value) (*ast.Term, error) {
	zone, now, err := zoneAndNow(args)
	if err != nil {
		return nil, err
	}
	from, err := textOf(regovalue.Member(args[0], "from"), "the freeze's from")
	if err != nil {
		return nil, err
	}
	until, err := textOf(regovalue.Member(args[0], "until"), "the freeze's until")
	if err != nil {
		return nil, err
	}
	freeze, err := calendar.ParseFreeze(from, until, zone)
	if err != nil {
		return nil, err
	}
	return ast.ObjectTerm(
		regovalue.Pair("in_force", ast.InternedTerm(freeze.Contains(now))),
		regovalue.Pair("is_empty", ast.InternedTerm(freeze.IsEmpty())),
		regovalue.Pair("until", ast.StringTerm(freeze.Until.Format(time.RFC3339))),
	), nil
}

func callWindow(args []ast.Value) (*ast.Term, error) {
	zone, now, err := zoneAndNow(args)
	if err != nil {
		return nil, err
	}
	start, err := textOf(regovalue.Member(args[0], "start"), "the window's start")
	if err != nil {
		return nil, err
	}
	end, err := textOf(regovalue.Member(args[0], "end"), "the window's end")
	if err != nil {
		return nil, err
	}
	days := calendar.Weekdays
	if named := regovalue.Member(args[0], "days"); named != nil {
		days = nil
		if err := eachText(named, "the window's days", func(day string) error { days = append(days, day); return nil }); err != nil {
			return nil, err
		}
	}
	window, err := calendar.ParseWindow(days, start, end, zone)
	if err != nil {
		return nil, err
	}
	isOpen, opens := window.IsOpen(now), ""
	if next := window.NextOpening(now); !isOpen && !next.IsZero() {
		opens = next.Format(time.RFC3339)
	}
	return ast.ObjectTerm(regovalue.Pair("is_open", ast.InternedTerm(isOpen)), regovalue.Pair("opens", regovalue.Text(opens))), nil
}

// zoneAndNow reads the arguments of freezes and windows.
func zoneAndNow(args []ast.Value) (zone *time.Location, now time.Time, err error) {
	if _, ok := args[0].(ast.Object); !ok {
		return nil, now, typeError("a freeze or window", args[0], "an object")
	}
	name, err := textOf(args[1], "the time zone")
	if err != nil {
		return nil, now, err
	}
	if own := regovalue.Member(args[0], "time_zone"); own != nil {
		if name, err = textOf(own, "the time zone"); err != nil {
			return nil, now, err
		}
	}
	if zone, err = calendar.Zone(name); err != nil {
		return nil, now, err
	}
	now, err = nowOf(args[2])
	return zone, now, err
}

func momentOf(v ast.Value) (calendar.Moment, error) {
	text, err := textOf(v, "the point in time")
	if err != nil {
		return calendar.Moment{}, err
	}
	moment, ok := calendar.ParseMoment(text)
	if !ok {
		return calendar.Moment{}, fmt.Errorf("%.60q is not a point in time; write it as 2027-06-30 or 2027-06-30T12:00:00Z", text)
	}
	return moment, nil
}

func nowOf(v ast.Value) (time.Time, error) {
	text, err := textOf(v, "now")
	if err != nil {
		return time.Time{}, err
	}
	return calendar.ParseNow(text)
}

// textOf returns an argument that must be text, and not empty.
func textOf(v ast.Value, what string) (string, error) {
	text, ok := v.(ast.String)
	switch {
	case v == nil:
		return "", fmt.Errorf("%s is missing; give it", what)
	case !ok:
		return "", typeError(what, v, "text")
	case text == "":
		return "", fmt.Errorf("%s is empty; give it", what)
	}
	return string(text), nil
}

// eachText calls f with the members of an argument that must be a list or a set of texts, none of
// them empty, until f fails.
func eachText(v ast.Value, what string, f func(string) error) error {
	member := func(term *ast.Term) error {
		text, ok := term.Value.(ast.String)
		switch {
		case !ok:
			return fmt.Errorf("among %s is %s; write texts only", what, ast.ValueName(term.Value))
		case glob.Trim(string(text)) == "":
			return fmt.Errorf("among %s is an empty text; remove it", what)
		}
		return f(string(text))
	}
	switch list := v.(type) {
	case *ast.Array:
		for i := range list.Len() {
			if err := member(list.Elem(i)); err != nil {
				return err
			}
		}
		return nil
	case ast.Set:
		return list.Iter(member)
	}
	return typeError(what, v, "a list")
}

func typeError(what string, v ast.Value, want string) error {
	return fmt.Errorf("%s is %s, not %s; give entries, texts and times as they are declared", what, ast.ValueName(v), want)
}

// objectOf returns the type of an object with the given fields and no others: names and types in
// turns.
func objectOf(fields ...any) types.Type {
	var properties []*types.StaticProperty
	for i := 0; i < len(fields); i += 2 {
		properties = append(properties, types.NewStaticProperty(fields[i], fields[i+1].(types.Type)))
	}
	return types.NewObject(properties, nil)
}
