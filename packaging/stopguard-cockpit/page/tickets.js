// Tickets: what waits for approval, what may be used, and what was.

import { ask } from "./dialog.js";
import { alert, button, draw, empty, h, label, owned, table, time } from "./dom.js";
import * as host from "./host.js";

const kinds = { open: "ok", taken: "info", requested: "warning" };

// subject returns what a ticket is for. A request has the name that the agent knew; else only the
// domains that are there have one here.
function subject(page, t) {
    if (!t.domain)
        return t.name === "*" ? "Every domain" : h("span", {}, "Every domain like ", owned(t.name));
    const domains = page.domains.value ? page.domains.value.domains : [];
    const known = domains.find(d => d.uuid === t.domain);
    const claim = t.claims.find(c => c.name);
    const name = known ? known.name : claim ? claim.name : t.domain_name;
    return name ? h("span", {}, owned(name), t.state === "requested" && h("div", { class: "faint" }, t.domain)) : owned(t.domain);
}

const approvers = t => t.approval && (t.approval.break_glass ? "none: break-glass" : (t.approval.approvers || []).map(a => a.user).join(", "));

const wanted = t => h("span", {}, owned(t.reason), " ", h("span", { class: "faint" }, owned(t.requester)));

export function view(page) {
    const list = h("div", {});

    function show() {
        const { value, problems } = page.tickets;
        if (!value) {
            draw(list, alert("danger", "The tickets cannot be read", ...problems));
            return;
        }
        const newest = [...value].sort((a, b) => (b.granted || "").localeCompare(a.granted || ""));
        const waiting = newest.filter(t => t.state === "requested");
        const current = newest.filter(t => t.state === "open" || t.state === "taken");
        const past = newest.filter(t => !waiting.includes(t) && !current.includes(t));
        draw(list,
             problems.length > 0 && alert("warning", "Not all tickets are here", ...problems),
             waiting.length > 0 && [
                 h("h2", {}, "Waiting for approval"),
                 table("Requests", ["Domain", "Operation", "Why", "Approved by", "Can be approved until", "Actions"], waiting.map(t => [
                     subject(page, t), t.operation, wanted(t), approvers(t) || "Nobody yet", time(t.not_after),
                     h("div", {},
                       button("Approve", "approve:" + t.id, () => decide(page, t, "Approve"), { "aria-label": "Approve the ticket of " + t.requester }),
                       button("Reject", "reject:" + t.id, () => decide(page, t, "Reject"), { "aria-label": "Reject the ticket of " + t.requester })),
                 ])),
             ],
             current.length > 0 && [h("h2", {}, "May be used"), granted(page, current, true)],
             past.length > 0 && h("details", {}, h("summary", { "data-key": "past" }, `Used and expired (${past.length})`), granted(page, past)),
             value.length === 0 && empty("No tickets", "A ticket lets a protected domain be stopped once. Ask for one at the domain."));
    }

    show();
    return { elements: [list], show };
}

function granted(page, list, current) {
    const columns = ["Domain", "State", "Operation", "Why", "Approved by", "Until", ...current ? ["Actions"] : []];
    return table(current ? "Tickets that may be used" : "Former tickets", columns, list.map(t => [
        subject(page, t), label(t.state, kinds[t.state] || "none"), t.operation, wanted(t), approvers(t), time(t.not_after),
        ...current ? [button("Revoke", "revoke:" + t.id, () => revoke(page, t), { "aria-label": "Revoke the ticket of " + t.requester })] : [],
    ]));
}

function details(page, t) {
    return h("dl", {},
             h("dt", {}, "Domain"), h("dd", {}, subject(page, t)),
             h("dt", {}, "Operation"), h("dd", {}, t.operation),
             h("dt", {}, "Why"), h("dd", {}, owned(t.reason)),
             h("dt", {}, "Asked by"), h("dd", {}, owned(t.requester)));
}

function decide(page, t, verb) {
    const approves = verb === "Approve";
    ask({
        title: approves ? "Approve this ticket?" : "Reject this ticket?",
        fields: [details(page, t)],
        submit: verb,
        danger: !approves,
        action: () => approves ? host.approve(t.id) : host.reject(t.id),
        done: page.done,
        failed: page.failed,
    });
}

function revoke(page, t) {
    ask({
        title: "Take this ticket back?",
        fields: [details(page, t)],
        submit: "Revoke",
        danger: true,
        action: () => host.revoke(t.id),
        done: page.done,
        failed: page.failed,
    });
}
