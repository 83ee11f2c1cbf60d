# METADATA
# title: operation
# description: |
#   What the library's rules share about the operation that is asked for: stop, delete, pause, reset, move or
#   modify. A site's rules may import it as well.
package stopguard.operation

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
default verb := "change"

verb := input.operation if input.operation in {"stop", "delete", "pause", "reset", "move"}
