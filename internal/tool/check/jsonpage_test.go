package check

import (
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestTheFieldsOfTheJSONAreDocumented(t *testing.T) {
	testhost.CheckJSONPage(t, "check -o json", ReportJSON{})
}
