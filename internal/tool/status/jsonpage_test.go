package status

import (
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheFieldsOfTheJSONAreDocumented(t *testing.T) {
	testhost.CheckJSONPage(t, "status -o json", status{})
}
