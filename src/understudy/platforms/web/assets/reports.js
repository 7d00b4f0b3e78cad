// Reports of the operator's page: figures of each server, usage tables, the program.
import { call } from "./api.js";
import { byId, make } from "./dom.js";
import { money, plural, seconds } from "./plots.js";

const REFRESH_MS = 30_000;

function ago(at, now) {
  const minutes = Math.max(0, Math.round((now - at) / 60));
  if (minutes < 60) return `${minutes} min ago`;
  return minutes < 2880 ? `${Math.round(minutes / 60)} h ago` : `${Math.round(minutes / 1440)} days ago`;
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return plural(minutes, "minute");
  if (minutes < 2880) return `${plural(Math.floor(minutes / 60), "hour")} ${minutes % 60} min`;
  return plural(Math.floor(minutes / 1440), "day");
}

function figures(server, cost, now) {
  const parts = [];
  if (server?.attempts) parts.push(`${Math.round(100 * server.success)} % of ${plural(server.attempts, "attempt")}`);
  if (server?.p50_ms != null) parts.push(`first token ${seconds(server.p50_ms)} (p50), ${seconds(server.p95_ms)} (p95)`);
  if (server?.last_error) parts.push(`last error: ${server.last_error}, ${ago(server.last_error_at, now)}`);
  if (cost != null) parts.push(`${money(cost)} today`);
  return parts.join(" · ");
}

let report = { servers: {}, cost_today: {} };

// The list of servers is drawn again with each change, so its figures are filled in afterwards.
export function fillFigures() {
  for (const row of document.querySelectorAll("#candidates li[data-label]")) {
    const { label, provider } = row.dataset;
    row.querySelector(".figures").textContent = figures(report.servers[label], report.cost_today[provider], Date.now() / 1000);
  }
}

async function servers() {
  report = await call("GET", "/api/operator/servers");
  fillFigures();
}

const number = (value) => (value === null ? "" : value.toLocaleString());

function usageRow(row) {
  const cell = (text) => make("td", { className: "n", textContent: text });
  const cost = row.cost_usd === null ? (row.unknown_costs ? "unknown" : "") : money(row.cost_usd) + (row.unknown_costs ? " +" : "");
  return make("tr", {}, make("td", { textContent: row.key || "(none)" }), cell(number(row.replies)), cell(number(row.attempts)),
    cell(number(row.failures)), cell(number(row.input_tokens)), cell(number(row.output_tokens)), cell(cost));
}

async function usage() {
  const { rows } = await call("GET", `/api/operator/usage/${byId("group").value}?span=${byId("table-span").value}`);
  byId("usage-table").tBodies[0].replaceChildren(...rows.map(usageRow));
}

async function about() {
  const facts = await call("GET", "/api/operator/about");
  const started = new Date(facts.started_at * 1000).toLocaleString();
  const rows = [["Version", facts.version], ["Running for", `${duration(facts.now - facts.started_at)}, since ${started}`],
    ["Configuration", facts.revision], ["Instance", facts.instance], ["Discord", facts.discord]];
  byId("about").replaceChildren(...rows.filter(([, value]) => value).flatMap(([name, value]) =>
    [make("dt", { textContent: name }), make("dd", { textContent: value })]));
  byId("configuration").textContent = facts.configuration;
}

export const refresh = () => Promise.all([servers(), usage(), about()]).catch(() => {});
byId("group").onchange = () => usage().catch(() => {});
byId("table-span").onchange = () => usage().catch(() => {});
setInterval(refresh, REFRESH_MS);
refresh();
