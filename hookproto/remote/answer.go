package remote

import (
	"errors"

	"github.com/stopguard/stopguard/hookproto"
)

// An Answer is a Handler's result in the form in which it crosses the socket. Texts are bytes: JSON
// would change those that are not UTF-8.
type Answer struct {
	Outcome string `json:"outcome"` // allow, moot, veto or fault
	Reason  []byte `json:"reason,omitempty"`
	Rule    []byte `json:"rule,omitempty"`
	More    int    `json:"more,omitempty"`
	Note    []byte `json:"note,omitempty"`
	Fault   []byte `json:"fault,omitempty"`
}

const (
	allow = "allow"
	moot  = "moot"
	veto  = "veto"
	fault = "fault"
)

// ErrMoot is an allow because the guest is gone. A Handler that an agent serves may return it in
// place of nil, so that a hook can compare it with its own evidence. An agent in another PID
// namespace cannot see a guest's process.
var ErrMoot = errors.New("the agent takes the guest for gone; look at the domain's process")

// AnswerOf returns the answer for a Handler's error.
func AnswerOf(err error) Answer {
	var v *hookproto.Veto
	switch {
	case err == nil:
		return Answer{Outcome: allow}
	case errors.Is(err, ErrMoot):
		return Answer{Outcome: moot}
	case errors.As(err, &v) && v == nil:
		return Answer{Outcome: fault, Fault: []byte("the guard answered with a nil veto; report this as a bug")}
	case v != nil:
		return Answer{Outcome: veto, Reason: clip(v.Reason), Rule: clip(v.Rule), More: v.More, Note: clip(v.Note)}
	}
	return Answer{Outcome: fault, Fault: clip(err.Error())}
}

// Err returns the error that the answer was made from, with the same line.
func (a Answer) Err() error {
	switch a.Outcome {
	case allow:
		return nil
	case moot:
		return ErrMoot
	case veto:
		return &hookproto.Veto{Reason: string(a.Reason), Rule: string(a.Rule), More: a.More, Note: string(a.Note)}
	}
	return errors.New(string(a.Fault))
}

func (a Answer) valid() bool {
	isVeto, isFault := a.Reason != nil || a.Rule != nil || a.More != 0 || a.Note != nil, a.Fault != nil
	switch a.Outcome {
	case allow, moot:
		return !isVeto && !isFault
	case veto:
		return !isFault && a.More >= 0
	case fault:
		return !isVeto
	}
	return false
}

// maxText is larger than the 2 KiB that a line reads, twice its own length.
const maxText = 4 << 10

func clip(s string) []byte { return []byte(s[:min(len(s), maxText)]) }
