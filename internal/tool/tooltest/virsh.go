package tooltest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stopguard/stopguard/internal/virsh"
)

const standInFile = "STOPGUARD_TEST_VIRSH"

type StandInDomain struct {
	Name, UUID, ID string // ID is "-" if it does not run
	Persistent     bool
	Live, Config   string // the mark
	Deaf           bool   // it ignores changes
	Saved          bool   // it has a managed save
	Refused        string // a gate's answer to any change
	Newer          bool   // its virsh prints nothing for a missing mark, as in libvirt 11.3
}

var yesNo = map[bool]string{true: "yes", false: "no"}

type standInHost struct {
	Domains []StandInDomain
	Calls   [][]string
}

func (h *standInHost) find(name string) *StandInDomain {
	for _, by := range []func(StandInDomain) string{
		func(d StandInDomain) string { return d.ID }, func(d StandInDomain) string { return d.UUID }, func(d StandInDomain) string { return d.Name },
	} {
		if i := slices.IndexFunc(h.Domains, func(d StandInDomain) bool { return by(d) == name && name != "-" }); i >= 0 {
			return &h.Domains[i]
		}
	}
	return nil
}

func standIn(args []string) int {
	file := os.Getenv(standInFile)
	content, err := os.ReadFile(file)
	var h standInHost
	if err == nil {
		err = json.Unmarshal(content, &h)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "stand-in:", err)
		return 99
	}
	h.Calls = append(h.Calls, args)
	code := h.do(args)
	content, _ = json.Marshal(h)
	if os.WriteFile(file, content, 0o600) != nil {
		return 99
	}
	return code
}

func (h *standInHost) do(args []string) int {
	fail := func(text string) int {
		fmt.Fprintln(os.Stderr, "error: "+text)
		return 1
	}
	option := func(name string) (string, bool) {
		for _, arg := range args {
			if value, ok := strings.CutPrefix(arg, "--"+name+"="); ok {
				return value, true
			}
		}
		return "", slices.Contains(args, "--"+name)
	}
	command := args[slices.IndexFunc(args, func(a string) bool { return !strings.HasPrefix(a, "-") })]
	if command == "list" {
		for _, d := range h.Domains {
			fmt.Println(d.Name)
		}
		return 0
	}
	name, _ := option("domain")
	d := h.find(name)
	if d == nil {
		return fail("failed to get domain '" + name + "'")
	}
	if command == "dominfo" {
		fmt.Printf("Id:             %s\nName:           %s\nUUID:           %s\nState:          running\nPersistent:     %s\nManaged save:   %s\n\n",
			d.ID, d.Name, d.UUID, yesNo[d.Persistent], yesNo[d.Saved])
		return 0
	}
	text, set := option("set")
	_, remove := option("remove")
	if d.Refused != "" && (set || remove) {
		return fail(d.Refused)
	}
	var places []*string
	for flag, place := range map[string]*string{"live": &d.Live, "config": &d.Config} {
		if _, ok := option(flag); ok {
			places = append(places, place)
		}
	}
	for _, place := range places {
		switch {
		case set && !d.Deaf:
			var m virsh.Mark
			if err := xml.Unmarshal([]byte(text), &m); err != nil {
				return fail("(metadata_xml):1: " + err.Error())
			}
			*place = text
		case remove:
			*place = ""
		case !set && *place == "" && d.Newer:
			fmt.Println()
		case !set && *place == "":
			return fail("metadata not found: Requested metadata element is not present")
		case !set:
			fmt.Println(*place)
		}
	}
	return 0
}

// WithVirsh puts the stand-in on the PATH. The returned function returns the stand-in's state.
func (s *Stage) WithVirsh(domains ...StandInDomain) func() standInHost {
	s.T.Helper()
	self, err := os.Executable()
	if err != nil {
		s.T.Fatal(err)
	}
	// A shell script would have to quote its arguments; a link to this binary receives them
	// unchanged.
	path := s.T.TempDir()
	if err := os.Symlink(self, filepath.Join(path, "virsh")); err != nil {
		s.T.Fatal(err)
	}
	file := filepath.Join(path, "domains.json")
	content, err := json.Marshal(standInHost{Domains: domains})
	if err == nil {
		err = os.WriteFile(file, content, 0o600)
	}
	if err != nil {
		s.T.Fatal(err)
	}
	s.T.Setenv("PATH", path)
	s.T.Setenv(standInFile, file)
	s.T.Setenv(stageRole, "virsh")
	return func() (h standInHost) {
		content, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(content, &h)
		}
		if err != nil {
			s.T.Fatal(err)
		}
		return h
	}
}
