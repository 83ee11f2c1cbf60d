// Light and dark, as the shell is set: "auto" follows the system.

const dark = window.matchMedia("(prefers-color-scheme: dark)");

function apply(style) {
    style = style || localStorage.getItem("shell:style") || "auto";
    document.documentElement.classList.toggle("dark", style === "dark" || style === "auto" && dark.matches);
}

window.addEventListener("storage", event => event.key === "shell:style" && apply());
window.addEventListener("cockpit-style", event => apply(event.detail && event.detail.style));
dark.addEventListener("change", () => apply());
apply();
