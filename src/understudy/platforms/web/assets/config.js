// The configuration file: read with masked secrets, edited, and saved when it is valid.
import { call } from "./api.js";
import { byId, make } from "./dom.js";

let digest = "";
let locked = "";
let original = "";

const text = () => byId("config-text").value;

function draw() {
  byId("config-locked").textContent = locked;
  byId("config-locked").hidden = !locked;
  byId("config-text").readOnly = Boolean(locked) || !digest;
  byId("config-save").disabled = Boolean(locked) || text() === original;
}

function note(words) {
  byId("config-note").textContent = words;
}

// Read the file; an edited text is replaced only when the person agrees.
async function read() {
  if (text() !== original && !confirm("Discard your changes and read the file again?")) return;
  byId("config-text").readOnly = true; // what is typed meanwhile would be lost
  try {
    const found = await call("GET", "/api/operator/config");
    ({ digest, locked } = found);
    byId("config-text").value = found.text;
    original = text();
    byId("config-mistakes").replaceChildren();
    note("");
  } catch (error) {
    note(error.message);
  }
  draw();
}

function goTo(line) {
  const box = byId("config-text");
  const lines = text().split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
  box.focus();
  box.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  box.scrollTop = ((line - 4) * box.scrollHeight) / Math.max(1, lines.length);
}

function mistake({ line, text: words }) {
  if (!line) return make("li", { textContent: words });
  const button = make("button", { type: "button", textContent: `Line ${line}: ${words}` });
  button.onclick = () => goTo(line);
  return make("li", {}, button);
}

async function save() {
  byId("config-save").disabled = true;
  byId("config-mistakes").replaceChildren();
  note("Checking…");
  try {
    const { said } = await call("POST", "/api/operator/config", { text: text(), digest });
    original = text();
    await read();
    note(said);
  } catch (error) {
    note(error.message);
    byId("config-mistakes").replaceChildren(...(error.answer?.mistakes ?? []).map(mistake));
  }
  draw();
}

byId("config-text").oninput = draw;
byId("config-save").onclick = save;
byId("config-read").onclick = read;
const opened = () => { if (byId("config").open && !digest) read(); };
byId("config").ontoggle = opened;
opened(); // it may have been opened before this script ran
addEventListener("beforeunload", (event) => { if (text() !== original) event.preventDefault(); });
