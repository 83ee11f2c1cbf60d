package check

import (
	"context"
	"io"
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/tool/tooltest"
)

func TestColourIsForTerminalsOnly(t *testing.T) {
	s := newStage(t)
	s.Run("pg", tooltest.UUID1, tooltest.FarMark)
	for name, tt := range map[string]struct {
		noColor string
		want    bool
	}{"wanted": {"", true}, "NO_COLOR": {"1", false}} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("NO_COLOR", tt.noColor)
			f, written := tooltest.OpenTerminal(t)
			s.RunTool(context.Background(), []string{"check"}, strings.NewReader(""), f, io.Discard)
			text := written()
			if !strings.Contains(text, "pg") || strings.Contains(text, "\x1b[33mveto\x1b[0m") != tt.want || !tt.want && strings.Contains(text, "\x1b") {
				t.Errorf("got %q", text)
			}
		})
	}
	if got := s.Tool("check"); strings.Contains(got.Stdout, "\x1b") {
		t.Errorf("a file gets %q", got.Stdout)
	}
}

func TestOneIsNoPlural(t *testing.T) {
	s := newStage(t)
	s.Put("web.xml", tooltest.DomainXML("web", tooltest.UUID2, ""))
	tooltest.Holds(t, "a file", s.Tool("check", s.Root+"/web.xml").Is(t, 0).Stdout, "\n1 domain, 0 protected, ")
	s.Run("pg", tooltest.UUID1, tooltest.FarMark)
	tooltest.Holds(t, "running", s.Tool("check").Is(t, 0).Stdout, "\n1 running domain, 1 protected, ")
	s.Run("web", tooltest.UUID2, "")
	tooltest.Holds(t, "two", s.Tool("check").Is(t, 0).Stdout, "\n2 running domains, 1 protected, ")
}
