// Equations, their numbers and lines of code that are cut or covered on the page that is open; a list of sentences.
() => {
  const found = [];
  const words = (element) => element.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
  const visible = (element) => element.checkVisibility() && element.getBoundingClientRect().width > 0;
  const wordsEnd = (element) => {
    const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT), range = document.createRange();
    let end = 0;
    while (texts.nextNode()) {
      for (const word of texts.currentNode.data.matchAll(/\S+/g)) {
        range.setStart(texts.currentNode, word.index);
        range.setEnd(texts.currentNode, word.index + word[0].length);
        end = Math.max(end, range.getBoundingClientRect().right);
      }
    }
    return end;
  };
  for (const pre of document.querySelectorAll(".bd-article pre")) {
    if (!visible(pre)) continue;
    const wraps = getComputedStyle(pre).whiteSpace !== "pre" || pre.closest(".beside, .listing");
    if (pre.scrollWidth > pre.clientWidth + 1 && (wraps || innerWidth <= 600)) found.push(`code is cut: ${words(pre)}`);
    const right = pre.getBoundingClientRect().right;
    for (const line of pre.querySelectorAll(".cl .src, .cl .eqlink")) {
      if (line.getBoundingClientRect().right <= right + 1) continue;
      // blanks may hang over the edge where a line wraps, words may not
      if (wordsEnd(line) > right + 1) found.push(`a line of code runs out: ${words(line)}`);
    }
  }
  for (const math of document.querySelectorAll(".bd-article div.math")) {
    const box = math.querySelector("mjx-container"), svg = box?.querySelector("svg"), number = math.querySelector(".eqno");
    if (!svg || !visible(math)) continue;
    const [outer, inner] = [box.getBoundingClientRect(), svg.getBoundingClientRect()];
    const cut = inner.right > outer.right + 1 || inner.left < outer.left - 1;
    const shows = math.matches(".scrolls") && box.tabIndex === 0 && parseFloat(getComputedStyle(box).borderRightWidth) >= 2;
    if (cut && !shows) found.push(`an equation is cut: ${math.id || words(math)}`);
    if (!cut && math.matches(".scrolls")) found.push(`an equation says that it scrolls: ${math.id}`);
    if (inner.height > outer.height + 1) found.push(`an equation is cut below: ${math.id || words(math)}`);
    if (!number) continue;
    const place = number.getBoundingClientRect();
    if (place.left < outer.right - 1) found.push(`a number covers its equation: ${math.id}`);
    if (place.right > math.getBoundingClientRect().right + 1) found.push(`a number runs out: ${math.id}`);
  }
  for (const span of document.querySelectorAll(".bd-article span.math")) {
    if (!visible(span) || span.matches(".wide")) continue;
    if (["auto", "scroll"].includes(getComputedStyle(span).overflowX)) found.push(`a formula has scrollbars: ${words(span)}`);
  }
  return found.slice(0, 12);
}
