package policy

import (
	"encoding/json"
	"fmt"
)

// Capabilities returns what rules may call, in the form of OPA's file of capabilities, for "opa
// check --capabilities", an editor or a runner of a policy's tests.
func Capabilities() []byte {
	content, err := json.MarshalIndent(capabilities(), "", "  ")
	if err != nil {
		panic(fmt.Sprintf("policy: OPA's capabilities are no JSON: %v", err)) // they are constant
	}
	return content
}
