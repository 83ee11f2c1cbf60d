package hookproto

import _ "embed"

// Front is the shell script that is installed as the hook file: it ends at once for every operation
// but stop and release, and runs the program that its first variable names for those. See front.sh
// for why.
//
//go:embed front.sh
var Front string
