// Before the first paint: the theme that the visitor chose; then the switch itself.
(() => {
  const root = document.documentElement;
  const names = ["auto", "light", "dark"];
  const stored = () => {
    try {
      return localStorage.getItem("theme");
    } catch {
      return null; // storage is refused in some frames
    }
  };
  const keep = (name) => {
    try {
      localStorage.setItem("theme", name);
    } catch {
      // then it holds until the page is left
    }
  };
  const show = (name) => {
    root.dataset.theme = name;
    const label = document.querySelector("#theme .label");
    if (label) label.textContent = name;
  };
  const first = stored();
  show(names.includes(first) ? first : "auto");
  if (location.protocol !== "file:") root.classList.add("scripted"); // modules load from servers only
  document.addEventListener("DOMContentLoaded", () => {
    show(root.dataset.theme);
    document.querySelector("#theme").addEventListener("click", () => {
      const next = names[(names.indexOf(root.dataset.theme) + 1) % names.length];
      keep(next);
      show(next);
    });
    const menu = document.querySelector(".menu");
    document.addEventListener("click", (event) => {
      if (menu?.open && !menu.contains(event.target)) menu.open = false;
    });
    document.addEventListener("keydown", (event) => {
      if (menu?.open && event.key === "Escape") {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
    });
  });
})();
