package doctor

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/hostpath"
)

func TestDoctorWarnsOfEntriesThatProtectNothing(t *testing.T) {
	healthy := newPatient(t)
	const id = "8c24ab34-2b11-40de-a128-75e3f4a5fe11"
	for _, tt := range []struct {
		why, entry string
		slip       bool
	}{
		{"JSON, or the shell", `"web-01"`, true},
		{"", `'web-*'`, true},
		{"pasted from a document", "“web-01”", true},
		{"one was removed", `web-01"`, true},
		{"as in .gitignore", "!web-01", true},
		{"YAML", "- web-01", true},
		{"JSON", "web-01,", true},
		{"a digit short", id[:len(id)-1], true},
		{"a digit too many", id + "0", true},
		{"without hyphens", strings.ReplaceAll(id, "-", "")[1:], true},
		{"a letter for a digit", strings.Replace(id, "0", "O", 1), true},
		{"as Windows and Go print them", "{" + id + "}", true},
		{"", "urn:uuid:" + id, true},

		{"", "web-01", false},
		{"names may be in capitals", "WEB-01", false},
		{"", id, false},
		{"", strings.ToUpper(id), false},
		{"libvirt reads hyphens anywhere", strings.ReplaceAll(id, "-", ""), false},
		{"", "web-* # \"all of them\",", false},
		{"", "# - !", false},
		{"", "#\"web-01\"", false},
		{"", "it's mine", false},
		{"", "win!", false},
		{"", "web-[^0-9]", false},
		{"", "2026-11-23-backup", false},
		{"", "deadbeef", false},
		{"as OpenNebula and Nova name them", "instance-0000002a", false},
	} {
		t.Run(tt.entry, func(t *testing.T) {
			p := healthy.sub(t)
			p.Put(hostpath.List, "# first\n"+tt.entry+"\n", 0o644)
			want := []string{}
			if tt.slip {
				want = append(want, "list-entries: warning")
			}
			r := p.examine(context.Background())
			if diff := cmp.Diff(want, ill(r)); diff != "" {
				t.Errorf("%s: %s", tt.why, diff)
			}
			for _, f := range r.Findings {
				if f.ID == "list-entries" && tt.slip != strings.Contains(f.What, "line 2: ") {
					t.Error(f.What)
				}
			}
		})
	}
	t.Run("but a domain may have such a name", func(t *testing.T) {
		p := healthy.sub(t)
		p.Put(hostpath.List, "!web-01\n\"web-02\"\n", 0o644)
		p.Put("/etc/libvirt/qemu/!web-01.xml", "<domain type='kvm'><name>!web-01</name><uuid>"+id+"</uuid></domain>", 0o600)
		p.Put("/run/libvirt/qemu/\"web-02\".xml", "", 0o600)
		if diff := cmp.Diff([]string{}, ill(p.examine(context.Background()))); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("many are few lines", func(t *testing.T) {
		p := healthy.sub(t)
		p.Put(hostpath.List, strings.Repeat("!web\n", 50), 0o644)
		for _, f := range p.examine(context.Background()).Findings {
			if f.ID == "list-entries" && (!strings.HasSuffix(f.What, "; and 47 more") || len(f.What) > 500) {
				t.Error(f.What)
			}
		}
	})
}
