// A picture of one character -> the 64x64 white-on-black look that the network knows.
// The port of kkanji_jax/glyphs/glyph_image.py: the same steps, names and numbers; a test holds
// the two together on many pictures. Change them together.

import { greyOfPicture, pictureOf } from "./colour.js";
import { foreignEdges, ranked, ruledLines } from "./ink_lines.js";
import {
  cleared,
  holdsSeveral,
  inkOf,
  isCutBySide,
  strokeWidth,
  withoutNeighbours,
  withoutStrays,
} from "./ink_parts.js";
import {
  BLANK,
  coarseOf,
  findInk,
  isPaperDark,
  negative,
  resized,
  roundEven,
  stretched,
} from "./paper_and_ink.js";
import { BICUBIC, LANCZOS, gaussianBlur, resize } from "./pillow.js";
import { GLYPH_PX, publishedIn } from "./published_form.js";

const MIN_INK_PX = 16;
const WORK_PX = 192;
const FEW_PX = 24;
const MIN_GRAIN_PX = 2;
const ROUGH_SHARE = 0.4;
const ROUGH = 0.055;
const ROUGH_BLUR_PX = 1;
const ROUGH_FROM_PX = 40;
const ROUGH_TO_PX = 512;
const LOST_INK = 0.0025;
const MIN_BOX_SHARE = 0.25;
const MARGIN_PX = 2;
const THIN_PX = 3.4;
const THICKEN_PX = 0.5;
const BAND_DEPTH = 0.12;
const BAND_DARK = 0.35;
const BAND_COVER = 0.9;
const MIN_BAND_PX = 7;

// What is remarkable of a picture, in Python's words, and what strings.js calls it.
export const REMARKS = {
  severalCharacters: "several characters",
  cutOff: "cut off at the side",
  darkBand: "a dark band",
  fewPixels: "few pixels",
  redInk: "red ink only",
  turnedLeft: "read after turning it 90° to the left",
  turnedOver: "read after turning it 180°",
  turnedRight: "read after turning it 90° to the right",
  mayBeTurned: "may lie on its side or upside down",
};

/**
 * {glyph, trouble, remarks} of a canvas's pixels, as Python's glyph_steps has them. `inkIsBright` says
 * what it would else find out.
 */
export function glyphOf(image, { inkIsBright = null } = {}) {
  const seen = pictureOf(image);
  const grey = greyOfPicture(seen);
  const made = stepsOf(grey, inkIsBright);
  if (!made.trouble || grey.data.every((value, i) => value === seen.luma[i])) return made;
  const red = stepsOf({ ...grey, data: seen.luma }, inkIsBright);
  return red.trouble ? made : { ...red, remarks: [REMARKS.redInk, ...red.remarks] };
}

/** The published look of a grey picture; zeros where it has no ink. */
export const normaliseGlyph = (grey) => stepsOf(grey).glyph;

function stepsOf(grey, inkIsBright = null) {
  const published = publishedIn(grey, inkIsBright);
  if (published !== null) {
    const isWhole = published.width === GLYPH_PX;
    const glyph = isWhole ? published : resize(published, GLYPH_PX, GLYPH_PX, BICUBIC);
    return { glyph, trouble: isBlank(glyph) ? BLANK : "", remarks: [] };
  }
  const small = resized(withoutRoughness(grey), WORK_PX, LANCZOS);
  const edges = foreignEdges(small);
  let coarse = coarseOf(small);
  const isBright =
    inkIsBright ?? isPaperDark(edges === null ? coarse : coarseOf(filled(small, edges)));
  const longest = Math.max(grey.width, grey.height);
  const hasFew = longest <= FEW_PX;
  const remarks = hasFew ? [REMARKS.fewPixels] : [];
  const nothing = { data: new Uint8Array(GLYPH_PX ** 2), width: GLYPH_PX, height: GLYPH_PX };
  const grain = hasFew ? 0 : (MIN_GRAIN_PX * WORK_PX) / longest;
  const dark = isBright ? negative(small) : small;
  if (isBright) coarse = coarseOf(dark);
  const inked = findInk(dark, coarse, edges, grain);
  if (typeof inked === "string") return { glyph: nothing, trouble: inked, remarks };
  const strokes = stretched(inked);
  const lines = ruledLines(inkOf(strokes), edges);
  const unruled = lines === null ? strokes : cleared(strokes, lines.pixels.data);
  const own = withoutNeighbours(withoutStrays(unruled));
  if (!isWorthNaming(own)) return { glyph: nothing, trouble: BLANK, remarks };
  if (lines?.hasBand || covers(edges, small, isBright) || isBanded(coarse)) {
    remarks.push(REMARKS.darkBand);
  }
  if (holdsSeveral(own)) remarks.push(REMARKS.severalCharacters);
  const inner = edges === null ? own : crop(own, innerBox(edges));
  if (isCutBySide(inner)) remarks.push(REMARKS.cutOff);
  return { glyph: thickened(fitSquare(crop(own, inkBox(own)))), trouble: "", remarks };
}

/** The box between the rows and columns that are an edge from end to end. */
function innerBox({ data, width, height }) {
  const box = { left: width, top: height, right: 0, bottom: 0 };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (data[at]) continue;
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x + 1);
      box.top = Math.min(box.top, y);
      box.bottom = y + 1;
    }
  }
  return box;
}

/** What is inside edges; their corners that are left in it have the tone of most of the rest. */
function filled(grey, edges) {
  const inside = grey.data.filter((_, at) => !edges.data[at]).sort();
  const middle = inside[inside.length >> 1];
  const data = grey.data.map((value, at) => (edges.data[at] ? middle : value));
  return crop({ ...grey, data }, innerBox(edges));
}

/** Whether an edge of the ink's tone lies so deep at one side alone that it may hide strokes. */
function covers(edges, grey, isBright) {
  if (edges === null) return false;
  const { left, top, right, bottom } = innerBox(edges);
  const sides = [
    [top, edges.height - bottom, edges.height],
    [left, edges.width - right, edges.width],
  ];
  for (const [before, after, length] of sides) {
    const deepest = Math.max(before, after);
    if (deepest < BAND_DEPTH * length || Math.min(before, after) >= deepest / 4) continue;
    const [edge] = ranked(grey.data.filter((_, at) => edges.data[at]), [50]);
    const [rest] = ranked(grey.data.filter((_, at) => !edges.data[at]), [50]);
    return edge < rest !== isBright;
  }
  return false;
}

/** Whether a dark band that is broader than strokes crosses the picture, or covers one side. */
function isBanded({ data, width, height }) {
  const below = BAND_DARK * ranked(data, [75])[0];
  for (const isLevel of [true, false]) {
    const [length, breadth] = isLevel ? [height, width] : [width, height];
    const runs = [];
    for (let n = 0; n < length; n++) {
      let count = 0;
      for (let m = 0; m < breadth; m++) count += data[isLevel ? n * width + m : m * width + n] < below;
      if (count < BAND_COVER * breadth) continue;
      if (runs.length && runs.at(-1).end === n) runs.at(-1).end++;
      else runs.push({ start: n, end: n + 1 });
    }
    if (!runs.length || runs[0].end - runs[0].start === length) continue;
    const atFirst = runs[0].start === 0 ? runs[0].end : 0;
    const atLast = runs.at(-1).end === length ? length - runs.at(-1).start : 0;
    for (const { start, end } of runs) {
      const opposite = start === 0 ? atLast : end === length ? atFirst : 0;
      if (end - start >= MIN_BAND_PX && 4 * opposite < end - start) return true;
    }
  }
  return false;
}

/** Strokes that are thinner than the published ones, by up to half a pixel a side thicker. */
function thickened(glyph) {
  const { data, width, height } = glyph;
  const share = Math.min(Math.max(THIN_PX - strokeWidth(inkOf(glyph)), 0), 1) * THICKEN_PX;
  if (share === 0) return glyph;
  const weight = roundEven(256 * share);
  const out = Uint8Array.from(data, (own, at) => {
    const [x, y] = [at % width, Math.trunc(at / width)];
    let highest = own;
    if (y > 0) highest = Math.max(highest, data[at - width]);
    if (y + 1 < height) highest = Math.max(highest, data[at + width]);
    if (x > 0) highest = Math.max(highest, data[at - 1]);
    if (x + 1 < width) highest = Math.max(highest, data[at + 1]);
    return (own * (256 - weight) + highest * weight + 128) >> 8;
  });
  return { data: out, width, height };
}

/** Whether a glyph has no ink worth naming. */
function isBlank({ data }) {
  let inked = 0;
  for (const value of data) inked += value >= 128;
  return inked < MIN_INK_PX;
}

/** Whether what is left of the ink at the size of work can be a character. */
function isWorthNaming({ data, width, height }) {
  let inked = 0;
  for (const value of data) inked += value >= 128;
  return inked >= (MIN_INK_PX * (Math.max(width, height) / GLYPH_PX) ** 2) / 4;
}

/** The picture, or where noise or dither roughens it, a blurred one. */
function withoutRoughness(grey) {
  const { data, width, height } = grey;
  if (Math.min(width, height) < ROUGH_FROM_PX || Math.max(width, height) > ROUGH_TO_PX) return grey;
  const rough = new Int16Array((width - 2) * (height - 2));
  for (let y = 1, i = 0; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++, i++) {
      const at = y * width + x;
      const around = data[at - 1] + data[at + 1] + data[at - width] + data[at + width];
      rough[i] = Math.abs(4 * data[at] - around);
    }
  }
  rough.sort();
  const [low, high] = ranked(data, [2, 98]);
  const typical = rough[Math.trunc(ROUGH_SHARE * rough.length)];
  if (typical < 4 * ROUGH * Math.max(high - low, 1)) return grey;
  return gaussianBlur(grey, ROUGH_BLUR_PX);
}

/** The box of all ink but LOST_INK at each side, and no smaller than MIN_BOX_SHARE. */
function inkBox({ data, width, height }) {
  const rows = new Float64Array(height);
  const columns = new Float64Array(width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[y * width + x] < 128) continue;
      rows[y]++;
      columns[x]++;
    }
  }
  let sides = [rows, columns].map((counts) => {
    const total = counts.reduce((sum, n) => sum + n, 0);
    let [running, first, last] = [0, -1, -1];
    for (let i = 0; i < counts.length && last < 0; i++) {
      running += counts[i];
      if (first < 0 && running > LOST_INK * total) first = i;
      if (running >= (1 - LOST_INK) * total) last = i;
    }
    return { start: first < 0 ? counts.length : first, end: last + 1, length: counts.length };
  });
  const least = MIN_BOX_SHARE * Math.max(width, height);
  if (Math.max(...sides.map(({ start, end }) => end - start)) < least) {
    sides = sides.map(({ start, end, length }) => {
      const missing = Math.max(0, roundEven((least - (end - start)) / 2));
      return { start: Math.max(0, start - missing), end: Math.min(length, end + missing), length };
    });
  }
  return { top: sides[0].start, bottom: sides[0].end, left: sides[1].start, right: sides[1].end };
}

function crop({ data, width }, { left, top, right, bottom }) {
  const out = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) {
    out.set(data.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return { data: out, width: right - left, height: bottom - top };
}

function fitSquare(soft) {
  const small = resized(soft, GLYPH_PX - 2 * MARGIN_PX, LANCZOS);
  const data = new Uint8Array(GLYPH_PX * GLYPH_PX);
  const left = Math.floor((GLYPH_PX - small.width) / 2);
  const top = Math.floor((GLYPH_PX - small.height) / 2);
  for (let y = 0; y < small.height; y++) {
    const row = small.data.subarray(y * small.width, (y + 1) * small.width);
    data.set(row, (top + y) * GLYPH_PX + left);
  }
  return { data, width: GLYPH_PX, height: GLYPH_PX };
}
