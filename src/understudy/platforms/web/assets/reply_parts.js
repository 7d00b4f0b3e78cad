// Parts of a reply: its speaker, its thoughts, its text, its route, its versions.
import { make } from "./dom.js";
import { iconButton } from "./icons.js";

export function speaker(name, picture) {
  const image = picture ? make("img", { src: picture, alt: "", width: 28, height: 28 }) : null;
  return make("div", { className: "speaker" }, image, make("span", { textContent: name, dir: "auto" }));
}

export function thoughtsFold() {
  return make("details", { className: "thoughts", hidden: true }, make("summary"), make("p", { dir: "auto" }));
}

export function fillThoughts(fold, entry) {
  fold.hidden = !entry.thoughts;
  if (!entry.thoughts) return;
  const isThinking = entry.state === "writing" && entry.thought_s === null;
  const isTimed = typeof entry.thought_s === "number";
  const took = isTimed ? ` for ${Math.max(1, Math.round(entry.thought_s))} s` : "";
  fold.firstChild.textContent = isThinking ? "Thinking…" : `Thought${took}`;
  fold.lastChild.textContent = entry.thoughts;
}

export function block(html) {
  const element = make("div", { className: "block" });
  element.innerHTML = html;
  return element;
}

// Blocks are HTML that the server rendered from markdown, with the model's own HTML escaped.
export function fillBlocks(prose, entry) {
  const keep = entry.keep ?? 0;
  while (prose.children.length > keep) prose.lastElementChild.remove();
  for (const html of entry.blocks) prose.append(block(html));
  if (!prose.children.length && entry.state === "writing") {
    prose.append(make("span", { className: "dots", "aria-label": "Thinking" }, make("i"), make("i"), make("i")));
    return 0;
  }
  return prose.children.length;
}

export function goToFootnote(target) {
  if (!target.matches?.(".note-ref")) return;
  const note = target.closest(".prose, .bubble").querySelector(`li[data-note="${target.dataset.note}"]`);
  note?.scrollIntoView({ block: "nearest" });
  note?.focus();
}

export function timeOf(entry) {
  const at = new Date(entry.at * 1000);
  const text = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return make("time", { dateTime: at.toISOString(), textContent: text, title: at.toLocaleString() });
}

// ‹ 2/3 ›: shows another version of a reply, which then also goes into prompts.
export function versionSwitch(entry, choose) {
  const { versions } = entry;
  if (!versions?.length) return null;
  const index = versions.indexOf(entry.id);
  const earlier = iconButton("earlier", "Earlier version", () => choose(versions[index - 1]));
  const later = iconButton("later", "Later version", () => choose(versions[index + 1]));
  earlier.disabled = index <= 0;
  later.disabled = index >= versions.length - 1;
  const number = make("span", { textContent: `${index + 1}/${versions.length}` });
  return make("span", { className: "versions", role: "group", "aria-label": "Versions of this reply" }, earlier, number, later);
}

// Equal steps in a row become one with their number.
function folded(steps) {
  const groups = [];
  for (const step of steps) {
    const last = groups.at(-1);
    if (last && !step.figures && last.step.verdict === step.verdict && last.step.label === step.label) last.count += 1;
    else groups.push({ step, count: 1 });
  }
  return groups;
}

export function route(entry) {
  const total = entry.steps.length > 1 && entry.total_ms ? `, ${seconds(entry.total_ms)} in total` : "";
  const steps = folded(entry.steps).map(({ step, count }) => {
    const figures = step.figures ? make("span", { className: "figures", textContent: `· ${step.figures}${total}` }) : "";
    const who = make("b", { textContent: step.label });
    const times = count > 1 ? ` ×${count}` : "";
    const pair = make("span", { className: "pair" }, `${step.verdict}: `, who, times);
    return make("li", { data: { outcome: step.outcome }, title: step.model }, pair, " ", figures);
  });
  return make("ol", { className: "route", "aria-label": "Route of this reply" }, ...steps.flatMap((step) => [step, " "]));
}

const seconds = (ms) => (ms < 100 ? "<0.1 s" : `${(ms / 1000).toFixed(1)} s`);

export function countdown(until) {
  const span = make("span", { className: "note countdown" });
  const tick = () => {
    const left = Math.max(0, Math.round(until - Date.now() / 1000));
    span.textContent = left
      ? `trying again in ${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`
      : "trying again…";
    if (left && (span.isConnected || !span.dataset.seen)) setTimeout(tick, 1000);
    span.dataset.seen = "yes";
  };
  tick();
  return span;
}
