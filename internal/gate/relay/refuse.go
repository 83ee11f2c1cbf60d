package relay

import (
	"errors"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// refuse answers a call with an error. If err is an error of libvirtd's, the client gets it
// unchanged. Otherwise the text is the line that a hook would print.
func (c *connection) refuse(h *heldCall, name string, err error) {
	if name == "" {
		name = call.Name(h.header.Program, h.header.Procedure)
	}
	var own *wire.Error
	if !errors.As(err, &own) {
		own = &wire.Error{Code: wire.CodeAccessDenied, Domain: wire.FromQEMU}
		var veto *hookproto.Veto
		switch {
		case errors.As(err, &veto) && veto != nil:
			own.Message, own.Detail = veto.Line(name), veto.Rule
		case errors.As(err, &veto):
			own.Message = hookproto.FaultLine(name, "the guard answered with a nil veto; report this as a bug", c.gate.OffText)
		default:
			own.Message = hookproto.FaultLine(name, err.Error(), c.gate.OffText)
		}
	}
	c.log("a call was refused", h, name, own)
	if c.client.Send(own.Refusal(h.header), nil) != nil {
		c.close()
	}
}

// log logs a call that is not passed on to libvirtd. err is nil if the decision was to pass it.
func (c *connection) log(message string, h *heldCall, name string, err error) {
	answer := ""
	if err != nil {
		answer = err.Error()
	}
	attributes := append([]any{"procedure", call.Name(h.header.Program, h.header.Procedure), "domain", name}, c.caller.attributes()...)
	c.gate.Log.Info(message, append(attributes, "answer", answer)...)
}
