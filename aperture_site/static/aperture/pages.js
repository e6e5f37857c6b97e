// The pages' own code: the choice of light or dark, and buttons that copy. Without it every page still works.
"use strict";

const THEMES = ["system", "light", "dark"];

function remembered() {
  try {
    return localStorage.getItem("theme") || "system";
  } catch {
    return "system";
  }
}

function show(theme) {
  if (theme === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", theme);
}

// Before anything is drawn, so that no page flashes.
show(remembered());

function name(button) {
  const theme = remembered();
  button.querySelector("[data-theme-name]").textContent = theme[0].toUpperCase() + theme.slice(1);
  button.hidden = false;
}

function next(button) {
  const theme = THEMES[(THEMES.indexOf(remembered()) + 1) % THEMES.length];
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // A browser that keeps nothing still changes this page.
  }
  show(theme);
  name(button);
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.querySelector("[data-copy-name]");
  try {
    await navigator.clipboard.writeText(source.textContent);
    label.textContent = "Copied";
  } catch {
    // An address that is not secure has no clipboard: the text is selected, to be copied by hand.
    getSelection().selectAllChildren(source);
    label.textContent = document.execCommand("copy") ? "Copied" : "Press Ctrl+C";
  }
  setTimeout(() => { label.textContent = "Copy"; }, 2000);
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("[data-theme-next]").forEach(name);
  document.querySelectorAll("[data-copy]").forEach((button) => { button.hidden = false; });
});

document.addEventListener("click", (event) => {
  const themes = event.target.closest("[data-theme-next]");
  const copies = event.target.closest("[data-copy]");
  if (themes) next(themes);
  if (copies) copy(copies);
});
