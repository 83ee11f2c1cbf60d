package virsh

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/problem"
	"github.com/stopguard/stopguard/internal/protection"
)

// virshPatience bounds the wait for a daemon that does not answer.
const virshPatience = 30 * time.Second

// A Client runs virsh, without a shell.
type Client struct{ connect string }

// ConnectFlag adds virsh's option --connect to a command.
func (v *Client) ConnectFlag(c *cobra.Command) {
	c.Flags().StringVarP(&v.connect, "connect", "c", "", "libvirt to connect to (default: virsh's own)")
	_ = c.RegisterFlagCompletionFunc("connect", cobra.FixedCompletions([]cobra.Completion{"qemu:///system", "qemu:///session"}, cobra.ShellCompDirectiveNoFileComp))
}

func (v Client) run(ctx context.Context, args ...string) (string, error) {
	path, err := exec.LookPath("virsh")
	if err != nil {
		return "", errors.New("virsh is not on the PATH; install it: libvirt-clients on Debian, libvirt-client on Fedora")
	}
	command := args[0]
	if v.connect != "" {
		args = append([]string{"--connect=" + v.connect}, args...)
	}
	ctx, cancel := context.WithTimeout(ctx, virshPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, append([]string{"--quiet"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C") // the output is parsed
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("virsh %s did not answer (%w); look at libvirt's daemon", command, ctx.Err())
	case err != nil:
		return "", &Error{command: command, text: problem.OneLine(stderr.String()), err: err}
	}
	return stdout.String(), nil
}

// An Error is a failure of virsh, with its output.
type Error struct {
	command string
	text    string
	err     error
}

func (e *Error) Error() string {
	if _, veto, refused := strings.Cut(e.text, "stopguard: veto: "); refused {
		// The gate is between virsh and libvirt. The tool only changes metadata by virsh.
		return "the gate refuses it: " + veto + "; to do it nevertheless: stopguard ticket grant NAME --operation modify --reason TEXT, and then this again"
	}
	return fmt.Sprintf("virsh %s: %s (%v); correct this and try again", e.command, strings.TrimPrefix(e.text, "error: "), e.err)
}

// Is reports whether the error is fs.ErrPermission: libvirt, and not the gate, refused the user.
func (e *Error) Is(target error) bool {
	return target == fs.ErrPermission && !strings.Contains(e.text, "stopguard: ") &&
		(strings.Contains(e.text, "Permission denied") || strings.Contains(e.text, "authentication unavailable"))
}

// Refused returns the command that libvirt refused, and virsh's error.
func (e *Error) Refused() string {
	return fmt.Sprintf("virsh %s: %s", e.command, strings.TrimPrefix(e.text, "error: "))
}

// A Target is a domain whose metadata is written, and the places of the metadata.
type Target struct {
	Name, UUID   string
	Live, Config bool
	Saved        bool // it has a managed save with the marks of that time, and starts from it
}

// Where returns the places of the metadata, as options of virsh.
func (t Target) Where() []string {
	var where []string
	if t.Live {
		where = append(where, "--live")
	}
	if t.Config {
		where = append(where, "--config")
	}
	return where
}

// WhereText returns the places for people.
func (t Target) WhereText() string {
	switch {
	case !t.Config:
		return "in the running domain only: it is transient, and its definition ends with it"
	case !t.Live:
		return "in its stored definition; it does not run"
	}
	return "in the running domain and in its stored definition"
}

// Find returns the domain with a name or UUID. virsh prefers to read a number as a running domain's
// ID. So Find returns an error if the domain has another name.
func (v Client) Find(ctx context.Context, name string) (Target, error) {
	info, err := v.run(ctx, "dominfo", "--domain="+name)
	if err != nil {
		return Target{}, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); ok {
			fields[key] = strings.TrimLeft(value, " ")
		}
	}
	t := Target{
		Name:   fields["Name"],
		UUID:   strings.ToLower(fields["UUID"]),
		Live:   fields["Id"] != "-",
		Config: fields["Persistent"] == "yes",
		Saved:  fields["Managed save"] == "yes",
	}
	switch {
	case t.UUID == "" || t.Name == "" || fields["Id"] == "" || fields["Persistent"] == "":
		return Target{}, errors.New("virsh dominfo says neither UUID nor whether the domain runs; look at virsh dominfo")
	case name != t.Name && !strings.EqualFold(name, t.UUID):
		return Target{}, fmt.Errorf("virsh takes %s for the number of domain %s; give the UUID instead", name, t.Name)
	}
	return t, nil
}

// Names returns the names of all domains, including those that are off.
func (v Client) Names(ctx context.Context) ([]string, error) {
	text, err := v.run(ctx, "list", "--all", "--name")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(text) {
		if name := strings.TrimSuffix(line, "\n"); name != "" {
			names = append(names, name)
		}
	}
	return names, nil
}

// markPrefix is the XML namespace prefix that a protection mark is stored with.
const markPrefix = "p"

// A Mark is a domain's protection mark.
type Mark struct {
	XMLName xml.Name `xml:"protection"`
	Reason  string   `xml:"reason,attr"`
	Owner   string   `xml:"owner,attr,omitempty"`
	Until   string   `xml:"until,attr"`
	Domain  string   `xml:"domain,attr"`

	// Operations are the operations that the mark names, separated by blanks. "" means a stop and a
	// delete; see package operation.
	Operations string `xml:"operations,attr,omitempty"`
}

func (m Mark) xml() (string, error) {
	text, err := xml.Marshal(m)
	return string(text), err
}

// Set sets a mark, in place of any other.
func (v Client) Set(ctx context.Context, t Target, m Mark) error {
	text, err := m.xml()
	if err != nil {
		return err
	}
	_, err = v.run(ctx, append([]string{"metadata", "--domain=" + t.UUID, "--uri=" + protection.Namespace, "--key=" + markPrefix, "--set=" + text}, t.Where()...)...)
	return err
}

// Remove removes the mark.
func (v Client) Remove(ctx context.Context, t Target) error {
	_, err := v.run(ctx, append([]string{"metadata", "--domain=" + t.UUID, "--uri=" + protection.Namespace, "--remove"}, t.Where()...)...)
	return err
}

// Marks returns the mark at each place. A place without a mark is missing from the map.
func (v Client) Marks(ctx context.Context, t Target) (map[string]Mark, error) {
	marks := map[string]Mark{}
	for _, where := range t.Where() {
		text, err := v.run(ctx, "metadata", "--domain="+t.UUID, "--uri="+protection.Namespace, where)
		var failure *Error
		isMissing := errors.As(err, &failure) && strings.Contains(failure.text, "metadata not found") ||
			err == nil && strings.TrimSpace(text) == "" // as of libvirt 11.3
		if isMissing {
			continue
		}
		if err != nil {
			return nil, err
		}
		var m Mark
		if err := xml.Unmarshal([]byte(text), &m); err != nil {
			m = Mark{} // not written by this tool
		}
		m.XMLName = xml.Name{}
		marks[where] = m
	}
	return marks, nil
}
