// What guards this host, and what is wrong with it.

import { alert, draw, h, label, owned, table } from "./dom.js";

const severities = { failure: ["Failure", "danger"], warning: ["Warning", "warning"], unknown: ["Unknown", "info"], ok: ["OK", "ok"] };

export function view(page) {
    const list = h("div", {});

    function show() {
        draw(list, summary(page.status), findings(page.doctor));
    }

    show();
    return { elements: [list], show };
}

function summary({ value: s, problems }) {
    if (!s)
        return alert("danger", "The status cannot be read", ...problems);
    const yes = (on, text, other) => on ? text : other;
    const rows = [
        ["Refuses a stop", s.enforced ? s.enforced_by.join(" and ") : owned(s.enforced_why || "nothing")],
        ["Hook", yes(s.hook.installed, { yes: "installed, and this libvirt calls it for a stop", no: "installed; this libvirt does not call it for a stop", unknown: "installed; whether this libvirt calls it for a stop is not known" }[s.hook.calls_stop], "not installed")],
        ["Gate", yes(s.gate.installed, yes(s.gate.in_front, "in front of libvirt's daemon", "installed, and not in front of libvirt's daemon"), "not installed")],
        ["Agent", yes(s.agent.running, "runs", "does not run")],
        ["libvirt", `${s.libvirt.version || "version unknown"}, ${s.libvirt.daemons.map(d => d.name).join(", ") || "no daemon runs"}`],
        ["Rules", owned(s.policy.rules.join(", "))],
        ["Policy", owned(s.policy.sources.join(", ") || "the library alone")],
        ["Holds", s.holds_error ? owned(s.holds_error) : String(s.holds)],
    ];
    return h("section", { "aria-labelledby": "status" }, h("h2", { id: "status" }, "Status"),
             h("dl", { class: "columns" }, rows.map(([term, text]) => [h("dt", {}, term), h("dd", {}, text)])));
}

function findings(doctor) {
    const heading = h("h2", { id: "findings" }, "Findings");
    if (!doctor)
        return h("section", { "aria-labelledby": "findings" }, heading, h("p", { class: "faint" }, "Examining the host…"));
    if (!doctor.value)
        return h("section", { "aria-labelledby": "findings" }, heading, alert("danger", "The host cannot be examined", ...doctor.problems));
    const order = Object.keys(severities);
    const all = [...doctor.value.findings].sort((a, b) => order.indexOf(a.severity) - order.indexOf(b.severity));
    const rows = found => found.map(f => [f.id, label(...severities[f.severity] || [f.severity, "none"]), owned(f.what), f.cure && h("code", {}, owned(f.cure))]);
    const bad = all.filter(f => f.severity !== "ok");
    const good = all.filter(f => f.severity === "ok");
    const columns = ["Check", "Result", "What", "What to do"];
    return h("section", { "aria-labelledby": "findings" }, heading,
             bad.length ? table("Findings", columns, rows(bad), { class: "findings" }) : alert("ok", "All is well"),
             good.length > 0 && h("details", {}, h("summary", { "data-key": "well" }, `What is well (${good.length})`), table("What is well", columns.slice(0, 3), rows(good).map(r => r.slice(0, 3)), { class: "findings" })));
}
