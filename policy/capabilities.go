package policy

import (
	"encoding/json"
	"fmt"

	"github.com/stopguard/stopguard/policy/internal/builtin"
)

// Capabilities returns the functions that rules may call, in the form of OPA's file of
// capabilities. It is for "opa check --capabilities", an editor or a runner of a policy's tests.
func Capabilities() []byte {
	content, err := json.MarshalIndent(builtin.Capabilities(), "", "  ")
	if err != nil {
		panic(fmt.Sprintf("policy: OPA's capabilities are no JSON: %v", err)) // they are constant
	}
	return content
}
