package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/stopguard/stopguard/hookproto"
	"github.com/stopguard/stopguard/internal/definition"
	"github.com/stopguard/stopguard/internal/host"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
)

// Severities, as monitoring plugins have them.
const (
	severityOK      = "ok"
	severityWarning = "warning" // something is not protected, not recorded, or not as it should be
	severityFailure = "failure" // stops are decided wrongly, or not by stopguard at all
	severityUnknown = "unknown" // the check could not be made
)

// exitCodes are the exit codes of monitoring plugins.
var exitCodes = map[string]int{severityOK: 0, severityWarning: 1, severityFailure: 2, severityUnknown: 3}

// A finding is the result of one check. Its ID stays the same in all versions.
type finding struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	What     string `json:"what"`
	Cure     string `json:"cure,omitempty"` // the action to take; "" if nothing is to be done
}

// A report is doctor's JSON output.
type report struct {
	CallsStop host.Answer `json:"calls_stop"` // whether this libvirt calls the stop hook: yes, no or unknown
	Why       string      `json:"why"`        // the evidence for it
	Severity  string      `json:"severity"`   // of the worst finding
	Findings  []finding   `json:"findings"`
	host.Enforcement
}

// doctorError makes the tool exit with the code of the worst severity. Its findings are printed
// already.
type doctorError struct{ severity string }

func (e *doctorError) Error() string { return "doctor: " + e.severity }

// ExitCode returns 1 for warnings and 2 for failures. It returns 3 if there are neither and a
// finding is unknown.
func (e *doctorError) ExitCode() int { return exitCodes[e.severity] }

// Command returns the command doctor.
func Command() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:     "doctor",
		Short:   "Tell whether the guard works on this host, and what to do if not",
		Example: "  stopguard doctor\n  stopguard doctor -o json",
		Long: `Tell whether the guard works on this host, and what to do if not.

It changes nothing. Exit codes are those of monitoring plugins: 0 all is well,
1 warnings, 2 failures, 3 something cannot be known. With STOPGUARD_ROOT, the
host's /proc and /sys are looked for below it too.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SilenceUsage, cmd.SilenceErrors = true, true
			if output != "table" && output != "json" {
				return cli.Usage("-o is table or json, not %q", output)
			}
			h, err := host.This()
			if err != nil {
				return err
			}
			return (&doctor{Host: h, free: free, sockets: unixSockets, patience: probeTime}).run(cmd.Context(), cmd.OutOrStdout(), output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	cli.CompleteFlag(cmd, "output", "table", "json")
	return cmd
}

// A doctor examines one host.
type doctor struct {
	host.Host
	free func(path string) (uint64, error) // bytes that can still be written

	sockets func() ([]hookproto.UnixSocket, error) // of this network namespace

	patience time.Duration // timeout of a hook program that has nothing to do

	findings  []finding
	processes host.Processes
	hooks     []host.Hook
	defined   []definition.Definition // those that can be read
}

func (d *doctor) run(ctx context.Context, out io.Writer, output string) error {
	if ctx == nil {
		ctx = context.Background()
	}
	r := d.examine(ctx)
	if output == "json" {
		if err := terminal.WriteJSON(out, r); err != nil {
			return err
		}
	} else if err := r.print(out); err != nil {
		return err
	}
	if r.Severity == severityOK {
		return nil
	}
	return &doctorError{r.Severity}
}

// examine makes all findings, in the order in which an operator would mend them.
func (d *doctor) examine(ctx context.Context) report {
	d.checkSystemd()
	d.processes = d.Host.Processes()
	d.hooks = d.Host.Hooks()
	calls, why := d.stopOperation()
	if main, ok := d.installed(); ok {
		if program := d.checkHook(ctx, main); program != "" {
			d.checkProgram(ctx, "program", program, "stopguard install --hook FILE")
			if thin := program + "-thin"; d.Exists(thin) {
				d.checkProgram(ctx, "thin", thin, "stopguard install --hook FILE --thin FILE, or remove it")
			}
			d.checkAppArmor(main, program)
		}
		d.checkReads(main)
		d.checkSELinux(main)
		d.checkNoticed()
	}
	d.checkLeftovers()
	d.checkOtherHooks()
	d.checkDispatcher()
	d.readDefinitions()
	d.checkFleet(ctx, d.checkPolicy(ctx))
	d.checkTickets()
	d.checkRecords()
	d.checkState()
	d.checkHusks()
	d.checkShutdown()
	d.checkSessions()
	d.checkGate(ctx)
	return report{calls, why, worst(d.findings), d.findings, d.Host.Enforcement(host.OperationStop)}
}

func (d *doctor) add(severity, id, cure, format string, args ...any) {
	d.findings = append(d.findings, finding{ID: id, Severity: severity, What: fmt.Sprintf(format, args...), Cure: cure})
}

func (d *doctor) ok(id, format string, args ...any) { d.add(severityOK, id, "", format, args...) }

func (d *doctor) warning(id, cure, format string, args ...any) {
	d.add(severityWarning, id, cure, format, args...)
}

func (d *doctor) failure(id, cure, format string, args ...any) {
	d.add(severityFailure, id, cure, format, args...)
}

func (d *doctor) unknown(id, cure, format string, args ...any) {
	d.add(severityUnknown, id, cure, format, args...)
}

// addError adds a finding from an error of the form "what is wrong; what to do". It adds a
// permission error as unknown.
func (d *doctor) addError(severity, id string, err error) {
	if os.Geteuid() != 0 && errors.Is(err, fs.ErrPermission) {
		d.unknown(id, "run it as root", "%v", err)
		return
	}
	what, cure, _ := strings.Cut(err.Error(), "; ")
	if cure == "" {
		cure = "correct this"
	}
	d.add(severity, id, cure, "%s", what)
}

// worst returns the worst severity. A failure or a warning counts more than an unknown finding.
func worst(findings []finding) string {
	for _, severity := range []string{severityFailure, severityWarning, severityUnknown} {
		for _, f := range findings {
			if f.Severity == severity {
				return severity
			}
		}
	}
	return severityOK
}

// probeTime is longer than a hook may ever run, because every client of libvirt waits for it.
const probeTime = 5 * time.Second

// The table's columns: severity and ID, before the text.
const (
	severityColumn = 9
	idColumn       = 19
)

func (r report) print(out io.Writer) error {
	var b strings.Builder
	for _, line := range terminal.Wrap("Does this libvirt call the stop hook? "+strings.ToUpper(string(r.CallsStop))+": "+r.Why, terminal.Width) {
		b.WriteString(line + "\n")
	}
	b.WriteString("\n")
	count := map[string]int{}
	for _, f := range r.Findings {
		count[f.Severity]++
		indent := fmt.Sprintf("%-*s%-*s", severityColumn, f.Severity, idColumn, f.ID)
		for _, line := range terminal.Wrap(f.What, terminal.Width-severityColumn-idColumn) {
			b.WriteString(indent + line + "\n")
			indent = strings.Repeat(" ", severityColumn+idColumn)
		}
		arrow := "-> "
		for _, line := range terminal.Wrap(f.Cure, terminal.Width-severityColumn-idColumn-len(arrow)) {
			b.WriteString(indent + arrow + line + "\n")
			arrow = "   "
		}
	}
	fmt.Fprintf(&b, "\nfailures: %d, warnings: %d, unknown: %d, ok: %d\n",
		count[severityFailure], count[severityWarning], count[severityUnknown], count[severityOK])
	_, err := io.WriteString(out, b.String())
	return err
}

func free(path string) (uint64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, err
	}
	if s.Files > 0 && s.Ffree == 0 {
		return 0, nil
	}
	return s.Bavail * uint64(s.Bsize), nil
}
