package rulecheck

import "testing"

// LimitSteps lowers the bound of the work for one file during a test.
func LimitSteps(t *testing.T, steps int) {
	before := maxSteps
	maxSteps = steps
	t.Cleanup(func() { maxSteps = before })
}
