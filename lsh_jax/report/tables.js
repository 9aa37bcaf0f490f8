// Tables that sort by their columns and filter their rows.
"use strict";

const FILTERED_FROM = 10; // rows: fewer are seen at a glance
const MISSING = "\u2013";

function readCell(row, column, numeric) {
  const text = row.cells[column].textContent.trim();
  if (text === MISSING || text === "") return null;
  if (!numeric) return text;
  const plain = text.replaceAll("\u2212", "-").replaceAll(",", "");
  const found = plain.match(/[-+]?\d*\.?\d+(e[-+]?\d+)?/);
  return found ? Number(found[0]) : null;
}

// Rows by a column; those without a value last, whichever way.
function sortRows(rows, column, numeric, sign) {
  const words = new Intl.Collator("en", { numeric: true });
  const keyed = rows.map((row) => ({ row, key: readCell(row, column, numeric) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
    return sign * (numeric ? a.key - b.key : words.compare(a.key, b.key));
  });
  return keyed.map(({ row }) => row);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const before = head.getAttribute("aria-sort");
      const order = { ascending: "descending", descending: null }[before];
      const chosen = order === undefined ? "ascending" : order;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (chosen) head.setAttribute("aria-sort", chosen);
      const sign = chosen === "descending" ? -1 : 1;
      const numeric = head.classList.contains("n");
      body.append(...(chosen ? sortRows(original, column, numeric, sign) : original));
    });
  });
}

function makeFilter(table) {
  const rows = [...table.tBodies[0].rows];
  const input = make("input", { type: "search", autocomplete: "off" });
  const count = make("output", {}, `${rows.length} rows`);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) {
      const text = [...row.cells].map((cell) => cell.textContent).join(" ").toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
    }
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = `${shown} of ${rows.length} rows`;
  });
  const label = make("label", {}, "Filter rows ", input);
  table.parentElement.before(make("div", { class: "controls" }, label, count));
}
