// A reply's attempts as a timeline: one bar per attempt, hatched until its first token.
import { make } from "./dom.js";
import { money, seconds } from "./plots.js";

const OUTCOME = { delivered: "Delivered", partial: "Incomplete", offline: "No server could answer", cancelled: "Stopped", rejected: "Refused" };

function bar(kind, fromMs, lengthMs, totalMs) {
  const element = make("i", { className: kind });
  element.style.left = `${(100 * fromMs) / totalMs}%`;
  element.style.width = `${(100 * lengthMs) / totalMs}%`;
  return element;
}

function figures(row) {
  if (row.outcome === "skipped") return row.verdict;
  const tokens = row.output_tokens === null ? "" : `, ${row.input_tokens}→${row.output_tokens} tokens`;
  return `${seconds(row.total_ms)}${tokens}`;
}

function attempt(row, run, totalMs) {
  const from = Math.max(0, (row.ts - run.ts) * 1000);
  const first = row.first_ms ?? row.total_ms;
  const track = make("div", { className: "track" });
  if (row.outcome !== "skipped") {
    track.append(bar("wait", from, first, totalMs));
    if (row.outcome !== "ok" && row.first_ms === null) track.append(bar("writing", from + row.total_ms, 0, totalMs));
    else track.append(bar("writing", from + first, Math.max(0, row.total_ms - first), totalMs));
  }
  const name = make("span", { className: "name", textContent: `${row.verdict}: ${row.label}`, title: row.model });
  const what = make("span", { className: "what", textContent: figures(row) });
  track.title = details(row);
  return make("div", { className: "try", data: { outcome: row.outcome } }, name, track, what);
}

function details(row) {
  const parts = [row.model, `role ${row.role}`, `phase ${row.phase}`, `then ${row.next}`];
  if (row.error_class) parts.push(row.error_class);
  if (row.http_status) parts.push(`HTTP ${row.http_status}`);
  if (row.budget_ms) parts.push(`budget ${seconds(row.budget_ms)}`);
  if (row.cost_usd !== null) parts.push(money(row.cost_usd));
  if (row.held_until) parts.push(`cooldown until ${new Date(row.held_until * 1000).toLocaleTimeString()}`);
  return parts.join(" · ");
}

export function trace(run) {
  const ends = run.attempts.map((row) => (row.ts - run.ts) * 1000 + row.total_ms);
  const totalMs = Math.max(run.total_ms, ...ends, 1);
  const visible = run.first_visible_ms === null ? "" : `, first token after ${seconds(run.first_visible_ms)}`;
  const cost = run.cost_usd === null ? "" : `, ${money(run.cost_usd)}`;
  const head = make("p", {},
    make("b", { textContent: OUTCOME[run.outcome] ?? run.outcome }),
    ` on ${run.sink}, ${new Date(run.ts * 1000).toLocaleString()}, ${seconds(run.total_ms)} in total${visible}${cost}${run.order ? `, order ${run.order}` : ""}`);
  return make("div", { className: "run" }, head, ...run.attempts.map((row) => attempt(row, run, totalMs)));
}
