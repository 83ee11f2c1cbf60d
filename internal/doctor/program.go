package doctor

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"

	"github.com/stopguard/stopguard/internal/host"
)

// checkProgram checks a program that the hook runs. The findings' IDs begin with id. otherwise is
// the cure if the program does not come from a package.
func (d *doctor) checkProgram(ctx context.Context, id, program, otherwise string) {
	file := d.Path(program)
	cure := func() string { return d.reinstallHint(program, otherwise) }
	severity, effect := severityFailure, "every stop is refused"
	if id == "thin" { // without it, the front runs the full program
		severity, effect = severityWarning, "it is not used"
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrPermission):
		d.unknown(id, "run it as root", "%s cannot be looked at", file)
		return
	case err != nil:
		if to, err := os.Readlink(file); err == nil {
			d.add(severity, id, cure(), "%s leads to %s, which is missing: %s", file, to, effect)
			return
		}
		d.add(severity, id, cure(), "%s is missing: %s", file, effect)
		return
	case !info.Mode().IsRegular():
		d.add(severity, id, cure(), "%s is not a regular file: %s", file, effect)
		return
	case info.Size() == 0:
		d.add(severity, id, cure(), "%s is empty: %s", file, effect)
		return
	case info.Mode()&0o111 == 0:
		d.add(severity, id, "chmod 0755 "+file, "%s is not executable: %s", file, effect)
		return
	}
	d.ok(id, "%s", file)
	d.checkPlace(id+"-place", program, otherwise)
	begins, err := d.Beginning(program)
	if err != nil {
		d.unknown(id+"-machine", "run it as root", "%v", err)
		return
	}
	if script := bytes.HasPrefix(begins, []byte("#!")); !script { // the front also runs scripts
		if what := host.ProgramFault(file); what != "" {
			d.failure(id+"-machine", cure(), "%s %s: every stop is refused", file, what)
			return
		}
	}
	d.ok(id+"-machine", "this machine can run it")
	switch built, known := host.BuiltWith(file); {
	case built:
		d.ok(id+"-library", "it is made with stopguard")
	case known:
		d.failure(id+"-library", cure(), "%s is not made with stopguard: what it does is not known here", file)
	default:
		d.unknown(id+"-library", "ask who installed it", "what %s is made with cannot be told", file)
	}
	// Otherwise root would run a program that others can change.
	if !d.checkOwner(id+"-owner", program) {
		return
	}
	if what := d.Probe(ctx, d.patience, file); what != "" {
		d.failure(id+"-starts", cure(), "%s, run for an operation that it has nothing to do for, %s", file, what)
		return
	}
	d.ok(id+"-starts", "it does")
}

// installedAt has the targets of the links that the command install and the package make. A program
// elsewhere belongs to the site.
var installedAt = map[string]string{host.HookLink: host.HookProgram, host.ThinLink: host.ThinProgram}

// checkPlace checks whether the installed program is the one that runs.
func (d *doctor) checkPlace(id, program, otherwise string) {
	target := installedAt[program]
	cure := func() string { return d.reinstallHint(program, "move it away, and then: "+otherwise) }
	link, linked := os.Readlink(d.Path(program))
	own, err := os.Stat(d.Path(program))
	installed, missing := os.Stat(d.Path(target))
	switch {
	case program == host.PreviousHook:
		d.warning(id, "stopguard check --load, correct what it says, and then: sh "+host.PackagedHookFile+" place",
			"the hook runs %s, the version before: the one that is installed refused this host's policy, or could not be asked", d.Path(program))
	case target == "":
		d.ok(id, "it is the site's own")
	case err == nil && missing == nil && os.SameFile(own, installed):
		d.ok(id, "it is in %s", d.Path(path.Dir(target)))
	case linked == nil:
		d.warning(id, cure(), "%s leads to %s, and not to %s, where it is installed", d.Path(program), link, d.Path(target))
	case missing == nil:
		d.warning(id, cure(), "%s is a file, and not a link to %s: what is installed there does not run", d.Path(program), d.Path(target))
	default:
		d.ok(id, "it is where older versions installed it")
	}
}
