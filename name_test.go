package stopguard_test

import (
	"strings"
	"testing"

	"github.com/stopguard/stopguard/internal/testhost"
)

// virsh domrename takes every name but one with a slash, so a character in it must be no fault that
// no ticket lifts.
func TestAControlCharacterInANameIsNoFault(t *testing.T) {
	root := testhost.Root(t)
	xml := string(read(t, "testdata/captures/web-01/stop/stdin.xml"))
	for _, tt := range []struct{ why, name, inXML string }{
		{"libvirt writes it as it is, and XML reads a line feed", "web\r-01", "web\r-01"},
		{"two of them are one line feed", "web\r\n-01", "web\r\n-01"},
		{"libvirt writes a reference", "web\r-01", "web&#13;-01"},
		{"at the end", "web-01\r", "web-01\r"},
		{"a line feed", "web\n-01", "web\n-01"},
		{"a tab", "web\t-01", "web\t-01"},
		{"libvirt's escaping drops it", "web\x01-01\x19", "web-01"},
		{"delete, and control characters beyond ASCII", "web\x7f\u0085-01", "web\x7f\u0085-01"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			named := strings.Replace(xml, "<name>web-01</name>", "<name>"+tt.inXML+"</name>", 1)
			if named == xml && tt.inXML != "web-01" {
				t.Fatal("the capture has no such name")
			}
			if got := ask(t, root, strings.NewReader(named), stopArgs(tt.name)...); got.Exit != 0 {
				t.Errorf("%v", got)
			}
			if got := ask(t, root, strings.NewReader(named), stopArgs(tt.name+"x")...); got.Exit != 2 {
				t.Errorf("another name: %v", got)
			}
		})
	}
}
