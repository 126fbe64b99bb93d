"""What is asked of a page in a browser, as scripts."""

from typing import Final

# Texts of which the colour is too near to what is behind it, by WCAG 2.2 AA: 4.5 to 1, 3 to 1 where it is large.
PALE_TEXTS: Final = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const part = (value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(node).backgroundColor);
      if (a === 1) return [r, g, b];
      if (a !== 0) throw new Error("half transparent");
    }
    throw new Error("nothing is behind it");
  };
  const pale = [];
  for (const node of document.body.querySelectorAll("*")) {
    const isText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if ((!isText && node.tagName !== "INPUT") || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const size = parseFloat(style.fontSize);
    const [upper, lower] = [light(parse(style.color)), light(behind(node))].sort((a, b) => b - a);
    const contrast = (upper + 0.05) / (lower + 0.05);
    const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (isLarge ? 3 : 4.5)) pale.push(`${node.tagName} ${node.className} ${node.textContent}: ${contrast}`);
  }
  return pale;
}"""

# What reaches over the right edge, but for what can be scrolled within itself.
TOO_WIDE: Final = """() => {
  const scrolls = (node) => node && (["auto", "scroll", "hidden"].includes(getComputedStyle(node).overflowX)
    || scrolls(node.parentElement));
  const wide = [...document.body.querySelectorAll("*")].filter((node) => node.checkVisibility()
    && node.getBoundingClientRect().right > innerWidth + 0.5 && !scrolls(node.parentElement));
  return [...wide.map((node) => node.outerHTML.slice(0, 200)),
    ...(document.documentElement.scrollWidth > innerWidth ? ["the page scrolls sideways"] : [])];
}"""

# A page's parts as data, and those of a page that was drawn elsewhere: without white space, attributes in order.
PARTS: Final = """(html) => {
  const root = html ? new DOMParser().parseFromString(html, "text/html") : document;
  const tell = (node) => {
    if (node.nodeType === 3) return node.textContent.trim() || null;
    if (node.nodeType !== 1 || node.matches(".filter")) return null;
    const attributes = [...node.attributes].map(({ name, value }) => `${name}=${value}`).sort();
    return [node.tagName, attributes, [...node.childNodes].map(tell).filter((told) => told !== null)];
  };
  return JSON.stringify(["#headline", ".board", ".details", "nav", "#at"].map((part) => tell(root.querySelector(part))));
}"""
