// The list of this browser's conversations: search, rename, export, delete with undo.
import { call } from "./api.js";
import { make } from "./dom.js";

const DAY = 86400;
const UNDO_MS = 6000;

function heading(at) {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  if (at >= midnight) return "Today";
  if (at >= midnight - DAY) return "Yesterday";
  return at >= midnight - 6 * DAY ? "This week" : "Earlier";
}

export class Chats {
  // `onDelete(id)` runs at once and shows the undo button, `onChange` after any change of the list.
  constructor(nav, { onDelete, onChange, onError }) {
    Object.assign(this, { nav, onDelete, onChange, onError });
    this.rows = [];
    this.found = null; // ids that match the search, with the text that was found
    this.deleting = new Map(); // id -> timer
    this.hidden = new Set(); // ids that another tab is deleting
    this.current = "";
    addEventListener("pagehide", () => { for (const id of this.deleting.keys()) this.deleteNow(id); });
  }

  async load() {
    this.rows = (await call("GET", "/api/chats")).chats;
    return this.rows;
  }

  async search(words) {
    this.found = null;
    if (words.trim()) {
      const { chats } = await call("GET", `/api/search?q=${encodeURIComponent(words)}`);
      this.found = new Map(chats.map((row) => [row.id, row.excerpt ?? ""]));
    }
    this.draw(this.current);
  }

  title(id) { return this.rows.find((row) => row.id === id)?.title; }

  draw(current) {
    this.current = current;
    let last = "";
    const parts = [];
    for (const row of this.rows) {
      if (this.deleting.has(row.id) || this.hidden.has(row.id) || (this.found && !this.found.has(row.id))) continue;
      if (heading(row.at) !== last) {
        last = heading(row.at);
        parts.push(make("h2", { textContent: last }));
      }
      parts.push(this.row(row, row.id === current));
    }
    if (this.found && !parts.length) parts.push(make("p", { className: "note", textContent: "Nothing found" }));
    this.nav.replaceChildren(...parts);
  }

  row(row, isCurrent) {
    const title = this.title(row.id);
    const link = make("a", { href: `#${row.id}`, textContent: title, title, dir: "auto" });
    if (isCurrent) link.setAttribute("aria-current", "page");
    const more = make("button", { type: "button", className: "more", textContent: "⋯", "aria-label": `Actions: ${title}`, "aria-expanded": "false" });
    const line = make("div", { className: `chat-row${isCurrent ? " current" : ""}` }, link, more);
    const menu = this.menu(row, line);
    more.onclick = () => {
      menu.hidden = !menu.hidden;
      more.setAttribute("aria-expanded", String(!menu.hidden));
    };
    const excerpt = this.found?.get(row.id);
    return make("div", { className: "chat-item" }, line,
      excerpt ? make("p", { className: "note excerpt", textContent: excerpt, dir: "auto" }) : null, menu);
  }

  menu(row, line) {
    const action = (name, onclick) => Object.assign(make("button", { type: "button", textContent: name }), { onclick });
    const file = (name, format) => make("a", { textContent: name, href: `/api/chats/${row.id}/export?format=${format}`, download: "" });
    return make("div", { className: "chat-menu", hidden: true },
      action("Rename", () => this.rename(row, line)), file("Markdown", "markdown"), file("JSON", "json"),
      action("Delete", () => this.delete(row.id)));
  }

  rename(row, line) {
    const input = make("input", { value: this.title(row.id), "aria-label": "New name", maxLength: 80, dir: "auto" });
    line.replaceChildren(input);
    input.focus();
    input.select();
    let isDone = false;
    const finish = (isKept) => {
      if (isDone) return;
      isDone = true;
      const title = input.value.trim();
      if (isKept && title && title !== row.title) this.setTitle(row, title);
      this.draw(this.current);
    };
    input.onkeydown = (event) => {
      event.stopPropagation();
      if (event.key === "Enter" && !event.isComposing) finish(true);
      if (event.key === "Escape") finish(false);
    };
    input.onblur = () => finish(true);
  }

  async setTitle(row, title) {
    const before = row.title;
    row.title = title;
    await call("POST", `/api/chats/${row.id}/title`, { title }).catch((error) => {
      row.title = before;
      this.draw(this.current);
      this.onError(error);
    });
    this.onChange();
  }

  // The conversation leaves the list at once and the server after some seconds, unless undone.
  delete(id) {
    this.deleting.set(id, setTimeout(() => this.deleteNow(id), UNDO_MS));
    this.draw(this.current);
    this.onDelete(id);
  }

  hide(id, isHidden) {
    if (isHidden) this.hidden.add(id);
    else this.hidden.delete(id);
    this.draw(this.current);
  }

  undo(id) {
    clearTimeout(this.deleting.get(id));
    this.deleting.delete(id);
    this.draw(this.current);
  }

  async deleteNow(id) {
    clearTimeout(this.deleting.get(id));
    // keepalive: the request outlives the page, which may be closing.
    await fetch(`/api/chats/${id}`, { method: "DELETE", keepalive: true }).catch(() => {});
    this.deleting.delete(id);
    await this.load().catch(() => {});
    this.draw(this.current);
    this.onChange();
  }
}
