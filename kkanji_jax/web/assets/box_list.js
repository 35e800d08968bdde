// The boxes of the picture at hand and what was read in them: a list, and marks on the picture.

import { percent, say } from "./strings.js";

const make = (name, className, text = "") => {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
};

export const isSame = (one, other) =>
  ["left", "top", "width", "height"].every((name) => one[name] === other[name]);

export class BoxList {
  /**
   * `choose(entry)` is called when a row is, `removed(entry)` when it was taken from the list, and
   * `change()` when the list has changed. `viewer` gets the focus of the last row that is removed.
   */
  constructor({ list, marks, viewer }, { choose, removed, change }) {
    Object.assign(this, { list, marks, viewer, choose, removed, change });
    Object.assign(this, { entries: [], current: null, size: null });
    this.shown = new Map(); // entry -> its row in the list, and its mark
  }

  /** Begins anew for a picture of `size`. */
  clear(size) {
    Object.assign(this, { entries: [], current: null, size });
    this.render();
  }

  /** The entry of a box: the one that stands there, the one that was moved there, or a new one. */
  entryOf(box) {
    const there = this.entriesAt(box);
    let [entry] = there;
    // Of several at one place, the current one.
    if (!entry || there.includes(this.current)) entry = this.current ?? this.add(box);
    if (!isSame(entry.box, box)) Object.assign(entry, { box, answer: null });
    this.current = entry;
    return entry;
  }

  /**
   * The entry of a box in a table: the one with its id that stands there, or that has none and gets
   * it, or a new one.
   */
  entryWith(box, id) {
    const there = this.entriesAt(box);
    const entry =
      there.find((each) => each.id === id) ?? there.find((each) => !each.id || !id) ?? this.add(box);
    entry.id ||= id;
    return entry;
  }

  entriesAt(box) {
    return this.entries.filter((each) => isSame(each.box, box));
  }

  add(box) {
    const entry = { box, id: "", answer: null };
    this.entries.push(entry);
    return entry;
  }

  /** Takes the worker's answer for the box of an entry, unless that was moved since. */
  take(entry, box, answer) {
    if (!isSame(entry.box, box)) return;
    entry.answer = answer;
    this.renderOne(entry);
  }

  remove(entry) {
    const at = this.entries.indexOf(entry);
    this.entries.splice(at, 1);
    this.removed(entry);
    this.render();
    const next = this.list.children[Math.min(at, this.entries.length - 1)];
    (next?.querySelector("button") ?? this.viewer).focus(); // the row that had the focus is gone
  }

  /** Shows the entries as they are now; a button that has the focus keeps it. */
  render() {
    const held = this.heldFocus();
    this.shown = new Map(this.entries.map((entry, i) => [entry, this.drawn(entry, i)]));
    const shown = [...this.shown.values()];
    this.list.replaceChildren(...shown.map(({ row }) => row));
    this.marks.replaceChildren(...shown.map(({ mark }) => mark));
    this.giveFocus(held);
    this.change();
  }

  /** `render` for one entry: the others are left alone, for there may be hundreds. */
  renderOne(entry) {
    const before = this.shown.get(entry);
    if (!before) return; // removed since
    const held = this.heldFocus();
    const now = this.drawn(entry, this.entries.indexOf(entry));
    before.row.replaceWith(now.row);
    before.mark.replaceWith(now.mark);
    this.shown.set(entry, now);
    this.giveFocus(held);
  }

  drawn(entry, i) {
    return { row: this.row(entry, i), mark: this.mark(entry) };
  }

  /** The entry whose button has the focus, and which button; null if none has. */
  heldFocus() {
    const button = document.activeElement;
    const found = [...this.shown].find(([, { row }]) => row.contains(button));
    return found ? { entry: found[0], button: `.${button.className}` } : null;
  }

  giveFocus(held) {
    const row = held && this.shown.get(held.entry)?.row;
    row?.querySelector(held.button).focus({ preventScroll: true });
  }

  row(entry, i) {
    const { box, id, answer } = entry;
    const reading = answer?.reading;
    const row = make("li", "read-box");
    const best = reading?.candidates[0];
    const name = id || String(i + 1);
    const button = make("button", "choose");
    button.type = "button";
    button.setAttribute("aria-current", String(entry === this.current));
    button.dataset.box = [box.left, box.top, box.width, box.height].join(" ");
    button.dataset.verdict = reading?.verdict ?? "";
    const character = make("span", "read-character", best?.character ?? "");
    character.lang = "ja";
    const told = reading
      ? [best && percent(best.probability), reading.verdict && say(reading.verdict)]
      : [say("notRead")];
    button.append(character, make("span", "read-told", told.filter(Boolean).join(" ")));
    button.append(make("span", "read-name", name));
    button.addEventListener("click", () => this.choose(entry));
    const remove = make("button", "remove", "×");
    remove.type = "button";
    remove.setAttribute("aria-label", say("removeBox", { name }));
    remove.addEventListener("click", () => this.remove(entry));
    row.append(button, remove);
    return row;
  }

  mark({ box, answer }) {
    const mark = make("div", "mark");
    mark.dataset.verdict = answer?.reading.verdict ?? "";
    const share = (value, of) => `${(100 * value) / of}%`;
    Object.assign(mark.style, {
      left: share(box.left, this.size.width),
      top: share(box.top, this.size.height),
      width: share(box.width, this.size.width),
      height: share(box.height, this.size.height),
    });
    return mark;
  }
}
