package call

// An Operation is an operation that a policy decides about.
type Operation string

// The operations. A call may be several at once; each is asked about.
const (
	Stop   Operation = "stop"   // Stop ends the guest, or this run of it.
	Delete Operation = "delete" // Delete destroys the domain's definition, its saved state or its disks' data.
	Pause  Operation = "pause"  // Pause keeps the guest from running for a while.
	Reset  Operation = "reset"  // Reset restarts the guest, or makes it restart itself.
	Move   Operation = "move"   // Move takes the guest to another host.
	Modify Operation = "modify" // Modify takes the domain's protection away, or changes what it is.
)

// A Treatment is how the gate handles the calls of a procedure.
type Treatment int

// The treatments.
const (
	Pass     Treatment = iota // Pass: it needs no decision.
	Hold                      // Hold: it is to be kept whole, read and decided.
	Refuse                    // Refuse: no client may make it.
	Unknown                   // Unknown: the table does not know the procedure, which is of a newer libvirt.
	Inspect                   // Inspect: it is to be kept whole, and its arguments alone decide; see Check.
	Identify                  // Identify: it says who the client is. It depends on who says it; no other client may make it.
)

// A Subject says which domains a call is about.
type Subject int

// The subjects.
const (
	OneDomain     Subject = iota // OneDomain: the domain with the UUID.
	NewDefinition                // NewDefinition: the domain with the UUID in the XML, whose definition is replaced by it.
	NewDomain                    // NewDomain: the domain that the XML describes, which may not be there yet.
	EveryRunning                 // EveryRunning: all domains that run on the host.
	Storage                      // Storage: the domains that use the volume, or what is in the pool.
)
