// The chat page. The address's #fragment is the conversation's id, so that a reload opens it again.
import { call, newId, Stream } from "./api.js";
import { themeButton } from "./appearance.js";
import { Chats } from "./chats.js";
import { isCommand, runCommand, showProposal } from "./commands.js";
import { Composer } from "./composer.js";
import { byId, make } from "./dom.js";
import { Entries } from "./entries.js";
import { PersonaChoice } from "./persona_choice.js";
import { showServers } from "./server_choice.js";
import { shortcuts } from "./shortcuts.js";

const { name, operator, maxImages, maxFiles, proposes } = document.body.dataset;
const scroller = byId("scroll");
let chat = "";
let stream = null;
let isFollowing = true;
let stopRequested = false; // Stop was pressed before the id of the reply was known
let statusTimer = 0;

// Tabs of this browser share its conversations.
const otherTabs = new BroadcastChannel("conversations");
otherTabs.onmessage = ({ data }) => {
  if (data.id) chats.hide(data.id, data.isDeleted);
  else refreshList();
};

const persona = new PersonaChoice(name, { onChange: personaChanged, onError: showError });
const entries = new Entries(byId("log"), persona, {
  resend: (entry) => post(entry), regenerate, edit, branch, chooseVersion: (id) => act("version", id), continueReply: (id) => act("continue", id),
});
const chats = new Chats(byId("chats"), { onDelete: offerUndo, onChange: listChanged, onError: showError });
const composer = new Composer({ send, stop, showStatus, editLast: () => entries.editLast(), maxImages: Number(maxImages), maxFiles: Number(maxFiles) });

function showStatus(text, kind = "", forMs = 0) {
  const status = byId("status");
  clearTimeout(statusTimer);
  status.textContent = text;
  status.className = kind;
  status.hidden = !text;
  if (forMs) statusTimer = setTimeout(() => showStatus(""), forMs);
}

function showError(error) { showStatus(error.message, "", 5000); }

function scrollToEnd(always = false) {
  if (always) isFollowing = true;
  if (isFollowing) scroller.scrollTop = scroller.scrollHeight;
  byId("down").hidden = isFollowing;
}

scroller.addEventListener("scroll", () => {
  isFollowing = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 80;
  byId("down").hidden = isFollowing;
});

function refreshPage() {
  // The log is hidden while the invitation is shown.
  byId("empty").hidden = byId("log").childElementCount > 0;
  composer.setWriting(entries.writing.length > 0);
  const title = chats.title(chat) ?? name;
  byId("title").textContent = title;
  document.title = title === name ? name : `${title} · ${name}`;
}

const handlers = {
  conversation(data) {
    const top = scroller.scrollTop;
    entries.showAll([...data.entries, ...entries.unsent]);
    scroller.scrollTop = top;
    const isFirst = !document.body.dataset.ready;
    document.body.dataset.ready = chat;
    refreshPage();
    scrollToEnd(isFirst);
    handlers.proposal();
  },
  entry(entry) {
    if (entry.kind === "gone") return;
    const finished = entries.show(entry);
    if (stopRequested && entry.state === "writing") stop();
    if (finished) {
      byId("announcer").textContent = `${name}: ${finished}`;
      refreshList();
      // Another process of the bot may have made the reply, and its proposal after it.
      for (const seconds of [5, 20]) setTimeout(handlers.proposal, 1000 * seconds);
    }
    refreshPage();
    scrollToEnd();
  },
  title() {
    refreshList();
    otherTabs.postMessage({});
  },
  proposal() {
    if (!proposes) return;
    showProposal(byId("log")).then(() => scrollToEnd()).catch(() => {});
  },
  trouble({ error }) {
    showStatus(error, "bad");
  },
  remove({ id }) {
    entries.remove(id);
    refreshPage();
  },
};

function connected(isUp) {
  if (isUp) {
    clearTimeout(connected.timer);
    if (byId("status").classList.contains("bad")) showStatus("");
  } else if (!connected.timer || byId("status").hidden) {
    clearTimeout(connected.timer);
    connected.timer = setTimeout(() => showStatus("Connection lost. Reconnecting…", "bad"), 700);
  }
}

function open(id) {
  stream?.close();
  chat = id;
  stopRequested = false;
  delete document.body.dataset.ready;
  entries.clear();
  composer.open(id);
  persona.open(id);
  showServers(id, showError);
  stream = new Stream(`/api/chats/${id}/events`, handlers, connected);
  chats.draw(chat);
  closeSide();
  refreshPage();
  byId("empty").hidden = true;
  if (matchMedia("(hover: hover)").matches) composer.text.focus();
}

function startNew() {
  location.hash = newId();
}

const encoded = (list) => list.map(({ name: file, url }) => ({ name: file, data: url.split(",")[1] }));

function send({ text, pictures, files }) {
  if (isCommand(text) && !pictures.length && !files.length) {
    runCommand(chat, text, byId("log")).then(refreshList).then(() => scrollToEnd());
    scrollToEnd(true);
    byId("empty").hidden = true;
    return;
  }
  const greeting = entries.size ? null : persona.shownGreeting;
  const upload = { images: encoded(pictures), files: encoded(files) };
  const shown = { text, images: pictures, files: files.map((file) => file.name) };
  post({ local: newId(), kind: "user", ...shown, attached: files, upload, greeting, at: Date.now() / 1000 });
}

async function post(entry) {
  const id = `${chat}.${entry.local}`;
  stopRequested = false;
  entries.show({ ...entry, id, error: "" });
  refreshPage();
  scrollToEnd(true);
  try {
    const path = `/api/chats/${chat}/messages`;
    await call("POST", path, { id: entry.local, text: entry.text, ...entry.upload, greeting: entry.greeting });
    if (!chats.title(chat)) {
      refreshList();
      otherTabs.postMessage({});
    }
  } catch (error) {
    if (error.retryAfter) return giveBack(entry, id, error.retryAfter);
    entries.show({ ...entry, id, error: `Not sent. ${error.message}` });
    refreshPage();
    scrollToEnd();
  }
}

function giveBack(entry, id, seconds) {
  entries.remove(id);
  refreshPage();
  composer.giveBack({ text: entry.text, pictures: entry.images, files: entry.attached }, seconds);
}

function stop() {
  stopRequested = !entries.writing.length && entries.isWaiting;
  for (const entry of entries.writing) {
    call("POST", `/api/chats/${chat}/stop`, { reply: entry.id }).catch(showError);
  }
}

function act(action, reply) {
  return call("POST", `/api/chats/${chat}/${action}`, { reply }).catch(showError);
}

function regenerate(reply) { act("regenerate", reply); }

// The conversation up to a reply as a new one; with `again`, the reply is regenerated there.
async function branch(reply, again) {
  const id = newId();
  try {
    await call("POST", `/api/chats/${chat}/branch`, { reply, id, again });
    await refreshList();
    otherTabs.postMessage({});
    location.hash = id;
  } catch (error) {
    showError(error);
  }
}

async function importFile(file) {
  const id = newId();
  try {
    await call("POST", `/api/chats/${id}/import`, JSON.parse(await file.text()));
    await refreshList();
    otherTabs.postMessage({});
    location.hash = id;
  } catch (error) {
    showStatus(error instanceof SyntaxError ? `${file.name} is no exported conversation.` : error.message, "", 5000);
  }
}

function personaChanged() {
  entries.showSpeakers();
}

async function edit(entry, text) {
  try {
    await call("POST", `/api/chats/${chat}/edit`, { message: entry.id, id: newId(), text });
  } catch (error) {
    showError(error);
  }
}

function offerUndo(id) {
  showStatus("Deleted.", "", 6000);
  otherTabs.postMessage({ id, isDeleted: true });
  const undo = make("button", { type: "button", className: "undo", textContent: "Undo" });
  undo.onclick = () => {
    chats.undo(id);
    otherTabs.postMessage({ id, isDeleted: false });
    showStatus("");
    location.hash = id;
  };
  byId("status").append(" ", undo);
  if (id === chat) startNew();
}

function listChanged() {
  refreshPage();
  otherTabs.postMessage({});
}

async function refreshList() {
  await chats.load().catch(() => {});
  chats.draw(chat);
  refreshPage();
}

function openSide() {
  byId("side").classList.add("open");
  byId("veil").hidden = false;
  byId("menu").setAttribute("aria-expanded", "true");
}

function closeSide() {
  byId("side").classList.remove("open");
  byId("veil").hidden = true;
  byId("menu").setAttribute("aria-expanded", "false");
}

shortcuts({
  escape: () => (byId("side").classList.contains("open") ? closeSide() : stop()),
  write: () => composer.text.focus(),
  search: () => { openSide(); byId("search").focus(); },
  startNew,
});
let searchTimer = 0;
byId("search").oninput = (event) => {
  clearTimeout(searchTimer);
  searchTimer = setTimeout(() => chats.search(event.target.value).catch((error) => showStatus(error.message, "bad")), 250);
};
byId("import").onclick = () => byId("import-file").click();
byId("import-file").onchange = ({ target }) => {
  if (target.files[0]) importFile(target.files[0]);
  target.value = "";
};
byId("new").onclick = startNew;
byId("new-small").onclick = startNew;
byId("menu").onclick = () => (byId("side").classList.contains("open") ? closeSide() : openSide());
byId("veil").onclick = closeSide;
byId("down").onclick = () => scrollToEnd(true);
byId("operator").hidden = !operator;
for (const cue of document.querySelectorAll(".cues button")) {
  cue.onclick = () => send({ text: cue.textContent, pictures: [], files: [] });
}
themeButton(byId("theme"), byId("theme-name"));

function idInAddress() {
  const id = location.hash.slice(1);
  return /^[\w-]{8,64}$/.test(id) ? id : "";
}

addEventListener("hashchange", () => open(idInAddress() || newId()));

await chats.load().catch((error) => showStatus(error.message, "bad"));
const first = idInAddress() || chats.rows[0]?.id || newId();
if (idInAddress() === first) open(first);
else location.replace(`#${first}`);
