// The table of attempts: live while nothing is searched for, else pages from the ledger.
import { call } from "./api.js";
import { byId, make } from "./dom.js";
import { money, seconds } from "./plots.js";

const SHOWN_ROWS = 200;
const TYPING_MS = 300;
const known = (value, format) => (value === null || value === undefined ? "" : format(value));
let openTrace = () => {};
let live = []; // rows of the event stream, newest first
let page = -1; // of the stored attempts; -1 is the live table
let until = 0;
let typing = 0;
let asked = 0; // an answer that a later question has overtaken is dropped

function line(data, fresh) {
  const find = make("button", { type: "button", className: "trace-link", textContent: data.reply, title: data.reply });
  find.onclick = () => openTrace(data.reply);
  const cell = (text, className = "") => make("td", { className, textContent: text });
  const tokens = data.output_tokens === null ? "" : `${data.input_tokens}→${data.output_tokens}`;
  const at = new Date(data.ts * 1000);
  const time = page < 0 ? at.toLocaleTimeString() : at.toLocaleString();
  return make("tr", { className: fresh ? "fresh" : "", data: { outcome: data.outcome } },
    cell(time), cell(data.label),
    cell(data.http_status && data.outcome === "error" ? `${data.verdict} (${data.http_status})` : data.verdict, "what"),
    cell(data.sink), cell(known(data.first_ms, seconds), "n"), cell(data.outcome === "skipped" ? "" : seconds(data.total_ms), "n"),
    cell(tokens, "n"), cell(known(data.cost_usd, money), "n"), make("td", {}, find));
}

function show(rows, empty) {
  byId("live").tBodies[0].replaceChildren(...rows);
  byId("live-empty").textContent = empty;
  byId("live-empty").hidden = rows.length > 0;
}

function showLive() {
  page = -1;
  byId("live-title").textContent = "Attempts (live)";
  byId("newer").hidden = true;
  byId("older").hidden = false;
  byId("page-note").textContent = "";
  show(live.map((data) => line(data, false)), "No attempts yet. Attempts appear here when they end.");
}

async function stored(wanted) {
  const words = byId("filter").value.trim();
  const query = new URLSearchParams({ page: wanted, text: words, outcome: byId("outcome").value, until: wanted ? until : 0 });
  const question = ++asked;
  try {
    const found = await call("GET", `/api/operator/attempts?${query}`);
    if (question !== asked) return;
    page = wanted;
    until = found.until;
    byId("live-title").textContent = "Attempts (stored)";
    byId("newer").hidden = false;
    byId("newer").textContent = page ? "Newer" : "Live";
    byId("older").hidden = !found.more;
    byId("page-note").textContent = `Page ${page + 1}`;
    show(found.rows.map((data) => line(data, false)), "No stored attempt has all of these words.");
  } catch (error) {
    byId("page-note").textContent = error.message;
  }
}

function filtered() {
  asked += 1;
  if (byId("filter").value.trim() || byId("outcome").value) stored(0);
  else showLive();
}

byId("filter").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(filtered, TYPING_MS);
};
byId("outcome").onchange = filtered;
byId("older").onclick = () => stored(page + 1);
byId("newer").onclick = () => {
  if (page > 0) return stored(page - 1);
  byId("filter").value = byId("outcome").value = "";
  filtered();
};

export function add(data, fresh) {
  live.unshift(data);
  live = live.slice(0, SHOWN_ROWS);
  if (page >= 0) return;
  const body = byId("live").tBodies[0];
  body.prepend(line(data, fresh));
  while (body.rows.length > SHOWN_ROWS) body.lastElementChild.remove();
  byId("live-empty").hidden = true;
}

export function restart() {
  live = [];
  if (page < 0) showLive();
}

export function onTrace(open) {
  openTrace = open;
}
