package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/stopguard/stopguard/internal/hostfile"
)

// optionsFile has options of the host's besides those of the command line, over which they go. A
// reload reads them again, while the command line stays what it was when the process began.
const optionsFile = "/etc/stopguard/gate.conf"

// readOptions sets each option that the file has, one a line as NAME=VALUE. No file is none.
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
