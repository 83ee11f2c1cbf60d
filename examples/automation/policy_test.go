package automation_test

import (
	"testing"

	"github.com/stopguard/stopguard/policy/policytest"
)

func TestPolicy(t *testing.T) { policytest.Run(t, policytest.Config{}) }
