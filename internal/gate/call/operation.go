package call

// An Operation is an operation that a policy decides about.
type Operation string

// The operations. A call may be several at once; each is decided.
const (
	Stop   Operation = "stop"   // Stop ends the guest, or this run of it.
	Delete Operation = "delete" // Delete destroys the domain's definition, its saved state or its disks' data.
	Pause  Operation = "pause"  // Pause keeps the guest from running for a while.
	Reset  Operation = "reset"  // Reset restarts the guest, or makes it restart itself.
	Move   Operation = "move"   // Move takes the guest to another host.
	Modify Operation = "modify" // Modify removes the domain's protection, or changes the domain's identity.
)

// A Treatment is how the gate handles the calls of a procedure.
type Treatment int

// The treatments.
const (
	Pass     Treatment = iota // Pass: the call passes without a decision.
	Hold                      // Hold: the whole call is held, read and decided.
	Refuse                    // Refuse: no client may make the call.
	Unknown                   // Unknown: the table does not know the procedure, which is of a newer libvirt.
	Inspect                   // Inspect: the whole call is held, and its arguments alone decide; see Check.
	Identify                  // Identify: the call names the client. Only some clients may make it.
)

// A Subject is the set of domains that a call is about.
type Subject int

// The subjects.
const (
	OneDomain     Subject = iota // OneDomain: the domain with the UUID.
	NewDefinition                // NewDefinition: the domain with the UUID in the XML, which replaces its definition.
	NewDomain                    // NewDomain: the domain that the XML describes, which may not exist yet.
	EveryRunning                 // EveryRunning: all domains that run on the host.
	Storage                      // Storage: the domains that use the volume, or a volume of the pool.
)
