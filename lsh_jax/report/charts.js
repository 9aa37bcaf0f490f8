// A chart that answers to a pointer and to a keyboard, drawn of what charts.py writes.
"use strict";

const MARGIN = { top: 10, right: 14, bottom: 42, left: 58 };
const NEAR = 40; // pixels from a curve within which a pointer means it
const CROWD = 60; // curves above which each is drawn fainter
const HELP = "Point at a curve, or focus the chart and use the arrow keys, to read values.";
const NO_TRIAL = "no trial";

function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const template = document.createElement("template");
template.innerHTML = "<svg></svg>";
const NAMESPACE = template.content.firstChild.namespaceURI;

function draw(parent, tag, attributes, text) {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function format(value, digits = 4) {
  const size = Math.abs(value);
  const plain = value === 0 || (size >= 1e-4 && size < 1e15);
  const text = plain
    ? value.toLocaleString("en", { maximumSignificantDigits: digits })
    : value.toExponential(digits - 1);
  return text.replaceAll("-", "\u2212");
}

// --- axes

function makeScale([low, high], [from, to], log) {
  const place = log ? Math.log : (value) => value;
  const span = place(high) - place(low) || 1;
  return (value) => from + ((place(value) - place(low)) / span) * (to - from);
}

function findTicks([low, high], count, log, whole) {
  if (log && high > 3 * low) {
    const found = [];
    let subs = high > 50 * low ? [1, 3] : [1, 2, 3, 5];
    if (high < 10 * low && !whole) subs = [1, 1.5, 2, 3, 4, 5, 7]; // or two labels are left
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      found.push(...subs.map((sub) => Number((sub * 10 ** power).toPrecision(2))));
    }
    return found.filter((value) => value >= low && value <= high);
  }
  const raw = (high - low || 1) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const subs = whole ? [1, 2, 5, 10] : [1, 2, 2.5, 5, 10];
  // Rather a few more than two or three labels.
  const fitting = subs.map((sub) => sub * power).find((size) => size >= 0.75 * raw);
  const step = whole ? Math.max(1, fitting) : fitting;
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, n) =>
    Number(((first + n) * step).toPrecision(10)));
}

// Where a value is drawn: not below the floor of its chart.
function lift(chart, value) {
  return Math.max(value, chart.floor ?? -Infinity);
}

// The range of all frames, so that the slider moves the curves and not the axes.
function findLimits(chart) {
  const xs = chart.grids.flat();
  const ys = [];
  for (const frame of chart.frames) {
    for (const line of frame.lines) {
      ys.push(...line.y.filter((y) => y !== null).map((y) => lift(chart, y)));
    }
  }
  const across = pad(xs, chart.log[0], chart.marks ? 0.06 : 0.01);
  return [across, chart.range || pad(ys, chart.log[1], 0.05)];
}

// A logarithmic axis has no place for 0.
function pad(values, log, share) {
  const shown = log ? values.filter((value) => value > 0) : values;
  const low = shown.reduce((a, b) => Math.min(a, b), Infinity);
  const high = shown.reduce((a, b) => Math.max(a, b), -Infinity);
  if (low > high) return [log ? 0.1 : 0, 1];
  if (log) return [low * (low / high) ** share, high * (high / low) ** share];
  const margin = (high - low) * share || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

function makeSwatch(look, mark) {
  const span = make("span", { class: "swatch", "aria-hidden": "true" });
  const width = mark ? 10 : 28;
  const svg = draw(span, "svg", { viewBox: `0 0 ${width} 10`, width, height: 10 });
  const group = draw(svg, "g", { class: `line ${look}` });
  if (mark) draw(group, "circle", { cx: 5, cy: 5, r: 5 });
  else draw(group, "path", { d: "M0 5H28" });
  return span;
}

class ChartView {
  constructor(chart) {
    this.chart = chart;
    this.limits = findLimits(chart);
    this.frame = 0;
    this.hidden = new Set();
    this.highlight = NO_TRIAL;
    this.points = [];
    this.cursor = null;
    this.build();
  }

  build() {
    this.svg = document.createElementNS(NAMESPACE, "svg");
    const name = `${this.chart.title}: ${this.chart.y} by ${this.chart.x}. ` +
      "Arrow keys read values.";
    const roles = { role: "application", "aria-roledescription": "chart", tabindex: 0 };
    for (const [key, value] of Object.entries({ ...roles, "aria-label": name })) {
      this.svg.setAttribute(key, value);
    }
    this.readout = make("p", { class: "readout", "aria-live": "polite" }, HELP);
    const title = make("p", { class: "chart-title" }, this.chart.title);
    this.root = make("div", { class: "chart" }, title, this.svg, this.readout, this.legend());
    this.svg.addEventListener("pointermove", (event) => this.follow(event));
    this.svg.addEventListener("pointerdown", (event) => this.follow(event));
    this.svg.addEventListener("pointerleave", () => this.point(null));
    this.svg.addEventListener("keydown", (event) => this.step(event));
    this.svg.addEventListener("blur", () => this.point(null));
    new ResizeObserver(() => this.render()).observe(this.root);
  }

  legend() {
    const buttons = this.chart.groups.map(([label, look], group) => {
      const swatch = makeSwatch(look, this.chart.marks);
      const button = make("button", { type: "button", "aria-pressed": "true" }, swatch, label);
      button.addEventListener("click", () => {
        if (!this.hidden.delete(group)) this.hidden.add(group);
        button.setAttribute("aria-pressed", String(!this.hidden.has(group)));
        this.render();
      });
      return button;
    });
    const label = `${this.chart.title}: show or hide`;
    // Of networks, what is drawn last, on top, is what matters most.
    if (!this.chart.groups.some(([, look]) => look.startsWith("colour"))) buttons.reverse();
    return make("div", { class: "legend", role: "group", "aria-label": label }, ...buttons);
  }

  show(frame, highlight) {
    this.frame = frame;
    this.highlight = highlight;
    this.render();
  }

  lines() {
    const { frames } = this.chart;
    const { lines } = frames[Math.min(this.frame, frames.length - 1)];
    return lines.filter((line) => !this.hidden.has(line.group));
  }

  render() {
    const width = Math.max(220, this.root.clientWidth);
    const height = Math.round(Math.min(360, Math.max(240, width * 0.66)));
    if (!this.root.clientWidth) return;
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.setAttribute("height", height);
    const [x, y] = this.axes(width, height);
    const scaled = this.lines().map((line) => this.place(line, x, y));
    this.svg.classList.toggle("crowd", scaled.length > CROWD);
    this.scaleX = x;
    // The one that is highlighted comes last, over the others.
    scaled.sort((a, b) => this.isChosen(a.line) - this.isChosen(b.line));
    for (const one of scaled) this.curve(one);
    this.points = scaled.flatMap((one) => one.points);
    this.overlay = draw(this.svg, "g", { class: "overlay" });
    this.cursor = this.points.find((point) => this.isSame(point)) || null;
    this.mark();
  }

  axes(width, height) {
    const right = width - MARGIN.right;
    const bottom = height - MARGIN.bottom;
    const [logX, logY] = this.chart.log;
    const x = makeScale(this.limits[0], [MARGIN.left, right], logX);
    const y = makeScale(this.limits[1], [bottom, MARGIN.top], logY);
    const axis = draw(this.svg, "g", { class: "axes" });
    for (const value of findTicks(this.limits[1], 5, logY)) {
      draw(axis, "path", { d: `M${MARGIN.left} ${y(value)}H${right}` });
      draw(axis, "text", { x: MARGIN.left - 6, y: y(value) + 4, "text-anchor": "end" },
        format(value));
    }
    for (const cut of this.chart.cuts) {
      draw(axis, "path", { d: `M${x(cut)} ${MARGIN.top}V${bottom}`, class: "cut" });
    }
    const count = Math.max(4, width / 90);
    for (const value of findTicks(this.limits[0], count, logX, this.chart.x === "epoch")) {
      draw(axis, "path", { d: `M${x(value)} ${bottom}v5`, class: "tick" });
      draw(axis, "text", { x: x(value), y: bottom + 18, "text-anchor": "middle" },
        format(value));
    }
    draw(axis, "path", { d: `M${MARGIN.left} ${bottom}H${right}`, class: "tick" });
    const middle = (MARGIN.left + right) / 2;
    draw(axis, "text", { x: middle, y: height - 6, "text-anchor": "middle" },
      this.chart.x + (logX ? " (log scale)" : ""));
    const turned = `translate(13 ${(MARGIN.top + bottom) / 2}) rotate(-90)`;
    draw(axis, "text", { transform: turned, "text-anchor": "middle" },
      this.chart.y + (logY ? " (log scale)" : ""));
    return [x, y];
  }

  place(line, x, y) {
    const grid = this.chart.grids[line.grid];
    const points = [];
    line.y.forEach((value, index) => {
      if (value === null || grid[index] === null) return;
      const [at, up] = [grid[index], lift(this.chart, value)];
      const point = { line, index, x: x(at), y: y(up), at, value };
      if (Number.isFinite(point.x) && Number.isFinite(point.y)) points.push(point);
    });
    return { line, points };
  }

  curve({ line, points }) {
    if (!points.length) return;
    const look = this.chart.groups[line.group][1];
    const kind = `line ${look}${this.isChosen(line) ? " chosen" : ""}`;
    const group = draw(this.svg, "g", { class: kind });
    const path = points.map((point, n) => {
      const gap = !n || points[n - 1].index !== point.index - 1;
      return `${gap ? "M" : "L"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
    });
    const end = points[points.length - 1];
    const error = line.error?.[0] || 0;
    const [low, high] = [end.at - error, end.at + error].map(this.scaleX);
    const bar = `M${low} ${end.y}H${high}`;
    draw(group, "path", { d: this.chart.marks ? bar : path.join("") });
    if (line.failed) {
      draw(group, "path", { d: `M${end.x - 4} ${end.y - 4}l8 8m0 -8l-8 8`, class: "cross" });
    } else if (this.chart.marks || points.length < 40) {
      draw(group, "circle", { cx: end.x, cy: end.y, r: this.chart.marks ? 5 : 2.5 });
    }
  }

  isChosen(line) {
    return line.name === this.highlight;
  }

  isSame(point) {
    const { cursor } = this;
    return cursor && point.line.name === cursor.line.name && point.index === cursor.index;
  }

  // --- reading values

  follow(event) {
    const box = this.svg.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    let [best, least] = [null, NEAR ** 2];
    for (const point of this.points) {
      const distance = (point.x - px) ** 2 + (point.y - py) ** 2;
      if (distance < least) [best, least] = [point, distance];
    }
    this.point(best);
  }

  step(event) {
    const [key, sign] = {
      ArrowRight: ["x", 1], ArrowLeft: ["x", -1], ArrowUp: ["y", -1], ArrowDown: ["y", 1],
    }[event.key] || [null, 0];
    if (event.key === "Escape") this.point(null);
    if (!key || !this.points.length) return;
    event.preventDefault();
    this.point(this.cursor ? this.next(key, sign) : this.points[this.points.length - 1]);
  }

  // The neighbour of the cursor: along its own curve, or on the curve above or below.
  next(key, sign) {
    const { cursor } = this;
    let candidates = this.points;
    if (key === "x" && !this.chart.marks) {
      candidates = candidates.filter((point) => point.line === cursor.line);
    } else if (!this.chart.marks) {
      const across = (point) => Math.abs(point.x - cursor.x);
      const nearest = new Map();
      for (const point of candidates) {
        const known = nearest.get(point.line);
        if (!known || across(point) < across(known)) nearest.set(point.line, point);
      }
      nearest.set(cursor.line, cursor);
      candidates = [...nearest.values()];
    }
    const order = [...candidates].sort((a, b) => a[key] - b[key]);
    return order[order.indexOf(cursor) + sign] || cursor;
  }

  point(cursor) {
    if (cursor === this.cursor) return;
    this.cursor = cursor;
    this.mark();
  }

  mark() {
    const { cursor } = this;
    this.overlay?.replaceChildren();
    this.readout.textContent = cursor ? this.tell(cursor) : HELP;
    if (!cursor) return;
    const grid = this.points.filter((point) => point.line === cursor.line);
    const path = grid.map((point, n) => `${n ? "L" : "M"}${point.x} ${point.y}`).join("");
    draw(this.overlay, "path", { d: path, class: "halo" });
    draw(this.overlay, "circle", { cx: cursor.x, cy: cursor.y, r: 6, class: "spot" });
    const left = cursor.x > this.root.clientWidth / 2;
    const place = { x: cursor.x + (left ? -10 : 10), y: Math.max(24, cursor.y - 10) };
    const text = `${cursor.line.name}: ${format(cursor.value)}`;
    draw(this.overlay, "text", { ...place, "text-anchor": left ? "end" : "start" }, text);
  }

  tell({ line, index, at, value }) {
    const error = line.error?.[index];
    const spread = error ? ` \u00b1 ${format(error, 2)} (standard error)` : "";
    const { x, y, groups, marks } = this.chart;
    const [up, across] = marks ? ["", spread] : [spread, ""]; // a mark's is that of its place
    const group = groups[line.group][0];
    const role = line.name.startsWith(group) ? "" : `, ${group}`;
    return `${line.name}${role}: ${y} ${format(value)}${up} at ${x} ${format(at)}${across}`;
  }
}
