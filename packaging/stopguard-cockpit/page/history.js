// What happened: refusals, escapes, faults and tickets, over time and as a table.

import { choice } from "./dialog.js";
import { alert, draw, empty, h, label, owned, svg, table, time } from "./dom.js";
import * as host from "./host.js";

const periods = { "1h": "Last hour", "24h": "Last 24 hours", "7d": "Last 7 days", "30d": "Last 30 days" };
const seconds = { "1h": 3600, "24h": 86400, "7d": 7 * 86400, "30d": 30 * 86400 };

const kinds = {
    veto: ["Refused", "ok"],
    escape: ["Escaped", "danger"],
    fault: ["Fault", "warning"],
    ticket: ["Ticket", "info"],
    monitored: ["Only monitored", "warning"],
    allow: ["Allowed", "none"],
    moot: ["Nothing to protect", "none"],
};
const lanes = ["veto", "escape", "fault", "ticket"];
const quiet = ["allow", "moot"]; // shown on demand

const maxRows = 500;

let period = "24h";
let all = false;
let search = "";

const overlap = 60000; // milliseconds that records may be out of order

// read reads the record, and of one that was read before only what came since.
export async function read(before) {
    if (!before || before.period !== period || !before.value.length || before.problems.length)
        return { period, ...await host.records(period) };
    const newest = Math.max(...before.value.slice(-100).map(r => Date.parse(r.timestamp)));
    const { value, problems } = await host.records(new Date(newest - overlap).toISOString());
    const known = new Set(before.value.map(r => r.id));
    const more = value.filter(r => !known.has(r.id));
    if (!more.length && !problems.length)
        return before;
    const from = Date.now() - seconds[period] * 1000;
    return { period, value: before.value.concat(more).filter(r => Date.parse(r.timestamp) >= from), problems };
}

function kindOf(r) {
    if (r.outcome !== "allow")
        return r.outcome;
    return r.ticket ? "ticket" : r.monitored.length ? "monitored" : "allow";
}

// text returns what a record says, a line for each part.
function text(r) {
    const parts = [...r.reasons, ...r.monitored].map(x => `${x.message} (rule ${x.rule})`);
    if (r.ticket)
        parts.push(`ticket of ${r.ticket.requester}: ${r.ticket.reason}` + (r.ticket.approvers ? `; approved by ${r.ticket.approvers.join(", ")}` : ""));
    if (r.detail)
        parts.push(r.detail);
    return parts;
}

function fromRecords(records) {
    return records.map(r => ({
        at: new Date(r.timestamp),
        kind: kindOf(r),
        domain: r.domain.name,
        what: r.request ? r.request.operation + (r.request.user ? " by " + r.request.user : "") : r.outcome === "escape" ? "" : "stop",
        text: text(r),
    }));
}

// fromTickets returns what people did about tickets. That one was used is on record.
function fromTickets(tickets, names) {
    const events = [];
    for (const t of tickets) {
        const add = (at, what, ...words) => at && events.push({ at: new Date(at), kind: "ticket", domain: names(t), what, text: words });
        const approval = t.approval;
        if (approval) {
            add(approval.requested, "requested by " + approval.requester.user, t.reason);
            (approval.approvers || []).forEach(a => add(a.at, "approved by " + a.user, t.reason));
        }
        if (t.state !== "requested" && (!approval || approval.break_glass))
            add(t.granted, (approval ? "break-glass by " : "granted by ") + t.requester, t.reason);
    }
    return events;
}

export function view(page) {
    const list = h("div", {});
    const since = choice("since", Object.entries(periods), period, { "aria-label": "Period", onchange: () => { period = since.value; show(); page.refresh() } });
    const input = h("input", { type: "search", placeholder: "Domain, person or reason", "aria-label": "Filter events", value: search, oninput: () => { search = input.value; show() } });
    const box = h("input", { type: "checkbox", checked: all, onchange: () => { all = box.checked; show() } });

    function show() {
        if (!page.records || page.records.period !== period) {
            draw(list, h("p", { class: "faint" }, "Reading the record…"));
            return;
        }
        const known = page.domains.value ? page.domains.value.domains : [];
        const names = t => t.domain ? (known.find(d => d.uuid === t.domain) || t.claims.find(c => c.name) || { name: t.domain_name || t.domain }).name : t.name;
        const to = Date.now();
        const from = to - seconds[period] * 1000;
        const events = [...fromRecords(page.records.value), ...fromTickets(page.tickets.value || [], names)]
                .filter(e => e.at >= from && (all || !quiet.includes(e.kind)))
                .filter(e => [e.domain, e.what, ...e.text].join("\n").toLowerCase().includes(search.toLowerCase()))
                .sort((a, b) => b.at - a.at);
        draw(list,
             page.records.problems.length > 0 && alert("warning", "The record cannot be read", ...page.records.problems),
             events.length > 0 && timeline(events, from, to, Math.max(280, list.clientWidth - 32)),
             events.length > maxRows && h("p", { class: "faint" }, `The newest ${maxRows} of ${events.length} are listed.`),
             events.length > 0
                 ? table("Events", ["Time", "What", "Domain", "Request", "Why"], events.slice(0, maxRows).map(e => [
                     time(e.at, true), label(...kinds[e.kind] || [e.kind, "none"]), owned(e.domain), owned(e.what),
                     h("ul", { class: "plain" }, e.text.map(t => h("li", {}, owned(t)))),
                 ]))
                 : empty("Nothing happened", "No stop was refused, nothing escaped and no ticket was used in this time."));
    }

    show();
    return { elements: [h("div", { class: "toolbar" }, input, since, h("label", { class: "check" }, box, "Also what was allowed")), list], show };
}

// The timeline's measures, in pixels.
const left = 76, laneHeight = 28, binWidth = 12;

// timeline draws a lane for each kind, and in it a bar for each part of the time. The table has the
// same for who does not see it.
function timeline(events, from, to, width) {
    const bins = Math.floor((width - left) / binWidth);
    const count = Object.fromEntries(lanes.map(l => [l, new Array(bins).fill(0)]));
    for (const e of events) {
        if (count[e.kind])
            count[e.kind][Math.min(bins - 1, Math.floor((e.at - from) / (to - from) * bins))]++;
    }
    const total = l => count[l].reduce((a, b) => a + b, 0);
    const most = Math.max(...lanes.map(l => Math.max(...count[l])));
    const step = (width - left) / bins;
    const short = to - from <= 864e5;
    const format = new Intl.DateTimeFormat(undefined, short ? { timeStyle: "short" } : { month: "short", day: "numeric" });
    const height = lanes.length * laneHeight + 22;
    return h("figure", {},
             h("figcaption", { class: "hidden" }, lanes.map(l => `${kinds[l][0]}: ${total(l)}`).join(", ")),
             svg("svg", { width, height, "aria-hidden": "true", class: "timeline" },
                 lanes.map((l, i) => [
                     svg("text", { x: 0, y: i * laneHeight + 19 }, kinds[l][0]),
                     svg("line", { x1: left, x2: width, y1: (i + 1) * laneHeight - 3, y2: (i + 1) * laneHeight - 3 }),
                     count[l].map((n, b) => {
                         const size = n && 7 + (laneHeight - 12) * n / most;
                         return n > 0 && svg("rect", { class: kinds[l][1], x: left + b * step + 1, width: step - 2, y: (i + 1) * laneHeight - 3 - size, height: size, rx: 1.5 },
                                             svg("title", {}, `${n} × ${kinds[l][0]}, ${format.format(from + b * (to - from) / bins)}`));
                     }),
                 ]),
                 (width < 600 ? [0, 1] : [0, 0.25, 0.5, 0.75, 1]).map(p => svg("text", {
                     x: left + p * (width - left), y: height - 3, "text-anchor": p === 0 ? "start" : p === 1 ? "end" : "middle", class: "axis",
                 }, format.format(from + p * (to - from))))));
}
