package doctor

import (
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheFieldsOfTheJSONAreDocumented(t *testing.T) {
	testhost.CheckJSONPage(t, "doctor -o json", report{})
}
