package call

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Tapset is the file in which libvirt lists its procedures for SystemTap. Its packages install it
// with the daemon.
const Tapset = "/usr/share/systemtap/tapset/libvirt_functions.stp"

// The lines of a tapset with a program, with the number of one of its procedures, and with its
// name.
var (
	tapsetProgram   = regexp.MustCompile(`\bif \(program == ([0-9]+) && version == 1\)`)
	tapsetProcedure = regexp.MustCompile(`\bif \(proc == ([0-9]+)\)`)
	tapsetName      = regexp.MustCompile(`\bprocstr = "([a-z0-9_]+)"`)
)

// Newer returns the procedures in a tapset that are newer than the table, each as its name and
// number. It returns an error if the tapset has too few of the programs' procedures to be a whole
// one.
func Newer(tapset string) ([]string, error) {
	var newer []string
	var program, number uint64
	found := 0
	for line := range strings.Lines(tapset) {
		if m := tapsetProgram.FindStringSubmatch(line); m != nil {
			program, _ = strconv.ParseUint(m[1], 10, 32)
		} else if m := tapsetProcedure.FindStringSubmatch(line); m != nil {
			number, _ = strconv.ParseUint(m[1], 10, 32)
		} else if m := tapsetName.FindStringSubmatch(line); m != nil {
			last, isKnown := known[uint32(program)]
			if !isKnown {
				continue
			}
			if found++; uint32(number) > last {
				newer = append(newer, fmt.Sprintf("%s (%d)", strings.ToUpper(m[1]), number))
			}
		}
	}
	const fewest = 400 // every libvirt that the gate supports has more procedures
	if found < fewest {
		return nil, fmt.Errorf("only %d procedures are listed", found)
	}
	return newer, nil
}
