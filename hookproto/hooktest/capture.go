package hooktest

import (
	"bytes"
	"embed"
	"encoding/json"
	"encoding/xml"
	"strings"

	"github.com/stopguard/stopguard/hookproto"
)

// captures holds the arguments and stdin of the calls of hooks by libvirt 9.0.0 with the proposed
// stop operation.
//
//go:embed captures
var captures embed.FS

// capturedDomains are the domains whose stops were captured.
var capturedDomains = []string{
	"pg-primary-01",
	"protected-vm",
	"name-looks-like-a-flag",
	"name-unicode-and-shell-characters",
	"pg-primary-01-block-copy-running",
	"web-01",
}

// similar maps an operation that was not captured to one with the same XML: libvirt formats the
// inactive domain before an emulator runs, and the live one after.
var similar = map[hookproto.Op]hookproto.Op{
	hookproto.OpRestore:   hookproto.OpPrepare,
	hookproto.OpMigrate:   hookproto.OpPrepare,
	hookproto.OpReconnect: hookproto.OpStarted,
	hookproto.OpAttach:    hookproto.OpStarted,
}

func capturedXML(op hookproto.Op) []byte {
	if other, ok := similar[op]; ok {
		op = other
	}
	return mustRead("pg-primary-01/" + string(op) + "/stdin.xml")
}

// capturedStop returns the arguments and the XML of the stop of one of capturedDomains.
func capturedStop(domain string) (args []string, xml []byte) {
	if err := json.Unmarshal(mustRead(domain+"/stop/argv.json"), &args); err != nil {
		panic(err)
	}
	return args, mustRead(domain + "/stop/stdin.xml")
}

func mustRead(name string) []byte {
	data, err := captures.ReadFile("captures/" + name)
	if err != nil {
		panic(err) // the folder was embedded incompletely
	}
	return data
}

// namedXML returns the XML of a running domain with another name.
func namedXML(name string) []byte {
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(name))
	const element = "<name>web-01</name>"
	return bytes.Replace(mustRead("web-01/stop/stdin.xml"), []byte(element), []byte("<name>"+escaped.String()+"</name>"), 1)
}

// hostileNames are names that libvirt accepts, or that a caller may invent, and that a careless
// program misreads.
var hostileNames = []string{
	"--help", "-h", "-", "-rf", "stop", "*", "a b", "$(reboot)", `"`, `\`, "%s%n", `Müller's "VM" $(reboot) ✓`,
	"a\nb", "\x1b[2J", "\xff\xfe", "\u202etxt", strings.Repeat("x", 255), strings.Repeat("ü", 127),
}
