// Commands of the memory, typed like messages: the answer is shown on this page only.
import { call } from "./api.js";
import { make } from "./dom.js";

const COMMAND = /^\/(remember|memories|forget|memory|compact|search)(\s|$)/;

export function isCommand(text) { return COMMAND.test(text); }

function boxed(title, ...more) {
  const close = make("button", { type: "button", className: "more", textContent: "×", "aria-label": "Close" });
  const box = make("section", { className: "command", role: "status" },
    make("h2", { textContent: title, dir: "auto" }), close, ...more);
  close.onclick = () => box.remove();
  return box;
}

// Show the command with its answer below `log`; it stays until it is closed or another conversation opens.
export async function runCommand(chat, text, log) {
  const answer = make("p", { textContent: "…", dir: "auto" });
  const box = boxed(text, answer);
  log.append(box);
  try {
    answer.textContent = (await call("POST", `/api/chats/${chat}/command`, { text })).text;
  } catch (error) {
    answer.textContent = error.message;
  }
}

// Ask whether a note that a model proposes may be stored, if there is one.
export async function showProposal(log) {
  const { id, text } = await call("GET", "/api/proposal");
  const shown = log.querySelector(".command[data-proposal]");
  if (shown?.dataset.proposal === id) return;
  shown?.remove();
  if (!id) return;
  const said = make("p", { textContent: `“${text}”`, dir: "auto" });
  const yes = make("button", { type: "button", textContent: "Remember" });
  const no = make("button", { type: "button", textContent: "No" });
  const choices = make("p", { className: "answers" }, yes, no);
  const box = boxed("May I remember this about you?", said, choices);
  box.dataset.proposal = id;
  const answer = async (isYes) => {
    choices.remove();
    try {
      said.textContent = (await call("POST", "/api/proposal", { id, yes: isYes })).text;
    } catch (error) {
      said.textContent = error.message;
    }
  };
  yes.onclick = () => answer(true);
  no.onclick = () => answer(false);
  log.append(box);
}
