// The theme button: follow the system, always light, always dark.
const NAMES = { auto: "System theme", light: "Light theme", dark: "Dark theme" };
const NEXT = { auto: "light", light: "dark", dark: "auto" };

export function themeButton(button, label) {
  const draw = () => {
    const now = document.documentElement.dataset.theme ?? "auto";
    label.textContent = NAMES[now];
    button.title = NAMES[now];
    button.setAttribute("aria-label", `${NAMES[now]}. Change the theme`);
    return now;
  };
  button.onclick = () => {
    const next = NEXT[draw()];
    if (next === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    localStorage.setItem("theme", next);
    draw();
  };
  draw();
}
