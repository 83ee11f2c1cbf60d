package policy

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// allowedBuiltins are the built-in functions that a rule may call: those that give the same answer for the same
// arguments, reach nothing outside the evaluation, and do not take minutes over a short argument (as bits.lsh and
// graph.* can). A built-in of a later OPA is not allowed until it is named here.
var allowedBuiltins = strings.Fields(`
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

// capabilities are those of this OPA, less every built-in that is not allowed, and with no host to fetch from. Nobody may
// change them.
var capabilities = sync.OnceValue(func() *ast.Capabilities {
	c := ast.CapabilitiesForThisVersion()
	c.AllowNet = []string{} // nil would mean any host
	c.Builtins = slices.DeleteFunc(slices.Clone(c.Builtins), func(b *ast.Builtin) bool {
		return !slices.Contains(allowedBuiltins, b.Name)
	})
	return c
})
