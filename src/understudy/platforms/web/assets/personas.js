// Importing cards and previewing the lore that a text matches.
import { call } from "./api.js";
import { byId, make } from "./dom.js";

function showPreview(shown) {
  byId("lore-out").replaceChildren(make("p", { textContent: `Persona ${shown.persona}: about ${shown.tokens} tokens in total` }),
    make("ul", {}, ...shown.entries.map((line) => make("li", { textContent: line }))),
    ...shown.pieces.map((piece) => make("details", { open: true },
      make("summary", { textContent: `${piece.name}, about ${piece.tokens} tokens` }), make("pre", { textContent: piece.text }))));
}

async function act(path, key) {
  try {
    byId("card-note").textContent = (await call("POST", `/api/operator/personas/${path}`, { persona: key })).said;
  } catch (error) {
    byId("card-note").textContent = error.message;
  }
  await refresh();
}

async function preview(key) {
  try {
    showPreview(await call("POST", "/api/operator/personas/preview", { persona: key }));
    byId("lore-out").scrollIntoView({ block: "nearest" });
  } catch (error) {
    byId("card-note").textContent = error.message;
  }
}

function row(persona) {
  const button = (text, label, onclick) => make("button", { type: "button", className: "small", textContent: text, "aria-label": label, onclick });
  const facts = [persona.is_card ? "character card" : "text", persona.books ? "with lore" : "", persona.is_default ? "default" : ""].filter(Boolean);
  const remove = () => { if (confirm(`Delete ${persona.name}? Its files are moved to the folder .deleted.`)) act("delete", persona.key); };
  return make("li", { data: { persona: persona.key } },
    make("div", {}, make("b", { textContent: persona.name }), make("small", { textContent: ` ${persona.key} · ${facts.join(" · ")}` })),
    make("div", { className: "acts" },
      button("Preview", `Preview ${persona.key}`, () => preview(persona.key)),
      persona.is_default ? button("Unset", `${persona.key} is not the default any more`, () => act("default", null))
        : button("Make default", `Make ${persona.key} the default`, () => act("default", persona.key)),
      persona.is_named ? null : button("Delete", `Delete ${persona.key}`, remove)));
}

async function refresh() {
  const { personas, details, warnings } = await call("GET", "/api/operator/personas");
  byId("persona-list").replaceChildren(...details.map(row));
  byId("persona-warnings").replaceChildren(...warnings.map((text) => make("li", { textContent: `Not used: ${text}` })));
  const chosen = byId("lore-persona").value;
  byId("lore-persona").replaceChildren(make("option", { value: "", textContent: "default persona" }),
    ...personas.map((key) => make("option", { value: key, textContent: key })));
  byId("lore-persona").value = personas.includes(chosen) ? chosen : "";
}

async function importCard(file, existing = "ask") {
  const note = byId("card-note");
  note.textContent = `Reading ${file.name}…`;
  try {
    const name = file.name.replace(/\.[^.]*$/, "");
    const query = new URLSearchParams({ existing, name });
    const response = await fetch(`/api/operator/personas?${query}`, { method: "POST", body: file });
    const answer = await response.json();
    if (answer.exists) {
      const replace = confirm(`There is another persona "${answer.exists}". OK replaces it; Cancel imports this one as "${answer.free_key}".`);
      return importCard(file, replace ? "replace" : "number");
    }
    note.textContent = answer.said || answer.error;
    await refresh();
  } catch {
    note.textContent = "The server cannot be reached.";
  }
}

async function previewLore() {
  const out = byId("lore-out");
  try {
    const shown = await call("POST", "/api/operator/lore", { text: byId("lore-text").value, persona: byId("lore-persona").value });
    showPreview(shown);
  } catch (error) {
    out.replaceChildren(make("p", { className: "empty", textContent: error.message }));
  }
}

const drop = byId("card-drop");
drop.ondragover = (event) => event.preventDefault();
drop.ondrop = (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) importCard(event.dataTransfer.files[0]);
};
byId("card-file").onchange = (event) => { if (event.target.files[0]) importCard(event.target.files[0]); };
byId("lore-form").addEventListener("submit", (event) => { event.preventDefault(); previewLore(); });
refresh().catch(() => {});
