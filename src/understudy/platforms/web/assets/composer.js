// The message box: grows with its text, stores drafts, accepts pictures by paste and drop.
import { byId, make } from "./dom.js";

const MAX_IMAGE = 10_000_000;

export class Composer {
  constructor({ send, stop, showStatus, takesImages }) {
    this.form = byId("composer");
    this.text = byId("text");
    this.button = byId("send");
    this.strip = byId("pictures");
    this.pictures = [];
    this.isWriting = false;
    Object.assign(this, { send, stop, showStatus, takesImages });
    this.text.addEventListener("input", () => this.changed());
    this.text.addEventListener("keydown", (event) => this.key(event));
    this.text.addEventListener("paste", (event) => this.addFiles(event, event.clipboardData));
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.allowDrop(document.body);
  }

  open(chat) {
    this.chat = chat;
    this.text.value = sessionStorage.getItem(`draft ${chat}`) ?? "";
    this.pictures = [];
    this.drawPictures();
    this.changed();
  }

  setWriting(isWriting) {
    this.isWriting = isWriting;
    this.changed();
  }

  get isEmpty() { return !this.text.value.trim() && !this.pictures.length; }

  changed() {
    sessionStorage.setItem(`draft ${this.chat}`, this.text.value);
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
    const stops = this.isWriting && this.isEmpty;
    this.button.classList.toggle("stops", stops);
    this.button.setAttribute("aria-label", stops ? "Stop the reply" : "Send");
    this.button.disabled = this.isEmpty && !this.isWriting;
  }

  key(event) {
    // isComposing: this Enter selects a character in an input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.submit();
  }

  submit() {
    if (this.isEmpty) {
      if (this.isWriting) this.stop();
      return;
    }
    const message = { text: this.text.value.trim(), pictures: this.pictures };
    this.text.value = "";
    this.pictures = [];
    this.drawPictures();
    this.changed();
    this.send(message);
  }

  allowDrop(body) {
    body.addEventListener("dragover", (event) => { event.preventDefault(); this.form.classList.add("drop"); });
    body.addEventListener("dragleave", () => this.form.classList.remove("drop"));
    body.addEventListener("drop", (event) => { this.form.classList.remove("drop"); this.addFiles(event, event.dataTransfer); });
  }

  async addFiles(event, source) {
    const files = [...(source?.files ?? [])].filter((file) => file.type.startsWith("image/"));
    if (event.type === "drop" && source?.files.length) event.preventDefault();
    if (!files.length) return;
    event.preventDefault();
    if (!this.takesImages) return this.showStatus("Images are switched off (vision.enabled).");
    for (const file of files) {
      if (file.size > MAX_IMAGE) this.showStatus(`${file.name} is larger than 10 MB.`);
      else this.pictures.push({ name: file.name || "picture", url: await dataUrl(file) });
    }
    this.drawPictures();
    this.changed();
  }

  drawPictures() {
    this.strip.hidden = !this.pictures.length;
    this.strip.replaceChildren(...this.pictures.map((picture, index) => {
      const remove = make("button", { type: "button", "aria-label": `Remove ${picture.name}` },
        make("img", { src: picture.url, alt: "" }));
      remove.onclick = () => { this.pictures.splice(index, 1); this.drawPictures(); this.changed(); };
      return remove;
    }));
  }
}

function dataUrl(file) {
  return new Promise((done, failed) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => failed(reader.error);
    reader.readAsDataURL(file);
  });
}
