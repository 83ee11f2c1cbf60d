//go:build e2e

package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// soak lets clients make calls that pass, are decided and are vetoed, reconnects them, and prints
// the gate's memory meanwhile. Memory that grows from the middle to the end would grow for ever.
func (h *host) soak(d time.Duration) {
	var calls, vetoes, connections atomic.Int64
	end := time.Now().Add(d)
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for time.Now().Before(end) {
				c := h.connect(gateSocket)
				connections.Add(1)
				for range 50 {
					for _, one := range []struct {
						procedure uint32
						args      []byte
					}{
						{getLibVersion, nil}, {getXML, about(ordinary.UUID, 0)}, {suspend, about(ordinary.UUID)},
						{setAutostart, about(ordinary.UUID, 0)}, {suspend, about(protected.UUID)},
					} {
						err := c.call(one.procedure, one.args)
						switch e := verdictOf(err); {
						case e != nil && strings.HasPrefix(e.Message, "stopguard: veto: "+protected.Name):
							vetoes.Add(1)
						case err != nil:
							h.Fatalf("procedure %d: %v", one.procedure, err)
						}
						calls.Add(1)
					}
				}
				_ = c.Close()
			}
		})
	}
	const times = 20
	fmt.Println("after      resident   files  threads  calls")
	for i := range times + 1 {
		if i > 0 {
			time.Sleep(d / times)
		}
		files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", h.gate.Process.Pid))
		if err != nil {
			h.Fatalf("%v", err)
		}
		fmt.Printf("%-9s  %-9s  %-5d  %-7d  %d\n", (d * time.Duration(i) / times).Round(time.Second), mib(h.resident()), len(files),
			h.ofStatus("Threads:"), calls.Load())
	}
	wait.Wait()
	fmt.Printf("%d calls on %d connections, %d of them vetoed; every answer was the right one\n", calls.Load(), connections.Load(), vetoes.Load())
}
