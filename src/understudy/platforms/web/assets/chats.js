// The list of this browser's conversations.
import { call } from "./api.js";
import { make } from "./dom.js";

const DAY = 86400;

function heading(at) {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  if (at >= midnight) return "Today";
  if (at >= midnight - DAY) return "Yesterday";
  return at >= midnight - 6 * DAY ? "This week" : "Earlier";
}

export class Chats {
  constructor(nav, onDelete) {
    this.nav = nav;
    this.onDelete = onDelete;
    this.rows = [];
  }

  async load() {
    this.rows = (await call("GET", "/api/chats")).chats;
    return this.rows;
  }

  title(id) { return this.rows.find((row) => row.id === id)?.title; }

  draw(current) {
    let last = "";
    const parts = [];
    for (const row of this.rows) {
      if (heading(row.at) !== last) {
        last = heading(row.at);
        parts.push(make("h2", { textContent: last }));
      }
      parts.push(this.row(row, row.id === current));
    }
    this.nav.replaceChildren(...parts);
  }

  row(row, isCurrent) {
    const link = make("a", { href: `#${row.id}`, textContent: row.title, title: row.title });
    if (isCurrent) link.setAttribute("aria-current", "page");
    const remove = make("button", { type: "button", textContent: "×", "aria-label": `Delete: ${row.title}` });
    remove.onclick = () => this.askDelete(remove, row);
    return make("div", { className: `chat-row${isCurrent ? " current" : ""}` }, link, remove);
  }

  // The first press asks for confirmation; the second within three seconds deletes.
  async askDelete(button, row) {
    if (!button.classList.contains("confirming")) {
      button.classList.add("confirming");
      button.textContent = "Delete?";
      setTimeout(() => { button.classList.remove("confirming"); button.textContent = "×"; }, 3000);
      return;
    }
    await this.onDelete(row.id);
  }
}
