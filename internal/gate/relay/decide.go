package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stopguard/stopguard"
	"github.com/stopguard/stopguard/domainxml"
	"github.com/stopguard/stopguard/internal/gate/call"
	"github.com/stopguard/stopguard/internal/gate/volume"
	"github.com/stopguard/stopguard/internal/gate/wire"
)

// decide returns nil if a call may pass, and the name of its domain if that is known.
func (c *connection) decide(ctx context.Context, h *heldCall) (name string, err error) {
	request, err := call.Read(h.header.Program, h.header.Procedure, h.args())
	if err != nil || len(request.Operations) == 0 {
		return "", err
	}
	h.autodestroy = request.Deferred && slices.Contains(request.Operations, call.Stop)
	j := evaluation{connection: c, ctx: ctx, call: request}
	defer j.leave()
	if request.Disk != "" && !volume.Shrinks(ctx, storage{&j}, request) {
		return "", nil
	}
	switch request.Subject {
	case call.OneDomain:
		err = j.oneDomain()
	case call.NewDefinition:
		err = j.definition()
	case call.NewDomain:
		err = j.newDomain()
	case call.EveryRunning:
		err = j.everyRunning()
	case call.Storage:
		err = j.storage()
	}
	if err != nil && !j.isRecorded && !isLibvirts(err) {
		err = j.failed(err)
	}
	return j.name, err
}

// recordTimeout bounds the writing of a record about a call for which no decision could be made,
// beyond the time for the decision.
const recordTimeout = 250 * time.Millisecond

// failed records the error for which the guard could not be called about a domain. It returns the
// error for the client.
func (j *evaluation) failed(err error) error {
	ctx, cancel := context.WithTimeout(j.connection.ctx, recordTimeout)
	defer cancel()
	j.ctx = ctx
	answer := j.ask(j.call.Operations[0], stopguard.Request{Name: j.name, Err: err})
	if answer == nil || errors.Is(answer, errLate) {
		return err
	}
	return answer
}

// isLibvirts reports whether a refusal is an error of libvirt's own, which the guard does not
// record.
func isLibvirts(err error) bool {
	var e *wire.Error
	return errors.As(err, &e)
}

// An evaluation is one call that is being decided.
type evaluation struct {
	*connection
	ctx  context.Context
	call call.Call

	name       string
	isRecorded bool // the guard was called, which records its answer
	slot       *connSlot
}

// enter waits for a slot, which every computation needs. It reports false if ctx ends first.
func (j *evaluation) enter() bool {
	if j.slot == nil {
		j.slot = takeSlot(j.ctx, j.connection)
	}
	return j.slot != nil
}

// leave frees the slot.
func (j *evaluation) leave() {
	if j.slot != nil {
		j.slot.leave()
		j.slot = nil
	}
}

// fetched returns a domain's XML. The slot is free while libvirtd answers, and taken again before
// the XML is parsed. Otherwise the parsed elements, which are many times larger than the XML, could
// fill the memory.
func (j *evaluation) fetched(uuid string, flags uint32) ([]byte, error) {
	j.leave()
	xml, err := j.xml(j.ctx, uuid, flags)
	if err == nil && !j.enter() {
		return nil, errLate
	}
	return xml, err
}

// oneDomain decides about the domain that a call names. If libvirtd does not know it, the answer is
// libvirtd's own. Otherwise another client could create the domain before the call reaches
// libvirtd, and it would be ended without a decision.
func (j *evaluation) oneDomain() error {
	err := j.domain(j.call.UUID)
	if unknown, isUnknown := errors.AsType[*noDomainError](err); isUnknown {
		return unknown.named(j.call.Name)
	}
	return err
}

// domain decides about the domain with the UUID. The error is a *noDomainError if libvirtd does not
// know it.
func (j *evaluation) domain(uuid string) error {
	j.name = uuid
	xml, err := j.fetched(uuid, liveXML)
	switch {
	case errors.Is(err, errTooLarge):
		return j.undescribed(uuid)
	case err != nil:
		return err
	}
	return j.described(uuid, xml)
}

// undescribed decides about a domain whose XML is too large to be sent. Only the UUID is known, so
// the answer is a veto, which a ticket lifts. The domain may run.
func (j *evaluation) undescribed(uuid string) error {
	domain, err := domainxml.ParseHead([]byte("<domain><name>" + uuid + "</name><uuid>" + uuid + "</uuid>"))
	if err != nil {
		return err
	}
	return j.operations(domain, true)
}

// described decides about the domain that the XML describes.
func (j *evaluation) described(uuid string, xml []byte) error {
	if len(j.call.Operations) == 0 {
		return nil
	}
	domain, err := domainxml.Parse(xml)
	if err != nil {
		return fmt.Errorf("%w; the domain's XML cannot be judged, look at it with virsh dumpxml", err)
	}
	if domain.UUID != uuid {
		return fmt.Errorf("libvirtd gave the XML of %s instead; report this", domain.UUID)
	}
	j.name = domain.Name
	if isQEMU(domain) && domain.ID == 0 && j.call.Live && !j.call.Deferred {
		return errOff
	}
	if j.call.Subject == call.OneDomain && j.call.IfMarkRemoved && j.call.Keeps(xml) {
		j.keepsMarks(call.Modify)
	}
	return j.operations(domain, domain.ID != 0)
}

// operations decides about each operation of the call. The end of a transient domain, which may
// run, is a delete, too.
func (j *evaluation) operations(domain *domainxml.Domain, mayRun bool) error {
	r := j.about(domain)
	for _, operation := range j.call.On(domain) {
		if err := j.decideOne(operation, r); err != nil {
			return err
		}
	}
	if !j.call.EndsTransient || !mayRun || !volume.IsTransient(j.ctx, storage{j}, domain.UUID) {
		return nil
	}
	r.EndsRun = true
	return j.decideOne(call.Delete, r)
}

// decideOne decides about one operation, and counts the decision.
func (j *evaluation) decideOne(operation call.Operation, r stopguard.Request) error {
	err := j.ask(operation, r)
	j.gate.Metrics.decided(string(operation), err)
	return err
}

// isQEMU reports whether the domain belongs to the QEMU driver. For other drivers' domains the gate
// does not know what the XML and the state mean while they are off or start.
func isQEMU(d *domainxml.Domain) bool { return d.Type == "qemu" || d.Type == "kvm" }

// errOff is libvirtd's own error (virDomainObjCheckActive) about a domain that does not run. The
// domain may have been started since its XML was read, by a call just before this one. Otherwise
// the call could pass and end that run without a decision.
var errOff = &wire.Error{Code: wire.CodeInvalid, Domain: wire.FromDomain,
	Format: "Requested operation is not valid: %s", Message: "Requested operation is not valid: domain is not running"}

// definition decides about a new definition if it removes or changes the mark of the old one.
func (j *evaluation) definition() error {
	uuid, err := call.DefinitionUUID(j.call.XML)
	if err != nil || uuid == "" {
		return err
	}
	j.name = uuid
	old, err := j.fetched(uuid, inactiveXML)
	switch {
	case errors.Is(err, errNoDomain):
		return nil
	case errors.Is(err, errTooLarge):
		return j.undescribed(uuid)
	case err != nil:
		return err
	case call.KeepsMarks(old, []byte(j.call.XML)):
		return nil
	}
	return ignoreUnknown(j.domain(uuid))
}

// ignoreUnknown returns nil for a domain that libvirtd no longer knows: it is gone.
func ignoreUnknown(err error) error {
	if errors.Is(err, errNoDomain) {
		return nil
	}
	return err
}

// newDomain decides about the domain that the XML describes. If libvirtd has the domain already,
// its present XML is decided, and else the new XML.
func (j *evaluation) newDomain() error {
	if j.call.IfMarkRemoved && strings.TrimSpace(j.call.XML) == "" {
		return nil // the saved XML is restored unchanged, or libvirtd refuses to create a domain without XML
	}
	xml, uuid, err := call.WithUUID(j.call.XML)
	if err != nil {
		return err
	}
	j.name = uuid
	if xml == j.call.XML { // the UUID is the client's, and not one that the gate has made up
		live, err := j.fetched(uuid, liveXML)
		switch {
		case err == nil:
			if j.call.IfMarkRemoved && call.KeepsMarks(live, []byte(xml)) {
				j.keepsMarks(call.Modify, call.Delete)
			}
			return j.described(uuid, live)
		case !errors.Is(err, errNoDomain):
			return err
		}
	}
	if j.call.IfMarkRemoved {
		j.keepsMarks(call.Modify, call.Delete) // there are no marks to lose
	}
	return j.described(uuid, []byte(xml))
}

// keepsMarks removes operations from the call that are decided only if the domain loses its marks.
// The call leaves the marks as they are.
func (j *evaluation) keepsMarks(operations ...call.Operation) {
	isOne := func(o call.Operation) bool { return slices.Contains(operations, o) }
	j.call.Operations = slices.DeleteFunc(slices.Clone(j.call.Operations), isOne)
}

// everyRunning decides about each running domain that the client may see.
func (j *evaluation) everyRunning() error {
	uuids, err := j.running(j.ctx)
	if err != nil {
		return err
	}
	for _, uuid := range uuids {
		if err := ignoreUnknown(j.domain(uuid)); err != nil {
			return err
		}
	}
	return nil
}

// about returns a request about a domain, without its operation.
func (j *evaluation) about(domain *domainxml.Domain) stopguard.Request {
	r := stopguard.Request{Domain: domain, Call: &stopguard.Call{}}
	if isQEMU(domain) && domain.ID != 0 {
		r.Starting = func(ctx context.Context) (bool, error) { return j.starting(ctx, domain.UUID) }
	}
	return r
}

// ask decides about one operation. A decision that is late, or panics, is a fault.
func (j *evaluation) ask(operation call.Operation, r stopguard.Request) error {
	j.isRecorded = true
	if !j.enter() {
		return errLate
	}
	slot := j.slot
	r.Operation, r.Deferred, r.Caller = string(operation), j.call.Deferred, j.caller.get()
	r.Procedure, r.Flags, r.Command, r.Destination = j.call.Procedure, j.call.Flags, j.call.Command, j.call.Destination
	if starting := r.Starting; starting != nil {
		r.Starting = func(ctx context.Context) (bool, error) {
			slot.free()
			isStarting, err := starting(ctx)
			if !slot.take(ctx) {
				return false, errLate
			}
			return isStarting, err
		}
	}
	verdict := make(chan error, 1)
	slot.share()
	go func() {
		// A decision that does not end keeps the connection's slot. Otherwise a client could start
		// any number of them. The gate's slot is free by then, so that other clients do not wait.
		defer slot.unshare()
		// This error stands if the decision ends by runtime.Goexit, which recover does not see.
		err := errors.New("the guard gave up without an answer; report this as a bug")
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("the guard crashed: %.200v; report this as a bug", p)
			}
			verdict <- err
		}()
		err = j.gate.Decide(j.ctx, r)
	}()
	select {
	case err := <-verdict:
		return err
	case <-j.ctx.Done():
		return errLate
	}
}

var errLate = fmt.Errorf("no decision within %v; try again, and look for a slow rule, a libvirtd that does not answer, or a host under load", decisionTimeout)
