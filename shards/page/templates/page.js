"use strict";
// Tables sort by a heading; numbers by data-value, cells without a finite value last in either order.
for (const table of document.querySelectorAll("table.sorts")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows].map((row) => [row, value(row.cells[column])]);
    rows.sort(([, a], [, b]) => (a === "") - (b === "") || (down ? -1 : 1) * compare(a, b));
    table.tBodies[0].append(...rows.map(([row]) => row));
  }));
}

function value(cell) {
  if (cell.dataset.value === undefined) return cell.textContent.trim();
  const number = Number(cell.dataset.value);
  return cell.dataset.value !== "" && Number.isFinite(number) ? number : "";
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

// "Wrong first" puts the views that a teacher is wrong about before the others, and back as they were stored.
for (const button of document.querySelectorAll("button.order")) {
  const sheet = document.getElementById(button.getAttribute("aria-controls"));
  const stored = [...sheet.children];
  const mistake = (view) => Number(view.dataset.mistake ?? -1);
  const sorted = [...stored].sort((a, b) => mistake(b) - mistake(a));
  button.addEventListener("click", () => {
    const on = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(on));
    sheet.append(...(on ? sorted : stored));
  });
}

// A name in the legend takes its run's curves away, and brings them back.
for (const button of document.querySelectorAll(".legend button")) {
  button.addEventListener("click", () => {
    const off = button.getAttribute("aria-pressed") === "true";
    button.setAttribute("aria-pressed", String(!off));
    for (const curve of document.querySelectorAll(`.charts path[data-run="${button.dataset.run}"]`)) {
      curve.classList.toggle("off", off);
    }
  });
}
