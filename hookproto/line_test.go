package hookproto

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const hookFile = "/etc/libvirt/hooks/qemu.d/50-stopguard"

func TestVetoLine(t *testing.T) {
	for _, tt := range []struct {
		why, name string
		veto      Veto
		want      string
	}{
		{"a rule is named", "pg-primary-01", Veto{Reason: "protected until 2027-06-30: billing primary", Rule: "protection_mark"},
			"stopguard: veto: pg-primary-01: protected until 2027-06-30: billing primary (rule protection_mark)\n"},
		{"further reasons are counted", "a", Veto{Reason: "r", Rule: "x", More: 2}, "stopguard: veto: a: r (rule x) and 2 more\n"},
		{"without a rule there is nothing in parentheses", "a", Veto{Reason: "r"}, "stopguard: veto: a: r\n"},
		{"without a rule the count stays", "a", Veto{Reason: "r", More: 1}, "stopguard: veto: a: r and 1 more\n"},
		{"what went wrong besides comes last", "a", Veto{Reason: "r", Rule: "x", More: 2, Note: "not recorded:\n" + strings.Repeat("n", 200)},
			"stopguard: veto: a: r (rule x) and 2 more; not recorded:\ufffd" + strings.Repeat("n", 141) + "…\n"},
		{"a negative count is none", "a", Veto{Reason: "r", More: -1}, "stopguard: veto: a: r\n"},
		{"an empty reason says so", "a", Veto{Rule: "x"}, "stopguard: veto: a: no reason was given (rule x)\n"},
		{"a second line is not to be had", "a", Veto{Reason: "r\nstopguard: veto: b: s"}, "stopguard: veto: a: r\ufffdstopguard: veto: b: s\n"},
		{"an escape sequence does not reach the terminal", "a", Veto{Reason: "\x1b[2J\u009b2J\r\t\v\x7f\x00"}, "stopguard: veto: a: \ufffd[2J\ufffd2J\ufffd\ufffd\ufffd\ufffd\ufffd\n"},
		{"invalid UTF-8 is replaced byte for byte", "a", Veto{Reason: "x\xff\xc3(\xed\xa0\x80"}, "stopguard: veto: a: x\ufffd\ufffd(\ufffd\ufffd\ufffd\n"},
		{"text cannot be turned around", "a", Veto{Reason: "\u202edetcetorp\u2066\u200f"}, "stopguard: veto: a: \ufffddetcetorp\ufffd\ufffd\n"},
		{"separators, soft hyphens and byte order marks are format", "a", Veto{Reason: "a\u2028b\u2029c\u00add\ufeffe\u200bf"}, "stopguard: veto: a: a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf\n"},
		{"private use and unassigned characters have no known look", "a", Veto{Reason: "\ue000\U000f0000\u0378\U000e0041"}, "stopguard: veto: a: \ufffd\ufffd\ufffd\ufffd\n"},
		{"blanks other than the ordinary one are not kept", "a", Veto{Reason: "a\u00a0b\u3000c d"}, "stopguard: veto: a: a\ufffdb\ufffdc d\n"},
		{"letters that show nothing are no letters", "a", Veto{Reason: "\u3164\u115f\u2800\ufe0f"}, "stopguard: veto: a: \ufffd\ufffd\ufffd\ufffd\n"},
		{"other scripts and symbols are kept", "a", Veto{Reason: "geschützt: 保護 ✓"}, "stopguard: veto: a: geschützt: 保護 ✓\n"},
		{"a rule is text too", "a", Veto{Reason: "r", Rule: "x\ny"}, "stopguard: veto: a: r (rule x\ufffdy)\n"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, vetoLine(tt.name, &tt.veto)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFaultLine(t *testing.T) {
	for _, tt := range []struct{ why, what, hook, want string }{
		{"it ends with the way out", "the list is unreadable; run chmod 644 on it", hookFile,
			"stopguard: fault: vm: the list is unreadable; run chmod 644 on it; to switch the guard off: chmod -x " + hookFile + "\n"},
		{"an unknown hook file is described", "w", "", "stopguard: fault: vm: w; to switch the guard off: chmod -x the hook file\n"},
		{"a hook file is text too", "w", "/x\n$(y)", "stopguard: fault: vm: w; to switch the guard off: chmod -x \"/x\\n$(y)\"\n"},
		{"a fault of two lines is one", "a\nb", hookFile, "stopguard: fault: vm: a\ufffdb; to switch the guard off: chmod -x " + hookFile + "\n"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, faultLine("vm", tt.what, tt.hook)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestANameCannotImitateOurText(t *testing.T) {
	for _, tt := range []struct{ why, name, want string }{
		{"an ordinary name", "pg-primary-01", "pg-primary-01"},
		{"what looks like a flag is a name", "--help", "--help"},
		{"so does this", "-", "-"},
		{"every mark that is printed as it is", "a b-c_d.e,f@g+h#i%j=k", "a b-c_d.e,f@g+h#i%j=k"},
		{"letters, digits and marks of any script", "Müller é 保護 ٣ हिन्दी", "Müller é 保護 ٣ हिन्दी"},
		{"a colon begins our text", "x: fine (rule none)", `"x: fine (rule none)"`},
		{"parentheses hold our rule", "x (rule none)", `"x (rule none)"`},
		{"quotes would end the quoting", `x": fine`, `"x\": fine"`},
		{"and so would a backslash before one", `x\`, `"x\\"`},
		{"libvirt accepts this one", `Müller's "VM" $(reboot) ✓`, `"Müller's \"VM\" $(reboot) ✓"`},
		{"a newline is spelt out", "x\ny", `"x\ny"`},
		{"so is what turns text around", "x\u202ey", `"x\u202ey"`},
		{"and what cannot be seen", "x\u3164y\U000e0041", `"x\u3164y\U000e0041"`},
		{"and bytes that are no text", "x\xff\ufffd", `"x\xff` + "\ufffd\""},
		{"a single quote needs no escape", "'\x27\x00", `"''\x00"`},
		{"nothing is shown as nothing", "", `""`},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, quoted(tt.name, maxName)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestALineIsCutOnlyWhereTextVaries(t *testing.T) {
	for _, tt := range []struct{ why, line, prefix, suffix string }{
		{"a long reason leaves the rule", vetoLine("vm", &Veto{Reason: strings.Repeat("é", 5000), Rule: "calendar", More: 3}),
			"stopguard: veto: vm: éé", "é… (rule calendar) and 3 more\n"},
		{"a reason of replaced characters too", vetoLine("vm", &Veto{Reason: strings.Repeat("\U000f0000", 900), Rule: "calendar"}),
			"stopguard: veto: vm: \ufffd", "\ufffd… (rule calendar)\n"},
		{"a long fault leaves the way out", faultLine("vm", strings.Repeat("x", 1<<20), hookFile),
			"stopguard: fault: vm: xx", "x…; to switch the guard off: chmod -x " + hookFile + "\n"},
		{"a long plain name leaves the reason", vetoLine(strings.Repeat("é", 300), &Veto{Reason: "reason", Rule: "r"}),
			"stopguard: veto: éé", "é…: reason (rule r)\n"},
		{"a long quoted name is closed", vetoLine(strings.Repeat(":", 300), &Veto{Reason: "reason", Rule: "r"}),
			`stopguard: veto: "::`, `:…": reason (rule r)` + "\n"},
		{"a long rule leaves the reason", vetoLine("vm", &Veto{Reason: "reason", Rule: strings.Repeat("r", 2000), More: 3}),
			"stopguard: veto: vm: reason (rule rr", "r…) and 3 more\n"},
		{"a long hook file leaves the text", faultLine("vm", "what", "/"+strings.Repeat("h", 5000)),
			"stopguard: fault: vm: what; to switch the guard off: chmod -x /hh", "h…\n"},
		{"everything at once", faultLine(strings.Repeat(":", 300), strings.Repeat("w", 3000), strings.Repeat("\n", 5000)),
			`stopguard: fault: "::`, `\n…"` + "\n"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			if !strings.HasPrefix(tt.line, tt.prefix) || !strings.HasSuffix(tt.line, tt.suffix) {
				t.Errorf("got %q", tt.line)
			}
			checkLine(t, tt.line)
		})
	}
}

func checkLine(t *testing.T, line string) {
	t.Helper()
	body, newline := strings.CutSuffix(line, "\n")
	switch {
	case !newline:
		t.Errorf("does not end the line: %q", line)
	case len(line) > 1024:
		t.Errorf("%d bytes: %.200q", len(line), line)
	case !utf8.ValidString(line):
		t.Errorf("is no UTF-8: %q", line)
	}
	for _, r := range body {
		if !unicode.IsPrint(r) || unicode.In(r, unicode.C, unicode.Zl, unicode.Zp, unicode.Bidi_Control) {
			t.Errorf("holds %U: %.200q", r, line)
			return
		}
	}
}

func TestVetoErrorNamesTheRule(t *testing.T) {
	var none *Veto
	for want, veto := range map[string]*Veto{
		"r (rule x) and 2 more": {Reason: "r", Rule: "x", More: 2},
		"r":                     {Reason: "r"},
		"nil *Veto":             none,
	} {
		if got := veto.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("vm", "reason", "rule", 2, hookFile)
	f.Add("x: fine (rule none)", "\x1b[2J\u202e\xff", "", 0, "")
	f.Add(strings.Repeat(":", 300), strings.Repeat("é", 600), strings.Repeat("r", 300), 1<<30, strings.Repeat("\n", 600))
	f.Fuzz(func(t *testing.T, name, text, rule string, more int, hook string) {
		veto := vetoLine(name, &Veto{Reason: text, Rule: rule, More: more})
		checkLine(t, veto)
		if tail := (&Veto{More: more}).tail(cut(clean(rule, maxRule), maxRule), ""); !strings.HasSuffix(veto, tail+"\n") {
			t.Errorf("the rule is lost: %q", veto)
		}
		fault := faultLine(name, text, hook)
		checkLine(t, fault)
		if !strings.Contains(fault, "; to switch the guard off: chmod -x ") {
			t.Errorf("the way out is lost: %q", fault)
		}
		head := "stopguard: veto: " + quoted(name, maxName) + ": "
		if !strings.HasPrefix(veto, head) || len(quoted(name, maxName)) > maxName {
			t.Errorf("the name is lost: %q", veto)
		}
		if n := quoted(name, maxName); !strings.HasPrefix(n, `"`) && strings.ContainsAny(n, `:;()"\`) {
			t.Errorf("the name can pass for our text: %q", n)
		}
	})
}

func TestOtherProgramsRefuseWithTheSameLine(t *testing.T) {
	veto := &Veto{Reason: "the billing\ndatabase", Rule: "billing", More: 1}
	if diff := cmp.Diff(strings.TrimSuffix(vetoLine("vm", veto), "\n"), veto.Line("vm")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("stopguard: fault: vm: it broke; mend it; to switch the guard off: touch /etc/stopguard/gate-off",
		FaultLine("vm", "it broke; mend it", "touch /etc/stopguard/gate-off")); diff != "" {
		t.Error(diff)
	}
	if long := FaultLine(strings.Repeat(":", 300), strings.Repeat("w", 3000), strings.Repeat("\n", 5000)); len(long) >= maxLine || strings.Contains(long, "\n") {
		t.Errorf("%d bytes: %q", len(long), long)
	}
}
