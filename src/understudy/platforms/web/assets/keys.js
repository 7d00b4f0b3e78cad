// Keys of the gateway: make one, change its limits, revoke it, see what it used.
import { call } from "./api.js";
import { byId, copy, make } from "./dom.js";
import { money, plural, short } from "./plots.js";

const LIMITS = [["requests_per_minute", "requests/min"], ["requests_per_day", "requests/day"],
  ["tokens_per_minute", "tokens/min"], ["tokens_per_day", "tokens/day"]];
const REFRESH_MS = 30_000;
let editing = "";

const say = (text) => { byId("key-note").textContent = text; };

function limitInputs(limits = {}) {
  return LIMITS.map(([name, label]) => make("label", {}, make("span", { textContent: label }),
    make("input", { type: "number", min: "1", step: "1", inputMode: "numeric", name, value: limits[name] ?? "", placeholder: "no limit" })));
}

const limitsOf = (form) => Object.fromEntries(LIMITS.map(([name]) =>
  [name, form.elements[name].value === "" ? null : Number(form.elements[name].value)]));

const limitText = (limits) => LIMITS.filter(([name]) => limits[name] !== null)
  .map(([name, label]) => `${limits[name].toLocaleString()} ${label}`).join(", ") || "no limits";

function usedText({ replies, tokens, cost_usd: cost }) {
  if (!replies && !tokens) return "nothing";
  return [plural(replies, "reply").replace("replys", "replies"), `${short(tokens)} tokens`, cost === null ? "" : money(cost)].filter(Boolean).join(", ");
}

function state(key) {
  if (key.revoked_at) return `revoked ${new Date(key.revoked_at * 1000).toLocaleDateString()}`;
  return key.in_configuration ? "in config.yaml" : `made ${new Date(key.created_at * 1000).toLocaleDateString()}`;
}

async function act(path, body) {
  try {
    say((await call("POST", `/api/operator/keys/${path}`, body)).said);
    editing = "";
    await refresh();
  } catch (error) {
    say(error.message);
  }
}

function editor(key) {
  const form = make("form", { className: "limits" }, ...limitInputs(key.limits),
    make("button", { type: "submit", className: "small", textContent: "Save limits" }));
  form.onsubmit = (event) => { event.preventDefault(); act("limit", { name: key.name, limits: limitsOf(form) }); };
  return form;
}

function row(key) {
  const change = make("button", { type: "button", className: "small", textContent: "Limits", "aria-label": `Change the limits of ${key.name}` });
  change.onclick = () => { editing = editing === key.name ? "" : key.name; refresh(); };
  const revoke = make("button", { type: "button", className: "small", textContent: "Revoke", "aria-label": `Revoke ${key.name}` });
  revoke.onclick = () => { if (confirm(`Revoke ${key.name}? Programs that use it are refused at once.`)) act("revoke", { name: key.name }); };
  const isMine = !key.in_configuration && !key.revoked_at;
  return make("li", { data: { key: key.name, revoked: key.revoked_at ? "yes" : "" } },
    make("div", {}, make("b", { textContent: key.name }), make("small", { textContent: ` ${state(key)}` })),
    make("div", { className: "how", textContent: `${limitText(key.limits)} · today: ${usedText(key.today)} · 30 days: ${usedText(key.month)}` }),
    isMine ? make("div", { className: "acts" }, change, revoke) : null,
    isMine && editing === key.name ? editor(key) : null);
}

async function refresh() {
  const { enabled, base_url: url, keys } = await call("GET", "/api/operator/keys");
  byId("gateway-state").textContent = enabled
    ? `Programs send requests to ${url} with a key.${keys.length ? "" : " Without any key, only programs on its own machine may use it."}`
    : "The gateway is off. Set gateway.enabled to true in the configuration and start again to use keys.";
  byId("keys").replaceChildren(...keys.map(row));
}

byId("key-form").onsubmit = async (event) => {
  event.preventDefault();
  const form = event.target;
  try {
    const { key } = await call("POST", "/api/operator/keys", { name: form.elements.name.value, limits: limitsOf(form) });
    const button = make("button", { type: "button", className: "small", textContent: "Copy" });
    button.onclick = () => copy(key, button);
    byId("new-key").replaceChildren(make("span", { textContent: "Give this key to the program; it is not shown again:" }),
      make("code", { textContent: key }), button);
    form.reset();
    say("");
    await refresh();
  } catch (error) {
    say(error.message);
  }
};

byId("key-form").querySelector(".limits").append(...limitInputs());
refresh().catch((error) => say(error.message));
setInterval(() => { if (!editing) refresh().catch(() => {}); }, REFRESH_MS);
