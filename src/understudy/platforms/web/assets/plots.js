// Small plots over time: stacked bars or lines, one colour per provider, drawn as SVG.
import { make } from "./dom.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 320, HEIGHT = 130, LEFT = 38, BOTTOM = 18, TOP = 8;

function svg(tag, attributes = {}, text = "") {
  const element = document.createElementNS(NS, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text) element.textContent = text;
  return element;
}

export function short(value) {
  if (value >= 1e6) return `${+(value / 1e6).toFixed(1)}M`;
  if (value >= 1e3) return `${+(value / 1e3).toFixed(1)}k`;
  return `${+value.toFixed(value < 10 ? 1 : 0)}`;
}
export const money = (value) => (value ? `$${value < 0.1 ? value.toPrecision(2) : value.toFixed(2)}` : "$0");
export const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

export const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

export const PLOTS = [
  { key: "tokens", title: "Tokens", bars: true, whole: true, format: short, none: "No tokens in this time" },
  { key: "cost", title: "Cost", bars: true, format: money, none: "No cost" },
  { key: "latency", title: "First token", bars: false, format: seconds, none: "No replies in this time" },
  { key: "failures", title: "Failures", bars: true, whole: true, format: short, none: "No failures" },
];

// The half of a ceiling is labelled too: for `whole` numbers it is a whole number.
function niceCeiling(value, whole) {
  const power = whole ? Math.max(1, 10 ** Math.floor(Math.log10(value))) : 10 ** Math.floor(Math.log10(value));
  const steps = whole ? [2, 4, 6, 10] : [1, 2, 2.5, 5, 10];
  return steps.map((step) => step * power).find((top) => top >= value);
}

export function timeLabel(at, step) {
  const date = new Date(at * 1000);
  if (step >= 86400) return date.toLocaleDateString([], { day: "numeric", month: "short" });
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
}

// One figure: {key, title, bars, format, none}, the data of a span, and a colour per provider.
export function plot(figure, data, colours) {
  const slots = Math.round((data.until - data.since) / data.step);
  const columns = Array.from({ length: slots }, () => []);
  let total = 0, known = 0, unknown = 0;
  for (const [provider, points] of Object.entries(data.series)) {
    for (const point of points) {
      const value = point[figure.key];
      const slot = Math.round((point.at - data.since) / data.step);
      unknown += point.unknown_costs;
      if (value === null || !columns[slot]) continue;
      columns[slot].push({ provider, value });
      total += value;
      known += 1;
    }
  }
  const sum = (column) => column.reduce((all, part) => all + part.value, 0);
  const highest = (column) => Math.max(0, ...column.map((part) => part.value));
  const most = Math.max(0, ...columns.map(figure.bars ? sum : highest));
  const box = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
  const uncounted = figure.key === "cost" && unknown ? `cost unknown for ${plural(unknown, "attempt")}` : "";
  const sumUp = figure.bars ? `${figure.format(total)} in total` : known ? `${figure.format(total / known)} on average` : "";
  const summary = [sumUp, uncounted].filter(Boolean).join(", ");
  const none = uncounted ? uncounted[0].toUpperCase() + uncounted.slice(1) : figure.none;
  box.append(svg("title", {}, `${figure.title}: ${most ? summary : none}`));
  const head = make("h3", {}, figure.title, make("output", { textContent: most ? summary : "" }));
  const scale = axes(box, figure, most, data);
  if (!most) box.append(svg("text", { class: "none", x: (WIDTH + LEFT) / 2, y: HEIGHT / 2, "text-anchor": "middle" }, none));
  else if (figure.bars) bars(box, columns, scale, colours);
  else lines(box, columns, scale, colours);
  if (most) cursor(box, head.querySelector("output"), { figure, data, columns, scale, summary });
  return make("div", { className: "plot", data: { plot: figure.key } }, head, box);
}

function axes(box, figure, most, data) {
  const top = most ? niceCeiling(most, figure.whole) : 1;
  const floor = HEIGHT - BOTTOM;
  const scale = {
    y: (value) => floor - (value / top) * (floor - TOP),
    x: (slot) => LEFT + (slot * (WIDTH - LEFT)) / scale.slots,
    slots: Math.round((data.until - data.since) / data.step),
    floor,
  };
  for (const part of most ? [0, 0.5, 1] : [0]) {
    const y = scale.y(top * part);
    box.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH, y1: y, y2: y }));
    if (part) box.append(svg("text", { x: LEFT - 5, y: y + 3.5, "text-anchor": "end" }, figure.format(top * part)));
  }
  for (const [part, anchor] of [[0, "start"], [0.5, "middle"], [1, "end"]]) {
    const at = data.since + (data.until - data.since) * part;
    box.append(svg("text", { x: LEFT + (WIDTH - LEFT) * part, y: HEIGHT - 4, "text-anchor": anchor }, timeLabel(at, data.step)));
  }
  return scale;
}

function coloured(element, colour) {
  element.style.setProperty("--series", colour);
  return element;
}

function bars(box, columns, scale, colours) {
  const width = Math.max(1, (WIDTH - LEFT) / scale.slots - 1);
  columns.forEach((column, slot) => {
    let below = 0;
    for (const { provider, value } of column.filter((part) => part.value)) {
      const y = scale.y(below + value);
      const height = Math.max(1, scale.y(below) - y);
      const bar = svg("rect", { class: "bar", x: scale.x(slot) + 0.5, y, width, height, rx: Math.min(1.5, width / 2) });
      box.append(coloured(bar, colours.get(provider)));
      below += value;
    }
  });
}

function lines(box, columns, scale, colours) {
  const paths = new Map();
  columns.forEach((column, slot) => {
    for (const { provider, value } of column) {
      if (!paths.has(provider)) paths.set(provider, []);
      paths.get(provider).push([scale.x(slot + 0.5), scale.y(value)]);
    }
  });
  for (const [provider, points] of paths) {
    const path = svg("polyline", { class: "line", points: points.map((point) => point.join(",")).join(" ") });
    box.append(coloured(path, colours.get(provider)));
    for (const [cx, cy] of points) box.append(coloured(svg("circle", { class: "dot", cx, cy, r: 2.3 }), colours.get(provider)));
  }
}

// The column under the pointer is shown as text above the plot.
function cursor(box, output, { figure, data, columns, scale, summary }) {
  const width = (WIDTH - LEFT) / scale.slots;
  const shade = svg("rect", { class: "cursor", y: TOP, height: scale.floor - TOP, width, visibility: "hidden" });
  box.prepend(shade);
  box.addEventListener("pointermove", (event) => {
    const bounds = box.getBoundingClientRect();
    const ratio = Math.min(bounds.width / WIDTH, bounds.height / HEIGHT);
    const x = (event.clientX - bounds.left - (bounds.width - WIDTH * ratio) / 2) / ratio;
    const slot = Math.min(scale.slots - 1, Math.max(0, Math.floor((x - LEFT) / width)));
    shade.setAttribute("x", scale.x(slot));
    shade.setAttribute("visibility", "visible");
    const parts = columns[slot].map(({ provider, value }) => `${provider} ${figure.format(value)}`);
    output.textContent = `${timeLabel(data.since + slot * data.step, data.step)}: ${parts.join(", ") || "nothing"}`;
  });
  box.addEventListener("pointerleave", () => {
    shade.setAttribute("visibility", "hidden");
    output.textContent = summary;
  });
}
