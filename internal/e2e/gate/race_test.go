//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"sync"

	"github.com/stopguard/stopguard/internal/e2ehost"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// race lets many clients at once undefine and end one protected guest. Each sends its next call on
// the answer to the last; all use the same serials.
func (h *host) race() {
	const rounds = 60
	text := func(s string) []byte { return wire.AppendString(nil, s) }
	other := strings.Replace(listed.XML(), "<memory", "<title>other</title><memory", 1)
	renamed := strings.Replace(listed.XML(), listed.Name, "web-99", 1)
	var wait sync.WaitGroup
	var mu sync.Mutex
	let := map[string]int{} // calls that may not succeed and did
	hammer := func(mayPass bool, frames ...func(*raw) []byte) {
		wait.Go(func() {
			r := h.dialGate()
			for range rounds {
				for _, frame := range frames {
					f := frame(r)
					procedure := wire.ReadHeader(f).Procedure
					if answer := r.answers(f, 1)[procedure]; answer == "ok" && !mayPass {
						mu.Lock()
						let[fmt.Sprint(procedure)]++
						mu.Unlock()
					}
				}
			}
			_ = r.conn.Close()
		})
	}
	call := func(procedure uint32, args []byte) func(*raw) []byte {
		return func(r *raw) []byte { return r.frame(procedure, 7, args) }
	}
	on := func(procedure uint32, flags ...uint32) func(*raw) []byte {
		return func(r *raw) []byte { return r.about(procedure, 7, listed, flags...) }
	}
	const createXML, defineXML, undefine, undefineFlags, destroyFlags, shutdown, managedSave, setLifecycle = 10, 11, 35, 231, 234, 33, 182, 390
	for range 2 {
		hammer(false, on(domainDestroy), on(destroyFlags, 1), on(shutdown), on(managedSave, 0), on(setLifecycle, 1, 0, 1))
		hammer(true, call(defineXML, text(other)), on(undefine), call(defineXML, text(listed.XML())), on(undefineFlags, 4))
		hammer(true, call(createXML, wire.AppendUint32(text(listed.XML()), 0)), on(domainCreate, 0), call(defineXML, text(listed.XML())))
		hammer(false, call(defineXML, text(renamed)), call(createXML, wire.AppendUint32(text(renamed), 2)))
	}
	wait.Wait()
	h.DirectOK("define", h.Write(listed))
	h.Records()
	h.record("all of it at once", e2ehost.Answer{Stdout: fmt.Sprint(let)}, listed)
	h.seen[len(h.seen)-1].Memory = h.Ask(listed)
}
