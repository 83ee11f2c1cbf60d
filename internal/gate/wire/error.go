package wire

import (
	"cmp"
	"strings"
)

// The codes of libvirt's errors that the gate distinguishes or returns itself, from virerror.h.
const (
	CodeSystem          = 38 // CodeSystem is VIR_ERR_SYSTEM_ERROR.
	CodeRPC             = 39 // CodeRPC is VIR_ERR_RPC: libvirtd cannot read a call, or cannot send its answer.
	CodeNoDomain        = 42 // CodeNoDomain is VIR_ERR_NO_DOMAIN.
	CodeOperationDenied = 29 // CodeOperationDenied is VIR_ERR_OPERATION_DENIED: the connection is read-only.
	CodeInvalid         = 55 // CodeInvalid is VIR_ERR_OPERATION_INVALID: the domain's state does not allow the call.
	CodeAccessDenied    = 88 // CodeAccessDenied is VIR_ERR_ACCESS_DENIED.
	CodeNoSupport       = 3  // CodeNoSupport is VIR_ERR_NO_SUPPORT: the connection is not to a hypervisor.

	FromRPC    = 7  // FromRPC is VIR_FROM_RPC, a domain: the part of libvirt that an error is from.
	FromQEMU   = 10 // FromQEMU is VIR_FROM_QEMU.
	FromDomain = 20 // FromDomain is VIR_FROM_DOMAIN.

	levelError = 2
)

// An Error is an error of libvirt's as clients receive it.
type Error struct {
	Code, Domain int32
	Message      string
	Format       string // Format is the format of the message, with one "%s" at its end; "" means "%s".
	Detail       string // Detail is for programs, beside the message; it may be "".
}

// Error returns the message, which clients print.
func (e *Error) Error() string { return e.Message }

// AppendPayload appends the error in the form of a reply.
func (e *Error) AppendPayload(b []byte) []byte {
	optional := func(s string) {
		if s == "" {
			b = AppendUint32(b, 0)
			return
		}
		b = AppendString(AppendUint32(b, 1), s)
	}
	b = AppendUint32(AppendUint32(b, uint32(e.Code)), uint32(e.Domain))
	optional(e.Message)
	b = AppendUint32(b, levelError)
	b = AppendUint32(b, 0) // no domain
	format := cmp.Or(e.Format, "%s")
	optional(format)
	optional(strings.TrimPrefix(e.Message, strings.TrimSuffix(format, "%s")))
	optional(e.Detail)
	const none = 0xffffffff
	b = AppendUint32(AppendUint32(b, none), none)
	return AppendUint32(b, 0) // no network
}

// Refusal returns the frame that answers a call with the error. Clients find the call by program,
// version and serial, and expect the same procedure. The reply to a call with descriptors or to one
// that opens a stream has the same form.
func (e *Error) Refusal(call Header) []byte {
	h := Header{Program: call.Program, Version: call.Version, Procedure: call.Procedure, Kind: Reply, Serial: call.Serial, Status: Failed}
	return Frame(h, e.AppendPayload(nil))
}

// ReadError reads the code, the domain and the message of an error in a reply.
func ReadError(payload []byte) (*Error, error) {
	d := Decode(payload)
	e := &Error{Code: int32(d.Uint32()), Domain: int32(d.Uint32())}
	if d.Bool() {
		e.Message = d.String()
	}
	return e, d.Err()
}
