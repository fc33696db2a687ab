// Equations and the lines that compute them: a click on one shows the other. Without this script the links still work.
document.addEventListener("DOMContentLoaded", () => {
  // long names break after a point or an underscore, where tables are narrow
  for (const name of document.querySelectorAll("table code .pre, table code:not(:has(*)), table.judged td:first-child p")) {
    const words = name.textContent.split(/(?<=[._])/);
    name.replaceChildren(...words.flatMap((word) => [word, document.createElement("wbr")]));
  }

  // an equation a little too wide for its column is set a little smaller; one much too wide gets the page's width
  const fit = () => {
    document.querySelectorAll(".eq-row.stacked").forEach((row) => row.classList.remove("stacked"));
    for (const box of document.querySelectorAll("div.math > mjx-container")) {
      box.style.fontSize = "";
      if (box.clientWidth < 0.8 * box.scrollWidth) box.closest(".eq-row")?.classList.add("stacked");
      const ratio = box.clientWidth / box.scrollWidth;
      if (ratio < 1) box.style.fontSize = `${Math.floor(96 * Math.max(ratio, 0.75))}%`;
    }
  };
  window.MathJax?.startup?.promise?.then(fit);
  window.addEventListener("load", () => window.MathJax?.startup?.promise?.then(fit));
  window.addEventListener("resize", fit);

  const listing = document.querySelector(".listing");
  if (!listing) return;
  const equation = (label) => document.getElementById(`equation-${label}`);
  const lines = (label) => listing.querySelectorAll(`.cl[data-eq~="${CSS.escape(label)}"]`);
  const clear = () => document.querySelectorAll(".hit").forEach((e) => e.classList.remove("hit"));
  const show = (label, target) => {
    clear();
    equation(label)?.classList.add("hit");
    lines(label).forEach((line) => line.classList.add("hit"));
    target?.scrollIntoView({ block: "center" });
  };
  const selecting = () => String(window.getSelection()).length > 0;
  for (const block of document.querySelectorAll(".eq-math div.math[id^='equation-']")) {
    const label = block.id.slice("equation-".length);
    block.title = "Show the code of this equation";
    block.addEventListener("click", (event) => {
      if (!event.target.closest("a") && !selecting()) show(label, lines(label)[0]);
    });
  }
  listing.addEventListener("click", (event) => {
    const line = event.target.closest(".cl[data-eq]");
    if (!line || event.target.closest("a") || selecting()) return;
    const label = line.dataset.eq.split(" ")[0];
    show(label, equation(label));
  });
  const follow = () => {
    const label = decodeURIComponent(location.hash).replace(/^#(equation|code)-/, "");
    if (label !== location.hash && lines(label).length) show(label, null);
  };
  window.addEventListener("hashchange", follow);
  follow();
});
