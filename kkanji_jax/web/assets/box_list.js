// The boxes of the picture at hand and what was read in them: a list, and marks on the picture.

import { percent, say } from "./strings.js";

const make = (name, className, text = "") => {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
};

const isSame = (one, other) =>
  ["left", "top", "width", "height"].every((name) => one[name] === other[name]);

export class BoxList {
  /** `choose(entry)` is called when a row is; `change()` when the list has changed. */
  constructor({ list, marks }, choose, change) {
    Object.assign(this, { list, marks, choose, change, entries: [], current: null, size: null });
  }

  /** Begins anew for a picture of `size`. */
  clear(size) {
    Object.assign(this, { entries: [], current: null, size });
    this.render();
  }

  /** The entry of a box: the one that stands there, the one that was moved there, or a new one. */
  entryOf(box, id = "") {
    let entry = this.entries.find((each) => isSame(each.box, box)) ?? this.current;
    if (!entry) {
      entry = { box, id, answer: null };
      this.entries.push(entry);
    }
    if (!isSame(entry.box, box)) Object.assign(entry, { box, answer: null });
    this.current = entry;
    return entry;
  }

  /** Takes the worker's answer for the box of an entry, unless that was moved since. */
  take(entry, box, answer) {
    if (!isSame(entry.box, box)) return;
    entry.answer = answer;
    this.render();
  }

  remove(entry) {
    const at = this.entries.indexOf(entry);
    this.entries.splice(at, 1);
    if (this.current === entry) this.current = null;
    this.render();
    const next = this.list.children[Math.min(at, this.entries.length - 1)];
    next?.querySelector("button").focus(); // the row that had the focus is gone
  }

  render() {
    this.list.replaceChildren(...this.entries.map((entry, i) => this.row(entry, i)));
    this.marks.replaceChildren(...this.entries.map((entry) => this.mark(entry)));
    this.change();
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
