// The operator's page: everything live comes over one event stream, plots are fetched.
import { call, Stream } from "./api.js";
import { themeButton } from "./appearance.js";
import { byId, make } from "./dom.js";
import { money, PLOTS, plot, seconds } from "./plots.js";
import { story } from "./story.js";

const SHOWN_ROWS = 60;
const STATES = { usable: "on call", probing: "next to be tried", off: "not in use" };
const colours = new Map();
let span = "hour";
let clockAhead = 0; // the server's clock minus ours, in seconds
let statusTimer = 0;

function say(text, kind = "") {
  const status = byId("status");
  clearTimeout(statusTimer);
  status.textContent = text;
  status.className = kind;
  status.hidden = !text;
  if (text && kind !== "lost") statusTimer = setTimeout(() => say(""), 6000);
}

async function act(path, body) {
  try {
    say((await call("POST", path, body)).said);
  } catch (error) {
    say(error.message, "bad");
  }
}

function colour(provider) {
  if (!colours.has(provider)) colours.set(provider, `var(--s${colours.size % 8})`);
  return colours.get(provider);
}

// The cast
function left(until) {
  const rest = Math.max(0, Math.ceil(until - (Date.now() / 1000 + clockAhead)));
  if (rest >= 3600) return `${Math.floor(rest / 3600)} h ${Math.floor((rest % 3600) / 60)} min`;
  return `${Math.floor(rest / 60)}:${String(rest % 60).padStart(2, "0")}`;
}

function how(candidate) {
  const line = make("span", { className: "how" });
  if (candidate.state === "resting") {
    line.append(make("b", { textContent: candidate.reason || "resting" }));
    if (candidate.until) line.append(" · back in ", make("time", { textContent: left(candidate.until), data: { until: candidate.until } }));
  } else {
    line.append([STATES[candidate.state], candidate.reason].filter(Boolean).join(" · "));
  }
  if (candidate.running) line.append(` · ${candidate.running} running`);
  return line;
}

function castRow(candidate) {
  const reset = make("button", { type: "button", className: "small", textContent: "End rest" });
  reset.onclick = () => act("/api/operator/reset", { provider: candidate.provider });
  return make("li", { data: { state: candidate.state, provider: candidate.provider } },
    make("span", { className: "lamp", "aria-hidden": "true" }),
    make("span", { className: "who" }, candidate.label, make("small", { textContent: candidate.model || "its own model" })),
    how(candidate),
    candidate.state === "resting" ? reset : null);
}

function board(data) {
  clockAhead = data.now - Date.now() / 1000;
  for (const candidate of data.candidates) colour(candidate.provider);
  byId("cast").replaceChildren(...data.candidates.map(castRow));
  if (!data.candidates.length) byId("cast").append(make("li", { className: "empty", textContent: "No model server is configured." }));
  byId("level").value = data.level;
  if (!byId("plots").children.length) usage();
  byId("reset-all").hidden = !data.candidates.some((candidate) => candidate.state === "resting");
}

setInterval(() => {
  for (const time of document.querySelectorAll("time[data-until]")) time.textContent = left(Number(time.dataset.until));
}, 1000);

// As it happens
function row(data, fresh) {
  if (data.kind === "reply") return refreshSoon();
  const known = (value, format) => (value === null || value === undefined ? "" : format(value));
  const find = make("button", { type: "button", className: "story", textContent: data.reply, title: data.reply });
  find.onclick = () => show(data.reply);
  const cell = (text, className = "") => make("td", { className, textContent: text });
  const tokens = data.output_tokens === null ? "" : `${data.input_tokens}→${data.output_tokens}`;
  const line = make("tr", { className: fresh ? "fresh" : "", data: { outcome: data.outcome } },
    cell(new Date(data.ts * 1000).toLocaleTimeString()), cell(data.label),
    cell(data.http_status && data.outcome === "error" ? `${data.verdict} (${data.http_status})` : data.verdict, "what"),
    cell(data.sink), cell(known(data.first_ms, seconds), "n"), cell(data.outcome === "skipped" ? "" : seconds(data.total_ms), "n"),
    cell(tokens, "n"), cell(known(data.cost_usd, money), "n"), make("td", {}, find));
  const body = byId("live").tBodies[0];
  body.prepend(line);
  while (body.rows.length > SHOWN_ROWS) body.lastElementChild.remove();
  byId("live-empty").hidden = true;
  return line;
}

// Usage
let refreshing = 0;
function refreshSoon() {
  clearTimeout(refreshing);
  refreshing = setTimeout(usage, 700);
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
    say(error.message, "bad");
  }
}

for (const button of document.querySelectorAll(".spans button")) {
  button.onclick = () => {
    span = button.dataset.span;
    for (const other of document.querySelectorAll(".spans button")) other.setAttribute("aria-pressed", String(other === button));
    usage();
  };
}

// A reply's story
async function show(reply) {
  byId("reply-id").value = reply;
  try {
    const { runs } = await call("GET", `/api/operator/replies/${encodeURIComponent(reply)}`);
    byId("runs").replaceChildren(...runs.map(story),
      make("p", { className: "key", textContent: "Hatched: waiting for the first word. Filled: speaking. Hover a bar for the details." }));
    byId("story").scrollIntoView({ block: "nearest", behavior: "smooth" });
  } catch (error) {
    byId("runs").replaceChildren(make("p", { className: "empty", textContent: error.message }));
  }
}

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  const reply = byId("reply-id").value.trim();
  if (reply) show(reply);
});
byId("reload").onclick = () => act("/api/operator/reload", {});
byId("reset-all").onclick = () => act("/api/operator/reset", {});
byId("level").onchange = (event) => act("/api/operator/level", { level: event.target.value });
themeButton(byId("theme"), byId("theme-name"));

let started = false;
new Stream("/api/operator/events", {
  start() { byId("live").tBodies[0].replaceChildren(); started = true; },
  board,
  row: (data) => row(data, started),
}, (isUp) => say(isUp ? "" : "Connection lost. Reconnecting…", "lost"));
setInterval(usage, 60_000);
