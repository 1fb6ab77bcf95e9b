// Runs before the first paint, so that the other theme does not flash. So it is a classic script.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem("hark.theme"); } catch { /* storage may be blocked: follow the system */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
