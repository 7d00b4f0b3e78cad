// The message box: grows with its text, stores drafts, accepts files by button, paste and drop.
import { byId, make } from "./dom.js";
import { readFiles } from "./files.js";

// On a touch screen Enter inserts a new line: its keyboard has no Shift+Enter.
const sendsWithEnter = matchMedia("(hover: hover) and (pointer: fine)").matches;

export class Composer {
  // maxImages is 0 where images are switched off, maxFiles where files are not read.
  constructor({ send, stop, showStatus, editLast, maxImages, maxFiles }) {
    this.form = byId("composer");
    this.text = byId("text");
    this.sendButton = byId("send");
    this.stopButton = byId("stop");
    this.strip = byId("pictures");
    this.picker = byId("picker");
    this.pictures = [];
    this.files = [];
    this.isWriting = false;
    this.blockedUntil = 0;
    Object.assign(this, { send, stop, showStatus, editLast, maxImages, maxFiles });
    this.text.enterKeyHint = sendsWithEnter ? "send" : "enter";
    this.text.addEventListener("input", () => this.changed());
    this.text.addEventListener("keydown", (event) => this.key(event));
    this.text.addEventListener("paste", (event) => this.paste(event));
    this.form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    this.stopButton.onclick = () => this.stop();
    byId("attach").onclick = () => this.picker.click();
    this.picker.onchange = () => { this.addFiles([...this.picker.files]); this.picker.value = ""; };
    this.allowDrop(document.body);
  }

  open(chat) {
    // Without a conversation yet, people may have typed while the page was loading.
    const typed = this.chat ? "" : this.text.value;
    this.chat = chat;
    this.text.value = typed || (sessionStorage.getItem(`draft ${chat}`) ?? "");
    this.pictures = [];
    this.files = [];
    this.drawPictures();
    this.changed();
  }

  setWriting(isWriting) {
    this.isWriting = isWriting;
    this.changed();
  }

  // A message that was not accepted goes back into the box; sending is possible again in `seconds`.
  giveBack({ text, pictures, files }, seconds) {
    this.text.value = [text, this.text.value].filter(Boolean).join("\n");
    this.pictures = [...pictures, ...this.pictures];
    this.files = [...files, ...this.files];
    this.drawPictures();
    this.blockedUntil = Date.now() + 1000 * seconds;
    this.countDown();
  }

  countDown() {
    clearTimeout(this.countdown);
    const left = this.secondsBlocked;
    this.showStatus(left ? `Too many messages. Send again in ${left} s.` : "", "bad");
    if (left) this.countdown = setTimeout(() => this.countDown(), 1000);
    this.changed();
  }

  get secondsBlocked() { return Math.max(0, Math.ceil((this.blockedUntil - Date.now()) / 1000)); }

  get isEmpty() { return !this.text.value.trim() && !this.pictures.length && !this.files.length; }

  changed() {
    sessionStorage.setItem(`draft ${this.chat}`, this.text.value);
    this.text.style.height = "auto";
    this.text.style.height = `${this.text.scrollHeight}px`;
    this.stopButton.hidden = !this.isWriting;
    this.sendButton.disabled = this.isEmpty || this.secondsBlocked > 0;
  }

  key(event) {
    if (event.key === "ArrowUp" && this.isEmpty && this.editLast()) event.preventDefault();
    // isComposing, and keyCode 229 in Safari: this Enter selects a character in an input method.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    if (!sendsWithEnter && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.submit();
  }

  submit() {
    if (this.isEmpty || this.secondsBlocked || !this.chat) return;
    const message = { text: this.text.value.trim(), pictures: this.pictures, files: this.files };
    this.text.value = "";
    this.pictures = [];
    this.files = [];
    this.drawPictures();
    this.changed();
    this.send(message);
  }

  allowDrop(body) {
    body.addEventListener("dragover", (event) => { event.preventDefault(); this.form.classList.add("drop"); });
    body.addEventListener("dragleave", () => this.form.classList.remove("drop"));
    body.addEventListener("drop", (event) => {
      this.form.classList.remove("drop");
      if (!event.dataTransfer?.files.length) return;
      event.preventDefault();
      this.addFiles([...event.dataTransfer.files]);
    });
  }

  paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    // Spreadsheets and word processors put a picture of the copied text beside the text.
    if (!files.length || event.clipboardData.getData("text/plain").trim()) return;
    event.preventDefault();
    this.addFiles(files);
  }

  async addFiles(files) {
    const room = {
      picturesLeft: this.maxImages - this.pictures.length,
      maxPictures: this.maxImages,
      filesLeft: this.maxFiles - this.files.length,
      maxFiles: this.maxFiles,
      charsLeft: this.text.maxLength - this.text.value.length - 1,
    };
    const { pictures, files: attached, text, refused } = await readFiles(files, room);
    this.pictures.push(...pictures);
    this.files.push(...attached);
    if (text) this.text.value = [this.text.value.trimEnd(), text].filter(Boolean).join("\n");
    if (refused) this.showStatus(refused, "", 5000);
    this.drawPictures();
    this.changed();
    this.text.focus();
  }

  drawPictures() {
    this.strip.hidden = !this.pictures.length && !this.files.length;
    this.strip.replaceChildren(
      ...this.pictures.map((picture) => this.remover(this.pictures, picture, make("img", { src: picture.url, alt: "" }))),
      ...this.files.map((file) => this.remover(this.files, file, make("span", { textContent: file.name }))),
    );
  }

  // A button that shows what is attached, and removes it.
  remover(list, item, shown) {
    const button = make("button", { type: "button", title: item.name, "aria-label": `Remove ${item.name}` }, shown);
    button.onclick = () => {
      list.splice(list.indexOf(item), 1);
      this.drawPictures();
      this.changed();
    };
    return button;
  }
}
