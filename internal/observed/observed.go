// Package observed translates a hook's view of a domain's process into the terms of a policy.
package observed

import (
	"slices"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/policy"
)

// State returns the state of the domain with the process p.
func State(p hookproto.Process) policy.State {
	s := policy.State{
		Reason:   p.Status.Reason,
		Job:      p.Status.Job,
		DiskJobs: map[string]string{},
	}
	s.State, s.Unknown = Known(p.Status.State)
	for _, job := range p.Status.BlockJobs {
		s.DiskJobs[job.Disk] = job.Type
	}
	return s
}

// Known returns a state of a status file if the policy knows it. It returns "" and true for a
// missing state, or one of a later libvirt.
func Known(state string) (known string, isUnknown bool) {
	if slices.Contains(policy.States(), state) {
		return state, false
	}
	return "", true
}
