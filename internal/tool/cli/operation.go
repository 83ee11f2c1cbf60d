package cli

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/operation"
	"github.com/stopguard/stopguard/policy"
)

// Operated maps each operation, and the former name of two, to its participle, for texts such as
// "may be stopped".
var Operated = map[string]string{
	policy.OperationStop:                     "stopped",
	policy.OperationDelete:                   "deleted",
	policy.OperationPause:                    "paused",
	policy.OperationReset:                    "reset",
	policy.OperationMove:                     "moved",
	policy.OperationModify:                   "changed",
	operation.Former(policy.OperationModify): "changed or deleted",
}

const operationForms = "write stop, delete, pause, reset, move or modify"

// OperationFlag adds the option for another operation than a stop.
func OperationFlag(c *cobra.Command, value *string) {
	c.Flags().StringVar(value, "operation", policy.OperationStop, "delete, pause, reset, move, modify")
	if err := c.RegisterFlagCompletionFunc("operation", cobra.FixedCompletions(policy.Operations(), cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err)
	}
}

// OperationsFlag adds the option with the operations of a mark or a hold, separated by commas.
func OperationsFlag(c *cobra.Command, value *string, usage string) {
	c.Flags().StringVar(value, "operations", "", usage)
	CompleteFlagBy(c, "operations", func(_ *cobra.Command, _ []string, start string) ([]cobra.Completion, cobra.ShellCompDirective) {
		before := start[:strings.LastIndex(start, ",")+1]
		var all []cobra.Completion
		for _, name := range policy.Operations() {
			if !slices.Contains(strings.Split(before, ","), name) {
				all = append(all, before+name)
			}
		}
		return all, cobra.ShellCompDirectiveNoFileComp
	})
}

// CheckOperation returns a usage error for an unknown value of --operation. The former name is
// known.
func CheckOperation(value *string) error {
	if !slices.Contains(policy.Operations(), operation.Expand(*value)[0]) {
		return Usage("--operation %q is unknown; %s", *value, operationForms)
	}
	return nil
}

// IsForOff reports whether an operation is also decided for a domain that is off.
func IsForOff(name string) bool {
	return slices.ContainsFunc([]string{policy.OperationModify, policy.OperationDelete}, func(of string) bool { return operation.Covers(name, of) })
}

// ParseOperations parses a mark's operations, separated by commas or blanks. It returns the named
// operations, and those that a mark with them protects against.
func ParseOperations(text string) (named, covered []string, err error) {
	named, unknown := operation.Parse(text)
	if unknown != "" {
		return nil, nil, Usage("--operations names %q, which is unknown; %s, with commas between", unknown, operationForms)
	}
	return named, operation.Covered(named), nil
}
