// The host, which the page knows by the tool's JSON alone. The tool runs with the rights of who is
// logged in; arguments are passed as an array, and never through a shell.
/* global cockpit */

const program = "/usr/sbin/stopguard";

// run runs the tool. It resolves to its output and exit code, also if it failed. asUser says that
// it runs as the user even if administrative access is on: who asks for a ticket is that user. With
// take, each piece of the output goes there.
function run(args, { asUser, take } = {}) {
    return new Promise(resolve => {
        let out = "";
        cockpit.spawn([program, ...args], { superuser: asUser ? null : "try", err: "message" })
                .stream(take || (data => { out += data }))
                .then((_, message) => resolve({ ok: true, out, err: message || "" }),
                      error => resolve({ ok: false, out, err: describe(error), problem: error.problem }));
    });
}

function describe(error) {
    if (error.problem === "not-found")
        return program + " is not there; install the package stopguard";
    return error.message || error.problem || "the command failed with code " + error.exit_status;
}

// lines returns the tool's messages, without its name in front of them.
export function lines(text) {
    return text.split("\n").map(l => l.replace(/^stopguard: /, "")).filter(Boolean);
}

// read runs a command that prints JSON. It resolves to {value, problems}; value is null if there is
// no JSON. A command may print JSON and fail, for a part that it could not find out about.
async function read(args) {
    const { ok, out, err } = await run(args);
    try {
        return { value: JSON.parse(out), problems: ok ? [] : lines(err) };
    } catch {
        return { value: null, problems: lines(err || "the output of stopguard " + args[0] + " cannot be read; update the package") };
    }
}

// act runs a command that changes something. It resolves to the lines that it printed, and rejects
// with those of its failure.
async function act(args, asUser) {
    const { ok, out, err } = await run(args, { asUser });
    if (!ok)
        throw lines(err || out);
    return { said: lines(out), warned: lines(err) };
}

const libvirt = "--connect=qemu:///system";

export const domains = () => read(["check", "-o", "json", "--read-only"]);
export const status = () => read(["status", "-o", "json"]);
export const doctor = () => read(["doctor", "-o", "json"]);
export const tickets = () => read(["ticket", "list", "-o", "json"]);

// records resolves to the decisions since a time, such as 24h or an RFC 3339 time. Their inputs are
// most of what the tool prints, and are dropped line by line.
export async function records(since) {
    const value = [];
    let rest = "";
    const { ok, err } = await run(["log", "-o", "json", "--since=" + since], {
        take: data => {
            const whole = (rest + data).split("\n");
            rest = whole.pop();
            for (const line of whole) {
                const { decision_id: id, timestamp, result } = JSON.parse(line);
                value.push({ id, timestamp, ...result });
            }
        },
    });
    return { value, problems: ok ? [] : lines(err) };
}

// approvals resolves to how many other people must approve a ticket; null if that is not known.
export async function approvals(uuid, operation) {
    const { value } = await read(["check", "-o", "json", "--read-only", "--operation=" + operation, "--", uuid]);
    return value && value.domains.length ? value.domains[0].approvals || 0 : null;
}

export function protect(uuid, { reason, until, owner, operations }) {
    const args = ["protect", libvirt, "--reason=" + reason, "--until=" + until];
    if (owner)
        args.push("--owner=" + owner);
    if (operations)
        args.push("--operations=" + operations.join(","));
    return act([...args, "--", uuid]);
}

export const unprotect = uuid => act(["unprotect", libvirt, "--", uuid]);

export const grant = (uuid, t) => act(["ticket", "grant", "--reason=" + t.reason, "--for=" + t.lasts, "--operation=" + t.operation, "--", uuid]);
export const request = (uuid, t) => act(["ticket", "request", "--reason=" + t.reason, "--for=" + t.lasts, "--operation=" + t.operation, "--", uuid], true);
export const approve = id => act(["ticket", "approve", "--", id], true);
export const reject = id => act(["ticket", "reject", "--", id], true);
export const revoke = id => act(["ticket", "revoke", "--", id]);

// user resolves to the name of who is logged in.
export const user = () => cockpit.user().then(u => u.name, () => "");

// isHidden reports whether the page is not visible, because Cockpit or the browser shows another.
export const isHidden = () => document.hidden || cockpit.hidden;

// onVisible calls f whenever the page is seen again.
export function onVisible(f) {
    cockpit.addEventListener("visibilitychange", () => isHidden() || f());
}

// onAdmin calls f with whether administrative access is on, now and whenever that changes; null if
// it is not known yet.
export function onAdmin(f) {
    const permission = cockpit.permission({ admin: true });
    permission.addEventListener("changed", () => f(permission.allowed));
    f(permission.allowed);
}
