// The table of models narrows as one types: every word must occur in a row.
function narrow() {
  const field = document.getElementById("find-model");
  if (!field || field.dataset.ready) return;
  field.dataset.ready = "yes";
  field.hidden = false;
  const rows = [...document.querySelectorAll("article table tbody tr")];
  const found = document.getElementById("found-models");
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    found.textContent = words.length ? `${shown} of ${rows.length}` : "";
  });
}
if (typeof document$ === "undefined") document.addEventListener("DOMContentLoaded", narrow);
else document$.subscribe(narrow);
