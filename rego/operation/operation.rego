# METADATA
# title: operation
# description: |
#   What the library's rules share about the operation that is asked for: stop, pause, reset, move or tamper. A site's
#   rules may import it as well.
package stopguard.operation

# METADATA
# title: known
# description: Every operation that a rule can be asked about.
known := {"stop", "pause", "reset", "move", "tamper"}

# METADATA
# title: among
# description: |
#   Whether a rule that answers for these operations answers for the one that is asked for. Every rule answers for a stop:
#   naming what else it answers for takes nothing away.
among(_) if input.operation == "stop"

among(operations) if input.operation in operations

# METADATA
# title: verb
# description: The operation as a reason says it, before the word it.
verb := object.get({"tamper": "change"}, input.operation, input.operation)

# METADATA
# title: doing
# description: The operation as a reason says it while it is done.
doing := {
	"stop": "stopping",
	"pause": "pausing",
	"reset": "resetting",
	"move": "moving",
	"tamper": "changing",
}[input.operation]
