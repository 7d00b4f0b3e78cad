// The conversation on the page: one element per entry, updated in place.
import { dressCode } from "./code.js";
import { copy, make } from "./dom.js";
import { iconButton } from "./icons.js";
import { countdown, fillBlocks, fillThoughts, goToFootnote, route, speaker, thoughtsFold, timeOf, versionSwitch } from "./reply_parts.js";
import { bubble, editor, fileNames, thumbs } from "./user_parts.js";

const WAITING = {
  waiting: "No model server could answer yet. Another attempt follows.",
  failed: "No reply.",
};
const ENDED = { partial: "incomplete", stopped: "stopped" };

export class Entries {
  // `speakers` says how a reply's name is shown: speakers.of(name) → {name, picture} or null.
  constructor(log, speakers, actions) {
    Object.assign(this, { log, speakers, actions });
    log.addEventListener("click", (event) => goToFootnote(event.target));
    this.known = new Map();
  }

  clear() {
    this.log.replaceChildren();
    this.known.clear();
  }

  // Shows a whole conversation, without losing the focus on the arrows of a version.
  showAll(entries) {
    const replies = [...this.log.querySelectorAll(".reply")];
    const focused = replies.findIndex((reply) => reply.contains(document.activeElement));
    const label = focused < 0 ? "" : document.activeElement.getAttribute("aria-label");
    const commands = this.log.querySelectorAll(".command");
    this.clear();
    for (const entry of entries) this.show(entry, false);
    this.log.append(...commands);
    if (label) this.log.querySelectorAll(".reply")[focused]?.querySelector(`[aria-label="${label}"]`)?.focus();
  }

  get writing() {
    return [...this.known.values()].filter((entry) => entry.state === "writing");
  }

  get unsent() { return [...this.known.values()].filter((entry) => entry.error); }

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
    if (entry.files?.length) parts.push(fileNames(entry.files));
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
    const copyButton = iconButton("copy", "Copy", (button) => copy(entry.text, button));
    const edit = iconButton("edit", "Edit and send again", () => this.edit(element, entry));
    edit.classList.add("edit");
    return make("span", { className: "actions" }, timeOf(entry), copyButton, edit);
  }

  edit(element, entry) {
    const close = () => this.fillUser(element, entry);
    const onSend = (text) => {
      if (text) this.actions.edit(entry, text);
      close();
    };
    element.replaceChildren(editor(entry.text, { onSend, onCancel: close }));
    element.querySelector("textarea").focus();
  }

  editLast() {
    const newest = [...this.known.values()].filter((entry) => entry.kind === "user" && entry.text && !entry.error).at(-1);
    if (newest) this.edit(newest.element, newest);
    return Boolean(newest);
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
      this.showSpeaker(element, entry);
    }
    fillThoughts(element.querySelector(".thoughts"), entry);
    const restarts = before?.blockCount && (entry.keep ?? 0) === 0 && entry.steps.length > before.steps.length;
    if (restarts && entry.state === "writing") flash(element);
    this.known.get(entry.id).blockCount = fillBlocks(prose, entry);
    this.fillUnder(element.querySelector(".under"), entry);
    dressCode(prose, entry.state !== "writing");
  }

  showSpeaker(element, entry) {
    element.querySelector(".speaker")?.remove();
    const shown = this.speakers.of(entry.name);
    if (shown) element.prepend(speaker(shown.name, shown.picture));
  }

  showSpeakers() {
    for (const entry of this.known.values()) if (entry.kind === "reply") this.showSpeaker(entry.element, entry);
  }

  fillUnder(under, entry) {
    const parts = entry.steps.length ? [route(entry)] : [];
    for (const note of entry.notes ?? []) parts.push(make("span", { className: "note", textContent: note }));
    if (ENDED[entry.state]) parts.push(make("span", { className: "note", textContent: ENDED[entry.state] }));
    if (entry.state === "offline" && entry.retry_at) parts.push(countdown(entry.retry_at));
    if (entry.state !== "writing") parts.push(this.replyButtons(entry));
    under.replaceChildren(...parts);
  }

  replyButtons(entry) {
    const copyButton = iconButton("copy", "Copy", (button) => copy(entry.text, button));
    if (entry.state === "offline") return make("span", { className: "actions" }, timeOf(entry), copyButton);
    const again = iconButton("again", "Regenerate", () => this.actions.regenerate(entry.id));
    again.classList.add("regenerate", "only-last");
    const remake = iconButton("again", "Regenerate in a new branch", () => this.actions.branch(entry.id, true));
    remake.classList.add("not-last");
    const branch = iconButton("branch", "Branch from here", () => this.actions.branch(entry.id, false));
    branch.classList.add("branch");
    const own = entry.answers ? [branch, remake, again] : [branch];
    return make("span", { className: "actions" }, versionSwitch(entry, this.actions.chooseVersion),
      this.continueButton(entry), timeOf(entry), copyButton, ...own);
  }

  continueButton(entry) {
    if (!entry.unfinished || !entry.answers) return null;
    const button = make("button", { type: "button", className: "continue only-last", textContent: "Continue" });
    button.onclick = () => this.actions.continueReply(entry.id);
    return button;
  }
}

function flash(element) {
  element.classList.remove("restarted");
  void element.offsetWidth; // restarts the animation
  element.classList.add("restarted");
}
