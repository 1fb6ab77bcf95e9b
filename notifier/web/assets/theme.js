// Runs before the first paint, so that a chosen theme does not flash the other one; hence a classic script.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("hark.theme"); } catch { /* storage may be blocked: follow the system */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
