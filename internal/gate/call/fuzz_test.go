package call

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// atOffset reads the domain of a call in another way than Read: by where the bytes must be.
func atOffset(data []byte, snapshot bool) (string, bool) {
	skip := func() bool {
		if len(data) < 4 {
			return false
		}
		n := uint64(binary.BigEndian.Uint32(data))
		end := 4 + (n+3)/4*4
		if n > 4<<20 || end > uint64(len(data)) {
			return false
		}
		data = data[end:]
		return true
	}
	if snapshot && !skip() || !skip() || len(data) < 20 {
		return "", false
	}
	u := data
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:16]), true
}

// FuzzRead: whatever libvirtd could take for a stop of a domain is asked about as a stop of that
// domain, or is an error, and reading takes no more memory than a few times what is read.
func FuzzRead(f *testing.F) {
	for _, tt := range wanted {
		f.Add(tt.program, tt.number, []byte(filled(table[tt.program][tt.number].args, tt.flags)))
	}
	f.Add(QEMU, uint32(1), []byte(args{}.command(`{"execute":"human-monitor-command","arguments":{"command-line":"quit"}}`).u(0)))
	f.Add(QEMU, uint32(1), []byte(args{}.command("info status\x00quit").u(1)))
	f.Fuzz(func(t *testing.T, program, number uint32, data []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if Of(program, number) != Hold {
			return
		}
		c, err := Read(program, number, data)
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20+64*uint64(len(data)) {
			t.Fatalf("%d bytes took %d", len(data), took)
		}
		plainStops := []uint32{12, 234, 33, 258, 55, 232, 440, 182, 192}
		if err != nil || program != Remote || !slices.Contains(plainStops, number) {
			return
		}
		want, ok := atOffset(data, number == 192)
		if !ok || c.UUID != want || !slices.Contains(c.Operations, Stop) {
			t.Fatalf("%s of %q is read as %v of %q", c.Procedure, want, c.Operations, c.UUID)
		}
	})
}

// FuzzCommand: no command in which an end of the guest could be hidden passes.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{"info status", "quit", `{"execute":"query-status"}`, `{"execute":"quit"}`, `{"exec-oob":"quit"}`,
		`{"execute":"human-monitor-command","arguments":{"command-line":"quit"}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if hmp(s) == nil {
			first, _, _ := bytes.Cut(bytes.TrimLeft([]byte(s), " "), []byte(" "))
			if w := string(first); !slices.Contains([]string{"info", "help", "cont", "c"}, string(bytes.TrimSpace([]byte(w)))) {
				t.Fatalf("%q passes", s)
			}
		}
		// Without any escape, what JSON says is there to be read.
		if qmp(s) == nil && !bytes.ContainsRune([]byte(s), '\\') {
			for _, bad := range []string{`"quit"`, `"system_powerdown"`, `"set-action"`, `"stop"`} {
				if i := bytes.Index([]byte(s), []byte(`"execute":`+bad)); i >= 0 && bytes.Count([]byte(s), []byte(`"execute"`)) == 1 && !bytes.Contains([]byte(s), []byte(`"id"`)) && !bytes.Contains([]byte(s), []byte(`"arguments"`)) {
					t.Fatalf("%q passes", s)
				}
			}
		}
	})
}

// FuzzDefinition: a UUID that is found is one, and XML with one made up has it.
func FuzzDefinition(f *testing.F) {
	f.Add(definition)
	f.Add("<domain a='>'><name>x</name></domain>")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := DefinitionUUID(s)
		made, uuid, withErr := WithUUID(s)
		if (err != nil) != (withErr != nil) && strings.TrimSpace(s) != "" {
			t.Fatal(err, withErr)
		}
		if withErr != nil {
			return
		}
		if again, err := DefinitionUUID(made); err != nil || again != uuid || id != "" && id != uuid {
			t.Fatalf("%q has %q, and %q has %q: %v", s, id, made, again, err)
		}
	})
}
