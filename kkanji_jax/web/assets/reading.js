// Logits -> candidates and a verdict: the rules of kkanji_jax/inference/recogniser.py and evaluation/calibration.py.

import { REMARKS } from "./glyph_image.js";

export const TOP_K = 10;
export const CUT_SUPPORT = 2.5; // nats, as in kkanji_jax/inference/reading.py

/** Where written examples of a class stand: a sheet, its row, and how many there are. */
function examplesOf(classId, lookalikes) {
  if (!lookalikes?.counts[classId]) return null;
  const { tile_px, per_sheet, counts } = lookalikes;
  const sheet = `./lookalikes/${Math.trunc(classId / per_sheet)}.png`;
  return { sheet, row: classId % per_sheet, count: counts[classId], tilePx: tile_px };
}

/** The largest logit, standardised over all: what calibrations of version 1 tell unknowns by. */
function standardised(logits, largest) {
  const mean = logits.reduce((sum, value) => sum + value, 0) / logits.length;
  const squares = logits.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return squares > 0 ? (largest - mean) / Math.sqrt(squares / logits.length) : 0;
}

/** Log odds that a picture is of a known character and read right: what version 3 goes by. */
function familiarityOf(probability, support, { bias, of_log_odds, of_support }) {
  const share = Math.min(probability, 1 - 1e-9);
  return bias + of_log_odds * (Math.log(share) - Math.log1p(-share)) + of_support * support;
}

/** Whether a picture with these remarks can be accepted; `support` is null in a model without one. */
function mayAccept(remarks, support) {
  if (!remarks.length) return true;
  const isOnlyCut = remarks.length === 1 && remarks[0] === REMARKS.cutOff;
  return isOnlyCut && support !== null && support >= CUT_SUPPORT;
}

export const SCRIPTS = { a: "kana", i: "kanji" }; // the letters of model.scripts

/**
 * The classes that an answer may be: `ids`, null for all of them, and the characters that the model
 * lacks. `characters` is "all", "kana", "kanji", or any text of characters and U+XXXX; a range, as
 * ぁ-ん or U+3041-U+3093, is those of its characters that the model knows.
 */
export function allowedIds(characters, model) {
  if (characters === "all") return { ids: null, lacking: [] };
  const all = model.codepoints.map((_, id) => id);
  if (Object.values(SCRIPTS).includes(characters)) {
    return { ids: all.filter((id) => SCRIPTS[model.scripts[id]] === characters), lacking: [] };
  }
  const wanted = new Set();
  const ranges = [];
  for (const [item, first, last] of composed(characters).matchAll(ITEM)) {
    if (last) ranges.push([numberOf(first), numberOf(last)].sort((a, b) => a - b));
    else wanted.add(numberOf(first ?? item));
  }
  const isWanted = (number) =>
    wanted.has(number) || ranges.some(([least, most]) => least <= number && number <= most);
  const numbers = model.codepoints.map(numberOf);
  const known = new Set(numbers);
  const lacking = [...wanted].filter((number) => !known.has(number)).map(codepointOf);
  return { ids: all.filter((id) => isWanted(numbers[id])), lacking: lacking.sort() };
}

const ONE = String.raw`U\+[0-9A-F]{4,6}|[^\s-]`;
const ITEM = new RegExp(`(${ONE})(?:-(${ONE}))?|-`, "giu");

/** A kana and its sound mark as one character, and no variation selectors. */
const composed = (text) =>
  text
    .replace(/[\u3040-\u30ff][\u3099\u309a]/g, (pair) => pair.normalize("NFC"))
    .replace(/[\ufe00-\ufe0f\u{e0100}-\u{e01ef}]/gu, "");

/** The code point of a character, or of U+XXXX. */
const numberOf = (one) => ([...one].length > 1 ? parseInt(one.slice(2), 16) : one.codePointAt(0));

/** A code point with its character, if it is one, as 春 U+6625. */
export function named(codepoint) {
  const number = numberOf(codepoint);
  const isCharacter = number <= 0x10ffff && !(number >= 0xd800 && number <= 0xdfff);
  return isCharacter ? `${String.fromCodePoint(number)} ${codepoint}` : codepoint;
}

const codepointOf = (number) => `U+${number.toString(16).toUpperCase().padStart(4, "0")}`;

/**
 * The best candidates of what the network said, how far to rely on the first, and what is
 * remarkable of the picture. What is in `trouble`, blank or unclear, has no candidates; what has
 * `remarks` is not accepted, save as `mayAccept` says. With `ids` the answer is one of these
 * classes; if that changes the first candidate, it is unknown.
 */
export function readingOf({ logits, support }, model, trouble = "", remarks = [], ids = null) {
  if (trouble) return { candidates: [], verdict: trouble, remarks, accuracy: null, n: null };
  const { version, temperature = 1, verdicts = null, familiarity = null } = model.calibration ?? {};
  const best = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const allWeights = Float64Array.from(logits, (value) => Math.exp((value - best) / temperature));
  const topProbability = 1 / allWeights.reduce((sum, value) => sum + value, 0);
  const allowed = ids ? [...ids] : Array.from(logits.keys());
  const order = allowed.sort((a, b) => logits[b] - logits[a] || a - b);
  const first = logits[order[0]]; // of those allowed: far below the best, all weights would vanish
  const weights = ids
    ? Float64Array.from(logits, (value) => Math.exp((value - first) / temperature))
    : allWeights;
  const total = order.reduce((sum, classId) => sum + weights[classId], 0);
  const candidates = order.slice(0, TOP_K).map((classId, i) => {
    const codepoint = model.codepoints[classId];
    const character = String.fromCodePoint(parseInt(codepoint.slice(2), 16));
    const forms = model.forms[codepoint] ?? [];
    const trained = model.train_counts[classId];
    const probability = weights[classId] / total;
    const examples = examplesOf(classId, model.lookalikes);
    return { rank: i + 1, classId, character, codepoint, probability, forms, trained, examples };
  });
  let verdict = "";
  if (verdicts) {
    const { accept, unknown } = verdicts;
    let known = version === 1 ? standardised(logits, best) : topProbability;
    let isSure = accept.threshold !== null && topProbability >= accept.threshold;
    if (familiarity) {
      known = familiarityOf(topProbability, support, familiarity);
      isSure &&= support >= accept.least_support;
    }
    verdict = known < unknown.threshold ? "unknown" : isSure ? "accept" : "ask";
    if (order[0] !== logits.indexOf(best)) verdict = "unknown"; // the model would have said another
  }
  if (verdict === "accept" && !mayAccept(remarks, familiarity && support)) verdict = "ask";
  const stated = verdicts?.[verdict];
  return { candidates, verdict, remarks, accuracy: stated?.accuracy ?? null, n: stated?.n ?? null };
}
