package host

import _ "embed"

// ShutdownUnitText is the unit that creates the flag hostpath.ShuttingDown when the host shuts
// down.
//
//go:embed stopguard-shutdown.service
var ShutdownUnitText string
