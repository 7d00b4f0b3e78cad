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
    const answered = [...this.known.values()].some((other) => other.after === entry.id);
    if (WAITING[entry.state] && !answered) {
      parts.push(make("p", { className: "note", textContent: WAITING[entry.state] }));
    }
    if (entry.state === "stopped" && !answered) parts.push(this.stoppedNote(entry));
    element.replaceChildren(...parts);
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
      element.replaceChildren(prose, make("div", { className: "under" }));
    }
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
    return make("span", { className: "actions" }, copyButton, last);
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

function route(entry) {
  const steps = entry.steps.map((step) => {
    const figures = step.figures ? make("span", { className: "figures", textContent: `· ${step.figures}` }) : "";
    const who = make("b", { textContent: step.label });
    const pair = make("span", { className: "pair" }, `${step.verdict}: `, who);
    return make(
      "li",
      { data: { outcome: step.outcome }, title: step.model },
      pair, " ", figures,
    );
  });
  return make("ol", { className: "route", "aria-label": "Route of this reply" }, ...steps.flatMap((step) => [step, " "]));
}

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
