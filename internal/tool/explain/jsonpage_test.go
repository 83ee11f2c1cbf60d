package explain

import (
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheFieldsOfTheJSONAreDocumented(t *testing.T) {
	testhost.CheckJSONPage(t, "explain -o json", explainJSON{})
}
