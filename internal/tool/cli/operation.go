package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy"
)

// Operated maps each operation to its participle, for texts such as "may be stopped".
var Operated = map[string]string{
	policy.OperationStop:   "stopped",
	policy.OperationPause:  "paused",
	policy.OperationReset:  "reset",
	policy.OperationMove:   "moved",
	policy.OperationModify: "changed",
}

const operationForms = "write stop, pause, reset, move or modify"

// OperationFlag returns a command the option to be about another operation than a stop.
func OperationFlag(c *cobra.Command, value *string) {
	c.Flags().StringVar(value, "operation", policy.OperationStop, "stop, pause, reset, move or modify")
	if err := c.RegisterFlagCompletionFunc("operation", cobra.FixedCompletions(policy.Operations(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// CheckOperation checks the value of --operation, and replaces a former name by the present one.
func CheckOperation(value *string) error {
	*value = operation.Canonical(*value)
	if !slices.Contains(policy.Operations(), *value) {
		return Usage("--operation %q is unknown; %s", *value, operationForms)
	}
	return nil
}

// ParseOperations parses a mark's operations, separated by commas or blanks. A stop is always the
// first, and the only one by default.
func ParseOperations(text string) ([]string, error) {
	named := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	for i, name := range named {
		named[i] = operation.Canonical(name)
		if !slices.Contains(policy.Operations(), named[i]) {
			return nil, Usage("--operations names %q, which is unknown; %s, with commas between", name, operationForms)
		}
	}
	return slices.DeleteFunc(policy.Operations(), func(name string) bool {
		return name != policy.OperationStop && !slices.Contains(named, name)
	}), nil
}
