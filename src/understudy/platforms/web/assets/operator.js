// The operator's page: live data comes over one event stream, usage plots are fetched.
import { call, Stream } from "./api.js";
import { add, onTrace, restart } from "./attempts.js";
import { themeButton } from "./appearance.js";
import { byId, make } from "./dom.js";
import { PLOTS, plot, seconds } from "./plots.js";
import { fillFigures, refresh } from "./reports.js";
import { trace } from "./trace.js";

const STATES = { usable: "ready", probing: "cooldown ended, next request is a test", off: "off" };
const colours = new Map();
let span = "hour";
let clockAhead = 0; // the server's clock minus ours, in seconds
let statusTimer = 0;

function showStatus(text, kind = "") {
  const status = byId("status");
  clearTimeout(statusTimer);
  status.textContent = text;
  status.className = kind;
  status.hidden = !text;
  if (text && kind !== "lost") statusTimer = setTimeout(() => showStatus(""), 6000);
}

async function act(path, body) {
  try {
    showStatus((await call("POST", path, body)).said);
  } catch (error) {
    showStatus(error.message, "bad");
  }
}

function colour(provider) {
  if (!colours.has(provider)) colours.set(provider, `var(--s${colours.size % 8})`);
  return colours.get(provider);
}

// Model servers
function remaining(until) {
  const rest = Math.max(0, Math.ceil(until - (Date.now() / 1000 + clockAhead)));
  if (rest >= 3600) return `${Math.floor(rest / 3600)} h ${Math.floor((rest % 3600) / 60)} min`;
  return `${Math.floor(rest / 60)}:${String(rest % 60).padStart(2, "0")}`;
}

function stateLine(candidate) {
  const line = make("span", { className: "how" });
  if (candidate.state === "cooldown") {
    line.append(make("b", { textContent: candidate.reason || "cooldown" }));
    if (candidate.until) line.append(" · cooldown ends in ", make("time", { textContent: remaining(candidate.until), data: { until: candidate.until } }));
  } else {
    line.append([STATES[candidate.state], candidate.reason].filter(Boolean).join(" · "));
  }
  if (candidate.running) line.append(` · ${candidate.running} running`);
  if (candidate.waiting) line.append(` · ${candidate.waiting} queued`);
  return line;
}

function factsLine(candidate) {
  const facts = [candidate.address];
  if (candidate.context_length) facts.push(`context ${candidate.context_length.toLocaleString()}`);
  if (candidate.vision !== null) facts.push(candidate.vision ? "sees images" : "text only");
  return make("span", { className: "facts", textContent: facts.filter(Boolean).join(" · ") });
}

// Results of tests stay while the list is drawn again.
const results = new Map();

function resultText({ model, ok, state, advice, first_output_s: first, tokens_per_s: rate }) {
  const figures = [];
  if (first !== null) figures.push(`first token ${seconds(first * 1000)}`);
  if (rate !== null) figures.push(`${Math.round(rate)} tokens/s`);
  return `${ok ? "✓" : "✗"} ${[model || "model of the server", state, ...figures, advice].filter(Boolean).join(" · ")}`;
}

function drawResults(provider) {
  for (const row of document.querySelectorAll("#candidates li[data-provider]")) {
    if (row.dataset.provider !== provider) continue;
    row.querySelector(".tested").textContent = "";
  }
  const first = [...document.querySelectorAll("#candidates li")].find((row) => row.dataset.provider === provider);
  if (first) first.querySelector(".tested").textContent = results.get(provider) ?? "";
}

async function test(provider) {
  results.set(provider, "Testing…");
  drawResults(provider);
  try {
    const answer = await call("POST", "/api/operator/test", { provider });
    results.set(provider, answer.results.map(resultText).join("\n"));
  } catch (error) {
    results.set(provider, error.message);
  }
  drawResults(provider);
}

function candidateRow(candidate, seen) {
  const reset = make("button", { type: "button", className: "small", textContent: "End cooldown" });
  reset.onclick = () => act("/api/operator/reset", { provider: candidate.provider });
  const check = make("button", { type: "button", className: "small", textContent: "Test", title: "Probe this server and ask it for a short reply" });
  check.setAttribute("aria-label", `Test ${candidate.provider}`);
  check.onclick = () => test(candidate.provider);
  const isFirst = !seen.has(candidate.provider);
  seen.add(candidate.provider);
  return make("li", { data: { state: candidate.state, provider: candidate.provider, label: candidate.label } },
    make("span", { className: "lamp", "aria-hidden": "true" }),
    make("span", { className: "who" }, candidate.label, make("small", { textContent: candidate.model || "(model of the server)" })),
    stateLine(candidate),
    factsLine(candidate),
    make("span", { className: "figures" }),
    make("span", { className: "tested", role: "status" }),
    make("span", { className: "acts" }, candidate.state === "cooldown" ? reset : null, isFirst ? check : null));
}

function board(data) {
  clockAhead = data.now - Date.now() / 1000;
  for (const candidate of data.candidates) colour(candidate.provider);
  const seen = new Set();
  byId("candidates").replaceChildren(...data.candidates.map((candidate) => candidateRow(candidate, seen)));
  results.forEach((_, provider) => drawResults(provider));
  if (!data.candidates.length) byId("candidates").append(make("li", { className: "empty", textContent: "No model server is configured." }));
  fillFigures();
  byId("level").value = data.level;
  if (!byId("plots").children.length) usage();
  byId("reset-all").hidden = !data.candidates.some((candidate) => candidate.state === "cooldown");
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-until]")) time.textContent = remaining(Number(time.dataset.until));
}, 1000);

// Usage
let refreshing = 0;
function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => { usage(); refresh(); }, 700);
}

async function usage() {
  try {
    const data = await call("GET", `/api/operator/usage?span=${span}`);
    const providers = Object.keys(data.series);
    providers.forEach(colour);
    byId("plots").replaceChildren(...PLOTS.map((figure) => plot(figure, data, colours)));
    byId("plots").dataset.span = span;
    byId("legend").replaceChildren(...providers.map((provider) => {
      const name = make("span", { textContent: provider });
      name.style.setProperty("--series", colour(provider));
      return name;
    }));
  } catch (error) {
    showStatus(error.message, "bad");
  }
}

for (const button of document.querySelectorAll(".spans button")) {
  button.onclick = () => {
    span = button.dataset.span;
    for (const other of document.querySelectorAll(".spans button")) other.setAttribute("aria-pressed", String(other === button));
    usage();
  };
}

// Trace of a reply
async function show(reply) {
  byId("reply-id").value = reply;
  try {
    const { runs } = await call("GET", `/api/operator/replies/${encodeURIComponent(reply)}`);
    byId("runs").replaceChildren(...runs.map(trace),
      make("p", { className: "key", textContent: "Hatched: waiting for the first token. Filled: writing. Details appear when you point at a bar." }));
    byId("trace").scrollIntoView({ block: "nearest", behavior: "smooth" });
  } catch (error) {
    byId("runs").replaceChildren(make("p", { className: "empty", textContent: error.message }));
  }
}

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const reply = byId("reply-id").value.trim();
  if (reply) show(reply);
});
byId("menu").onclick = () => {
  const isOpen = byId("tools").classList.toggle("open");
  byId("menu").setAttribute("aria-expanded", String(isOpen));
};
byId("reload").onclick = () => act("/api/operator/reload", {});
byId("reset-all").onclick = () => act("/api/operator/reset", {});
byId("level").onchange = (event) => act("/api/operator/level", { level: event.target.value });
onTrace(show);
themeButton(byId("theme"), byId("theme-name"));

let started = false;
new Stream("/api/operator/events", {
  start() { restart(); started = true; },
  board,
  row: (data) => (data.kind === "reply" ? refreshSoon() : add(data, started)),
}, (isUp) => showStatus(isUp ? "" : "Connection lost. Reconnecting…", "lost"));
setInterval(usage, 60_000);
