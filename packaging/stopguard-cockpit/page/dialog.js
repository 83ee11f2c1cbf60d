// Dialogs. The browser keeps the focus inside; afterwards it goes back to where it came from.

import { alert, draw, focusOn, h } from "./dom.js";

let count = 0;

// ask opens a dialog, unless one is open, whose form calls action when it is sent. If that rejects
// with lines, they are shown and the dialog stays; failed is called with them if the dialog was
// closed meanwhile. done is called with what action resolved to.
export function ask({ title, fields, submit, danger, action, done, failed }) {
    if (document.querySelector("dialog"))
        return; // a second click, while the first one was waited for
    const back = document.activeElement && document.activeElement.dataset.key;
    const id = "dialog-" + ++count;
    const problems = h("div", { role: "alert" });
    const send = h("button", { type: "submit", class: danger ? "danger" : "primary" }, submit);
    const cancel = h("button", { type: "button", onclick: () => dialog.close() }, "Cancel");
    const form = h("form", { onsubmit: event => { event.preventDefault(); run() } },
                   h("h2", { id }, title), problems, fields,
                   h("footer", {}, send, cancel));
    const dialog = h("dialog", { "aria-labelledby": id, onclose: () => { dialog.remove(); focusOn(back) } }, form);
    let busy = false;

    async function run() {
        if (busy)
            return;
        busy = true;
        send.setAttribute("aria-disabled", "true");
        problems.replaceChildren();
        try {
            const result = await action(form);
            dialog.close();
            done(result);
        } catch (lines) {
            if (!Array.isArray(lines))
                throw lines;
            if (dialog.isConnected)
                draw(problems, alert("danger", "It failed", ...lines));
            else
                failed(lines);
        } finally {
            busy = false;
            send.removeAttribute("aria-disabled");
        }
    }

    document.body.append(dialog);
    dialog.showModal();
}

// field returns a labelled control with an explanation below it.
export function field(text, control, hint) {
    const id = "field-" + ++count;
    control.id = id;
    if (hint)
        control.setAttribute("aria-describedby", id + "-hint");
    return h("div", { class: "field" }, h("label", { for: id }, text), control,
             hint && h("div", { class: "hint", id: id + "-hint" }, hint));
}

// choice returns a select. options are pairs of a value and its text.
export function choice(name, options, value, properties) {
    return h("select", { name, ...properties }, options.map(([v, text]) => h("option", { value: v, selected: v === value }, text)));
}
