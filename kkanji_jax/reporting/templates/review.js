"use strict";
// Decisions on readings: a label (a character), OUT for no label, or none yet.

const $ = (id) => document.getElementById(id);
const items = JSON.parse($("data").textContent);
const KEY = `kkanji-review:${document.body.dataset.digest}`;
const OUT = "";
const MOST_CARDS = 200; // of a group at a time
const MOST_UNDONE = 500;
const VERDICTS = ["unknown", "ask", "", "unclear", "blank", "accept"];
const NAMES = { "": "not calibrated" };

const state = { labels: new Map(), undo: [], group: 0, card: 0, shown: MOST_CARDS };

/** Groups of one verdict and one reading: the least sure verdict first, then the largest group. */
const groups = (() => {
  const found = new Map();
  items.forEach((item, number) => {
    const reading = item.candidates[0]?.[0] ?? "";
    const key = `${item.verdict}\n${reading}`;
    if (!found.has(key)) found.set(key, { verdict: item.verdict, reading, members: [] });
    found.get(key).members.push(number);
  });
  const sure = (number) => items[number].candidates[0]?.[1] ?? 0;
  const all = [...found.values()];
  for (const { members } of all) members.sort((a, b) => sure(a) - sure(b) || a - b);
  const rank = ({ verdict }) => VERDICTS.indexOf(verdict);
  return all.sort(
    (a, b) => rank(a) - rank(b) || b.members.length - a.members.length || (a.reading < b.reading ? -1 : 1),
  );
})();

const groupOf = new Map(groups.flatMap(({ members }, at) => members.map((number) => [number, at])));

let warning = ""; // stands before whatever else is said

const say = (text) => {
  $("status").textContent = `${warning} ${text}`.trim();
};

const warnOfStorage = (error) => {
  warning = `This browser keeps no decisions (${error.name}): save the CSV before you close this page.`;
  say("");
};

const codepointOf = (c) => `U+${c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

function make(name, className, text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

// What is kept

function keep() {
  try {
    localStorage.setItem(KEY, JSON.stringify({ labels: [...state.labels], undo: state.undo }));
    warning = "";
  } catch (error) {
    warnOfStorage(error);
  }
}

function restore() {
  let kept = null;
  try {
    kept = JSON.parse(localStorage.getItem(KEY));
  } catch (error) {
    warnOfStorage(error);
  }
  if (!kept) return;
  state.labels = new Map(kept.labels);
  state.undo = kept.undo;
  say(`${state.labels.size} decisions from last time.`);
}

// Decisions

/** Decides on several images at once, as one step of undo; undefined takes a decision back. */
function decide(numbers, label) {
  const before = numbers.map((number) => [number, state.labels.get(number) ?? null]);
  state.undo.push(before);
  if (state.undo.length > MOST_UNDONE) state.undo.shift();
  for (const number of numbers) setLabel(number, label);
  keep();
  refresh(numbers);
}

function setLabel(number, label) {
  if (label === undefined || label === null) state.labels.delete(number);
  else state.labels.set(number, label);
}

function undo() {
  const before = state.undo.pop();
  if (!before) return;
  for (const [number, label] of before) setLabel(number, label);
  keep();
  refresh(before.map(([number]) => number));
  const [first] = before[0];
  const group = groupOf.get(first);
  if (group !== state.group) showGroup(group);
  goTo(groups[group].members.indexOf(first));
  say(before.length === 1 ? "Undone." : `Undone: ${before.length} images.`);
}

function confirmGroup() {
  const { members, reading } = groups[state.group];
  const open = members.filter((number) => !state.labels.has(number));
  if (!open.length) return;
  decide(open, reading || OUT);
  const images = open.length === 1 ? "1 image" : `${open.length} images`;
  say(`${images}: ${reading ? `labelled ${reading}` : "no label"}.`);
}

/** The label that a text stands for: one character; null for anything else. */
function labelOf(text) {
  const code = /^[Uu]\+([0-9A-Fa-f]{4,6})$/.exec(text.trim());
  if (code) {
    const value = parseInt(code[1], 16);
    const isCharacter = value <= 0x10ffff && !(value >= 0xd800 && value <= 0xdfff) && value > 0x20;
    return isCharacter ? String.fromCodePoint(value) : null;
  }
  // As in class_index.py, `composed`: a kana with its sound mark is one, a selector is none.
  const composed = text
    .trim()
    .replace(/[\u3040-\u30ff][\u3099\u309a]/g, (pair) => pair.normalize("NFC"))
    .replace(/[\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/gu, "");
  const characters = [...composed];
  return characters.length === 1 ? characters[0] : null;
}

// What is shown

function renderGroups() {
  const list = [];
  groups.forEach(({ verdict, reading, members }, number) => {
    if (number === 0 || groups[number - 1].verdict !== verdict) {
      const head = make("li", "");
      head.append(make("h2", "", NAMES[verdict] ?? verdict));
      list.push(head);
    }
    const row = make("li", "");
    const button = make("button", "");
    button.type = "button";
    button.id = `group-${number}`;
    const character = make("span", "reading", reading || "–");
    character.lang = "ja";
    button.append(character, make("span", "left"));
    button.addEventListener("click", () => showGroup(number));
    row.append(button);
    list.push(row);
  });
  $("groups").replaceChildren(...list);
  groups.forEach((_, number) => tellLeft(number));
}

function tellLeft(number) {
  const { members } = groups[number];
  const done = members.filter((each) => state.labels.has(each)).length;
  const button = $(`group-${number}`);
  const told = done === members.length ? `${members.length} ✓` : `${done} / ${members.length}`;
  button.querySelector(".left").textContent = told;
  button.setAttribute("aria-current", String(number === state.group));
}

function showGroup(number, hasFocus = false) {
  if (!groups.length) return;
  const before = state.group;
  state.group = Math.min(Math.max(number, 0), groups.length - 1);
  state.shown = MOST_CARDS;
  state.card = 0;
  const { verdict, reading, members } = groups[state.group];
  tellLeft(before);
  tellLeft(state.group);
  $("group-title").textContent = `${NAMES[verdict] ?? verdict}: ${reading ? `${reading} ${codepointOf(reading)}` : "no reading"} (${members.length})`;
  $("confirm").textContent = reading ? `The rest is ${reading} (A)` : "No labels for the rest (A)";
  $("previous").disabled = state.group === 0;
  $("next").disabled = state.group === groups.length - 1;
  renderCards();
  $(`group-${state.group}`).scrollIntoView({ block: "nearest", inline: "nearest" });
  if (hasFocus) goTo(0);
}

function renderCards() {
  const { members } = groups[state.group];
  $("cards").replaceChildren(...members.slice(0, state.shown).map(cardOf));
  $("more").hidden = members.length <= state.shown;
  makeCurrent(state.card);
}

function cardOf(number) {
  const item = items[number];
  const card = make("li", "card");
  card.id = `card-${number}`;
  card.dataset.verdict = item.verdict;
  const pick = make("button", "pick");
  pick.type = "button";
  const image = make("img", "");
  image.src = `data:image/jpeg;base64,${item.thumb}`;
  image.alt = "";
  image.loading = "lazy";
  const label = make("span", "label");
  label.lang = "ja";
  pick.append(image, label);
  pick.addEventListener("click", () => decide([number], item.candidates[0]?.[0] ?? OUT));
  const row = make("div", "candidates");
  for (const [character] of item.candidates) {
    const button = make("button", "", character);
    button.type = "button";
    button.lang = "ja";
    button.addEventListener("click", () => decide([number], character));
    row.append(button);
  }
  for (const [text, name, act] of [
    ["…", "another character", () => write(number)],
    ["×", "no label", () => decide([number], OUT)],
  ]) {
    const button = make("button", "other", text);
    button.type = "button";
    button.setAttribute("aria-label", name);
    button.addEventListener("click", act);
    row.append(button);
  }
  const share = item.candidates.length ? `${Math.round(100 * item.candidates[0][1])} % ` : "";
  const where = [item.id || item.path.split("/").at(-1), item.remark].filter(Boolean).join("; ");
  card.append(pick, row, make("p", "facts", share + where));
  card.addEventListener("focusin", () => makeCurrent(placeOf(number)));
  // Before the button's own handler, which may give the focus to the field for another character.
  // Not every browser gives it to a button that is clicked.
  card.addEventListener("click", () => pick.focus({ preventScroll: true }), { capture: true });
  paint(card, number);
  return card;
}

const placeOf = (number) => groups[state.group].members.indexOf(number);

/** Marks the image at a place of the group: it is the one that keys decide about. */
function makeCurrent(place) {
  state.card = place;
  for (const card of $("cards").querySelectorAll("[aria-current]")) card.removeAttribute("aria-current");
  $(`card-${groups[state.group].members[place]}`)?.setAttribute("aria-current", "true");
}

function paint(card, number) {
  const label = state.labels.get(number);
  card.classList.toggle("is-labelled", Boolean(label));
  card.classList.toggle("is-out", label === OUT);
  card.querySelector(".label").textContent = label === OUT ? "×" : (label ?? "");
  const reading = items[number].candidates[0]?.[0] ?? "no reading";
  const told = label === OUT ? "no label" : label ? `labelled ${label}` : `read as ${reading}, no decision`;
  card.querySelector(".pick").setAttribute("aria-label", `Image ${number + 1}: ${told}`);
  for (const button of card.querySelectorAll(".candidates button:not(.other)")) {
    button.setAttribute("aria-pressed", String(button.textContent === label));
  }
}

function refresh(numbers) {
  for (const number of numbers) {
    const card = $(`card-${number}`);
    if (card) paint(card, number);
  }
  for (const group of new Set(numbers.map((number) => groupOf.get(number)))) tellLeft(group);
  tellDone();
}

function tellDone() {
  $("done").textContent = String(state.labels.size);
  $("bar").value = state.labels.size;
  $("undo").disabled = state.undo.length === 0;
}

function goTo(place) {
  const { members } = groups[state.group];
  const within = Math.min(Math.max(place, 0), members.length - 1);
  if (within >= state.shown) {
    state.shown = Math.ceil((within + 1) / MOST_CARDS) * MOST_CARDS;
    renderCards();
  }
  makeCurrent(within);
  const card = $(`card-${members[within]}`);
  card.querySelector(".pick").focus({ preventScroll: true });
  card.scrollIntoView({ block: "nearest" });
}

/** Goes on to the next image of the group without a decision, or to the next group. */
function goOn() {
  const { members } = groups[state.group];
  const after = members.findIndex((number, place) => place > state.card && !state.labels.has(number));
  if (after >= 0) goTo(after);
  else if (state.group + 1 < groups.length) showGroup(state.group + 1, true);
}

/** How many cards stand side by side. */
function columns() {
  const cards = [...$("cards").children];
  const next = cards.findIndex((card) => card.offsetTop > cards[0].offsetTop);
  return next < 0 ? cards.length : next;
}

// Another character

let writingOf = null;

function write(number) {
  writingOf = number;
  $("write").hidden = false;
  $("written").value = state.labels.get(number) ?? "";
  $("written").focus();
}

function endWriting() {
  $("write").hidden = true;
  const place = placeOf(writingOf);
  writingOf = null;
  if (place >= 0) goTo(place);
}

$("write").addEventListener("submit", (event) => {
  event.preventDefault();
  const label = labelOf($("written").value);
  if (label === null) {
    say("Expected one character, or its code point, as U+6625.");
    return;
  }
  decide([writingOf], label);
  endWriting();
  goOn();
});
$("cancel").addEventListener("click", endWriting);

// The table

const COLUMNS = ["path", "box", "id", "codepoint", "character", "verdict", "read"];

/** As kkanji_jax/answers/row_formats.py writes cells for Excel. */
function cellOf(text) {
  const told = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[,"\r\n]/.test(told) || told !== told.trim() ? `"${told.replaceAll('"', '""')}"` : told;
}

function tableText() {
  const lines = [COLUMNS.join(",")];
  items.forEach((item, number) => {
    const label = state.labels.get(number);
    if (!label) return;
    const read = item.candidates[0]?.[0] ?? "";
    const cells = [item.path, item.box, item.id, codepointOf(label), label, item.verdict, read];
    lines.push(cells.map(cellOf).join(","));
  });
  return `\ufeff${lines.join("\n")}\n`;
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([tableText()], { type: "text/csv" }));
  link.download = "labels.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  const number = [...state.labels.values()].filter(Boolean).length;
  say(`${number} labels in labels.csv: put it beside this file.`);
}

$("save").addEventListener("click", save);
$("undo").addEventListener("click", undo);
$("confirm").addEventListener("click", () => {
  confirmGroup();
  goOn();
});
$("previous").addEventListener("click", () => showGroup(state.group - 1));
$("next").addEventListener("click", () => showGroup(state.group + 1));
$("more").addEventListener("click", () => {
  state.shown += MOST_CARDS;
  renderCards();
});

document.addEventListener("keydown", (event) => {
  // Keys of an input method are its own; in Safari, the one that ends a text has only this number.
  if (event.isComposing || event.keyCode === 229) return;
  const isUndo = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z";
  if (!$("write").hidden) {
    if (event.key === "Escape") endWriting();
    return;
  }
  if (isUndo || (!event.ctrlKey && !event.metaKey && event.key.toLowerCase() === "u")) {
    event.preventDefault();
    if (!event.repeat) undo();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !groups.length) return;
  const { members } = groups[state.group];
  const number = members[state.card];
  const { candidates } = items[number];
  const isOnCard = document.activeElement?.classList.contains("pick");
  const isMove = event.key.startsWith("Arrow"); // which other elements scroll by
  const isFree = isOnCard || document.activeElement === document.body;
  const digit = Number(event.key);
  const take = (label) => {
    decide([number], label);
    goOn();
  };
  const acts = {
    ArrowRight: () => goTo(state.card + 1),
    ArrowLeft: () => goTo(state.card - 1),
    ArrowDown: () => goTo(state.card + columns()),
    ArrowUp: () => goTo(state.card - columns()),
    c: () => write(number),
    x: () => take(OUT),
    Backspace: () => decide([number], undefined),
    a: () => {
      confirmGroup();
      goOn();
    },
    n: () => showGroup(state.group + 1, true),
    p: () => showGroup(state.group - 1, true),
  };
  if (isOnCard && event.key === "Enter" && candidates.length) acts.Enter = () => take(candidates[0][0]);
  if (digit >= 1 && digit <= candidates.length) acts[event.key] = () => take(candidates[digit - 1][0]);
  const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!act || (isMove && !isFree)) return;
  event.preventDefault(); // also of Enter, which would click
  if (!event.repeat || isMove) act(); // a key that is held decides once
});

restore();
renderGroups();
tellDone();
showGroup(0);
