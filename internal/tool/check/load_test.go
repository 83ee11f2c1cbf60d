package check

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/tool/tooltest"
)

func TestCheck_load_says_all_that_is_wrong_with_the_policy(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "web[1\n", "etc/stopguard/policy/x.txt", "", "etc/stopguard/mine.rego", "")
	got := s.Tool("check", "--load").Is(t, 1)
	for _, want := range []string{"every stop is refused: policy: /etc/libvirt/protected-domains line 1", "policy/x.txt", "/etc/stopguard/mine.rego is not read; "} {
		if !strings.Contains(got.Stderr, want) {
			t.Errorf("it does not say %q:\n%s", want, got.Stderr)
		}
	}
	if got.Stdout != "" {
		t.Errorf("it prints %q", got.Stdout)
	}
}

func TestCheck_load_is_silent_about_a_policy_that_loads(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "on-another-host\n", "etc/stopguard/policy/frozen.rego", freeze)
	if got := s.Tool("check", "--load").Is(t, 0); got.Stdout+got.Stderr != "" {
		t.Errorf("it prints %q, %q", got.Stdout, got.Stderr)
	}
}

func TestCheck_load_takes_nothing_else(t *testing.T) {
	s := newStage(t)
	s.Tool("check", "--load", "x.xml").Is(t, 2)
	s.Tool("check", "--load", "-o", "json").Is(t, 2)
}

func TestCheck_names_entries_and_files_that_protect_nothing(t *testing.T) {
	s := newStage(t, "etc/libvirt/protected-domains", "Web-01\n\"web-01\"\n", "etc/stopguard/bundle.tgz", "")
	s.Run("web-01", tooltest.UUID3, "")
	got := s.Tool("check").Is(t, 0)
	for _, want := range []string{"line 1: \"Web-01\" matches no domain, the nearest is \"web-01\"", "line 2: ", "/etc/stopguard/bundle.tgz is not read; "} {
		if !strings.Contains(got.Stderr, want) {
			t.Errorf("it does not say %q:\n%s", want, got.Stderr)
		}
	}
	if got := s.Tool("check", "-o", "prometheus").Is(t, 0); got.Stderr != "" {
		t.Errorf("to a program it says %q", got.Stderr)
	}
}
