package policy

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"testing/fstest"
	"time"

	"github.com/spf13/cobra"

	"github.com/stopguard/stopguard/internal/recorded"
	"github.com/stopguard/stopguard/internal/sitetest"
	"github.com/stopguard/stopguard/internal/terminal"
	"github.com/stopguard/stopguard/internal/tool/cli"
	"github.com/stopguard/stopguard/internal/tool/domains"
	"github.com/stopguard/stopguard/internal/tool/explanation"
	"github.com/stopguard/stopguard/policy"
	"github.com/stopguard/stopguard/policy/record"
)

func newEval() *cobra.Command {
	var o evalOptions
	c := &cobra.Command{
		Use:   "eval [DIR] --xml FILE",
		Short: "Show how a policy decides about a domain, and why",
		Long: `Show how a policy decides about a domain: the decision, each rule's reasons,
the lines that they are written in, and what was read.

The domain is what the file describes, as of virsh dumpxml; - is stdin. It is
taken to run alone on its host. --set changes the rest of the input, or a
setting, by its path as rules write it; the value is JSON, or else a text:

  input.time=2026-12-24T18:00:00Z       when it is asked
  input.domain.state=paused             also reason and job
  input.caller.user=alice               also uid, login_uid, gid, groups, pid
                                        and read_only
  input.request.procedure=domain_reset  also flags, command and destination
  input.host.name=kvm-07
  data.site.gpu.devices='["0000:65:00.0"]'

Exit codes: 0 decided, 1 not, 2 a wrong command line.`,
		Example: `  virsh dumpxml pg-01 | stopguard policy eval my-policy --xml -
  stopguard policy eval --xml pg-01.xml --operation reset \
    --set input.caller.groups='["dba"]'`,
		Args: oneFolder,
		RunE: func(c *cobra.Command, args []string) error {
			if o.output != "text" && o.output != "json" {
				return cli.Usage("-o %q is unknown; write text or json", o.output)
			}
			if err := cli.CheckOperation(&o.operation); err != nil {
				return err
			}
			return o.eval(c, args)
		},
		ValidArgsFunction: completeFolder,
	}
	c.Flags().StringVar(&o.file, "xml", "", "file with the domain's XML; - for stdin")
	c.Flags().StringArrayVar(&o.sets, "set", nil, "PATH=VALUE of the input or the settings")
	c.Flags().StringVarP(&o.output, "output", "o", "text", "text or json")
	cli.OperationFlag(c, &o.operation)
	cli.Required(c, "xml")
	cli.CompleteFlag(c, "output", "text", "json")
	cli.CompleteFlagBy(c, "set", func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		var paths []cobra.Completion
		for path := range inputFields(&policy.Input{}) {
			paths = append(paths, path+"=")
		}
		slices.Sort(paths)
		return append(paths, "data.site."), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	})
	return c
}

// evalOptions are the options of the command eval.
type evalOptions struct {
	operation string
	file      string   // file with the domain's XML
	sets      []string // PATH=VALUE
	output    string
}

func (o evalOptions) eval(c *cobra.Command, args []string) error {
	p, err := open(args)
	if err != nil {
		return err
	}
	s := domains.OfFiles([]string{o.file}, c.InOrStdin())[0]
	if s.Err != nil {
		return s.Err
	}
	in := sitetest.Input(s.Domain, time.Now().UTC())
	in.Operation = o.operation
	files, err := sitetest.ReadFolder(p.policy)
	if err != nil {
		return fmt.Errorf("%w; make it readable", err)
	}
	sites, err := apply(o.sets, &in, []policy.Site{{FS: files, Name: p.policy}}, files)
	if err != nil {
		return err
	}
	engine, err := policy.New(c.Context(), policy.Config{Sites: sites})
	if err != nil {
		return err
	}
	x, err := engine.Explain(c.Context(), in)
	if err != nil {
		return err
	}
	for _, warning := range engine.Warnings() {
		cli.Warn(c, "%v", warning)
	}
	if o.output == "json" {
		return writeEvalJSON(c.OutOrStdout(), in, x)
	}
	return writeEval(c.OutOrStdout(), in, x, sourceOf(p.policy, files))
}

// sourceOf returns a function that returns lines of the policy's files.
func sourceOf(folder string, files fstest.MapFS) func(string, int) string {
	return func(file string, line int) string {
		name, ok := strings.CutPrefix(file, path.Clean(folder)+"/")
		if !ok && folder == "." {
			name, ok = file, true
		}
		f := files[name]
		if !ok || f == nil {
			return ""
		}
		lines := strings.Split(string(f.Data), "\n")
		if line < 1 || line > len(lines) {
			return ""
		}
		return lines[line-1]
	}
}

func writeEval(out io.Writer, in policy.Input, x policy.Explanation, source func(string, int) string) error {
	colour := terminal.PaintFor(out)
	outcome := x.Decision.Outcome.String()
	answer := map[string]string{"allow": "may be", "veto": "may not be"}[outcome]
	fmt.Fprintf(out, "%s %s %s: %s\n", terminal.Clean(in.Domain.Name), answer, cli.Operated[in.Operation], colour.Outcome(outcome, outcome))
	if x.Decision.Unenforced != "" {
		fmt.Fprintf(out, "no rule is enforced: %s\n", x.Decision.Unenforced)
	}
	explanation.Write(out, x, source)
	return nil
}

// evalJSON is the JSON of policy eval.
type evalJSON struct {
	Name       string             `json:"name"`
	UUID       string             `json:"uuid"`
	Operation  string             `json:"operation"`
	Time       time.Time          `json:"time"`
	Outcome    string             `json:"outcome"`
	Reasons    []record.Reason    `json:"reasons"`
	Monitored  []record.Reason    `json:"monitored"`
	Unenforced string             `json:"unenforced,omitempty"`
	Rules      []explanation.Rule `json:"rules"`
}

func writeEvalJSON(out io.Writer, in policy.Input, x policy.Explanation) error {
	d := x.Decision
	return terminal.WriteJSON(out, evalJSON{
		Name: in.Domain.Name, UUID: in.Domain.UUID, Operation: in.Operation, Time: in.Time.Truncate(time.Second),
		Outcome: d.Outcome.String(), Reasons: recorded.Reasons(d.Reasons), Monitored: recorded.Reasons(d.Monitored),
		Unenforced: d.Unenforced, Rules: explanation.Rules(x),
	})
}

// apply applies the values of --set to the input, and returns the sites with the changed settings.
func apply(sets []string, in *policy.Input, sites []policy.Site, files fstest.MapFS) ([]policy.Site, error) {
	var settings map[string]any
	for _, set := range sets {
		at, text, ok := strings.Cut(set, "=")
		if !ok {
			return nil, cli.Usage("--set %s has no value; write PATH=VALUE", set)
		}
		if setting, ok := strings.CutPrefix(at, "data.site."); ok {
			if settings == nil {
				var err error
				if settings, err = policy.ReadSettings(sites); err != nil {
					return nil, err
				}
			}
			if err := setSetting(settings, strings.Split(setting, "."), valueOf(text)); err != nil {
				return nil, cli.Usage("--set %s: %v", at, err)
			}
			continue
		}
		field, ok := inputFields(in)[at]
		if !ok {
			return nil, cli.Usage("--set %s is not there; write data.site and a setting, or one of %s", at, strings.Join(slices.Sorted(maps.Keys(inputFields(in))), ", "))
		}
		// A text may be written without quotes.
		if json.Unmarshal([]byte(text), field) != nil {
			quoted, err := json.Marshal(text)
			if err == nil {
				err = json.Unmarshal(quoted, field)
			}
			if err != nil {
				return nil, cli.Usage("--set %s: %q is not a value of this field; write it as JSON", at, text)
			}
		}
	}
	in.State.Unknown = in.State.State == "" && in.State.Reason == "" && in.State.Job == ""
	if settings == nil {
		return sites, nil
	}
	content, err := json.Marshal(settings)
	if err != nil {
		return nil, err
	}
	rest := maps.Clone(files)
	for name := range rest {
		if base := path.Base(name); base == "data.yaml" || base == "data.json" {
			delete(rest, name)
		}
	}
	name := sites[0].Name
	return []policy.Site{
		{FS: rest, Name: name},
		{FS: fstest.MapFS{"site/data.json": &fstest.MapFile{Data: content}}, Name: name + " with --set"},
	}, nil
}

// inputFields returns the fields of the input that --set can change, by their paths.
func inputFields(in *policy.Input) map[string]any {
	if in.Caller == nil {
		in.Caller = &policy.Caller{UID: policy.UnknownID, LoginUID: policy.UnknownID, GID: policy.UnknownID}
	}
	return map[string]any{
		"input.time":                &in.Time,
		"input.host.name":           &in.Host.Name,
		"input.domain.state":        &in.State.State,
		"input.domain.reason":       &in.State.Reason,
		"input.domain.job":          &in.State.Job,
		"input.caller.uid":          &in.Caller.UID,
		"input.caller.login_uid":    &in.Caller.LoginUID,
		"input.caller.user":         &in.Caller.User,
		"input.caller.gid":          &in.Caller.GID,
		"input.caller.groups":       &in.Caller.Groups,
		"input.caller.pid":          &in.Caller.PID,
		"input.caller.read_only":    &in.Caller.ReadOnly,
		"input.caller.unit":         &in.Caller.Unit,
		"input.caller.executable":   &in.Caller.Executable,
		"input.request.procedure":   &in.Request.Procedure,
		"input.request.flags":       &in.Request.Flags,
		"input.request.command":     &in.Request.Command,
		"input.request.destination": &in.Request.Destination,
	}
}

// valueOf returns the value of a text in JSON, or else the text itself.
func valueOf(text string) any {
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return text
	}
	return value
}

func setSetting(settings map[string]any, path []string, value any) error {
	for _, key := range path[:len(path)-1] {
		child, ok := settings[key].(map[string]any)
		if !ok {
			if _, exists := settings[key]; exists {
				return fmt.Errorf("%s is not an object; set it as a whole", key)
			}
			child = map[string]any{}
			settings[key] = child
		}
		settings = child
	}
	settings[path[len(path)-1]] = value
	return nil
}
