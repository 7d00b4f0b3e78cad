// The persona of the open conversation: its list, its picture, and its greeting on an empty page.
import { call } from "./api.js";
import { byId, make } from "./dom.js";
import { iconButton } from "./icons.js";
import { block } from "./reply_parts.js";

const path = (chat) => `/api/chats/${chat}/persona`;
const pictureOf = (persona) => (persona.picture ? `/api/personas/${encodeURIComponent(persona.key)}/picture` : "");

export class PersonaChoice {
  constructor(pageName, { onChange, onError }) {
    Object.assign(this, { pageName, onChange, onError });
    this.select = byId("persona");
    this.select.onchange = () => this.choose(this.select.value);
    this.forget();
  }

  forget() {
    this.chat = "";
    this.personas = [];
    this.greeting = 0;
    this.current = { key: "", name: this.pageName, greetings: [], picture: false };
  }

  async open(chat) {
    this.forget();
    this.chat = chat;
    this.select.hidden = true;
    this.draw();
    const answer = await call("GET", path(chat)).catch(() => null);
    if (!answer || this.chat !== chat) return;
    this.default = answer.default;
    this.personas = answer.personas;
    this.show(answer.persona);
    this.select.replaceChildren(
      make("option", { value: "", textContent: `${this.default.name} (default)` }),
      ...this.personas.map(({ key, name }) => make("option", { value: key, textContent: name })),
    );
    this.select.value = this.personas.some(({ key }) => key === answer.persona) ? answer.persona : "";
    this.select.hidden = !this.personas.length;
    this.onChange();
  }

  show(key) {
    this.current = this.personas.find((one) => one.key === key) ?? this.default;
    this.greeting = 0;
    this.draw();
  }

  async choose(key) {
    this.show(key);
    this.onChange();
    await call("POST", path(this.chat), { persona: key || null }).catch(this.onError);
  }

  // The number of the greeting that an empty page shows; null where there is none.
  get shownGreeting() { return this.current.greetings.length ? this.greeting : null; }

  // How a reply's speaker is shown: not at all while there is only one.
  of(name) {
    const persona = [this.current, this.default, ...this.personas].find((one) => one?.name === name);
    const picture = persona ? pictureOf(persona) : "";
    return name && (picture || name !== this.pageName) ? { name, picture } : null;
  }

  draw() {
    const { name, greetings } = this.current;
    const picture = pictureOf(this.current);
    byId("portrait").src = picture || "/static/mark.svg";
    byId("portrait").classList.toggle("picture", Boolean(picture));
    const isPlain = this.current.key === "" && !greetings.length;
    byId("empty").classList.toggle("greeted", greetings.length > 0);
    byId("invitation").textContent = isPlain ? "The stage is yours." : name;
    byId("answers-as").textContent = name;
    byId("greeting").replaceChildren(...(greetings[this.greeting] ?? []).map(block));
    byId("greetings").replaceChildren(...(greetings.length > 1 ? this.arrows(greetings.length) : []));
    byId("text").placeholder = `Message ${name}`;
  }

  arrows(count) {
    const go = (step) => {
      this.greeting = (this.greeting + step + count) % count;
      this.draw();
    };
    return [
      iconButton("earlier", "Earlier greeting", () => go(-1)),
      make("span", { textContent: `${this.greeting + 1}/${count}` }),
      iconButton("later", "Next greeting", () => go(1)),
    ];
  }
}
