package call

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tapset returns the text of a libvirt's tapset with some programs and their last procedures.
func tapset(last map[uint32]uint32) string {
	var b strings.Builder
	b.WriteString("function libvirt_rpc_program_name(program, verbose)\n{\n  if (program == 536903814) {\n      programstr = \"remote\"\n  }\n}\n")
	for program, last := range last {
		fmt.Fprintf(&b, "  } else if (program == %d && version == 1) {\n      if (proc == 0) {\n", program)
		for number := uint32(1); number <= last; number++ {
			fmt.Fprintf(&b, "      } else if (proc == %d) {\n          procstr = \"domain_something_%[1]d\";\n", number)
		}
	}
	return b.String()
}

func TestTheProceduresOfANewerLibvirtAreNamed(t *testing.T) {
	for _, tt := range []struct {
		why  string
		last map[uint32]uint32
		want []string
		err  string
	}{
		{why: "the newest that is known", last: map[uint32]uint32{Remote: 456, QEMU: 7, LXC: 1}},
		{why: "an older one", last: map[uint32]uint32{Remote: 443, QEMU: 7}},
		{why: "a newer one", last: map[uint32]uint32{Remote: 458}, want: []string{"DOMAIN_SOMETHING_457 (457)", "DOMAIN_SOMETHING_458 (458)"}},
		{why: "a newer one's QEMU", last: map[uint32]uint32{Remote: 456, QEMU: 8}, want: []string{"DOMAIN_SOMETHING_8 (8)"}},
		{why: "the administration's program does not come by the gate", last: map[uint32]uint32{Remote: 456, 0x06900690: 999}},
		{why: "another file", last: map[uint32]uint32{Remote: 20}, err: "only 20 procedures are listed"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			got, err := Newer(tapset(tt.last))
			if fmt.Sprint(err) != tt.err && (err != nil || tt.err != "") {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
