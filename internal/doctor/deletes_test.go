package doctor

import (
	"context"
	"slices"
	"strings"
	"testing"
)

func TestDoctorListsTheDomainsThatMustNotBeDeleted(t *testing.T) {
	healthy := newPatient(t)
	define := func(p *patient, name, uuid, metadata string) {
		p.Put("/etc/libvirt/qemu/"+name+".xml", "<!-- libvirt's -->\n<domain type='kvm'><name>"+name+"</name><uuid>"+uuid+"</uuid>"+metadata+"</domain>\n", 0o600)
	}
	const mark, stopOnly = `<metadata><protection xmlns="urn:stopguard:protection:1"/></metadata>`, `<metadata><protection xmlns="urn:stopguard:protection:1" operations="stop"/></metadata>`
	for _, tt := range []struct {
		why, settings, want string
	}{
		{"none is set", "", "a gate refuses a delete of billing-01; pg-primary-01: undefine, a lost saved state, destroyed disks"},
		{"the list is for a stop alone", `{"site": {"protected_list": {"operations": ["stop"]}}}`, "a gate refuses a delete of billing-01: undefine, a lost saved state, destroyed disks"},
		{"a week to look", `{"site": {"monitor": ["*/delete"]}}`, "a gate records a delete of billing-01; pg-primary-01, and refuses none"},
		{"neither is for it", `{"site": {"protected_list": {"operations": ["stop"]}, "protection_mark": {"operations": ["stop"]}}}`, "no domain is protected against a delete"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			p := healthy.sub(t)
			p.Put("/etc/libvirt/protected-domains", "pg-primary-01\n", 0o644)
			define(p, "pg-primary-01", "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c21", "")
			define(p, "billing-01", "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c22", mark)
			define(p, "ci-01", "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c23", stopOnly)
			define(p, "web-01", "5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c24", "")
			if tt.settings != "" {
				p.Settings(tt.settings)
			}
			r := p.examine(context.Background())
			i := slices.IndexFunc(r.Findings, func(f finding) bool { return f.ID == "deletes" })
			if i < 0 || r.Findings[i].What != tt.want || r.Findings[i].Severity != severityOK {
				t.Errorf("%+v", r.Findings)
			}
		})
	}
}

// A definition that cannot be read is named, and the others are still decided about.
func TestDoctorNamesTheDefinitionsThatItCannotRead(t *testing.T) {
	p := newPatient(t)
	p.Put("/etc/libvirt/protected-domains", "pg-*\n", 0o644)
	p.Put("/etc/libvirt/qemu/pg-01.xml", "<domain type='kvm'><name>pg-01</name><uuid>5b4d5b3c-6f53-4b8a-8a5e-9f7f6b6a0c21</uuid></domain>", 0o600)
	p.Put("/etc/libvirt/qemu/pg-02.xml", "<domain type='kvm'><name>pg-02", 0o600)
	what := map[string]string{}
	for _, f := range p.examine(context.Background()).Findings {
		what[f.ID] += f.What
	}
	if !strings.Contains(what["definitions"], "is not known: pg-02: domainxml: line 1, ") || what["deletes"] != "a gate refuses a delete of pg-01: undefine, a lost saved state, destroyed disks" {
		t.Errorf("%q, %q", what["definitions"], what["deletes"])
	}
}
