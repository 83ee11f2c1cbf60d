package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/testhost"
)

func TestADomainIsStoppedOnlyIfThePolicyAllowsIt(t *testing.T) {
	for _, tt := range []struct{ name, broken, want string }{
		{"web-01", "", ""},
		{"pg-primary-01", "", "pg-primary-01 must not be stopped: protected until 2099-06-30: billing primary (rule protection_mark)"},
		{"web-01", "package", "cannot be decided"},
	} {
		t.Run(tt.name+tt.broken, func(t *testing.T) {
			root := testhost.Root(t)
			if tt.broken != "" {
				testhost.Put(t, root, "etc/stopguard/policy/half.rego", tt.broken)
			}
			t.Setenv("STOPGUARD_ROOT", root)
			xml, err := os.Open("../../cmd/stopguard-hook/testdata/" + tt.name + ".xml")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = xml.Close() }()
			stopped := ""
			err = run(xml, func(d *domainxml.Domain) error { stopped = d.Name; return nil })
			if tt.want == "" {
				if err != nil || stopped != tt.name {
					t.Errorf("%q is stopped, %v", stopped, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) || stopped != "" {
				t.Errorf("%q is stopped, %v", stopped, err)
			}
		})
	}
}
