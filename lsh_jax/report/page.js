// Puts the charts of a report in the place of its pictures, and wakes its tables.
//
// Without this script the page shows the same as pictures and plain tables, and so it does in
// print. It follows charts.js, tables.js and choices.js in one script element. Text from a run is set as text
// only, never as markup.
"use strict";

const figures = [];
let highlight = NO_TRIAL;

function buildFigure(figure, charts) {
  const views = charts.map((chart) => new ChartView(chart));
  const grid = make("div", { class: `grid charts${views.length > 1 ? "" : " one"}` });
  grid.append(...views.map((view) => view.root));
  const controls = make("div", { class: "controls" });
  const state = { frame: 0, select: null };
  const show = () => views.forEach((view) => view.show(state.frame, highlight));
  const frames = charts[0].frames.map((frame) => frame.name);
  if (frames.length > 1) controls.append(makeSlider(frames, state, show));
  const names = findTrials(charts);
  if (names.length > 2) controls.append(makeSelect(names, state));
  figures.push({ state, show });
  figure.classList.add("drawn");
  figure.prepend(...(controls.children.length ? [controls] : []), grid);
  show();
}

function makeSlider(frames, state, show) {
  const last = frames.length - 1;
  const input = make("input", { type: "range", min: 0, max: last, step: 1, value: last });
  const output = make("output", {});
  const update = () => {
    state.frame = Number(input.value);
    output.textContent = frames[state.frame];
    input.setAttribute("aria-valuetext", frames[state.frame]);
    show();
  };
  input.addEventListener("input", update);
  state.frame = last;
  output.textContent = frames[last];
  input.setAttribute("aria-valuetext", frames[last]);
  return make("label", { class: "slider" }, "Spectra after ", input, output);
}

function findTrials(charts) {
  const names = charts.flatMap((chart) => chart.frames)
    .flatMap((frame) => frame.lines.map((line) => line.name));
  const number = (name) => Number(name.slice("trial ".length));
  return [...new Set(names)].filter((name) => /^trial \d+$/.test(name))
    .sort((a, b) => number(a) - number(b));
}

// One choice for all charts of the page.
function makeSelect(names, state) {
  const options = [NO_TRIAL, ...names].map((name) => make("option", {}, name));
  state.select = make("select", {}, ...options);
  state.select.addEventListener("change", () => {
    highlight = state.select.value;
    for (const figure of figures) {
      if (figure.state.select) figure.state.select.value = highlight;
      figure.show();
    }
  });
  return make("label", {}, "Highlight ", state.select);
}

const { charts } = JSON.parse(document.getElementById("run").textContent);
for (const figure of document.querySelectorAll("figure[data-charts]")) {
  const own = figure.dataset.charts.split(" ").map((number) => charts[Number(number)]);
  buildFigure(figure, own);
}
for (const table of document.querySelectorAll(".scroll > table")) {
  const count = table.tBodies[0].rows.length;
  if (count > 1) makeSortable(table);
  if (count >= FILTERED_FROM) makeFilter(table);
}
const refresh = Number(document.body.dataset.refresh);
if (refresh) readAgain(refresh);
