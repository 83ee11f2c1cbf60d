package host

import _ "embed"

// ShutdownUnitText is the unit that tells the guard that the host shuts down.
//
//go:embed stopguard-shutdown.service
var ShutdownUnitText string
