package doctor

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/stopguard/stopguard/internal/hostpath"
)

// maxSlips is how many entries are shown.
const maxSlips = 3

// checkEntries looks for entries of the protected list that may be names, and yet look like something else, which would protect
// nothing. One that is the name of a domain here is what it was meant to be.
func (d *doctor) checkEntries(list string) {
	var slips []string
	number := 0
	for line := range strings.Lines(strings.TrimPrefix(list, "\ufeff")) {
		number++
		entry := entryOf(line)
		what := slipIn(entry)
		if what == "" || d.Exists("/etc/libvirt/qemu/"+entry+".xml") || d.Exists("/run/libvirt/qemu/"+entry+".xml") {
			continue
		}
		slips = append(slips, fmt.Sprintf("line %d: %.100q, %s", number, entry, what))
	}
	if len(slips) == 0 {
		d.ok("list-entries", "none looks like a slip")
		return
	}
	more := ""
	if len(slips) > maxSlips {
		more = fmt.Sprintf("; and %d more", len(slips)-maxSlips)
		slips = slips[:maxSlips]
	}
	d.warning("list-entries", "write the bare name, glob or UUID, one a line, in "+d.Path(hostpath.List),
		"entries that would protect only a domain of that very name: %s%s", strings.Join(slips, "; "), more)
}

// entryOf gives what a line of the list holds without its comment.
func entryOf(line string) string {
	for i := range len(line) {
		if line[i] == '#' && (i == 0 || strings.TrimSpace(line[i-1:i]) == "") {
			line = line[:i]
			break
		}
	}
	return strings.TrimSpace(line)
}

const quotes = "\"'`“”„‘’‚«»"

var (
	// Five groups of about the lengths that a UUID's have, of digits and letters: an O for a 0, too.
	grouped = regexp.MustCompile(`^[0-9A-Za-z]{7,9}(-[0-9A-Za-z]{3,5}){3}-[0-9A-Za-z]{11,13}$`)
	hexes   = regexp.MustCompile(`^[0-9A-Fa-f-]+$`)
)

// slipIn says what an entry looks like that it is not, or "".
func slipIn(entry string) string {
	bare := strings.TrimPrefix(strings.ToLower(strings.Trim(entry, "{}")), "urn:uuid:")
	digits := len(bare) - strings.Count(bare, "-")
	isHex := hexes.MatchString(bare)
	switch {
	case strings.Trim(entry, quotes) != entry:
		return "where a quote is part of the name"
	case strings.HasPrefix(entry, "!"):
		return "which leaves nothing out"
	case strings.HasPrefix(entry, "- "), strings.HasSuffix(entry, ","), strings.HasSuffix(entry, ";"):
		return "where the mark is part of the name"
	case isHex && digits == 32 && len(bare) == len(entry):
		return ""
	case isHex && digits == 32:
		return "a UUID with something around it"
	case isHex && (digits == 31 || digits == 33):
		return fmt.Sprintf("almost a UUID, with %d digits in place of 32", digits)
	case grouped.MatchString(bare):
		return "almost a UUID"
	}
	return ""
}
