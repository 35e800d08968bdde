// Paper and ink told apart: which is the brighter, how light the paper is, where ink lies on it.
// The port of kkanji_jax/glyphs/paper_and_ink.py. Change them together.

import { strokeWidth } from "./ink_parts.js";
import { BICUBIC, BOX, gaussianBlur, resize } from "./pillow.js";

const PAPER_PX = 48;
const PAPER_REACH_PX = 6;
const NUM_RINGS = 6;
const MIN_PAPER = 32;
const MIN_CONTRAST = 0.06;
const MIN_SEPARATION = 4;
const MIN_SOFT_CONTRAST = 0.2;
const MIN_SOFT_SEPARATION = 2.4;
const MAX_STROKE_PX = 60;
export const BLANK = "blank";
const UNCLEAR = "unclear";

/** The picture at the size at which its paper is looked for. */
export const coarseOf = (grey) => resized(grey, PAPER_PX, BOX);

/** The picture with a long side of `longPx`. */
export function resized(grey, longPx, resampling) {
  const scale = longPx / Math.max(grey.width, grey.height);
  const [width, height] = [grey.width, grey.height].map((side) =>
    Math.max(1, roundEven(side * scale)),
  );
  return resize(grey, width, height, resampling);
}

/** Python's and NumPy's round: halves go to the even side. */
export function roundEven(value) {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

export const negative = (grey) => ({ ...grey, data: grey.data.map((value) => 255 - value) });

/** Whether paper, which most of the border is, is darker than what is near it. */
export function isPaperDark(coarse) {
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
    rings.push(medianOf(ring(higher, width, height, inset)));
  }
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const ofAll = medianOf(ring(coarse.data, width, height, 0)) - mean(coarse.data);
  const skew = medianOf(higher) - mean(higher);
  const sum = rings.reduce((total, value) => total + value, 0);
  return sum + 2 * Math.max(rings[0], 0) + 0.3 * ofAll + 3 * skew < 0;
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

function ring(values, width, height, inset) {
  const found = [];
  const [right, bottom] = [width - 1 - inset, height - 1 - inset];
  for (let x = inset; x <= right; x++) {
    found.push(values[inset * width + x], values[bottom * width + x]);
  }
  for (let y = inset; y <= bottom; y++) found.push(values[y * width + inset], values[y * width + right]);
  return found;
}

export function borderOf({ data, width, height }) {
  const found = [...data.subarray(0, width), ...data.subarray((height - 1) * width)];
  for (let y = 0; y < height; y++) found.push(data[y * width], data[(y + 1) * width - 1]);
  return found;
}

export function medianOf(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Otsu's two classes on the light that the paper's share lacks; or BLANK, or UNCLEAR. */
export function findInk(grey, coarse, edges, grainPx) {
  const paper = paperOf(coarse, grey).data;
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

/** The paper's brightness: a closing by a square, at a smaller size. */
function paperOf(coarse, { width, height }) {
  const highest = highestNear(coarse, PAPER_REACH_PX);
  const closed = negative(highestNear(negative(highest), PAPER_REACH_PX));
  return resize(gaussianBlur(closed, 1), width, height, BICUBIC);
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

/** 0 at the paper's mean and 255 at the ink's, straight between. */
export function stretched({ data, width, height, paperMean, inkMean }) {
  const ramp = Uint8Array.from({ length: 256 }, (_, value) =>
    roundEven(Math.min(1, Math.max(0, (value - paperMean) / (inkMean - paperMean))) * 255),
  );
  return { data: data.map((value) => ramp[value]), width, height };
}
