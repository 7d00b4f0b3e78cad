// The end of the program's log, read while its section is open.
import { call } from "./api.js";
import { byId } from "./dom.js";

const EVERY_MS = 2000;
const SHOWN_LINES = 500;
let number = 0;
let lines = [];
let timer = 0;

function draw() {
  const words = byId("log-filter").value.toLowerCase().split(/\s+/);
  const box = byId("log-lines");
  const atEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 8;
  const shown = lines.filter((line) => words.every((word) => line.toLowerCase().includes(word)));
  box.textContent = shown.join("\n") || "No lines.";
  if (atEnd) box.scrollTop = box.scrollHeight;
}

async function read() {
  clearTimeout(timer);
  if (!byId("log").open) return;
  try {
    const found = await call("GET", `/api/operator/log?after=${number}`);
    if (found.number < number) lines = []; // the program was started again
    number = found.number;
    if (found.lines.length || !lines.length) {
      lines = [...lines, ...found.lines].slice(-SHOWN_LINES);
      draw();
    }
  } catch (error) {
    byId("log-lines").textContent = error.message;
    number = 0;
    lines = [];
  }
  timer = setTimeout(read, EVERY_MS);
}

byId("log").ontoggle = read;
read(); // the section may have been opened before this script ran
byId("log-filter").oninput = draw;
