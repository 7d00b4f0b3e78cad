// The message box: grows with its text, stores drafts, accepts files by button, paste and drop.
import { byId, make } from "./dom.js";
import { readFiles } from "./files.js";

// On a touch screen Enter inserts a new line: its keyboard has no Shift+Enter.
const sendsWithEnter = matchMedia("(hover: hover) and (pointer: fine)").matches;

export class Composer {
  // maxImages is 0 where images are switched off.
  constructor({ send, stop, showStatus, editLast, maxImages }) {
    this.form = byId("composer");
    this.text = byId("text");
    this.sendButton = byId("send");
    this.stopButton = byId("stop");
    this.strip = byId("pictures");
    this.picker = byId("picker");
    this.pictures = [];
    this.isWriting = false;
    this.blockedUntil = 0;
    Object.assign(this, { send, stop, showStatus, editLast, maxImages });
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

  // A message that was not accepted goes back into the box; sending is possible again in `seconds`.
  giveBack({ text, pictures }, seconds) {
    this.text.value = [text, this.text.value].filter(Boolean).join("\n");
    this.pictures = [...pictures, ...this.pictures];
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

  get isEmpty() { return !this.text.value.trim() && !this.pictures.length; }

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
    if (this.isEmpty || this.secondsBlocked) return;
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
      charsLeft: this.text.maxLength - this.text.value.length - 1,
    };
    const { pictures, text, refused } = await readFiles(files, room);
    this.pictures.push(...pictures);
    if (text) this.text.value = [this.text.value.trimEnd(), text].filter(Boolean).join("\n");
    if (refused) this.showStatus(refused, "", 5000);
    this.drawPictures();
    this.changed();
    this.text.focus();
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
