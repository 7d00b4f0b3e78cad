// The persona of the open conversation: a list that is shown where there is a choice.
import { call } from "./api.js";
import { byId, make } from "./dom.js";

const path = (chat) => `/api/chats/${chat}/persona`;

export async function showPersonas(chat, defaultName, onError) {
  const select = byId("persona");
  select.hidden = true;
  const { persona, personas } = await call("GET", path(chat)).catch(() => ({ personas: [] }));
  select.replaceChildren(make("option", { value: "", textContent: `${defaultName} (default)` }),
    ...personas.map(({ key, name }) => make("option", { value: key, textContent: name })));
  select.value = persona ?? "";
  select.hidden = !personas.length;
  select.onchange = () => call("POST", path(chat), { persona: select.value || null }).catch(onError);
}
