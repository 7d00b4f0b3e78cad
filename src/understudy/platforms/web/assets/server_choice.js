// The server that is asked first in the open conversation, where the operator lets people choose.
import { call } from "./api.js";
import { byId, make } from "./dom.js";

const path = (chat) => `/api/chats/${chat}/server`;

export async function showServers(chat, onError) {
  const select = byId("server");
  select.hidden = true;
  const { server, servers } = await call("GET", path(chat)).catch(() => ({ servers: [] }));
  select.replaceChildren(make("option", { value: "", textContent: "Configured order" }),
    ...servers.map((name) => make("option", { value: name, textContent: `${name} first` })));
  select.value = server ?? "";
  select.hidden = !servers.length;
  select.onchange = () => call("POST", path(chat), { server: select.value || null }).catch(onError);
}
