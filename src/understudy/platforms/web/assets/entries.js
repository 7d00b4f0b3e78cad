// The conversation on the page: one element per entry, updated in place.
import { dressCode } from "./code.js";
import { byId, copy, make } from "./dom.js";

const WAITING = {
  waiting: "No model server could answer yet. Another attempt follows.",
  failed: "No reply.",
};
const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  edit: "M10.5 3.2 12.8 5.5 5.5 12.8 2.8 13.2 3.2 10.5z",
  again: "M13 3v3.5H9.5M13 6.3A5.3 5.3 0 1 0 13.4 9",
};

export class Entries {
  constructor(log, actions) {
    this.log = log;
    log.addEventListener("click", (event) => goToFootnote(event.target));
    this.actions = actions;
    this.known = new Map();
  }

  clear() {
    this.log.replaceChildren();
    this.known.clear();
  }

  get writing() {
    return [...this.known.values()].filter((entry) => entry.state === "writing");
  }

  get size() { return this.known.size; }

  // Whether the newest entry is a message whose reply has not begun.
  get isWaiting() {
    const newest = [...this.known.values()].at(-1);
    return newest?.kind === "user" && !newest.error && !newest.state;
  }

  remove(id) {
    if (this.known.get(id)?.error) return; // a message that was not sent stays visible
    this.known.get(id)?.element.remove();
    this.known.delete(id);
    this.markLast();
  }

  // Shows an entry from the server; returns the text of a reply that has just ended, else "".
  show(entry, fresh = true) {
    for (const gone of entry.replaces ?? []) {
      if (gone !== entry.id && this.known.has(gone)) this.replace(gone, entry.id);
    }
    const before = this.known.get(entry.id);
    const element = before?.element ?? this.place(entry, fresh);
    this.known.set(entry.id, { ...before, ...entry, element });
    if (entry.kind === "user") this.fillUser(element, entry);
    else this.fillReply(element, entry, before);
    const question = entry.kind === "reply" && this.known.get(entry.after);
    if (question?.state) this.fillUser(question.element, question);
    this.markLast();
    const ended = before?.state === "writing" && entry.state !== "writing";
    return ended ? element.querySelector(".prose").textContent : "";
  }

  replace(gone, id) {
    const old = this.known.get(gone);
    this.known.delete(gone);
    old.element.querySelector(".prose")?.replaceChildren();
    this.known.set(id, { element: old.element, state: "writing" });
  }

  place(entry, fresh) {
    const element = make("article", { className: `entry ${entry.kind}${fresh ? " fresh" : ""}` });
    const after = this.known.get(entry.after)?.element;
    if (after) after.after(element);
    else this.log.append(element);
    return element;
  }

  markLast() {
    const replies = this.log.querySelectorAll(".reply");
    replies.forEach((element, index) => element.classList.toggle("last", index === replies.length - 1));
  }

  fillUser(element, entry) {
    const parts = [];
    if (entry.images?.length) parts.push(thumbs(entry.images));
    if (entry.text) parts.push(bubble(entry));
    for (const note of entry.notes ?? []) parts.push(make("p", { className: "note", textContent: note }));
    if (entry.error) parts.push(this.notSent(entry));
    else if (entry.text) parts.push(this.userButtons(element, entry));
    const answered = [...this.known.values()].some((other) => other.after === entry.id);
    if (WAITING[entry.state] && !answered) {
      parts.push(make("p", { className: "note", textContent: WAITING[entry.state] }));
    }
    if (entry.state === "stopped" && !answered) parts.push(this.stoppedNote(entry));
    element.replaceChildren(...parts);
  }

  userButtons(element, entry) {
    const copyButton = iconButton("copy", "Copy");
    copyButton.onclick = () => copy(entry.text, copyButton);
    const edit = iconButton("edit", "Edit and send again");
    edit.classList.add("edit");
    edit.onclick = () => this.editor(element, entry);
    return make("span", { className: "actions" }, timeOf(entry), copyButton, edit);
  }

  // Replaces the message by a box; what follows the message is replaced when it is sent.
  editor(element, entry) {
    const box = make("textarea", { value: entry.text, rows: 3, dir: "auto", maxLength: 32000, "aria-label": "Edit the message" });
    const send = make("button", { type: "submit", className: "small strong", textContent: "Send" });
    const cancel = make("button", { type: "button", className: "small", textContent: "Cancel" });
    const form = make("form", { className: "editor" }, box, make("div", { className: "editor-foot" }, cancel, send));
    cancel.onclick = () => this.fillUser(element, entry);
    form.onsubmit = (event) => {
      event.preventDefault();
      if (box.value.trim()) this.actions.edit(entry, box.value.trim());
      this.fillUser(element, entry);
    };
    element.replaceChildren(form);
    box.focus();
  }

  stoppedNote(entry) {
    const again = make("button", { type: "button", className: "regenerate", textContent: "Regenerate" });
    again.onclick = () => this.actions.regenerate(entry.reply);
    return make("p", { className: "note" }, "Stopped ", again);
  }

  notSent(entry) {
    const again = make("button", { type: "button", textContent: "Try again" });
    again.onclick = () => this.actions.resend(entry);
    return make("p", { className: "note bad" }, `${entry.error} `, again);
  }

  fillReply(element, entry, before) {
    element.dataset.state = entry.state;
    element.dataset.reply = entry.id;
    let prose = element.querySelector(".prose");
    if (!prose) {
      prose = make("div", { className: "prose" });
      element.replaceChildren(thoughtsFold(), prose, make("div", { className: "under" }));
    }
    fillThoughts(element.querySelector(".thoughts"), entry);
    const restarts = before?.blockCount && (entry.keep ?? 0) === 0 && entry.steps.length > before.steps.length;
    if (restarts && entry.state === "writing") flash(element);
    this.known.get(entry.id).blockCount = fillBlocks(prose, entry);
    this.fillUnder(element.querySelector(".under"), entry);
    dressCode(prose, entry.state !== "writing");
  }

  fillUnder(under, entry) {
    const parts = [route(entry)];
    for (const note of entry.notes ?? []) parts.push(make("span", { className: "note", textContent: note }));
    if (entry.state === "partial") parts.push(make("span", { className: "note", textContent: "incomplete" }));
    if (entry.state === "stopped") parts.push(make("span", { className: "note", textContent: "stopped" }));
    if (entry.state === "offline" && entry.retry_at) parts.push(countdown(entry.retry_at));
    if (entry.state !== "writing") parts.push(this.buttons(entry));
    under.replaceChildren(...parts);
  }

  buttons(entry) {
    const copyButton = iconButton("copy", "Copy");
    copyButton.onclick = () => copy(entry.text, copyButton);
    const again = iconButton("again", "Regenerate");
    again.classList.add("regenerate");
    again.onclick = () => this.actions.regenerate(entry.id);
    const last = entry.state === "offline" ? null : again;
    return make("span", { className: "actions" }, timeOf(entry), copyButton, last);
  }
}

function iconButton(icon, label) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[icon]);
  svg.append(path);
  return make("button", { type: "button", title: label, "aria-label": label }, svg);
}

function thoughtsFold() {
  return make("details", { className: "thoughts", hidden: true }, make("summary"), make("p", { dir: "auto" }));
}

// The model's reasoning: it is not stored, so it is gone after a reload.
function fillThoughts(fold, entry) {
  fold.hidden = !entry.thoughts;
  if (!entry.thoughts) return;
  const took = entry.thought_s;
  fold.firstChild.textContent = took === null || took === undefined ? "Thinking…" : `Thought for ${Math.max(1, Math.round(took))} s`;
  fold.lastChild.textContent = entry.thoughts;
}

function flash(element) {
  element.classList.remove("restarted");
  void element.offsetWidth; // restarts the animation
  element.classList.add("restarted");
}

// The server's rendering, or the plain text of a message that is not stored yet.
function bubble(entry) {
  const element = make("div", { className: "bubble", dir: "auto" });
  if (!entry.blocks) return Object.assign(element, { className: "bubble plain", textContent: entry.text });
  for (const html of entry.blocks) element.append(block(html));
  dressCode(element, true);
  return element;
}

function block(html) {
  const element = make("div", { className: "block" });
  element.innerHTML = html;
  return element;
}

// Blocks are HTML that the server rendered from markdown, with the model's own HTML escaped.
function fillBlocks(prose, entry) {
  const keep = entry.keep ?? 0;
  while (prose.children.length > keep) prose.lastElementChild.remove();
  for (const html of entry.blocks) prose.append(block(html));
  if (!prose.children.length && entry.state === "writing") {
    prose.append(make("span", { className: "dots", "aria-label": "Thinking" }, make("i"), make("i"), make("i")));
    return 0;
  }
  return prose.children.length;
}

function goToFootnote(target) {
  if (!target.matches?.(".note-ref")) return;
  const note = target.closest(".prose, .bubble").querySelector(`li[data-note="${target.dataset.note}"]`);
  note?.scrollIntoView({ block: "nearest" });
  note?.focus();
}

function timeOf(entry) {
  const at = new Date(entry.at * 1000);
  const text = at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return make("time", { dateTime: at.toISOString(), textContent: text, title: at.toLocaleString() });
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

function route(entry) {
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

function thumbs(images) {
  return make("div", { className: "thumbs" }, ...images.map((image) => largeButton(make("img", {
    src: image.url ?? `/api/images/${image.digest}`, alt: image.name, loading: "lazy",
  }))));
}

// A picture that opens in full size.
function largeButton(picture) {
  const button = make("button", { type: "button", "aria-label": `Open ${picture.alt || "picture"}` }, picture);
  button.onclick = () => {
    byId("large-picture").src = picture.src;
    byId("large-picture").alt = picture.alt;
    byId("large").showModal();
  };
  return button;
}

function countdown(until) {
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
