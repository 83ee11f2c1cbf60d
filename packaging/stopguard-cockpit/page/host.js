// The host, which the page knows by the tool's JSON alone. The tool runs with the rights of who is
// logged in; arguments are passed as an array, and never through a shell.
/* global cockpit */

const program = "/usr/sbin/stopguard";

// How long a command may be silent, in milliseconds: after that it is ended. One that changes
// something waits for libvirt and for the agent.
const patience = { read: 60000, act: 120000 };

// run runs the tool. It resolves to its output and exit code, also if it failed. asUser says that
// it runs as the user even if administrative access is on: who asks for a ticket is that user. With
// take, each piece of the output goes there.
function run(args, { asUser, take, wait = patience.read } = {}) {
    return new Promise(resolve => {
        let out = "";
        const command = cockpit.spawn([program, ...args], { superuser: asUser ? null : "try", err: "message" });
        let timer = null;
        const expect = () => {
            clearTimeout(timer);
            timer = setTimeout(() => command.close("timeout"), wait);
        };
        const end = result => {
            clearTimeout(timer);
            resolve(result);
        };
        expect();
        command
                .stream(data => {
                    expect();
                    if (take)
                        take(data);
                    else
                        out += data;
                })
                .then((_, message) => end({ ok: true, out, err: message || "" }),
                      error => end({ ok: false, out, err: describe(error, wait), code: error.exit_status, isLost: Boolean(error.exit_signal) || lost.includes(error.problem) }));
    });
}

// lost are problems of Cockpit's that leave open what became of a command. The end of the connection
// is Cockpit's shell to say, which lies over the page then.
const lost = ["timeout", "disconnected", "terminated"];

function describe(error, wait) {
    if (error.exit_signal)
        return `${program} was ended by the signal ${error.exit_signal}`;
    switch (error.problem) {
    case "not-found":
        return program + " is not there; install the package stopguard";
    case "timeout":
        return `${program} has said nothing for ${wait / 1000} seconds, and was ended; look at libvirt's daemon and at stopguard doctor`;
    case "disconnected":
    case "terminated":
        return "the connection to the host has ended; log in again";
    }
    return error.message || error.problem || "the command failed with code " + error.exit_status;
}

// lines returns the tool's messages, without its name in front of them.
export function lines(text) {
    return text.split("\n").map(l => l.replace(/^stopguard: /, "")).filter(Boolean);
}

// A shape is an example of what the page reads of a value: each field of an object, and the first
// element of a list for all of them. Other fields may be there.
const reasons = [{ rule: "", message: "" }];
const shapes = {
    check: {
        domains: [{ name: "", uuid: "", outcome: "", reasons, monitored: reasons }],
        marks_gone: [{ name: "", message: "" }],
        enforced_by: [""],
    },
    status: {
        enforced: true, enforced_by: [""], switched_off: [""], hook: {}, gate: {}, agent: {},
        libvirt: { daemons: [{ name: "" }] }, policy: { rules: [""], sources: [""], monitor: [""] },
    },
    doctor: { findings: [{ id: "", severity: "", what: "" }] },
    ticket: [{ id: "", state: "", operation: "", reason: "", requester: "", not_after: "", claims: [{}] }],
};

// misfit returns the path of the first part of a value that does not have the shape; "" if it has.
function misfit(value, shape, path) {
    if (Array.isArray(shape))
        return !Array.isArray(value) ? path : shape.length && value.map((v, i) => misfit(v, shape[0], `${path}[${i}]`)).find(Boolean) || "";
    if (typeof value !== typeof shape || value === null || Array.isArray(value))
        return path;
    if (typeof shape === "object")
        return Object.keys(shape).map(k => misfit(value[k], shape[k], `${path}.${k}`)).find(Boolean) || "";
    return "";
}

// unknown is the exit code of the tool for a command line that it does not understand.
const unknown = 2;

// read runs a command that prints JSON. It resolves to {value, problems}; value is null if there is
// no JSON that the page can read. A command may print JSON and fail, for a part that it could not
// find out about. misfits is set if tool and page are not of the same version.
async function read(args) {
    const { ok, out, err, code } = await run(args);
    const none = text => ({ value: null, problems: [text], misfits: true });
    const name = "stopguard " + args[0];
    let value;
    try {
        value = JSON.parse(out);
    } catch {
        if (code === unknown)
            return none(`${name} does not know what this page asks for: ${lines(err)[0] || "no message"}`);
        return ok ? none(`${name} prints something that is not JSON`) : { value: null, problems: lines(err || name + " printed nothing") };
    }
    const path = misfit(value, shapes[args[0]], name);
    return path ? none(`the JSON of ${path} is not as this page reads it`) : { value, problems: ok ? [] : lines(err) };
}

// act runs a command that changes something. It resolves to the lines that it printed, and rejects
// with those of its failure.
async function act(args, asUser) {
    const { ok, out, err, isLost } = await run(args, { asUser, wait: patience.act });
    if (!ok)
        throw lines(err || out).concat(isLost ? ["Whether it was done is not known: look before you do it again."] : []);
    return { said: lines(out), warned: lines(err) };
}

const libvirt = "--connect=qemu:///system";

export const domains = () => read(["check", "--all", "-o", "json", "--read-only"]);
export const status = () => read(["status", "-o", "json"]);
export const doctor = () => read(["doctor", "-o", "json"]);
export const tickets = () => read(["ticket", "list", "-o", "json"]);

// records resolves to the decisions since a time, such as 24h or an RFC 3339 time. Their inputs are
// most of what the tool prints, and are dropped line by line. What a site's mask has taken out of a
// record is empty.
export async function records(since) {
    const value = [];
    let rest = "";
    let unreadable = 0;
    const { ok, err } = await run(["log", "-o", "json", "--since=" + since], {
        take: data => {
            const whole = (rest + data).split("\n");
            rest = whole.pop();
            for (const line of whole) {
                try {
                    const { decision_id: id, timestamp, result } = JSON.parse(line);
                    value.push({ id, timestamp, outcome: "", ...result, domain: { name: "", ...result.domain }, reasons: result.reasons || [], monitored: result.monitored || [] });
                } catch {
                    unreadable++;
                }
            }
        },
    });
    const problems = ok ? [] : lines(err);
    if (unreadable)
        problems.push(`${unreadable} lines of stopguard log are not as this page reads them`);
    return { value, problems };
}

// domain resolves to what is known of one domain about an operation. value is null if that is
// nothing.
async function domain(uuid, operation) {
    const { value, problems } = await read(["check", "--all", "-o", "json", "--read-only", ...operation ? ["--operation=" + operation] : [], "--", uuid]);
    return { value: value && value.domains.find(d => d.uuid === uuid) || null, problems };
}

// approvals resolves to how many other people must approve a ticket; null if that is not known.
export async function approvals(uuid, operation) {
    const { value } = await domain(uuid, operation);
    return value && (value.approvals || 0);
}

// unchanged rejects if a domain's marks are not those that a person saw, for another person may
// have changed them since.
async function unchanged(uuid, marks) {
    const { value, problems } = await domain(uuid);
    if (!value)
        throw ["The domain cannot be read; nothing was done.", ...problems];
    if (JSON.stringify(value.marks || []) !== JSON.stringify(marks || []))
        throw ["Its protection was changed meanwhile, and nothing was done; close this and look at it."];
}

export async function protect({ uuid, marks }, { reason, until, owner, operations }) {
    await unchanged(uuid, marks);
    const args = ["protect", libvirt, "--reason=" + reason, "--until=" + until];
    if (owner)
        args.push("--owner=" + owner);
    if (operations)
        args.push("--operations=" + operations.join(","));
    return act([...args, "--", uuid]);
}

export async function unprotect({ uuid, marks }) {
    await unchanged(uuid, marks);
    return act(["unprotect", libvirt, "--", uuid]);
}

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
