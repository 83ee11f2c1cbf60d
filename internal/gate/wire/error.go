package wire

import (
	"cmp"
	"strings"
)

// The codes of libvirt's errors that the gate distinguishes or returns itself, from virerror.h.
const (
	CodeSystem          = 38 // CodeSystem is VIR_ERR_SYSTEM_ERROR.
	CodeRPC             = 39 // CodeRPC is VIR_ERR_RPC: libvirtd cannot read a call, or not answer it.
	CodeNoDomain        = 42 // CodeNoDomain is VIR_ERR_NO_DOMAIN.
	CodeOperationDenied = 29 // CodeOperationDenied is VIR_ERR_OPERATION_DENIED: the connection is read-only.
	CodeInvalid         = 55 // CodeInvalid is VIR_ERR_OPERATION_INVALID: the domain is in no state for it.
	CodeAccessDenied    = 88 // CodeAccessDenied is VIR_ERR_ACCESS_DENIED.
	CodeNoSupport       = 3  // CodeNoSupport is VIR_ERR_NO_SUPPORT: the connection is not to a hypervisor.

	FromRPC    = 7  // FromRPC is the domain VIR_FROM_RPC: which part of libvirt an error is from.
	FromQEMU   = 10 // FromQEMU is the domain VIR_FROM_QEMU.
	FromDomain = 20 // FromDomain is the domain VIR_FROM_DOMAIN.

	levelError = 2
)

// An Error is an error of libvirt's, as clients get it.
type Error struct {
	Code, Domain int32
	Message      string
	Format       string // Format is what libvirt made the message of, with one "%s" at its end; "" for "%s".
	Detail       string // Detail is what a program may read beside the message; "" for nothing.
}

// Error returns the message, which is what clients print.
func (e *Error) Error() string { return e.Message }

// AppendPayload appends the error as a reply has it.
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

// ReadError reads what AppendPayload and libvirtd write, as far as we want to know.
func ReadError(payload []byte) (*Error, error) {
	d := Decode(payload)
	e := &Error{Code: int32(d.Uint32()), Domain: int32(d.Uint32())}
	if d.Bool() {
		e.Message = d.String()
	}
	return e, d.Err()
}
