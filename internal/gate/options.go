package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// optionsFile is the path of the host's options. They override those of the command line. A reload
// reads the file again, and keeps the command line of the process's start.
const optionsFile = "/etc/stopguard/gate.conf"

// readOptions sets each option in the file, one a line in the form NAME=VALUE. A missing file is
// not an error.
func readOptions(root hostfile.Root, set func(name, value string) error) error {
	content, err := root.Read(optionsFile, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	n := 0
	for line := range strings.Lines(string(content)) {
		n++
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok {
			return fmt.Errorf("%s: line %d: %q is no option; write NAME=VALUE, with a name that -help lists", optionsFile, n, line)
		}
		if err := set(strings.TrimSpace(name), strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("%s: line %d: %w; -help lists what there is", optionsFile, n, err)
		}
	}
	return nil
}
