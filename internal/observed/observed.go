// Package observed translates what a hook saw of a domain's process into the terms of a policy.
package observed

import (
	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
)

// State returns the state of the domain whose process p is.
func State(p hookproto.Process) policy.State {
	s := policy.State{
		State:    p.Status.State,
		Reason:   p.Status.Reason,
		Job:      p.Status.Job,
		Unknown:  p.Status.State == "",
		DiskJobs: map[string]string{},
	}
	for _, job := range p.Status.BlockJobs {
		s.DiskJobs[job.Disk] = job.Type
	}
	return s
}
