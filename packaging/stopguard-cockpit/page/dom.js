// Elements. All text becomes text nodes: a domain's name or reason is its owner's to write.

// h returns an element. A property "onclick" is a listener, true an empty attribute; false, null
// and undefined are left out. Whatever is shown is clean; a field's value is as it was written.
export function h(tag, properties, ...children) {
    return fill(document.createElement(tag), properties, children);
}

// svg is h for drawings.
export function svg(tag, properties, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
    for (const [name, value] of Object.entries(properties || {})) {
        if (name.startsWith("on"))
            element.addEventListener(name.slice(2), value);
        else if (value !== false && value !== null && value !== undefined)
            element.setAttribute(name, value === true ? "" : name === "value" ? value : clean(value));
    }
    element.append(...children.flat(Infinity).filter(c => c !== null && c !== undefined && c !== false)
            .map(c => c instanceof Node ? c : clean(c)));
    return element;
}

const maxText = 2000; // characters, more than any sentence of the tool's has

// clean returns a text without characters that could change how the text around it looks: control
// and format characters, among them those that reverse its direction, and marks that are piled up
// on a letter. A text that fills the page is cut.
export function clean(text) {
    text = String(text);
    return (text.length > maxText ? text.slice(0, maxText) + "…" : text)
            .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "\uFFFD")
            .replace(/(\p{M}{4})\p{M}+/gu, "$1\uFFFD");
}

const maxOwned = 300;

// owned returns an owner's text, which cannot reach beyond its element, and is cut to a few lines.
export function owned(text) {
    text = String(text);
    return h("bdi", {}, text.length > maxOwned ? text.slice(0, maxOwned) + "…" : text);
}

// button returns a button. Its key finds it again after the view has been drawn anew.
export function button(text, key, onclick, properties) {
    return h("button", { type: "button", "data-key": key, onclick, ...properties }, text);
}

// label returns a coloured word. kind is ok, warning, danger, info or none.
export function label(text, kind) {
    return h("span", { class: "label " + kind }, text);
}

// alert returns a message. detail may be absent.
export function alert(kind, title, ...detail) {
    const word = { danger: "Danger", warning: "Warning", info: "Info", ok: "Success" }[kind];
    return h("div", { class: "alert " + kind },
             h("span", { class: "hidden" }, word + ": "), h("strong", {}, title),
             detail.map(d => h("div", { class: "detail" }, d)));
}

// table returns a table, of which each row is an array of cells. The first cell heads its row. On
// a narrow page each cell shows its column's name.
export function table(caption, columns, rows, properties) {
    const cell = (content, i) => h(i === 0 ? "th" : "td",
                                   { scope: i === 0 && "row", "data-label": columns[i], class: columns[i] === "Actions" && "actions" },
                                   content && content.length !== 0 && h("div", {}, content));
    return h("table", properties,
             h("caption", { class: "hidden" }, caption),
             h("thead", {}, h("tr", {}, columns.map(c => h("th", { scope: "col" }, c === "Actions" ? h("span", { class: "hidden" }, c) : c)))),
             h("tbody", {}, rows.map(cells => h("tr", {}, cells.map(cell)))));
}

// empty returns what a view shows in place of an empty table.
export function empty(title, text) {
    return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text));
}

// focusOn moves the focus to the element with a key, or else to another one of the same thing, or to
// the page's title. A key is an action and, behind a colon, what it is about.
export function focusOn(key) {
    const all = [...document.querySelectorAll("[data-key]")];
    const about = e => e.dataset.key.split(":")[1];
    const found = key && (all.find(e => e.dataset.key === key) || all.find(e => about(e) === key.split(":")[1]));
    (found || document.getElementById("title")).focus();
}

// draw replaces an element's children, and leaves the focus where it was, and open what was open.
export function draw(element, ...children) {
    const active = document.activeElement;
    const key = element.contains(active) && active.dataset.key;
    const open = [...element.querySelectorAll("details[open] > summary")].map(s => s.dataset.key);
    element.replaceChildren(...children.flat(Infinity).filter(Boolean));
    for (const summary of element.querySelectorAll("summary"))
        summary.parentElement.open = open.includes(summary.dataset.key);
    if (key)
        focusOn(key);
}

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const minute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const second = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

// time returns a point in time as the browser's place writes it, with UTC as its tooltip.
export function time(at, exact) {
    const date = new Date(at);
    return isNaN(date) ? owned(at) : h("time", { datetime: date.toISOString(), title: date.toISOString() }, (exact ? second : minute).format(date));
}

// until returns when something ends: a day stays a day, the end of it in UTC.
export function until(at) {
    if (!at)
        return "No end";
    return /^\d{4}-\d{2}-\d{2}$/.test(at) ? h("time", { datetime: at, title: "the end of this day in UTC" }, day.format(new Date(at + "T12:00"))) : time(at);
}
