// What a reader would trip over on the page that is open; a list of sentences.
(theme) => {
  const found = [];
  const note = (what, element) => {
    const words = (element.textContent || element.alt || "").trim().replace(/\s+/g, " ").slice(0, 60);
    found.push(`${what}: <${element.tagName.toLowerCase()} class="${element.getAttribute("class") || ""}"> ${words}`);
  };
  const visible = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true });
  const silent = (element) => element.closest("pre, code, script, style, noscript, mjx-assistive-mml, .visually-hidden");

  if (theme === "light") {
    for (const element of document.querySelectorAll(".math")) {
      if (!element.querySelector("mjx-container")) note("mathematics that was not set", element);
    }
    for (const element of document.querySelectorAll("mjx-merror, [data-mjx-error], .MathJax_Error")) {
      note("mathematics with an error", element);
    }
    for (const element of document.querySelectorAll("img")) {
      if (!element.alt.trim()) note("picture without alternative text", element);
      if (element.complete && !element.naturalWidth) note(`picture that does not load, ${element.src}`, element);
    }
    for (const element of document.querySelectorAll("svg[role=img]")) {
      if (!element.getAttribute("aria-label") && !element.closest("mjx-container, [aria-label], button, a")) {
        note("drawing without a label", element);
      }
    }
    if (!document.title.trim()) found.push("no title");
    if (!document.documentElement.lang) found.push("no language");
    if (document.querySelectorAll("h1").length !== 1) found.push("not exactly one first heading");
  }

  // colours: what a text node is drawn with, and what is behind it
  const parse = (text) => {
    const m = text.match(/rgba?\(([^)]+)\)/);
    if (m) {
      const [r, g, b, a = 1] = m[1].split(/[ ,/]+/).map(Number);
      return [r, g, b, a];
    }
    const s = text.match(/color\(srgb ([^)]+)\)/);
    if (!s) return null;
    const [r, g, b, a = 1] = s[1].split(/[ /]+/).map(Number);
    return [255 * r, 255 * g, 255 * b, a];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[3] * top[i] + (1 - top[3]) * below[i]).concat([1]);
  const luminance = (c) => {
    const [r, g, b] = c.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    const layers = [];
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour && colour[3] > 0) layers.push(colour);
      if (colour && colour[3] === 1) break;
    }
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const seen = new Set();
  const check = (element, property) => {
    const style = getComputedStyle(element);
    const colour = parse(style[property]);
    if (!colour) return;
    const paper = behind(element);
    const [a, b] = [luminance(over(colour, paper)), luminance(paper)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const key = `${style[property]} on ${paper.map(Math.round)} ${large}`;
    if (ratio < (large ? 3 : 4.5) && !seen.has(key)) {
      seen.add(key);
      note(`contrast ${ratio.toFixed(2)} in the ${theme} theme (${key})`, element);
    }
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, noscript, mjx-assistive-mml") || !visible(element)) continue;
    const box = element.getBoundingClientRect();
    if (box.width < 2 || box.height < 2) continue;
    check(element, element.closest("svg") ? "fill" : "color");
    if (theme === "light" && !silent(element)) {
      const raw = node.data.match(/\\[([\])]|\\[a-zA-Z]{2,}|\$\$|:(math|doc|func|eq|ref|mod|class):|``/);
      if (raw) note(`text that should have been set, ${raw[0]}`, element);
    }
  }
  for (const element of document.querySelectorAll("mjx-container")) if (visible(element)) check(element, "color");
  return found;
}
