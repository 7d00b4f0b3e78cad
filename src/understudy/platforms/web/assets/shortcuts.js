// Keyboard shortcuts of the chat page, and the dialog that lists them.
import { byId } from "./dom.js";

const isWriting = (target) => /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName);

export function shortcuts({ escape, write, search, startNew }) {
  const help = byId("shortcuts");
  byId("show-shortcuts").onclick = () => help.showModal();
  document.addEventListener("keydown", (event) => {
    const isOpen = document.querySelector("dialog[open]");
    const withControl = event.ctrlKey || event.metaKey;
    let run = null;
    if (event.key === "Escape" && !isOpen) run = escape;
    else if (withControl && event.key.toLowerCase() === "k") run = search;
    else if (withControl && event.shiftKey && event.key.toLowerCase() === "o") run = startNew;
    else if (withControl || event.altKey || isOpen || isWriting(event.target)) return;
    else if (event.key === "/") run = write;
    else if (event.key === "?") run = () => help.showModal();
    if (!run) return;
    event.preventDefault();
    run();
  });
}
