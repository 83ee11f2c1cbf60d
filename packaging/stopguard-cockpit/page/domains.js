// The domains, and what protects each: those that run against a stop, those that are off against a
// delete.

import { ask, choice, field } from "./dialog.js";
import { alert, button, draw, empty, h, label, owned, table, until } from "./dom.js";
import * as host from "./host.js";

const operations = ["stop", "delete", "pause", "reset", "move", "modify"];
const plain = ["stop", "delete"];

// protection returns the word for a domain, its kind, and whether that is protected. A hook is not
// asked about a delete.
function protection(d, hasGate) {
    if (d.outcome === "fault")
        return ["Cannot be decided", "danger"];
    if (d.outcome === "veto" && d.operation && !hasGate)
        return ["Needs a gate", "warning"];
    if (d.outcome === "veto")
        return d.ticket ? ["Protected, ticket open", "warning", true] : ["Protected", "ok", true];
    if (d.monitored.length)
        return [d.unenforced ? "Not enforced" : "Monitored only", "warning"];
    return ["Not protected", "none"];
}

// why returns a list of the reasons. Of a mark they are its own words.
function why(d) {
    const reasons = [...d.reasons, ...d.monitored];
    if (d.fault)
        return owned(d.fault);
    const only = d.marks && d.marks.length === 1 && d.marks[0];
    return h("ul", { class: "plain" }, reasons.map(r => h("li", {},
        owned(only && r.rule === "protection_mark" ? only.reason || "No reason given" : r.message),
        " ", h("span", { class: "faint" }, r.rule === "protection_mark" ? "mark" : r.rule))));
}

// lapse returns when the last reason of a domain lapses.
function lapse(d) {
    const reasons = [...d.reasons, ...d.monitored];
    if (!reasons.length)
        return "";
    if (reasons.length === 1 && reasons[0].rule === "protection_mark" && d.marks && d.marks.length === 1)
        return until(d.marks[0].until);
    return until(reasons.some(r => !r.until) ? "" : reasons.map(r => r.until).sort().pop());
}

const by = d => (d.marks || []).map(m => m.owner).filter(Boolean).map((owner, i) => [i ? ", " : "", owned(owner)]);

let search = "";
let only = "all";

const filters = {
    all: ["All domains", () => true],
    running: ["Running", d => d.state === "running"],
    off: ["Off", d => d.state === "off"],
    protected: ["Protected", (d, isProtected) => isProtected],
    open: ["Not protected", (d, isProtected) => !isProtected],
};

const states = { running: "Running", off: "Off" };

export function view(page) {
    const list = h("div", {});
    const found = h("span", { class: "faint", role: "status", "data-found": "" });
    const input = h("input", {
        type: "search", placeholder: "Name, reason or owner", "aria-label": "Filter domains", value: search,
        oninput: () => { search = input.value; show() },
    });
    const select = choice("only", Object.entries(filters).map(([value, [text]]) => [value, text]), only,
                          { "aria-label": "Which domains", onchange: () => { only = select.value; show() } });

    function selects(d, hasGate) {
        const text = [d.name, d.uuid, ...d.reasons.concat(d.monitored).map(r => r.message), ...(d.marks || []).map(m => m.owner)];
        return filters[only][1](d, protection(d, hasGate)[2]) && text.join("\n").toLowerCase().includes(search.toLowerCase());
    }

    function show() {
        const { value, problems } = page.domains;
        if (!value) {
            draw(list, alert("danger", "The domains cannot be read", ...problems));
            return;
        }
        const all = value.domains;
        const hasGate = value.enforced_by.includes("gate");
        const shown = all.filter(d => selects(d, hasGate));
        const count = all.filter(d => protection(d, hasGate)[2]).length;
        const off = all.filter(d => d.state === "off").length;
        const text = shown.length === all.length ? `${all.length - off} running, ${off} off, ${count} protected` : `${shown.length} of ${all.length}`;
        if (found.textContent !== text) // or a screen reader would say it again
            found.textContent = text;
        draw(list,
             problems.length > 0 && alert("warning", "Not all could be decided", ...problems),
             [...value.marks_gone, ...value.listed_gone || []].map(m => alert("warning", "A protection has gone", h("span", {}, owned(m.name), ": ", owned(m.message)))),
             shown.length
                 ? table("Domains", ["Domain", "Protection", "Why", "Until", "By", "Actions"], shown.map(d => row(page, d, hasGate)), { class: "domains" })
                 : all.length
                     ? empty("No domain matches", "Change the filter to see others.")
                     : empty("No domain is defined", "Domains appear here as soon as they are defined or started."));
    }

    show();
    return { elements: [h("div", { class: "toolbar" }, input, select, found), list], show };
}

function row(page, d, hasGate) {
    const marked = (d.marks || []).length > 0;
    const named = (text, what, f) => button(text, what + ":" + d.uuid, f, { "aria-label": text + " " + d.name });
    return [
        [owned(d.name), h("div", { class: "faint" }, states[d.state] || d.state)],
        label(...protection(d, hasGate)),
        why(d),
        lapse(d),
        by(d),
        d.uuid && h("div", {},
                    named(marked ? "Change" : "Protect", "protect", () => protect(page, d)),
                    marked && named("Unprotect", "unprotect", () => unprotect(page, d)),
                    d.outcome === "veto" && !d.ticket && named("Ticket", "ticket", () => ticket(page, d))),
    ];
}

const inDays = n => new Date(Date.now() + n * 864e5).toISOString().slice(0, 10);

// against returns the operations that a mark refuses, as the form has them.
function against(mark) {
    const named = mark.operations.flatMap(o => o === "tamper" ? ["modify", "delete"] : [o]);
    return named.includes("stop") ? named : [...plain, ...named];
}

async function protect(page, d) {
    const mark = (d.marks || [])[0] || { reason: "", until: inDays(30), owner: await host.user(), operations: [] };
    const refused = against(mark);
    const value = name => h("input", { name, type: "text", maxlength: 200, autocomplete: "off", value: mark[name] });
    const reason = value("reason");
    reason.required = true;
    ask({
        title: ["Protect ", owned(d.name)],
        fields: [
            field("Why", reason, "Whoever is refused reads this."),
            field("Until", h("input", { name: "until", type: "date", required: true, min: inDays(1), value: mark.until.slice(0, 10) }), "It lapses at the end of this day, in UTC."),
            field("Whom to ask", value("owner")),
            h("fieldset", {}, h("legend", {}, "Refuse to"),
              operations.map(o => h("label", { class: "check" },
                                    h("input", { type: "checkbox", name: "operations", value: o, checked: refused.includes(o), disabled: o === "stop" }), o)),
              h("div", { class: "hint" }, "All but stop need the gate in front of libvirt.")),
        ],
        submit: "Protect",
        action: form => {
            const named = ["stop", ...[...form.elements.operations].filter(c => c.checked && c.value !== "stop").map(c => c.value)];
            return host.protect(d, {
                reason: form.elements.reason.value,
                until: form.elements.until.value,
                owner: form.elements.owner.value.trim(),
                operations: named.join() === plain.join() ? null : named,
            });
        },
        done: page.done,
        failed: page.failed,
    });
}

function unprotect(page, d) {
    ask({
        title: ["Remove the protection of ", owned(d.name), "?"],
        fields: [h("p", {}, "Its mark is removed. Other rules go on protecting it. To let it be stopped or deleted once, use a ticket in place of this.")],
        submit: "Remove protection",
        danger: true,
        action: () => host.unprotect(d),
        done: page.done,
        failed: page.failed,
    });
}

function ticket(page, d) {
    const note = h("p", { "aria-live": "polite" });
    let needed = d.approvals || 0;
    const tell = () => {
        note.textContent = needed
            ? `Before the ticket counts, ${needed === 1 ? "one other person approves" : needed + " other people approve"} it.`
            : "";
    };
    const operation = choice("operation", operations.map(o => [o, o]), d.operation || "stop", {
        onchange: async () => { needed = await host.approvals(d.uuid, operation.value) ?? needed; tell() },
    });
    tell();
    ask({
        title: ["Ticket for ", owned(d.name)],
        fields: [
            h("p", {}, "A ticket lets one run of the domain be stopped, or one other operation be done, although it is protected."),
            field("Why", h("input", { name: "reason", type: "text", required: true, maxlength: 200, autocomplete: "off" })),
            field("For how long", choice("lasts", [["30m", "30 minutes"], ["1h", "1 hour"], ["4h", "4 hours"], ["1d", "1 day"]], "1h")),
            field("Operation", operation),
            note,
        ],
        submit: "Get ticket",
        action: async form => {
            const t = { reason: form.elements.reason.value, lasts: form.elements.lasts.value, operation: operation.value };
            needed = await host.approvals(d.uuid, t.operation) ?? needed;
            return needed ? host.request(d.uuid, t) : host.grant(d.uuid, t);
        },
        done: page.done,
        failed: page.failed,
    });
}
