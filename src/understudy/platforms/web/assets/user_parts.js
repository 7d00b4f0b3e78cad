// Parts of a person's message: its bubble, its pictures, the box that edits it.
import { dressCode } from "./code.js";
import { byId, make } from "./dom.js";
import { block } from "./reply_parts.js";

// The server's rendering, or the plain text of a message that is not stored yet.
export function bubble(entry) {
  const element = make("div", { className: "bubble", dir: "auto" });
  if (!entry.blocks) return Object.assign(element, { className: "bubble plain", textContent: entry.text });
  for (const html of entry.blocks) element.append(block(html));
  dressCode(element, true);
  return element;
}

// What follows the message is replaced when the box is sent.
export function editor(text, { onSend, onCancel }) {
  const box = make("textarea", { value: text, rows: 3, dir: "auto", maxLength: 32000, "aria-label": "Edit the message" });
  const send = make("button", { type: "submit", className: "small strong", textContent: "Send" });
  const cancel = make("button", { type: "button", className: "small", textContent: "Cancel" });
  const form = make("form", { className: "editor" }, box, make("div", { className: "editor-foot" }, cancel, send));
  cancel.onclick = onCancel;
  form.onsubmit = (event) => {
    event.preventDefault();
    onSend(box.value.trim());
  };
  box.onkeydown = (event) => {
    if (event.key === "Escape") {
      event.stopPropagation();
      onCancel();
    } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  };
  return form;
}

export function fileNames(names) {
  return make("ul", { className: "files", "aria-label": "Attached files" }, ...names.map((name) => make("li", { textContent: name, dir: "auto" })));
}

export function thumbs(images) {
  return make("div", { className: "thumbs" }, ...images.map((image) => largeButton(make("img", {
    src: image.url ?? `/api/images/${image.digest}`, alt: image.name, loading: "lazy",
  }))));
}

// A picture that opens in full size.
function largeButton(picture) {
  const button = make("button", { type: "button", "aria-label": `Open ${picture.alt || "picture"}` }, picture);
  button.onclick = () => {
    byId("large-picture").src = picture.src;
    byId("large-picture").alt = picture.alt;
    byId("large").showModal();
  };
  return button;
}
