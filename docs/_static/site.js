// Equations and the lines that compute them: a click on one shows the other. Without this script the links still work.
document.addEventListener("DOMContentLoaded", () => {
  // long names break after a point or an underscore, where tables are narrow
  for (const name of document.querySelectorAll("table code .pre, table code:not(:has(*)), table.judged td:first-child p")) {
    for (const text of [...name.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE)) {
      const pieces = text.data.split(/(?<=[._])/);
      text.replaceWith(...pieces.flatMap((piece) => [piece, document.createElement("wbr")]));
    }
  }

  // tables that filter as one types; "/" leads to the first one's box, Enter to the first row that is left
  const names = window.TRREF ?? { equations: [], functions: [], words: {} };
  const words = (text) => text.toLowerCase().split(/\s+/).filter(Boolean);
  const holds = (text, wanted) => wanted.every((word) => text.includes(word));
  const tables = [...document.querySelectorAll("table.filter")];
  for (const [number, table] of tables.entries()) {
    const rows = [...table.tBodies[0].rows];
    const texts = rows.map((row) => {
      const address = row.querySelector("a.reference.internal")?.getAttribute("href")?.replace(/#.*|^(\.\.\/)*/g, "") ?? "";
      return `${row.textContent} ${names.words[address] ?? ""}`.toLowerCase();
    });
    const box = document.createElement("p");
    box.className = "filter-box";
    box.innerHTML = `<label for="filter-${number}">Filter</label><input type="search" id="filter-${number}"
      autocomplete="off" spellcheck="false" placeholder="words that the row must hold"><output></output>`;
    const [input, output] = [box.querySelector("input"), box.querySelector("output")];
    const filter = () => {
      const wanted = words(input.value);
      let left = 0;
      rows.forEach((row, i) => {
        row.hidden = !holds(texts[i], wanted);
        left += !row.hidden;
      });
      output.textContent = `${left} of ${rows.length}`;
    };
    input.addEventListener("input", filter);
    input.addEventListener("keydown", (event) => {
      const link = rows.find((row) => !row.hidden)?.querySelector("a.reference");
      if (event.key === "Enter" && input.value) link?.click();
      else if (event.key === "ArrowDown") link?.focus();
      else return;
      event.preventDefault();
    });
    table.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step) return;
      const shown = rows.filter((row) => !row.hidden);
      const next = shown[shown.indexOf(event.target.closest("tr")) + step];
      (next ? next.querySelector("a.reference") : input)?.focus();
      event.preventDefault();
    });
    (table.closest(".pst-scrollable-table-container") ?? table).before(box);
    filter();
  }
  document.addEventListener("keydown", (event) => {
    if (event.key !== "/" || !tables.length || event.target.matches("input, textarea, select")) return;
    event.preventDefault();
    document.querySelector(".filter-box input").focus();
  });

  // the search page: equations by name, functions by name or argument, above the pages that Sphinx finds
  const results = document.getElementById("search-results");
  const asked = words(new URLSearchParams(location.search).get("q") ?? "");
  if (results && asked.length) {
    const list = (title, found) => {
      if (!found.length) return;
      const section = document.createElement("section");
      section.className = "named";
      section.append(Object.assign(document.createElement("h2"), { textContent: `${title} (${found.length})` }));
      const items = section.appendChild(document.createElement("ul"));
      for (const [address, name, note] of found.slice(0, 30)) {
        const item = items.appendChild(document.createElement("li"));
        item.append(Object.assign(document.createElement("a"), { href: address, textContent: name }), ` ${note}`);
      }
      results.before(section);
    };
    const match = (entries, note) =>
      entries
        .filter(([name, more]) => holds(`${name} ${more}`.toLowerCase(), asked))
        .map(([name, more, address]) => [address, name, note(more)]);
    list("Equations", match(names.equations, (more) => more));
    list("Functions", match(names.functions, (more) => `(${more.replaceAll(" ", ", ")})`));
  }

  // an equation a little too wide for its column is set a little smaller; one much too wide gets the page's width, is
  // broken where its author left a wide space, and at last scrolls, and shows it
  const items = () => new Map([...(window.MathJax?.startup?.document?.math ?? [])].map((m) => [m.typesetRoot, m.math]));
  const whole = new Map();
  const parts = (tex) => {
    const found = [""];
    let depth = 0;
    for (const token of tex.match(/\\begin\{[^}]*\}|\\end\{[^}]*\}|\\left|\\right|\\[a-zA-Z]+|\\.|[^\\]/gs) ?? []) {
      if (/^(\{|\\begin|\\left$)/.test(token)) depth += 1;
      if (/^(\}|\\end|\\right$)/.test(token)) depth -= 1;
      if (!depth && (token === "\\qquad" || token === "\\quad")) found.push("");
      else if (!depth && (token === "&" || token === "\\\\")) return null;
      else found[found.length - 1] += token;
    }
    return found.filter((part) => part.trim());
  };
  const broken = (box, tex) => {
    const lines = parts(tex);
    if (!lines || lines.length < 2) return box;
    const set = MathJax.tex2svg(`\\begin{gathered}${lines.join("\\\\")}\\end{gathered}`, { display: true });
    const words = box.querySelector("mjx-assistive-mml");
    if (words) set.append(words.cloneNode(true));
    whole.set(set, box);
    box.replaceWith(set);
    return set;
  };
  const ratio = (box) => box.clientWidth / box.scrollWidth;
  const scale = (box, factor) => {
    const svg = box.querySelector("svg");
    svg.style.width = svg.style.height = "";
    const { width, height } = svg.getBoundingClientRect();
    if (factor < 1) [svg.style.width, svg.style.height] = [`${factor * width}px`, `${factor * height}px`];
  };
  const fit = () => {
    const tex = items();
    document.querySelectorAll(".eq-row.stacked").forEach((row) => row.classList.remove("stacked"));
    for (const [set, box] of whole) set.replaceWith(box);
    whole.clear();
    for (let box of document.querySelectorAll("div.math > mjx-container")) {
      scale(box, 1);
      if (ratio(box) < 0.8) box.closest(".eq-row")?.classList.add("stacked");
      if (ratio(box) < 0.8 && tex.has(box)) box = broken(box, tex.get(box));
      const factor = 0.98 * ratio(box); // below 0.72 too small to read
      if (ratio(box) < 1) scale(box, factor >= 0.72 ? factor : 0.75);
      const scrolls = box.scrollWidth > box.clientWidth + 1;
      box.parentElement.classList.toggle("scrolls", scrolls);
      if (scrolls) box.tabIndex = 0;
      else box.removeAttribute("tabindex");
    }
    for (const span of document.querySelectorAll("span.math")) {
      span.classList.remove("wide");
      const room = span.parentElement.closest("p, li, dd, td, div")?.clientWidth ?? Infinity;
      span.classList.toggle("wide", span.getBoundingClientRect().width > room + 1);
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
