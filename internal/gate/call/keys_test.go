package call

import "testing"

// Numbers are what libvirt's private virKeycodeValueTranslate gave for the keys; what becomes of
// the keys is shown with a real guest in internal/e2e/gate.
func TestKeysThatEndAGuestStopIt(t *testing.T) {
	for _, tt := range []struct {
		why     string
		codeset uint32
		keys    []uint32
		want    string
	}{
		{"ctrl-alt-del restarts it", 0, []uint32{29, 56, 111}, "reset"},
		{"no key at all", 0, nil, "reset"},
		{"the power key", 0, []uint32{116}, "stop reset"},
		{"alt-sysrq-o", 0, []uint32{56, 99, 24}, "stop reset"},
		{"sysrq by its other number", 0, []uint32{56, 84, 24}, "stop reset"},
		{"the power key of another codeset", 1, []uint32{0xe05e}, "stop reset"},
		{"its number is another key there", 1, []uint32{116}, "reset"},
		{"this one has none", 5, []uint32{116, 0x54}, "reset"},
		{"by a USB keyboard", 7, []uint32{0x66}, "stop reset"},
		{"as QEMU is told", 9, []uint32{0xde}, "stop reset"},
		{"alt-print is sysrq", 9, []uint32{0x38, 0xb7, 0x18}, "stop reset"},
		{"a codeset that libvirt 9.0.0 does not have", 10, []uint32{1}, "stop reset"},
	} {
		a := args{}.domain().u(tt.codeset).u(0).u(uint32(len(tt.keys)))
		for _, key := range tt.keys {
			a = a.u(key)
		}
		c, err := Read(Remote, 226, a.u(0))
		if got := words(c.Operations); got != tt.want || err != nil {
			t.Errorf("%s: %q, %v; want %q", tt.why, got, err, tt.want)
		}
	}
}
