// A picture of one character -> the 64x64 white-on-black look that the network knows.
// The port of kkanji_jax/glyphs/glyph_image.py: the same steps, names and numbers; a test holds
// the two together on many pictures. Change them together.

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
import { BICUBIC, BOX, LANCZOS, gaussianBlur, luma, over, resize } from "./pillow.js";

export const GLYPH_PX = 64;
export const MAX_PIXELS = 4096 * 4096;
const SMALL_PX = 28;
const DARK_BELOW = 64;
const BRIGHT_FROM = 192;
const MIN_EXTREME_SHARE = 0.7;
const MIN_PUBLISHED_LENGTH = 0.6;
const BLACK_TO = 16;
const MIN_INK_PX = 16;
const WORK_PX = 192;
const FEW_PX = 24;
const PAPER_PX = 48;
const PAPER_REACH_PX = 6;
const NUM_RINGS = 6;
const MIN_PAPER = 32;
const MIN_CONTRAST = 0.06;
const MIN_SEPARATION = 4;
const MIN_SOFT_CONTRAST = 0.2;
const MIN_SOFT_SEPARATION = 2.4;
const MIN_GRAIN_PX = 2;
const MAX_STROKE_PX = 60;
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
const SHOWN = 64;
const RED_FROM = 24;
const RED_STEP = 24;
const LIFT = 3;
const PAPER_SAMPLE_PX = 64;

export const BLANK = "blank";
export const UNCLEAR = "unclear";
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

/** A canvas's pixels over paper: {red, green, luma}, each a Uint8Array, and the size. */
function picture({ data, width, height }) {
  const flatten = (paper) => {
    const [red, green, grey] = [0, 1, 2].map(() => new Uint8Array(width * height));
    for (let i = 0, at = 0; i < grey.length; i++, at += 4) {
      const alpha = data[at + 3];
      const shown = (value) => (alpha === 255 ? value : over(value, alpha, paper));
      red[i] = shown(data[at]);
      green[i] = shown(data[at + 1]);
      grey[i] = luma(red[i], green[i], shown(data[at + 2]));
    }
    return { red, green, luma: grey, width, height };
  };
  const contrast = ({ luma: grey }) => {
    const [least, most] = grey.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [255, 0]);
    return most - least;
  };
  const onWhite = flatten(255);
  let isSeeThrough = false;
  for (let at = 3; at < data.length && !isSeeThrough; at += 4) isSeeThrough = data[at] !== 255;
  if (!isSeeThrough || contrast(onWhite) >= SHOWN) return onWhite;
  const onBlack = flatten(0);
  return contrast(onBlack) > contrast(onWhite) ? onBlack : onWhite;
}

/** 8-bit luminance of a canvas's pixels, red ink as light as its paper, as in Python's load_image. */
export const greyOf = (image) => greyOfPicture(picture(image));

function greyOfPicture({ red, green, luma: grey, width, height }) {
  const paper = paperColour({ red, green, luma: grey, width, height });
  const data = Uint8Array.from(grey, (own, i) => {
    const balanced = red[i] * paper.green + (paper.red >> 1);
    const redness = Math.floor(balanced / paper.red) - green[i];
    if (redness <= RED_FROM) return own;
    const lightened = Math.min(red[i] + Math.floor((redness * LIFT) / 16), paper.luma);
    const lighter = Math.max(lightened - own, 0);
    return own + Math.floor((Math.min(redness - RED_FROM, RED_STEP) * lighter) / RED_STEP);
  });
  return { data, width, height };
}

/** Red, green and luminance of the paper: the middles of the brighter half of a sample. */
function paperColour({ red, green, luma: grey, width, height }) {
  const step = Math.max(1, Math.floor(Math.max(width, height) / PAPER_SAMPLE_PX));
  const places = [];
  for (let y = 0; y < height; y += step) {
    for (let x = 0; x < width; x += step) places.push(y * width + x);
  }
  const middle = (of, at) => Uint8Array.from(at, (i) => of[i]).sort()[at.length >> 1];
  const from = middle(grey, places);
  const bright = places.filter((i) => grey[i] >= from);
  return {
    red: Math.max(1, middle(red, bright)),
    green: Math.max(1, middle(green, bright)),
    luma: middle(grey, bright),
  };
}

/**
 * {glyph, trouble, remarks} of a canvas's pixels, as Python's glyph_steps has them. `inkIsBright` says
 * what it would else find out.
 */
export function glyphOf(image, { inkIsBright = null } = {}) {
  const seen = picture(image);
  const grey = greyOfPicture(seen);
  const made = stepsOf(grey, inkIsBright);
  if (!made.trouble || grey.data.every((value, i) => value === seen.luma[i])) return made;
  const red = stepsOf({ ...grey, data: seen.luma }, inkIsBright);
  return red.trouble ? made : { ...red, remarks: [REMARKS.redInk, ...red.remarks] };
}

/** The published look of a grey picture; zeros where it has no ink. */
export const normaliseGlyph = (grey) => stepsOf(grey).glyph;

function stepsOf(grey, inkIsBright = null) {
  const published = publishedOf(grey, inkIsBright);
  if (published !== null) {
    const isWhole = published.width === GLYPH_PX;
    const glyph = isWhole ? published : resize(published, GLYPH_PX, GLYPH_PX, BICUBIC);
    return { glyph, trouble: isBlank(glyph) ? BLANK : "", remarks: [] };
  }
  const small = toWorkSize(withoutRoughness(grey));
  const edges = foreignEdges(small);
  const isBright = inkIsBright ?? isInkBright(small, edges);
  const longest = Math.max(grey.width, grey.height);
  const hasFew = longest <= FEW_PX;
  const remarks = hasFew ? [REMARKS.fewPixels] : [];
  const nothing = { data: new Uint8Array(GLYPH_PX ** 2), width: GLYPH_PX, height: GLYPH_PX };
  const grain = hasFew ? 0 : (MIN_GRAIN_PX * WORK_PX) / longest;
  const dark = isBright ? negative(small) : small;
  const inked = findInk(dark, edges, grain);
  if (typeof inked === "string") return { glyph: nothing, trouble: inked, remarks };
  const strokes = stretch(inked);
  const lines = ruledLines(inkOf(strokes), edges);
  const unruled = lines === null ? strokes : cleared(strokes, lines.pixels.data);
  const own = withoutNeighbours(withoutStrays(unruled));
  if (!isWorthNaming(own)) return { glyph: nothing, trouble: BLANK, remarks };
  if (lines?.hasBand || covers(edges, small, isBright) || isBanded(coarseOf(dark))) {
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
export function isBlank({ data }) {
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

/** The picture, or its negative, if that is a published glyph already; else null. */
function publishedOf(grey, inkIsBright) {
  const side = grey.width;
  if (side !== grey.height || (side !== GLYPH_PX && side !== SMALL_PX)) return null;
  if (inkIsBright !== false && isPublishedForm(grey)) return grey;
  if (inkIsBright || median(border(grey)) < 255 - BLACK_TO) return null;
  return isPublishedForm(negative(grey)) ? negative(grey) : null;
}

function isPublishedForm(grey) {
  const { data, width } = grey;
  if (median(border(grey)) >= 128) return false;
  let [extreme, most] = [0, 0];
  for (const value of data) {
    extreme += value < DARK_BELOW || value >= BRIGHT_FROM;
    most = Math.max(most, value);
  }
  if (extreme / data.length < MIN_EXTREME_SHARE) return false;
  if (most === 0) return true;
  if (most < BRIGHT_FROM) return false;
  const box = { left: width, top: width, right: 0, bottom: 0 };
  data.forEach((value, at) => {
    if (value < 128) return;
    const [x, y] = [at % width, Math.trunc(at / width)];
    box.left = Math.min(box.left, x);
    box.right = Math.max(box.right, x + 1);
    box.top = Math.min(box.top, y);
    box.bottom = Math.max(box.bottom, y + 1);
  });
  const length = Math.max(box.bottom - box.top, box.right - box.left);
  return length >= MIN_PUBLISHED_LENGTH * width;
}

function border({ data, width, height }) {
  const found = [...data.subarray(0, width), ...data.subarray((height - 1) * width)];
  for (let y = 0; y < height; y++) found.push(data[y * width], data[(y + 1) * width - 1]);
  return found;
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

const negative = (grey) => ({ ...grey, data: grey.data.map((value) => 255 - value) });

/** Whether paper, which most of the border is, is darker than what is near it. */
function isInkBright(grey, edges) {
  if (edges !== null) {
    const box = innerBox(edges);
    const inside = grey.data.filter((_, at) => !edges.data[at]).sort();
    const middle = inside[inside.length >> 1];
    grey = crop({ ...grey, data: grey.data.map((v, at) => (edges.data[at] ? middle : v)) }, box);
  }
  const scale = PAPER_PX / Math.max(grey.width, grey.height);
  const coarse = resize(grey, scaled(grey.width, scale), scaled(grey.height, scale), BOX);
  const { width, height } = coarse;
  const reach = PAPER_PX >> 2;
  const side = 2 * reach + 1;
  const padded = padSymmetric(coarse, reach);
  const wide = padded.width + 1;
  const sums = new Float64Array(wide * (padded.height + 1));
  for (let y = 0; y < padded.height; y++) {
    for (let x = 0; x < padded.width; x++) {
      const at = (y + 1) * wide + x + 1;
      const corners = sums[at - 1] + sums[at - wide] - sums[at - wide - 1];
      sums[at] = padded.data[y * padded.width + x] + corners;
    }
  }
  const higher = Float64Array.from(coarse.data, (value, i) => {
    const at = Math.trunc(i / width) * wide + (i % width);
    const below = at + side * wide;
    const around = sums[below + side] - sums[at + side] - sums[below] + sums[at];
    return value - around / (side * side);
  });
  const rings = [];
  for (let inset = 0; inset < NUM_RINGS; inset++) {
    if (inset > 0 && 2 * inset >= Math.min(height, width) - 1) continue;
    rings.push(median(ring(higher, width, height, inset)));
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const ofAll = median(ring(coarse.data, width, height, 0)) - mean(coarse.data);
  const skew = median(higher) - mean(higher);
  const sum = rings.reduce((total, value) => total + value, 0);
  return sum + 2 * Math.max(rings[0], 0) + 0.3 * ofAll + 3 * skew < 0;
}

function ring(values, width, height, inset) {
  const found = [];
  const [right, bottom] = [width - 1 - inset, height - 1 - inset];
  for (let x = inset; x <= right; x++) {
    found.push(values[inset * width + x], values[bottom * width + x]);
  }
  for (let y = inset; y <= bottom; y++) found.push(values[y * width + inset], values[y * width + right]);
  return found;
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

/** Python's and NumPy's round: halves go to the even side. */
function roundEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

const scaled = (length, scale) => Math.max(1, roundEven(length * scale));

function toWorkSize(grey) {
  const scale = WORK_PX / Math.max(grey.width, grey.height);
  return resize(grey, scaled(grey.width, scale), scaled(grey.height, scale), LANCZOS);
}

/** np.pad(mode="symmetric") by `reach` on every side. */
function padSymmetric({ data, width, height }, reach) {
  const mirror = (place, length) => {
    const turn = ((place % (2 * length)) + 2 * length) % (2 * length);
    return turn < length ? turn : 2 * length - 1 - turn;
  };
  const wide = width + 2 * reach;
  const high = height + 2 * reach;
  const out = new Uint8Array(wide * high);
  for (let y = 0; y < high; y++) {
    const row = mirror(y - reach, height) * width;
    for (let x = 0; x < wide; x++) out[y * wide + x] = data[row + mirror(x - reach, width)];
  }
  return { data: out, width: wide, height: high };
}

function crop({ data, width }, { left, top, right, bottom }) {
  const out = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) {
    out.set(data.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return { data: out, width: right - left, height: bottom - top };
}

/** The picture at the size at which its paper is looked for. */
function coarseOf(grey) {
  const scale = PAPER_PX / Math.max(grey.width, grey.height);
  return resize(grey, scaled(grey.width, scale), scaled(grey.height, scale), BOX);
}

/** The paper's brightness: a closing by a square, at a smaller size. */
function paperOf(grey) {
  const highest = highestNear(coarseOf(grey), PAPER_REACH_PX);
  const closed = negative(highestNear(negative(highest), PAPER_REACH_PX));
  return resize(gaussianBlur(closed, 1), grey.width, grey.height, BICUBIC);
}

/** The highest value within `reach` rows and columns. */
function highestNear({ data, width, height }, reach) {
  const along = (source, length, count, step, line) => {
    const out = new Uint8Array(source.length);
    for (let n = 0; n < count; n++) {
      for (let i = 0; i < length; i++) {
        let most = 0;
        const last = Math.min(length - 1, i + reach);
        for (let j = Math.max(0, i - reach); j <= last; j++) {
          most = Math.max(most, source[n * line + j * step]);
        }
        out[n * line + i * step] = most;
      }
    }
    return out;
  };
  const upright = along(data, height, width, width, 1);
  return { data: along(upright, width, height, 1, width), width, height };
}

/** Otsu's two classes on the light that the paper's share lacks; or BLANK, or UNCLEAR. */
function findInk(grey, edges, grainPx) {
  const paper = paperOf(grey).data;
  const ink = grey.data.map((value, i) => {
    if (edges?.data[i]) return 0;
    const light = Math.max(paper[i], MIN_PAPER);
    const strength = Math.floor((255 * (light - value) + (light >> 1)) / light);
    return Math.min(Math.max(strength, 0), 255);
  });
  const share = new Float64Array(256);
  let counted = 0;
  for (let i = 0; i < ink.length; i++) {
    if (edges?.data[i]) continue;
    share[ink[i]]++;
    counted++;
  }
  let massAll = 0;
  for (let level = 0; level < 256; level++) {
    share[level] /= counted;
    massAll += share[level] * level;
  }
  let [below, mass] = [0, 0];
  let best = null;
  for (let level = 0; level < 256; level++) {
    below += share[level];
    mass += share[level] * level;
    if (!(below > 0 && below < 1 - 1e-12)) continue;
    const between = (massAll * below - mass) ** 2 / (below * (1 - below));
    if (best === null || between > best.between) best = { between, level, below, mass };
  }
  if (best === null) return BLANK;
  const paperMean = best.mass / best.below;
  const inkMean = (massAll - best.mass) / (1 - best.below);
  let variance = 0;
  for (let level = 0; level < 256; level++) variance += share[level] * (level - massAll) ** 2;
  const within = Math.sqrt(Math.max(variance - best.between, 1e-9));
  const contrast = inkMean - paperMean;
  if (contrast < 255 * MIN_CONTRAST) return BLANK;
  const isSoft = contrast / within < MIN_SEPARATION;
  if (isSoft && grainPx > 0 && contrast < 255 * MIN_SOFT_CONTRAST) return BLANK;
  const isInk = { ...grey, data: ink.map((value) => (value > (paperMean + inkMean) / 2 ? 1 : 0)) };
  const strokePx = strokeWidth(isInk);
  if (strokePx > MAX_STROKE_PX) return UNCLEAR;
  if (isSoft && (contrast / within < MIN_SOFT_SEPARATION || strokePx < grainPx)) return UNCLEAR;
  return { ...grey, data: ink, paperMean, inkMean };
}

/** 0 at the paper's mean and 255 at the ink's, straight between. */
function stretch({ data, width, height, paperMean, inkMean }) {
  const ramp = Uint8Array.from({ length: 256 }, (_, value) =>
    roundEven(Math.min(1, Math.max(0, (value - paperMean) / (inkMean - paperMean))) * 255),
  );
  return { data: data.map((value) => ramp[value]), width, height };
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

function fitSquare(soft) {
  const scale = (GLYPH_PX - 2 * MARGIN_PX) / Math.max(soft.width, soft.height);
  const small = resize(soft, scaled(soft.width, scale), scaled(soft.height, scale), LANCZOS);
  const data = new Uint8Array(GLYPH_PX * GLYPH_PX);
  const left = Math.floor((GLYPH_PX - small.width) / 2);
  const top = Math.floor((GLYPH_PX - small.height) / 2);
  for (let y = 0; y < small.height; y++) {
    const row = small.data.subarray(y * small.width, (y + 1) * small.width);
    data.set(row, (top + y) * GLYPH_PX + left);
  }
  return { data, width: GLYPH_PX, height: GLYPH_PX };
}
