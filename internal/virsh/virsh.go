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

// virshPatience is for a daemon that does not answer.
const virshPatience = 30 * time.Second

// A Client asks libvirt through its own command, and no shell.
type Client struct{ connect string }

// ConnectFlag returns a command the option that virsh has.
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
	cmd.Env = append(os.Environ(), "LC_ALL=C") // its words are read
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("virsh %s did not answer (%w); look at libvirt's daemon", command, ctx.Err())
	case err != nil:
		return "", &Error{command: command, said: problem.OneLine(stderr.String()), err: err}
	}
	return stdout.String(), nil
}

// An Error is virsh's output when it failed.
type Error struct {
	command string
	said    string
	err     error
}

func (e *Error) Error() string {
	if _, veto, refused := strings.Cut(e.said, "stopguard: veto: "); refused {
		// The gate is between virsh and libvirt. All that the tool changes by virsh is metadata.
		return "the gate refuses it: " + veto + "; to do it nevertheless: stopguard ticket grant NAME --operation modify --reason TEXT, and then this again"
	}
	return fmt.Sprintf("virsh %s: %s (%v); correct this and try again", e.command, strings.TrimPrefix(e.said, "error: "), e.err)
}

// Is reports whether libvirt did not let the user in, for fs.ErrPermission.
func (e *Error) Is(target error) bool {
	return target == fs.ErrPermission && !strings.Contains(e.said, "stopguard: ") &&
		(strings.Contains(e.said, "Permission denied") || strings.Contains(e.said, "authentication unavailable"))
}

// Refused returns what libvirt did not let the user do, and its words.
func (e *Error) Refused() string {
	return fmt.Sprintf("virsh %s: %s", e.command, strings.TrimPrefix(e.said, "error: "))
}

// A Target is a domain whose metadata is written, with where it is to be written.
type Target struct {
	Name, UUID   string
	Live, Config bool
	Saved        bool // it has a managed save, from which it starts with the marks that it had then
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

// WhereText returns the places in words.
func (t Target) WhereText() string {
	switch {
	case !t.Config:
		return "in the running domain only: it is transient, and its definition ends with it"
	case !t.Live:
		return "in its stored definition; it does not run"
	}
	return "in the running domain and in its stored definition"
}

// Find looks up a domain by its name or UUID. virsh takes a number for a running domain's ID first,
// so Find distinguishes a domain whose name is a number.
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

// Names returns the names of all domains, also of those that are off.
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

	// Operations lists the operations that the mark refuses, separated by blanks; "" is a stop
	// alone.
	Operations string `xml:"operations,attr,omitempty"`
}

func (m Mark) xml() (string, error) {
	text, err := xml.Marshal(m)
	return string(text), err
}

// Set stores a mark in place of any other.
func (v Client) Set(ctx context.Context, t Target, m Mark) error {
	text, err := m.xml()
	if err != nil {
		return err
	}
	_, err = v.run(ctx, append([]string{"metadata", "--domain=" + t.UUID, "--uri=" + protection.Namespace, "--key=" + markPrefix, "--set=" + text}, t.Where()...)...)
	return err
}

func (v Client) Remove(ctx context.Context, t Target) error {
	_, err := v.run(ctx, append([]string{"metadata", "--domain=" + t.UUID, "--uri=" + protection.Namespace, "--remove"}, t.Where()...)...)
	return err
}

// Marks returns the mark at each place. A place without a mark is missing from the map.
func (v Client) Marks(ctx context.Context, t Target) (map[string]Mark, error) {
	marks := map[string]Mark{}
	for _, where := range t.Where() {
		text, err := v.run(ctx, "metadata", "--domain="+t.UUID, "--uri="+protection.Namespace, where)
		var said *Error
		isMissing := errors.As(err, &said) && strings.Contains(said.said, "metadata not found") ||
			err == nil && strings.TrimSpace(text) == "" // as of libvirt 11.3
		if isMissing {
			continue
		}
		if err != nil {
			return nil, err
		}
		var m Mark
		if err := xml.Unmarshal([]byte(text), &m); err != nil {
			m = Mark{} // it belongs to something else
		}
		m.XMLName = xml.Name{}
		marks[where] = m
	}
	return marks, nil
}
