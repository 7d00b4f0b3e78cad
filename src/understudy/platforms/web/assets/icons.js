// Buttons with an icon; the label is their name and their hint.
import { make } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8z",
  edit: "M10.5 3.2 12.8 5.5 5.5 12.8 2.8 13.2 3.2 10.5z",
  again: "M13 3v3.5H9.5M13 6.3A5.3 5.3 0 1 0 13.4 9",
  branch: "M4.5 5.5v5M4.5 5.5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zm0 5a1.5 1.5 0 1 0 0 3 1.5 1.5 0 0 0 0-3zm7-5a1.5 1.5 0 1 0 0-3 1.5 1.5 0 0 0 0 3zm0 0c0 2.5-2 3-7 3.5",
  earlier: "M9.5 3.5 5.5 8l4 4.5",
  later: "M6.5 3.5 10.5 8l-4 4.5",
};

export function iconButton(icon, label, onclick) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[icon]);
  svg.append(path);
  const button = make("button", { type: "button", title: label, "aria-label": label }, svg);
  if (onclick) button.onclick = () => onclick(button);
  return button;
}
