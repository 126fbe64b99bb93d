// The page as it changes: patches from /console/live, told by text and attributes only. Without this it stands still.
"use strict";

const WORDS = { ok: "fine", quiet: "quiet", warn: "warning", bad: "fault" };
// The daemon tells something at least every 10 s.
const SILENCE_MS = 20_000;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 10_000;
// A browser that draws nothing starts anew instead of keeping what it was told.
const MOST_WAITING = 30;
// So that a page without a place for something new isn't loaded again and again.
const RELOAD_MS = 60_000;
const LIVE = "/console/live";
// Of a table: shown at first, and of a cell: from where on it needs room. As in page.html.
const FIRST_ROWS = 12;
const WIDE_CHARS = 40;
// Of a plot, in the order in which a patch tells them.
const PLOT_TEXTS = [".now", ".most :last-child", ".since :last-child"];

const $ = (selector, within = document) => within.querySelector(selector);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];

// All that show the same thing, by its name.
function by(attribute) {
  const found = new Map();
  for (const node of all(`[data-${attribute}]`)) {
    const name = node.dataset[attribute];
    found.set(name, [...(found.get(name) ?? []), node]);
  }
  return found;
}

function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, state) {
  if (node.dataset.state === state) return false;
  node.dataset.state = state;
  write($(".word", node), WORDS[state]);
  return true;
}

function made(tag, text = "", attributes = {}) {
  const node = document.createElement(tag);
  node.textContent = text;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

// ---- tables: rows by their keys

class Table {
  constructor(block) {
    this.block = block;
    this.name = block.dataset.table;
    this.body = $("tbody", block);
    this.columns = all("thead th", block).map((head) => head.textContent);
    this.rows = new Map(all("tr", this.body).map((row) => [row.dataset.key, row]));
    this.filter = $(".filter input", block);
    this.filter.addEventListener("input", () => this.sift());
    this.weigh();
  }

  apply(patch) {
    for (const row of patch.rows ?? []) this.put(...row);
    if (patch.order) this.arrange(patch.order);
    if (patch.left_out !== undefined) {
      const told = $(".left-out", this.block);
      told.hidden = !patch.left_out;
      write(told.firstElementChild, patch.left_out.toLocaleString("en"));
    }
    this.count();
    if (this.filter.value) this.sift();
  }

  put(key, state, why, canAct, cells) {
    let row = this.rows.get(key);
    if (!row) {
      row = this.make(key, why, cells);
      this.rows.set(key, row);
      this.body.append(row);
    }
    mark(row, state);
    cells.forEach((text, place) => {
      write(place ? row.cells[place] : row.cells[0].lastElementChild, text);
      if (place) row.cells[place].toggleAttribute("data-wide", text.length > WIDE_CHARS);
    });
    if (this.block.dataset.act && canAct !== Boolean($("form", row))) this.letAct(row, key, canAct, cells[0]);
  }

  make(key, why, cells) {
    const row = made("tr", "", { "data-key": key });
    const head = made("th", "", { scope: "row" });
    head.append(made("span", "", { class: "word" }), " ",
      why ? made("a", cells[0], { href: `/console/why?q=${encodeURIComponent(why)}` }) : made("span", cells[0]));
    row.append(head, ...cells.slice(1).map((text, place) => made("td", text, { "data-label": this.columns[place + 1] })));
    if (this.block.dataset.act) row.append(made("td", "", { class: "act" }));
    return row;
  }

  letAct(row, key, canAct, name) {
    const { act, actLabel } = this.block.dataset;
    if (!canAct) return row.lastElementChild.replaceChildren();
    const form = made("form", "", { method: "post", action: `/console/${this.name}/${encodeURIComponent(key)}/${act}` });
    form.append(made("input", "", { type: "hidden", name: "csrf", value: $("input[name=csrf]").value }),
      made("button", actLabel, { "aria-label": `${actLabel} ${name}` }));
    row.lastElementChild.replaceChildren(form);
  }

  // Few rows are moved: one that is out of its place is taken aside, and set where its turn comes.
  arrange(order) {
    const focused = document.activeElement;
    const wanted = new Set(order);
    for (const [key, row] of this.rows) {
      if (!wanted.has(key)) {
        row.remove();
        this.rows.delete(key);
      }
    }
    let cursor = this.body.firstElementChild;
    for (const row of order.map((key) => this.rows.get(key)).filter(Boolean)) {
      if (cursor && cursor !== row && cursor.nextElementSibling === row) {
        cursor.remove();
        cursor = row;
      }
      if (cursor === row) cursor = cursor.nextElementSibling;
      else this.body.insertBefore(row, cursor);
    }
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
  }

  weigh() {
    const isWrong = [...this.rows.values()].some((row) => row.dataset.state === "bad" || row.dataset.state === "warn");
    this.block.toggleAttribute("data-wrong", isWrong);
  }

  count() {
    const { size } = this.rows;
    this.weigh();
    this.block.toggleAttribute("data-empty", !size);
    this.block.toggleAttribute("data-long", size > FIRST_ROWS);
    this.filter.parentElement.hidden = size <= FIRST_ROWS && !this.filter.value;
    write($(".count", this.block), size.toLocaleString("en"));
  }

  sift() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.block.toggleAttribute("data-filtered", words.length > 0);
    let found = 0;
    for (const row of this.rows.values()) {
      const text = words.length ? row.textContent.toLowerCase() : "";
      row.hidden = !words.every((word) => text.includes(word));
      found += !row.hidden;
    }
    write($(".count", this.block), `${words.length ? `${found.toLocaleString("en")} of ` : ""}${this.rows.size.toLocaleString("en")}`);
  }
}

// ---- the page

const page = $("#at") && {
  figures: by("figure"),
  plots: by("plot"),
  faults: by("fault"),
  parts: by("part"),
  tables: new Map(all("[data-table]").map((block) => [block.dataset.table, new Table(block)])),
};

function apply(patch) {
  const { parts = {}, figures = {}, plots = {}, tables = {}, faults = {} } = patch;
  $("#at").dateTime = patch.at;
  write($("#at"), `${patch.at.slice(11, 19)} UTC`);
  for (const [key, [value, state, note]] of told(figures, page.figures)) {
    for (const node of page.figures.get(key)) {
      mark(node, state);
      write($(".value", node), value);
      write($(".note", node), note);
    }
  }
  for (const [key, [path, ...texts]] of told(plots, page.plots)) {
    for (const node of page.plots.get(key)) {
      $(".line", node).setAttribute("d", path);
      PLOT_TEXTS.forEach((selector, place) => write($(selector, node), texts[place]));
    }
  }
  for (const [name, change] of told(tables, page.tables)) page.tables.get(name).apply(change);
  for (const [name, fault] of Object.entries(faults)) {
    for (const node of page.faults.get(name) ?? []) {
      node.hidden = !fault;
      write(node, fault ?? "");
    }
  }
  judge(told(parts, page.parts));
}

// What has a place here. The page is loaded anew where something has none: another version, or a part that can be read again.
function told(changes, places) {
  const found = Object.entries(changes);
  if (found.some(([key]) => !places.has(key)) && Date.now() - Number(sessionStorage.getItem("reloaded")) > RELOAD_MS) {
    sessionStorage.setItem("reloaded", Date.now());
    location.reload();
  }
  return found.filter(([key]) => places.has(key));
}

// How each part is and why, where the part is named; all in all, and aloud when one turns bad.
function judge(parts) {
  const turned = [];
  for (const [name, [state, reason]] of parts) {
    const nodes = page.parts.get(name);
    if (nodes.map((node) => mark(node, state)).some(Boolean) && state === "bad") turned.push(titleOf(nodes));
    nodes.forEach((node) => $(".reason", node) && write($(".reason", node), reason));
  }
  if (turned.length) write($("#heard"), `${turned.join(", ")}: ${WORDS.bad}`);
  const known = [...page.parts.values()];
  const worst = ["bad", "warn"].find((state) => known.some(([node]) => node.dataset.state === state));
  const headline = $("#headline");
  mark(headline, worst ?? "ok");
  const named = known.filter(([node]) => node.dataset.state === worst).map(titleOf).join(", ");
  write(headline.lastElementChild, named || "All is well");
  document.title = `${worst === "bad" ? "Fault · " : ""}OpenDesk console`;
}

const titleOf = (nodes) => $(".name", nodes.find((node) => node.matches(".part"))).firstElementChild.textContent;

// ---- the line to the daemon

const line = { source: null, heard: 0, wait: FIRST_WAIT_MS, timer: 0, lost: null, over: false, waiting: [] };

function say(link, text) {
  $("#link").dataset.link = link;
  write($("#link-text"), text);
}

function open() {
  if (line.over || line.source || document.hidden) return;
  line.heard = Date.now();
  line.source = new EventSource(LIVE);
  line.source.addEventListener("patch", (event) => hear(event.data));
  line.source.addEventListener("bye", (event) => (JSON.parse(event.data).reason === "logged_out" ? leave() : lose()));
  line.source.addEventListener("error", lose);
}

function close() {
  line.source?.close();
  line.source = null;
  line.waiting = [];
  clearTimeout(line.timer);
}

function hear(data) {
  line.heard = Date.now();
  line.wait = FIRST_WAIT_MS;
  line.lost = null;
  say("live", "live");
  if (line.waiting.push(data) === 1) requestAnimationFrame(draw);
  if (line.waiting.length > MOST_WAITING) lose();
}

function draw() {
  for (const data of line.waiting.splice(0)) apply(JSON.parse(data));
}

function lose() {
  close();
  line.lost ??= new Date().toISOString().slice(11, 19);
  say("lost", `reconnecting since ${line.lost} UTC`);
  line.timer = setTimeout(open, line.wait * (0.75 + Math.random() / 2));
  line.wait = Math.min(line.wait * 2, LONGEST_WAIT_MS);
}

// Whoever comes by reads nothing on.
function leave() {
  close();
  line.over = true;
  say("out", "logged out");
  document.title = "OpenDesk console";
  all("nav, search, .account, #sure, #at, #again").forEach((node) => node.remove());
  const again = made("p");
  again.append(made("a", "Log in", { href: "/console/login" }));
  $("main").replaceChildren(made("h1", "You are logged out"), again);
}

// ---- hands

// One question for every button that does something; without this the form is sent as it is.
document.addEventListener("submit", (event) => {
  const block = event.target.closest("[data-confirm]");
  if (!block) return;
  event.preventDefault();
  const sure = $("#sure");
  const row = event.target.closest("tr");
  $("form", sure).action = event.target.action;
  write($("strong", sure), `${block.dataset.actLabel} ${row.cells[0].lastElementChild.textContent}?`);
  write($(".soft", sure), block.dataset.confirm);
  write($("button:not([type])", sure), block.dataset.actLabel);
  sure.showModal();
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, dialog")) return;
  event.preventDefault();
  $("#search").focus();
  $("#search").select();
});

if (page) {
  // What an action came to is said once, not again with each reload.
  if (location.search) history.replaceState(null, "", location.pathname + location.hash);
  $("#sure [type=button]").addEventListener("click", () => $("#sure").close());
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  setInterval(() => line.source && Date.now() - line.heard > SILENCE_MS && lose(), SILENCE_MS / 4);
  open();
}
