"use strict";
// Changes between dark and light. The button is pressed while the page is dark, by choice or by the reader's preference.
(() => {
  const root = document.documentElement, button = document.getElementById("theme"), preference = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => root.dataset.theme ? root.dataset.theme === "dark" : preference.matches;
  const tell = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  preference.addEventListener("change", tell);
  tell();
})();
