package hostpolicy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

func TestCheckReturnsEveryErrorOfTheHost(t *testing.T) {
	const rule = "package stopguard.rules.site\n\nveto contains \"no\" if input.domain.name == data.site.site.name\n"
	tests := []struct {
		name, why string
		files     []string
		want      []string // a part of each error
	}{
		{"nothing", "a host may have nothing", nil, nil},
		{"a policy that loads", "rules and their settings", []string{"etc/stopguard/policy/site.rego", rule, "etc/stopguard/policy/data.yaml", "site:\n  site:\n    name: x\n", hostList, "web-01\n"}, nil},
		{"a rule that does not load", "every stop would be a fault", []string{"etc/stopguard/policy/site.rego", rule}, []string{"site.rego"}},
		{"a list and a rule", "neither hides the other", []string{"etc/stopguard/policy/site.rego", rule, hostList, "web[1\n"}, []string{"protected-domains line 1", "site.rego"}},
		{"a list, a bundle and an agent", "none hides the others", []string{hostList, "web/01\n", "etc/stopguard/bundle.tar.gz", "x", "etc/stopguard/agent.yaml", "keys: ["},
			[]string{"protected-domains line 1", "bundle.tar.gz", "agent.yaml"}},
		{"settings for the rules of a bundle that cannot be read", "they are not wrong", []string{"etc/stopguard/policy/data.yaml", "site:\n  gpu: {}\n", "etc/stopguard/bundle.tar.gz", "x"},
			[]string{"bundle.tar.gz"}},
		{"an unknown setting", "it belongs to no rule", []string{"etc/stopguard/policy/data.yaml", "site:\n  calender: {}\n"}, []string{"calender"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Check(context.Background(), testhost.Root(t, tt.files...))
			if len(r.Errors) != len(tt.want) {
				t.Fatalf("%q, want %q (%s)", r.Errors, tt.want, tt.why)
			}
			for i, err := range r.Errors {
				testhost.WantError(t, err, tt.want[i], "; ")
			}
		})
	}
}

func TestCheckAgreesWithLoad(t *testing.T) {
	for _, files := range [][]string{
		nil, {hostList, "web-01\n{x\n"}, {hostList, "web[1\n"}, {"etc/stopguard/policy/x.txt", ""}, {"etc/stopguard/bundle.pem", "x"},
		{"etc/stopguard/policy/a.rego", "package stopguard.rules.a\n\nveto contains 1 if true\n"},
		{"etc/stopguard/policy/a.rego", "package stopguard.rules.a\n\nvetto contains \"x\" if true\n"},
	} {
		root := testhost.Root(t, files...)
		_, err := (&EngineCache{Root: root}).Engine(context.Background())
		if r := Check(context.Background(), root); (err == nil) != (len(r.Errors) == 0) {
			t.Errorf("%q: Check returns %v, Engine %v", files, r.Errors, err)
		}
	}
}

func TestTheListIsComparedWithTheDomainsOfTheHost(t *testing.T) {
	const domain = "<domain><name>x</name><uuid>%s</uuid></domain>"
	const id = "16e14a01-2b11-40de-a128-75e3f4a5fe12"
	root := testhost.Root(t,
		"etc/libvirt/qemu/My Windows VM.xml", fmt.Sprintf(domain, "26e14a01-2b11-40de-a128-75e3f4a5fe12"),
		"run/libvirt/qemu/web-01.xml", "<domstatus>"+fmt.Sprintf(domain, id)+"</domstatus>",
		"etc/libvirt/qemu/networks/default.xml", "",
		hostList, "web-01\nWeb-01\nMy\\ Windows\\ VM\nMy Windows_VM\n{"+id+"}\nelsewhere-77\n"+strings.Replace(id, "1", "2", 1)+"\ndefault\n")
	want := []string{
		`protected-domains line 2: "Web-01" matches no domain, the nearest is "web-01"; write web-01`,
		`protected-domains line 4: "My Windows_VM" matches no domain, the nearest is "My Windows VM"; write My Windows VM`,
		`protected-domains line 5: "{` + id + `}" is read as the UUID ` + id + `; write the UUID alone`,
		`protected-domains line 6: "elsewhere-77" matches no domain; correct or remove it`,
		`protected-domains line 8: "default" matches no domain; correct or remove it`,
	}
	got := ListWarnings(root)
	var texts []string
	for _, w := range got {
		texts = append(texts, w.Error())
	}
	if strings.Join(texts, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(texts, "\n"), strings.Join(want, "\n"))
	}
	for i, w := range got {
		if isUnmatched := i >= 3; errors.Is(w, ErrUnmatched) != isUnmatched {
			t.Errorf("%v is ErrUnmatched: %v", w, !isUnmatched)
		}
	}
}

func TestFilesThatLookLikePolicyAndAreNotReadAreNamed(t *testing.T) {
	tests := []struct{ file, cure, why string }{
		{"etc/stopguard/mine.rego", "move rules and settings into /etc/stopguard/policy", "beside the folder"},
		{"etc/stopguard/data.yaml", "move rules and settings into /etc/stopguard/policy", "beside the folder"},
		{"etc/stopguard/policies/mine.rego", "move rules and settings into /etc/stopguard/policy", "another folder"},
		{"etc/stopguard/protected-domains", "move its entries into /etc/libvirt/protected-domains", "another folder"},
		{"etc/stopguard/bundle.tgz", "name a bundle /etc/stopguard/bundle.tar.gz", "another name"},
		{"etc/stopguard/bundle.pub", "name the bundle's public key /etc/stopguard/bundle.pem", "another name"},
		{"etc/stopguard/agent.yml", "name the agent's configuration /etc/stopguard/agent.yaml", "another ending"},
		{"etc/stopguard/.mine.rego", "move rules and settings into /etc/stopguard/policy", "hidden, too"},
		{"etc/stopguard/policy/.g.rego", "without a dot", "hidden"},
		{"etc/stopguard/policy/.data.yaml", "without a dot", "hidden"},
		{"etc/stopguard/policy/.old/g.rego", "without a dot", "in a hidden folder"},
		{"etc/libvirt/protected_domains", "move its entries into /etc/libvirt/protected-domains", "an underscore"},
		{"etc/libvirt/protected-domains.txt", "move its entries into", "an ending"},
		{"etc/libvirt/Protected-Domains", "move its entries into", "capitals"},
		{"etc/libvirt/hooks/protected-domains", "move its entries into", "beside the hook"},
		{"etc/libvirt/qemu/protected-domains", "move its entries into", "beside the domains"},
		{"etc/protected-domains", "move its entries into", "above"},
		{"etc/libvirt/mine.rego", "move it into /etc/stopguard/policy", "beside the list"},
		{"etc/libvirt/protected-domains.rpmsave", "move its entries into", "the only one there is"},
	}
	for _, tt := range tests {
		name := "/" + tt.file
		if folder, _, isFolder := strings.Cut(tt.file, "/mine.rego"); isFolder && strings.Contains(folder, "policies") {
			name = "/" + folder
		}
		warnings := Unread(testhost.Root(t, tt.file, "x"))
		if len(warnings) != 1 || !strings.HasPrefix(warnings[0].Error(), name+" is not read; ") || !strings.Contains(warnings[0].Error(), tt.cure) {
			t.Errorf("%s: %v (%s)", tt.file, warnings, tt.why)
		}
	}
}

func TestFilesThatAreReadAreNotNamed(t *testing.T) {
	root := testhost.Root(t,
		"etc/stopguard/policy/a.rego", "", "etc/stopguard/policy/a_test.rego", "", "etc/stopguard/policy/b/data.yaml", "", "etc/stopguard/policy/README.md", "",
		"etc/stopguard/policy/.git/config", "", "etc/stopguard/policy/.signatures.json", "", "etc/stopguard/policy/.a.rego.swp", "", "etc/stopguard/policy/.github/ci.yaml", "",
		"etc/stopguard/bundle.tar.gz", "", "etc/stopguard/bundle.pem", "", "etc/stopguard/bundle.tar.gz.bak", "", "etc/stopguard/gate.conf", "", "etc/stopguard/gate-off", "",
		"etc/stopguard/agent.yaml", "services: {plane: {credentials: {bearer: {token_path: /etc/stopguard/plane.token}}}}", "etc/stopguard/plane.token", "",
		hostList, "", hostList+"~", "", "etc/libvirt/qemu/web-01.xml", "", "etc/libvirt/hooks/qemu.d/50-stopguard", "")
	if warnings := Unread(root); len(warnings) != 0 {
		t.Error(warnings)
	}
	if warnings := Unread(testhost.Root(t)); len(warnings) != 0 {
		t.Error(warnings)
	}
}

func TestWithoutARootTheEnvironmentNamesIt(t *testing.T) {
	root := testhost.Root(t, hostList, "web-01\n{x\n", "etc/stopguard/mine.rego", "x")
	t.Setenv("STOPGUARD_ROOT", root)
	c, err := Load("")
	if err != nil || !strings.HasPrefix(string(c.List), "web-01") {
		t.Errorf("Load: %q, %v", c.List, err)
	}
	if c, err = LoadFiles(""); err != nil || !strings.HasPrefix(string(c.List), "web-01") {
		t.Errorf("LoadFiles: %q, %v", c.List, err)
	}
	e, err := new(EngineCache).Engine(context.Background())
	if err != nil || !vetoes(t, e, "web-01") {
		t.Errorf("EngineCache: %v", err)
	}
	if w := Unread(""); len(w) != 1 {
		t.Errorf("Unread: %v", w)
	}
	must(t, os.WriteFile(root+"/"+hostList, []byte("web[1\n"), 0o644))
	if r := Check(context.Background(), ""); len(r.Errors) != 1 {
		t.Errorf("Check: %v", r)
	}
	// A root that is given counts.
	if c, err = Load(testhost.Root(t)); err != nil || c.List != nil {
		t.Errorf("Load of another root: %q, %v", c.List, err)
	}
}
