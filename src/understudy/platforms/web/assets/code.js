// Code blocks: language label, copy button, colours by highlight.js (vendor/, loaded when needed).
import { copy, make } from "./dom.js";

const MAX_HIGHLIGHTED = 20_000; // characters

export function dressCode(container, isFinished) {
  for (const pre of container.querySelectorAll("pre:not(.rest)")) {
    if (!pre.closest(".code")) addHead(pre);
    if (isFinished) highlight(pre.querySelector("code"), pre.dataset.language);
  }
}

function addHead(pre) {
  const button = make("button", { type: "button", className: "copy-code", textContent: "Copy" });
  button.onclick = () => copy(pre.querySelector("code").textContent, button);
  const label = make("span", { textContent: pre.dataset.language ?? "" });
  const box = make("div", { className: "code" }, make("div", { className: "code-head" }, label, button));
  pre.replaceWith(box);
  box.append(pre);
}

async function highlight(code, language) {
  if (!language || code.dataset.highlighted || code.textContent.length > MAX_HIGHLIGHTED) return;
  const { default: library } = await import("./vendor/highlight.min.js");
  if (library.getLanguage(language)) {
    code.className = `language-${language}`;
    library.highlightElement(code);
  }
}
