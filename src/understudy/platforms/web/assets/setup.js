// The form of /setup: tests values at once, saves them, and waits for the bot to start.
import { call } from "./api.js";
import { byId, make } from "./dom.js";

let mentionsOnly = false;

function show(id, text, state = "") {
  const element = byId(id);
  element.textContent = text;
  element.dataset.state = state;
}

function addServer(address, label) {
  const known = [...document.querySelectorAll("#servers input")];
  if (known.some((input) => input.value === address)) return;
  if (known.length === 0) byId("servers").replaceChildren();
  const box = make("input", { type: "checkbox", value: address, checked: true });
  byId("servers").append(make("label", { className: "check" }, box, ` ${label}`));
}

async function load() {
  const view = await call("GET", "/api/setup");
  byId("servers").replaceChildren(make("p", { className: "soft" }, "None found on the usual ports."));
  for (const server of view.servers) addServer(server.address, server.label);
  byId("free-models").textContent = view.free_models;
  byId("own-model-part").hidden = !view.own_model;
  if (view.openrouter_key_set) byId("openrouter").placeholder = "set; enter another to replace it";
  if (view.discord_token_set) byId("discord").placeholder = "set; enter another to replace it";
}

async function test(kind) {
  const result = `${kind}-result`;
  show(result, "Testing …");
  try {
    const tested = await call("POST", "/api/setup/test", { kind, value: byId(kind).value });
    const state = tested.accepted === true ? "ok" : tested.accepted === false ? "bad" : "";
    show(result, tested.text, state);
    if (kind === "server" && tested.accepted) {
      addServer(tested.address, tested.text);
      byId("server").value = "";
      show(result, "");
    }
    if (kind === "discord") mentionsOnly = tested.mentions_only;
    if (tested.invite) {
      const link = make("a", { href: tested.invite, target: "_blank", rel: "noopener noreferrer" }, "Invite it to a server");
      byId(result).append("\n", link);
    }
  } catch (error) {
    show(result, error.message, "bad");
  }
}

async function untilReady() {
  for (;;) {
    const answer = await fetch("/readyz", { cache: "no-store" }).catch(() => null);
    if (answer?.ok) return;
    await new Promise((done) => setTimeout(done, 500));
  }
}

async function save(event) {
  event.preventDefault();
  const button = document.querySelector(".primary");
  button.disabled = true;
  show("result", "Saving, and asking for a first reply …");
  try {
    const saved = await call("POST", "/api/setup", {
      name: byId("name").value,
      servers: [...document.querySelectorAll("#servers input:checked")].map((input) => input.value),
      openrouter_key: byId("openrouter").value,
      discord_token: byId("discord").value,
      mentions_only: mentionsOnly,
      own_model: byId("own-model").checked,
    });
    if (!saved.usable) {
      show("result", "Saved. No model server is usable yet: add a server or a key.", "bad");
      return;
    }
    show("result", `${saved.reply}\n${saved.route}\n\nStarting the bot …`, "ok");
    await untilReady();
    button.hidden = true;
    const chat = make("a", { href: "/" }, "Go to the chat");
    show("result", `${saved.reply}\n${saved.route}\n\n`, "ok");
    byId("result").append(chat);
  } catch (error) {
    show("result", error.message, "bad");
  } finally {
    button.disabled = false;
  }
}

for (const button of document.querySelectorAll("[data-test]")) {
  button.addEventListener("click", () => test(button.dataset.test));
}
byId("setup").addEventListener("submit", save);
load().catch((error) => show("result", error.message, "bad"));
