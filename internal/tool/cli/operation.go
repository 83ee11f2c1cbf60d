package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/policy"
)

// Operated is what becomes of a domain by each operation, as it is said after "may be".
var Operated = map[string]string{
	policy.OperationStop:   "stopped",
	policy.OperationPause:  "paused",
	policy.OperationReset:  "reset",
	policy.OperationMove:   "moved",
	policy.OperationTamper: "changed",
}

const operationForms = "write stop, pause, reset, move or tamper"

// OperationFlag returns a command the option to be about another operation than a stop.
func OperationFlag(c *cobra.Command, operation *string) {
	c.Flags().StringVar(operation, "operation", policy.OperationStop, "stop, pause, reset, move or tamper")
	if err := c.RegisterFlagCompletionFunc("operation", cobra.FixedCompletions(policy.Operations(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

func CheckOperation(operation string) error {
	if !slices.Contains(policy.Operations(), operation) {
		return Usage("--operation %q is unknown; %s", operation, operationForms)
	}
	return nil
}

// ParseOperations reads what a mark is for, with commas or blanks between. A stop is always among
// them, and first; it is all if nothing else is named.
func ParseOperations(text string) ([]string, error) {
	named := strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	for _, operation := range named {
		if !slices.Contains(policy.Operations(), operation) {
			return nil, Usage("--operations names %q, which is unknown; %s, with commas between", operation, operationForms)
		}
	}
	return slices.DeleteFunc(policy.Operations(), func(operation string) bool {
		return operation != policy.OperationStop && !slices.Contains(named, operation)
	}), nil
}
