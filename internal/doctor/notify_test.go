package doctor

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stopguard/stopguard/internal/hostpath"
	"github.com/stopguard/stopguard/internal/notify"
	"github.com/stopguard/stopguard/policy"
)

// doctor finds that the site's program is not told: with the real notifier and a program that
// fails.
func TestDoctorFindsThatTheSiteIsNotTold(t *testing.T) {
	name := "nobody"
	if os.Geteuid() != 0 {
		u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
		if err != nil {
			t.Skip("the user of the tests has no name")
		}
		name = u.Username
	}
	site := policy.Notify{Program: "/usr/local/lib/tell", User: name}
	p := newPatient(t)
	for dir := p.Root; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // for the program's user
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	found := func() finding {
		for _, f := range p.examine(context.Background()).Findings {
			if f.ID == "notify" {
				return f
			}
		}
		return finding{}
	}
	expect := func(severity string, parts ...string) {
		t.Helper()
		f := found()
		for _, part := range parts {
			if f.Severity != severity || !strings.Contains(f.What+" -> "+f.Cure, part) || severity != severityOK && (f.Cure == "" || f.Cure == "correct this") {
				t.Errorf("%+v, want %s: %s", f, severity, part)
			}
		}
	}
	if f := found(); f.ID != "" {
		t.Errorf("a site that names no program: %+v", f)
	}
	settings := func(user string) {
		p.Put(hostpath.Policy+"/data.yaml", "site: {notify: {program: "+site.Program+", user: "+user+"}}\n", 0o644)
	}
	settings(name)
	expect(severityWarning, "nobody is told", "is missing", "create it")
	p.Put(site.Program, "#!/bin/sh\necho 'no route' >&2\nexit 4\n", 0o777)
	expect(severityWarning, "writable by others", "chmod go-w")
	p.Chmod(site.Program, 0o644)
	expect(severityWarning, "is not executable", "chmod 0755")
	p.Chmod(site.Program, 0o755)
	settings("nobody-of-this-name")
	expect(severityWarning, "no user nobody-of-this-name", "useradd")
	settings(name)
	expect(severityWarning, "neither an agent nor a gate runs", "systemctl start")

	n := notify.Start(notify.Config{Root: p.Root, Settings: func() (*policy.Notify, error) { return &site, nil }, Log: t.Logf})
	defer n.Stop(0)
	for s := (notify.Status{}); !s.Runs; {
		s, _ = notify.StatusOf(p.Root, time.Now())
	}
	expect(severityOK, "is told when protection goes")
	n.Tell(notify.Event{What: notify.Escape, Text: "test"}, "1")
	for s := (notify.Status{}); s.Failure == nil; {
		var err error
		if s, err = notify.StatusOf(p.Root, time.Now()); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	expect(severityWarning, "has failed since", "1 event waiting", "exit status 4: no route", "runuser -u "+name+" -- "+site.Program)
}
