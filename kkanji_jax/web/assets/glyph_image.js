// A picture of one character -> the 64x64 white-on-black look that the network knows.
// The port of kkanji_jax/glyphs/glyph_image.py: the same steps, names and numbers; a test holds
// the two together on many pictures. Change them together.

import { withoutStrays } from "./ink_parts.js";
import { BICUBIC, BOX, LANCZOS, gaussianBlur, luma, over, rankFilter, resize } from "./pillow.js";

export const GLYPH_PX = 64;
export const MAX_PIXELS = 4096 * 4096;
const SMALL_PX = 28;
const DARK_BELOW = 64;
const BRIGHT_FROM = 192;
const MIN_EXTREME_SHARE = 0.7;
const BLACK_TO = 16;
const MIN_INK_PX = 16;
const WORK_PX = 192;
const MIN_CONTRAST = 12;
const MIN_SEPARATION = 4;
const LOST_INK = 0.0025;
const MIN_BOX_SHARE = 0.25;
const MARGIN_PX = 2;

/** 8-bit luminance of a canvas's pixels; transparency as in Python's load_image. */
export function greyOf({ data, width, height }) {
  const flatten = (paper) => {
    const grey = new Uint8Array(width * height);
    for (let i = 0, at = 0; i < grey.length; i++, at += 4) {
      const alpha = data[at + 3];
      grey[i] =
        alpha === 255
          ? luma(data[at], data[at + 1], data[at + 2])
          : luma(
              over(data[at], alpha, paper),
              over(data[at + 1], alpha, paper),
              over(data[at + 2], alpha, paper),
            );
    }
    return { data: grey, width, height };
  };
  const onWhite = flatten(255);
  const isFlat = onWhite.data.every((value) => value === onWhite.data[0]);
  if (!isFlat) return onWhite;
  for (let at = 3; at < data.length; at += 4) if (data[at] !== 255) return flatten(0);
  return onWhite;
}

/** The published look of a grey picture; zeros where it has no ink. */
export function normaliseGlyph(grey) {
  if (isPublishedForm(grey)) {
    return grey.width === GLYPH_PX ? grey : resize(grey, GLYPH_PX, GLYPH_PX, BICUBIC);
  }
  if (median(border(grey)) >= 255 - BLACK_TO && isPublishedForm(negative(grey))) {
    return normaliseGlyph(negative(grey));
  }
  const inked = findInk(toWorkSize(darkOnBright(grey)));
  if (inked === null) {
    return { data: new Uint8Array(GLYPH_PX * GLYPH_PX), width: GLYPH_PX, height: GLYPH_PX };
  }
  const own = withoutStrays(stretch(inked));
  return fitSquare(crop(own, inkBox(own)));
}

/** Whether a glyph has no ink worth naming. */
export function isBlank({ data }) {
  let inked = 0;
  for (const value of data) inked += value >= 128;
  return inked < MIN_INK_PX;
}

function isPublishedForm(grey) {
  const side = grey.width;
  if (side !== grey.height || (side !== GLYPH_PX && side !== SMALL_PX)) return false;
  if (median(border(grey)) >= 128) return false;
  let extreme = 0;
  for (const value of grey.data) extreme += value < DARK_BELOW || value >= BRIGHT_FROM;
  return extreme / grey.data.length >= MIN_EXTREME_SHARE;
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

function darkOnBright(grey) {
  let sum = 0;
  for (const value of grey.data) sum += value;
  return median(border(grey)) >= sum / grey.data.length ? grey : negative(grey);
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

/** The paper's brightness: the 80th percentile of half a picture, smoothed. */
function paperOf(grey) {
  const reach = 8;
  const coarsePx = 32;
  const scale = coarsePx / Math.max(grey.width, grey.height);
  const coarse = resize(grey, scaled(grey.width, scale), scaled(grey.height, scale), BOX);
  const side = 2 * reach + 1;
  let paper = rankFilter(padSymmetric(coarse, reach), side, Math.trunc(0.8 * side * side));
  paper = gaussianBlur(paper, 3);
  const inner = { left: reach, top: reach, right: reach + coarse.width, bottom: reach + coarse.height };
  return resize(crop(paper, inner), grey.width, grey.height, BICUBIC);
}

/** Otsu's two classes on paper minus grey, or null where they are no two classes. */
function findInk(grey) {
  const paper = paperOf(grey);
  const ink = grey.data.map((value, i) => Math.max(0, paper.data[i] - value));
  const share = new Float64Array(256);
  for (const value of ink) share[value]++;
  let massAll = 0;
  for (let level = 0; level < 256; level++) {
    share[level] /= ink.length;
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
  if (best === null) return null;
  const paperMean = best.mass / best.below;
  const inkMean = (massAll - best.mass) / (1 - best.below);
  let variance = 0;
  for (let level = 0; level < 256; level++) variance += share[level] * (level - massAll) ** 2;
  const within = Math.sqrt(Math.max(variance - best.between, 1e-9));
  const contrast = inkMean - paperMean;
  if (contrast < MIN_CONTRAST || contrast / within < MIN_SEPARATION) return null;
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
