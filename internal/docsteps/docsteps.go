// Package docsteps reads the steps of a document for tests that follow it: files to write, and
// commands to run with the output that the document shows.
package docsteps

import (
	"regexp"
	"strings"
)

// A Step is a file to write, a command to run, or a block that is neither.
type Step struct {
	Line    int    // line in the document, from 1
	Section string // the text of the heading above

	Language string // of the block
	File     string // the name behind the language; the block is this file
	Content  string // of the file, or of a block that is neither

	Command string
	Output  string // in a block of the language console, the lines below the command
}

var here = regexp.MustCompile(`<<'?([A-Z]+)'?`)

// Parse returns the steps of a Markdown document, in order. A block whose fence has a file name
// behind the language is that file. A block of the language console has commands behind "$ ", each
// with its output. A block of the language sh has only commands. A command may continue over lines,
// by a backslash or a here-document.
func Parse(document string) []Step {
	var steps []Step
	var section, fence string
	inBlock := false
	end := "" // of the here-document
	open := false
	for i, line := range strings.Split(document, "\n") {
		info, isFence := strings.CutPrefix(line, "```")
		last := len(steps) - 1
		switch {
		case isFence && !inBlock:
			inBlock, fence = true, info
			language, file, _ := strings.Cut(info, " ")
			if isCommands(info) {
				continue
			}
			steps = append(steps, Step{Line: i + 1, Section: section, Language: language, File: file})
		case isFence:
			inBlock, open, end = false, false, ""
		case !inBlock && strings.HasPrefix(line, "#"):
			section = strings.TrimLeft(line, "# ")
		case !inBlock:
		case !isCommands(fence):
			steps[last].Content += line + "\n"
		case open:
			steps[last].Command += "\n" + line
			open, end = continues(line, end)
		default:
			command, isCommand := strings.CutPrefix(line, "$ ")
			switch {
			case fence == "console" && !isCommand:
				if last >= 0 {
					steps[last].Output += line + "\n"
				}
			case strings.TrimSpace(command) != "" && !strings.HasPrefix(command, "#"):
				steps = append(steps, Step{Line: i + 1, Section: section, Language: fence, Command: command})
				open, end = continues(command, "")
			}
		}
	}
	return steps
}

func isCommands(fence string) bool { return fence == "sh" || fence == "console" }

// continues reports whether a command continues behind a line. It also returns the line that ends
// the here-document.
func continues(line, end string) (bool, string) {
	if end != "" {
		return line != end, end
	}
	if m := here.FindStringSubmatch(line); m != nil {
		return true, m[1]
	}
	return strings.HasSuffix(line, `\`), ""
}

// IsRefused reports whether the document shows that the command fails: by an error of virsh, a
// line of stopguard's, or a failed check.
func (s Step) IsRefused() bool {
	return regexp.MustCompile(`(?m)^(FAIL|stopguard: |error: )`).MatchString(s.Output)
}

// Matches reports whether an output is the one that the document shows. In the document, "..."
// stands for any text, and as a line for any lines. Empty lines at the end are ignored.
func (s Step) Matches(output string) bool {
	parts := strings.Split(endOnce(s.Output), "...")
	for i, part := range parts {
		if i > 0 {
			part = strings.TrimPrefix(part, "\n")
		}
		parts[i] = regexp.QuoteMeta(part)
	}
	return regexp.MustCompile(`^(?s:` + strings.Join(parts, "(?:.*)") + `)$`).MatchString(endOnce(output))
}

// endOnce returns a text with exactly one line feed behind its last line.
func endOnce(s string) string {
	if s = strings.TrimRight(s, "\n"); s != "" {
		s += "\n"
	}
	return s
}
