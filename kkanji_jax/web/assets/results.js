// The answer: verdict, glyph, candidates, and copies of them.

import { REMARKS } from "./glyph_image.js";
import { count, percent, say } from "./strings.js";

const SHORT = 5;

const element = (name, className, text = "") => {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
};

/** Copies by the clipboard API, or where a page may not (plain http), by a selection. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = element("textarea", "visually-hidden", text);
  document.body.append(area);
  area.select();
  const isDone = document.execCommand("copy");
  area.remove();
  if (!isDone) throw new Error("copy");
}

/** The candidates as lines of tab-separated cells, under a heading. */
export function tableOf({ candidates, verdict }) {
  const heading = ["rank", "character", "codepoint", "probability", "verdict"];
  const rows = candidates.map(({ rank, character, codepoint, probability }) => [
    rank,
    character,
    codepoint,
    probability.toFixed(6),
    verdict,
  ]);
  return [heading, ...rows].map((cells) => cells.join("\t")).join("\n") + "\n";
}

/** What is remarkable of the picture, in the reader's language. */
function remarksTold(remarks) {
  const keyOf = (remark) => Object.keys(REMARKS).find((key) => REMARKS[key] === remark);
  return remarks.map((remark) => say(keyOf(remark))).join(" ");
}

export class Results {
  /** `tell(make)` says what `make()` gives, aloud for those who listen. */
  constructor(elements, tell) {
    Object.assign(this, elements, { tell, answer: null, isLong: false });
    this.copyTable.addEventListener("click", () => this.copied(tableOf(this.answer.reading)));
    this.more.addEventListener("click", () => {
      this.isLong = !this.isLong;
      this.render();
    });
  }

  show(answer) {
    this.answer = answer;
    this.render();
    const { candidates, verdict, remarks } = answer.reading;
    this.tell(() => {
      const told = [verdict ? say(verdict) : "", remarksTold(remarks)].filter(Boolean).join(" ");
      if (candidates.length === 0) return told;
      const { character, probability } = candidates[0];
      return say("told", { character, probability: percent(probability), verdict: told });
    });
  }

  hide() {
    this.answer = null;
    this.result.hidden = true;
    this.brief.hidden = true;
  }

  async copied(text) {
    try {
      await copy(text);
      this.tell(() => say("copied"));
    } catch {
      this.tell(() => say("notCopied"));
    }
  }

  render() {
    if (!this.answer) return;
    const { glyph, reading } = this.answer;
    const isEmpty = reading.candidates.length === 0;
    this.result.hidden = false;
    this.renderVerdict(reading);
    this.best.textContent = isEmpty ? "" : reading.candidates[0].character;
    this.best.dataset.verdict = reading.verdict;
    this.brief.hidden = isEmpty;
    this.brief.textContent = this.best.textContent;
    this.brief.setAttribute("aria-label", say("details", { character: this.best.textContent }));
    const pixels = new ImageData(64, 64);
    glyph.forEach((value, i) => pixels.data.set([value, value, value, 255], 4 * i));
    this.glyph.getContext("2d").putImageData(pixels, 0, 0);
    const shown = isEmpty ? [] : reading.candidates.slice(0, this.isLong ? undefined : SHORT);
    this.candidates.replaceChildren(...shown.map((candidate) => this.row(candidate)));
    this.more.textContent = say(this.isLong ? "fewer" : "more");
    this.more.setAttribute("aria-expanded", String(this.isLong));
    this.more.hidden = isEmpty || reading.candidates.length <= SHORT;
    this.copyTable.hidden = isEmpty;
  }

  renderVerdict({ verdict, remarks, accuracy, n }) {
    this.verdict.hidden = false;
    this.verdict.dataset.verdict = verdict;
    this.verdictName.textContent = verdict ? say(verdict) : "";
    const values = { accuracy: accuracy === null ? "–" : percent(accuracy), n: count(n ?? 0) };
    const means = say(verdict ? `${verdict}Means` : "uncalibrated", values);
    this.verdictMeans.textContent = [means, remarksTold(remarks)].filter(Boolean).join(" ");
  }

  row({ character, codepoint, probability, forms, trained, examples }) {
    const row = element("li", "candidate");
    row.dataset.codepoint = codepoint;
    row.dataset.probability = probability;
    const glyph = element("span", "character", character);
    glyph.lang = "ja";
    const facts = element("span", "facts");
    facts.append(element("span", "codepoint", codepoint));
    const notes = forms.map((form) => `${form.character} ${say(form.relation)}`);
    notes.unshift(say("trainedOn", { n: count(trained) }));
    facts.append(element("span", "notes", notes.join(" · ")));
    const bar = element("span", "bar");
    const filled = element("span", "filled");
    filled.style.width = `${100 * probability}%`;
    bar.append(filled);
    const button = element("button", "copy");
    button.type = "button";
    button.setAttribute("aria-label", say("copy", { character }));
    button.addEventListener("click", () => this.copied(character));
    button.replaceChildren(copyIcon());
    row.append(glyph, facts, element("span", "share", percent(probability)), bar, button);
    if (examples) row.append(examplesOf(examples, say("examples", { character })));
    return row;
  }
}

/** Written examples of a candidate, side by side, for the reader's own eye. */
function examplesOf({ sheet, row, count: number, tilePx }, label) {
  const strip = element("span", "examples");
  strip.setAttribute("role", "img");
  strip.setAttribute("aria-label", label);
  for (let column = 0; column < number; column++) {
    const tile = element("span", "example");
    tile.style.width = tile.style.height = `${tilePx}px`;
    tile.style.backgroundImage = `url("${sheet}")`;
    tile.style.backgroundPosition = `${-column * tilePx}px ${-row * tilePx}px`;
    strip.append(tile);
  }
  return strip;
}

function copyIcon() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  for (const [x, y] of [[3, 3], [7, 7]]) {
    const sheet = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const [name, value] of Object.entries({ x, y, width: 10, height: 10, rx: 1.5 })) {
      sheet.setAttribute(name, value);
    }
    svg.append(sheet);
  }
  return svg;
}
