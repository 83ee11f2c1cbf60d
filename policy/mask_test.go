package policy

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/stopguard/stopguard/internal/testhost"
	"github.com/stopguard/stopguard/rego"
)

func recorded(t *testing.T, e *Engine, in Input) (Recorded, string) {
	t.Helper()
	r, err := e.Recorded(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r.Input)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(text)
}

func TestARecordHoldsTheWholeInputButWhatAnOwnerWrote(t *testing.T) {
	r, text := recorded(t, newEngine(t, Config{}), fullInput(t))
	for _, secret := range []string{"billing primary", "Do not stop without failover", "PostgreSQL primary", "nova", "hunter2"} {
		if strings.Contains(text, secret) {
			t.Errorf("the record holds %q", secret)
		}
	}
	for _, fact := range []string{`"pg-primary-01"`, `"/var/lib/libvirt/images/pg-primary-01-d0.qcow2"`, `"kvm-07"`, `"alice"`, `"memory_bytes"`, `"qemu_monitor_command"`} {
		if !strings.Contains(text, fact) {
			t.Errorf("the record lacks %s", fact)
		}
	}
	want := []string{"/input/domain/description", "/input/domain/metadata", "/input/domain/metadata_error", "/input/domain/title", "/input/host/domains/0/metadata", "/input/request/command", "/input/xml"}
	if diff := cmp.Diff(want, r.Erased); diff != "" {
		t.Error(diff)
	}
}

func TestASiteMayMaskInItsOwnWay(t *testing.T) {
	e := newEngine(t, Config{Sites: site("mask.rego", `package system.log

mask contains {"op": "upsert", "path": "/input/domain/name", "value": "a domain"}

mask contains "/input/xml" if input.input.domain.vcpus > 1

mask contains concat("/", ["/input/nowhere", "at", "all"])

mask contains "/input/domain/disks/0"
`)})
	r, text := recorded(t, e, fullInput(t))
	if !strings.Contains(text, `"a domain"`) || !strings.Contains(text, "billing primary") || strings.Contains(text, "pg-primary-01-d0") {
		t.Error(text)
	}
	if diff := cmp.Diff(Recorded{Erased: []string{"/input/domain/disks/0", "/input/xml"}, Masked: []string{"/input/domain/name"}}, Recorded{Erased: r.Erased, Masked: r.Masked}); diff != "" {
		t.Error(diff)
	}
}

func TestAMaskMayBeAnObjectOfAKnownPath(t *testing.T) {
	for _, tt := range []struct{ rule, erased, masked string }{
		{`mask contains {"op": "remove", "path": "/input/domain/title"}`, "/input/domain/title /input/xml", ""},
		{`mask contains {"path": "/input/domain/title"}`, "/input/domain/title /input/xml", ""},
		{`mask contains {"op": "upsert", "path": "/input/domain/name", "value": input.input.domain.uuid}`, "", "/input/domain/name"},
		{`mask contains {"op": "upsert", "path": "/input/domain/name"}`, "", "/input/domain/name"},
		{`mask contains {"op": "remove", "path": sprintf("/input/domain/disks/%d", [i])} if some i, _ in input.input.domain.disks`, "/input/domain/disks/0 /input/domain/disks/1 /input/domain/disks/2", ""},
		{`mask contains {key: "/input/domain/name"} if some key in ["path"]`, "/input/domain/name", ""},
	} {
		r, _ := recorded(t, newEngine(t, Config{Sites: site("mask.rego", "package system.log\n\n"+tt.rule)}), fullInput(t))
		if erased, masked := strings.Join(r.Erased, " "), strings.Join(r.Masked, " "); erased != tt.erased || masked != tt.masked {
			t.Errorf("%s: erased %q, masked %q", tt.rule, erased, masked)
		}
	}
}

func TestAMaskThatFailsLetsNothingThrough(t *testing.T) {
	for _, rule := range []string{
		`mask contains "/input/xml" if to_number(input.input.domain.name) == 1`,
		`mask contains concat("", ["input", "/xml"])`, `mask contains count(input.input.domain.name)`,
		`mask contains {"op": concat("", ["re", "place"]), "path": "/input/xml"}`, `mask contains {"op": "upsert", "path": concat("", ["input", "/xml"])}`,
	} {
		e := newEngine(t, Config{Sites: site("mask.rego", "package system.log\n\n"+rule)})
		r, err := e.Recorded(context.Background(), fullInput(t))
		if err == nil || r.Input != nil {
			t.Errorf("%s: %v, %v", rule, r, err)
		}
	}
}

// The library's mask is what is done without it.
func TestTheLibrarysMaskIsAppliedWithoutBeingAsked(t *testing.T) {
	content, err := rego.FS.ReadFile("mask/mask.rego")
	if err != nil {
		t.Fatal(err)
	}
	byRule := newEngine(t, Config{Sites: site("mask.rego", string(content))})
	want, _ := recorded(t, byRule, fullInput(t))
	got, _ := recorded(t, newEngine(t, Config{}), fullInput(t))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatIsHiddenIsHiddenInTheWholeDocumentToo(t *testing.T) {
	for _, tt := range []struct{ path, why string }{
		{"/input/domain/metadata", "the part itself"},
		{"/input/domain", "what holds it"},
		{"/input/domain/metadata/1", "something in it"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			e := newEngine(t, Config{Sites: site("mask.rego", "package system.log\n\nmask contains \""+tt.path+"\" if input.path == \"stopguard/decision\"")})
			r, text := recorded(t, e, fullInput(t))
			if strings.Contains(text, "billing-prod") {
				t.Error("the document holds the metadata again")
			}
			if diff := cmp.Diff([]string{tt.path, "/input/xml"}, r.Erased); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAMaskThatHidesNothingIsRefusedAtLoad(t *testing.T) {
	for _, rule := range []string{`mask contains "/input/domain/metdata"`, `mask contains "/inputs"`, `mask contains "/input/domain/disks/x"`, `mask contains "/result"`, "", `masks contains "/input/xml"`, `mask := "/input/xml"`, `mask contains input.xml.y(`} {
		_, err := New(context.Background(), Config{Sites: site("mask.rego", "package system.log\n\n"+rule)})
		testhost.WantError(t, err, "site/mask.rego", "; ")
	}
	for _, tt := range []struct{ rule, want, why string }{
		{`mask contains {"op": "remove", "path": "/input/domain/titel"}`, "the input has no /input/domain/titel, so nothing would be hidden; correct the path", "a misspelt path"},
		{`mask contains {"path": "/input/domain/titel"}`, "the input has no /input/domain/titel, so nothing would be hidden; ", "the operation is remove by default"},
		{`mask contains {"op": "upsert", "path": "/input/domain/titel", "value": "x"}`, "the input has no /input/domain/titel, so nothing would be hidden; ", "it would make a field, and leave the title"},
		{`mask contains {"op": "upsert", "path": "/input/domian/title", "value": "x"}`, "the input has no /input/domian/title, so nothing would be hidden; ", "it would not even make a field"},
		{`mask contains {"op": "upsert", "path": "/input/domain/titel", "value": input.input.domain.name}`, "the input has no /input/domain/titel, so nothing would be hidden; ", "the value is not a constant, and the path is"},
		{`mask contains {"op": "remove", "path": "/input/domain/titel"} if input.input.domain.vcpus > 1`, "the input has no /input/domain/titel, so nothing would be hidden; ", "a condition changes nothing"},
		{`mask contains {"op": "remove", "path": "/result"}`, "\"/result\" does not begin with /input; write mask contains \"/input/...\"", "not a part of the input"},
		{`mask contains {"op": "remove", "path": "/input/domain/disks/-1"}`, "the input has no /input/domain/disks/-1, so nothing would be hidden; ", "no list has such an element"},
		{`mask contains {"op": "remove", "path": 7}`, "7 is not a path; write \"/input/...\"", "not a text"},
		{`mask contains {"op": "replace", "path": "/input/xml"}`, "a mask does not have the operation \"replace\"; write remove or upsert", "an operation of JSON Patch"},
		{`mask contains {"op": "Remove", "path": "/input/xml"}`, "a mask does not have the operation \"Remove\"; ", "in other letters"},
		{`mask contains {"op": "upsert", "path": "/input/xml", "vaule": ""}`, "a mask does not have the key \"vaule\"; write op, path and value", "a misspelt key"},
		{`mask contains {"op": "upsert"}`, "has no path, so nothing would be hidden; write \"path\": \"/input/...\"", "the path is missing"},
		{`mask contains 7`, "7 is neither a path nor {op, path, value}; write mask contains \"/input/...\"", "neither form"},
	} {
		_, err := New(context.Background(), Config{Sites: site("mask.rego", "package system.log\n\n"+tt.rule)})
		if err == nil || !strings.Contains(err.Error(), "site/mask.rego:3: ") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q because %s", tt.rule, err, tt.want, tt.why)
		}
	}
	_, err := New(context.Background(), Config{Sites: site("a.rego", "package system.log\n\nmask contains \"/input/xml\"", "b.rego", "package system.log\n\nmask contains \"/input/xml\"")})
	testhost.WantError(t, err, "site/b.rego:1", "site/a.rego already")
}

// The planted password is in libvirt's status files, which rules see the domains of.
func TestNoSecretOfAStatusFileIsRecorded(t *testing.T) {
	status, err := os.ReadFile("../testdata/captures/status/running.xml")
	if err != nil {
		t.Fatal(err)
	}
	text := string(status)
	text = text[strings.Index(text, "<domain "):strings.Index(text, "</domstatus>")]
	if !strings.Contains(text, "hunter2x") {
		t.Fatal("there is no secret to leave out")
	}
	_, record := recorded(t, newEngine(t, Config{}), ask(parseDomain(t, text)))
	if strings.Contains(record, "hunter2x") {
		t.Error("the password is recorded")
	}
}
