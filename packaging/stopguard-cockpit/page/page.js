// The page: which view is shown, when it is read again, and what is said above it.

import "./theme.js";
import { alert, draw, h, owned } from "./dom.js";
import * as domains from "./domains.js";
import * as health from "./health.js";
import * as history from "./history.js";
import * as host from "./host.js";
import * as tickets from "./tickets.js";

const views = { domains, tickets, history, health };
const every = 15000; // milliseconds between two reads while the page is visible

const nothing = { value: null, problems: [] };

// What is known of the host. records and doctor are read for their views only.
const page = { domains: nothing, status: nothing, tickets: nothing, records: null, doctor: null, refresh, done, failed };

const at = id => document.getElementById(id);
let current = null; // the view that is shown
let shown = ""; // its name
let admin = null; // whether administrative access is on

const name = () => Object.keys(views).find(v => location.hash === "#/" + v) || "domains";

let reading = null;
let again = false;

// refresh reads everything once more. Calls during a read lead to one read after it.
function refresh() {
    if (reading) {
        again = true;
        return reading;
    }
    reading = readAll().finally(() => {
        reading = null;
        if (again) {
            again = false;
            refresh();
        }
    });
    return reading;
}

async function readAll() {
    const [d, s, t, r, f] = await Promise.all([
        host.domains(), host.status(), host.tickets(),
        shown === "history" ? history.read(page.records) : page.records,
        shown === "health" ? host.doctor() : page.doctor,
    ]);
    const now = { domains: d, status: s, tickets: t, records: r, doctor: f };
    const isNews = Object.keys(now).some(k => now[k] !== page[k] && JSON.stringify(now[k], withoutTimes) !== JSON.stringify(page[k], withoutTimes));
    Object.assign(page, now);
    document.body.dataset.read = String(Number(document.body.dataset.read || 0) + 1);
    if (!current)
        open();
    else if (isNews)
        current.show();
    notices();
    const waiting = (t.value || []).filter(x => x.state === "requested").length;
    at("waiting").hidden = waiting === 0;
    draw(at("waiting"), String(waiting), h("span", { class: "hidden" }, " waiting"));
}

// withoutTimes leaves out when the host was asked: that alone is no news.
const withoutTimes = (key, value) => key === "time" && typeof value === "string" ? undefined : value;

function open() {
    shown = name();
    for (const link of document.querySelectorAll("nav a")) {
        if (link.hash === "#/" + shown)
            link.setAttribute("aria-current", "page");
        else
            link.removeAttribute("aria-current");
    }
    current = views[shown].view(page);
    at("view").replaceChildren(...current.elements);
}

// done says what an action did, and reads the host again.
function done({ said, warned }) {
    draw(at("result"), alert(warned.length ? "warning" : "ok", said[0] || "Done", ...said.slice(1), ...warned));
    refresh();
}

// failed says why an action failed whose dialog is not there any more.
function failed(lines) {
    draw(at("result"), alert("danger", "It failed", ...lines));
    refresh();
}

// broken says that the page itself has failed: what it shows may be old.
function broken(event) {
    const error = event.reason || event.error || event.message;
    draw(at("result"), alert("danger", "The page has failed, and may show what is no longer so", String(error), "Load it again."));
}

let noticed = "";

// notices says at the top what weakens the guard of this host.
function notices() {
    const s = page.status.value;
    const all = [];
    const misfits = [page.domains, page.status, page.tickets, page.doctor].filter(r => r && r.misfits);
    if (misfits.length)
        all.push(["danger", "The packages stopguard and stopguard-cockpit do not fit each other", misfits[0].problems[0] + ". Upgrade both to the same version."]);
    if (admin === false)
        all.push(["info", "Limited access", "Domains, tickets and the record are root's to read. Turn on administrative access to see them. Requests can be approved without."]);
    if (s && s.policy.error && admin !== false)
        all.push(["danger", "The policy cannot be loaded, and every stop is refused", s.policy.error]);
    if (s && s.switched_off.length)
        all.push(["danger", "Switched off: " + s.switched_off.join(" and "), "On again: stopguard on"]);
    if (s && !s.enforced && admin !== false)
        all.push(["danger", "Nothing on this host is known to refuse a stop", s.enforced_why || ""]);
    if (s && s.policy.monitor.length)
        all.push(["warning", s.policy.monitor.includes("*") ? "Monitor mode: nothing is refused" : "Some rules are only monitored", s.policy.monitor.includes("*") ? "What would be refused is recorded." : s.policy.monitor.join(", ")]);
    if (noticed !== JSON.stringify(all)) {
        noticed = JSON.stringify(all);
        draw(at("notices"), all.map(([kind, title, text]) => alert(kind, title, owned(text))));
    }
}

window.addEventListener("error", broken);
window.addEventListener("unhandledrejection", broken);
window.addEventListener("hashchange", () => {
    if (!current || name() === shown)
        return; // the first read opens the view
    at("result").replaceChildren();
    open();
    refresh();
});
window.addEventListener("resize", () => shown === "history" && current.show());
draw(at("view"), h("p", { class: "faint" }, "Reading the host…"));
host.onVisible(refresh);
setInterval(() => host.isHidden() || refresh(), every);
host.onAdmin(allowed => {
    admin = allowed;
    refresh();
});
