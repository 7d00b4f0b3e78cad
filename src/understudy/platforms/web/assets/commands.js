// Commands of the memory, typed like messages: the answer is shown on this page only.
import { call } from "./api.js";
import { make } from "./dom.js";

const COMMAND = /^\/(remember|memories|forget|memory|compact|search)(\s|$)/;

export function isCommand(text) { return COMMAND.test(text); }

// Show the command with its answer below `log`; it stays until it is closed or the page changes.
export async function runCommand(chat, text, log) {
  const close = make("button", { type: "button", className: "more", textContent: "×", "aria-label": "Close" });
  const answer = make("p", { textContent: "…", dir: "auto" });
  const box = make("section", { className: "command", role: "status" },
    make("h2", { textContent: text, dir: "auto" }), close, answer);
  close.onclick = () => box.remove();
  log.append(box);
  try {
    answer.textContent = (await call("POST", `/api/chats/${chat}/command`, { text })).text;
  } catch (error) {
    answer.textContent = error.message;
  }
}
