// What is straight in a picture of a character and no part of it: edges of another tone, rules.
// The port of kkanji_jax/glyphs/ink_lines.py; change them together.
//
// A mask is {data: Uint8Array of 0 and 1, width, height}.

import { fromSide, strokeWidth } from "./ink_parts.js";

const EDGE_STEP = 3;
const EDGE_REACH = 0.42;
const EDGE_SLOPE = 0.3;
const EDGE_FIT_PX = 1.5;
const EDGE_SHARE = 0.7;
const EDGE_RIM_PX = 2;
const TONE_SHARE = 0.08;
const MIN_TONE = 8;
const MIN_INSIDE = 0.15;
const MIN_OTHER = 0.03;
const MIN_SHEET = 0.4;
const NUM_ANCHORS = 9;

const NUM_BANDS = 6;
const SLANTS = [-4, -3, -2, -1, 0, 1, 2, 3, 4];
const RULE_COVERAGE = 0.86;
const LEAST_IN_BAND = 0.5;
const RULE_SIDE = 0.6;
const FLANK_PX = 2;
const FLANK_COVERAGE = 0.42;
const RULE_WIDTH = 0.05;
const BAND_WIDTH = 0.6;
const BAND_COVERAGE = 0.98;
const UNEVEN_PX = 1;
const MIN_EVEN = 4;
const END_PX = 2;
const OUTSIDE_SHARE = 0.01;
const INNER_COVERAGE = 0.95;
const INNER_WIDTH = 0.6;
const MAX_LINES = 6;
const FRAME_LINES = 3;

const ascending = (values) => Float64Array.from(values).sort();

/** The least values with so many per cent of all at or below them. */
export function ranked(values, perCent) {
  const counts = new Uint32Array(256);
  for (const value of values) counts[value]++;
  return perCent.map((share) => {
    let [running, level] = [0, 0];
    for (; level < 256; level++) {
      running += counts[level];
      if (100 * running >= share * values.length) break;
    }
    return level;
  });
}

/** Where a pixel of `fromSide`'s picture lies in the picture. */
function placeOf(x, y, { width, height }, side) {
  if (side === 0) return y * width + x;
  if (side === 1) return (height - 1 - y) * width + x;
  return x * width + (side === 2 ? y : width - 1 - y);
}

/** A mask of what is at the sides and neither the paper nor on it; null if there is none. */
export function foreignEdges(grey) {
  const [low, high] = ranked(grey.data, [2, 98]);
  const tone = Math.max(MIN_TONE, TONE_SHARE * (high - low));
  let found = [];
  for (let side = 0; side < 4; side++) {
    const view = fromSide(grey, side);
    for (const isMirrored of [false, true]) {
      const edge = edgeAlong(view, isMirrored, tone);
      if (edge === null) continue;
      const pixels = new Uint8Array(grey.data.length);
      for (let x = 0; x < view.width; x++) {
        const depth = edge.depths[isMirrored ? view.width - 1 - x : x];
        for (let y = 0; y < view.height && y < depth; y++) pixels[placeOf(x, y, grey, side)] = 1;
      }
      found.push({ pixels, reference: edge.reference });
    }
  }
  while (found.length) {
    const data = new Uint8Array(grey.data.length);
    for (const { pixels } of found) for (let at = 0; at < data.length; at++) data[at] |= pixels[at];
    const inside = grey.data.filter((_, at) => !data[at]);
    if (inside.length < MIN_INSIDE * data.length) return null;
    const [middle] = ranked(inside, [50]);
    const kept = found.filter(({ reference }) => Math.abs(reference - middle) > 1.5 * tone);
    if (kept.length === found.length) {
      let others = 0;
      for (const value of inside) others += Math.abs(value - middle) > 2 * tone;
      const isSheet = inside.length >= MIN_SHEET * data.length;
      if (others < MIN_OTHER * inside.length && !isSheet) return null;
      return { data, width: grey.width, height: grey.height };
    }
    found = kept;
  }
  return null;
}

/** How deep, at each column, the first row's first end goes on in one tone, and that tone. */
function edgeAlong({ data, width, height }, isMirrored, tone) {
  const at = (x, y) => data[y * width + (isMirrored ? width - 1 - x : x)];
  const reach = Math.trunc(EDGE_REACH * height);
  const count = Math.ceil(width / EDGE_STEP);
  if (reach < 4 || count < 8) return null;
  const reference = ascending([0, 1, 2, 3, 4].map((x) => at(x, 0)))[2];
  const depths = new Int32Array(count);
  let met = 0;
  for (let i = 0; i < count; i++) {
    while (depths[i] < reach && Math.abs(at(i * EDGE_STEP, depths[i]) - reference) <= tone) {
      depths[i]++;
    }
    met += depths[i] > 0;
  }
  let numMet = count;
  if (met < 0.9 * count) {
    for (let i = 0; i + 1 < count; i++) {
      if (depths[i] > 0 || depths[i + 1] > 0) continue;
      numMet = i;
      break;
    }
  }
  const places = [];
  for (let i = 0; i < numMet; i++) if (depths[i] > 0 && depths[i] < reach) places.push(i);
  if (places.length < Math.max(4, 0.15 * count, 0.3 * numMet)) return null;
  const line = lineThrough(places, depths);
  if (line === null) return null;
  const { start, slope } = line;
  const onLine = places.filter((i) => Math.abs(depths[i] - (start + slope * i)) <= EDGE_FIT_PX);
  const last = Math.min(reach + 4, height) - 1;
  const beyond = onLine.map((i) => at(i * EDGE_STEP, Math.min(depths[i] + 3, last)) - reference);
  const sign = 2 * beyond.filter((value) => value > 0).length > beyond.length ? 1 : -1;
  const sharp = beyond.filter((value) => sign * value >= 2 * tone).length;
  if (sharp < 0.75 * beyond.length) return null;
  const reached = Float64Array.from({ length: width }, (_, x) => {
    const depth = start + slope * (x / EDGE_STEP);
    const isMet = numMet === count || x < numMet * EDGE_STEP;
    return depth > 0 && isMet ? depth + EDGE_RIM_PX : 0;
  });
  return { depths: reached, reference };
}

/** Start and slope of the line on which most places lie; null if too few do. */
function lineThrough(places, depths) {
  const last = places.length - 1;
  const anchors = Array.from({ length: NUM_ANCHORS }, (_, i) => {
    return places[Math.floor((i * last + (NUM_ANCHORS >> 1)) / (NUM_ANCHORS - 1))];
  });
  const clip = (i) => Math.min(Math.max(i, 0), depths.length - 1);
  const medians = anchors.map((i) => ascending([-1, 0, 1].map((d) => depths[clip(i + d)]))[1]);
  let best = null;
  for (let i = 0; i < NUM_ANCHORS; i++) {
    for (let j = i + 1; j < NUM_ANCHORS; j++) {
      const run = anchors[j] - anchors[i];
      const rise = medians[j] - medians[i];
      if (run <= 0 || Math.abs(rise) > EDGE_SLOPE * EDGE_STEP * run) continue;
      const slope = rise / run;
      const start = medians[i] - slope * anchors[i];
      let on = 0;
      for (const x of places) on += Math.abs(depths[x] - (start + slope * x)) <= EDGE_FIT_PX;
      if (best === null || on > best.on) best = { start, slope, on };
    }
  }
  return best !== null && best.on >= EDGE_SHARE * places.length ? best : null;
}

function transposed({ data, width, height }) {
  const out = new Uint8Array(data.length);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) out[x * height + y] = data[at];
  }
  return { data: out, width: height, height: width };
}

/** Ruled lines in the ink of a mask: {pixels, hasBand}, or null. */
export function ruledLines(isInk, outside) {
  const innerWidth = INNER_WIDTH * strokeWidth(isInk);
  const kept = [];
  const spare = [];
  const level = transposed(isInk);
  for (const isLevel of [false, true]) {
    const ink = isLevel ? level : isInk;
    const beyond = outside !== null && isLevel ? transposed(outside) : outside;
    for (const line of uprightLines(ink, beyond)) {
      let isKept;
      if (line.isBand) isKept = line.isWhole && line.isEven;
      else if (line.isOuter) {
        isKept = line.isWhole && line.isEven;
        if (line.isEven && !line.isWhole) spare.push({ isLevel, line });
      } else isKept = line.isWhole && line.isSolid && line.width <= innerWidth;
      if (isKept) kept.push({ isLevel, line });
    }
  }
  const numRules = kept.filter(({ line }) => !line.isBand).length;
  if (spare.length + numRules >= FRAME_LINES) kept.push(...spare);
  if (kept.length === 0) return null;
  const rules = kept.filter(({ line }) => !line.isBand);
  const markedBy = (strokes) => {
    const pixels = new Uint8Array(isInk.data.length);
    for (const { isLevel, line } of rules) {
      const others = strokes !== null && isLevel ? transposed(strokes) : strokes;
      const marked = markedOf(line, isLevel ? level : isInk, others);
      const own = isLevel ? transposed(marked) : marked;
      for (let at = 0; at < pixels.length; at++) pixels[at] |= own.data[at];
    }
    return pixels;
  };
  const every = markedBy(null);
  const strokes = { ...isInk, data: isInk.data.map((value, at) => (every[at] ? 0 : value)) };
  const pixels = markedBy(strokes);
  const hasBand = kept.some(({ line }) => line.isBand);
  return { pixels: { ...isInk, data: pixels }, hasBand };
}

/** First and last row with a one in it, half open; null without any. */
function rowsOf({ data, width, height }, isSet) {
  let [top, bottom] = [height, 0];
  for (let y = 0; y < height; y++) {
    if (!isSet(data.subarray(y * width, (y + 1) * width))) continue;
    top = Math.min(top, y);
    bottom = y + 1;
  }
  return top < bottom ? { top, bottom } : null;
}

const boundsOf = ({ top, bottom }) =>
  Array.from({ length: NUM_BANDS + 1 }, (_, i) => {
    return top + Math.floor(((bottom - top) * i) / NUM_BANDS);
  });

function uprightLines(isInk, outside) {
  const { data, width, height } = isInk;
  const rows = rowsOf(isInk, (row) => row.includes(1));
  if (rows === null || rows.bottom - rows.top < Math.max(8 * NUM_BANDS, 0.5 * height)) return [];
  const bounds = boundsOf(rows);
  const columns = new Int32Array(width);
  const shares = Array.from({ length: NUM_BANDS }, (_, band) => {
    const sums = new Float64Array(width);
    for (let y = bounds[band]; y < bounds[band + 1]; y++) {
      for (let x = 0; x < width; x++) sums[x] += data[y * width + x];
    }
    for (let x = 0; x < width; x++) {
      columns[x] += sums[x];
      sums[x] /= bounds[band + 1] - bounds[band];
    }
    return sums;
  });
  const shareAt = (band, x) => (x < 0 || x >= width ? 0 : shares[band][x]);
  let highest = 0;
  for (let x = 0; x < width; x++) {
    highest = Math.max(highest, shares.reduce((sum, band) => sum + band[x], 0) / NUM_BANDS);
  }
  if (highest < 0.3) return [];
  const shifts = SLANTS.map((slant) =>
    shares.map((_, band) => Math.floor((slant * (2 * band - NUM_BANDS + 1)) / 4)),
  );
  const coverage = shifts.map((shift) =>
    Float64Array.from({ length: width }, (_, x) => {
      let [sum, least] = [0, 1];
      for (let band = 0; band < NUM_BANDS; band++) {
        const share = shareAt(band, x + shift[band]);
        sum += share;
        least = Math.min(least, share);
      }
      return least >= LEAST_IN_BAND ? sum / NUM_BANDS : 0;
    }),
  );
  const running = [];
  let total = 0;
  for (const count of columns) running.push((total += count));
  const taken = new Uint8Array(width);
  const found = [];
  for (let turn = 0; turn < MAX_LINES; turn++) {
    let [slant, column, most] = [0, 0, -1];
    for (let s = 0; s < SLANTS.length; s++) {
      for (let x = 0; x < width; x++) {
        const value = taken[x] ? 0 : coverage[s][x];
        if (value > most) [slant, column, most] = [s, x, value];
      }
    }
    if (most < RULE_COVERAGE) break;
    const along = coverage[slant];
    let [left, right] = [column, column + 1];
    while (left > 0 && along[left - 1] >= RULE_SIDE) left--;
    while (right < width && along[right] >= RULE_SIDE) right++;
    taken.fill(1, Math.max(0, left - FLANK_PX), right + FLANK_PX);
    const before = left >= FLANK_PX ? along[left - FLANK_PX] : 0;
    const after = right + FLANK_PX <= width ? along[right + FLANK_PX - 1] : 0;
    const broad = (right - left) / Math.max(height, width);
    const isBand = broad > RULE_WIDTH;
    if (Math.max(before, after) > FLANK_COVERAGE || broad > BAND_WIDTH) continue;
    const sumAlong = along.subarray(left, right).reduce((sum, value) => sum + value, 0);
    if (isBand && sumAlong / (right - left) < BAND_COVERAGE) continue;
    const shift = shifts[slant];
    const widths = shift.map((offset, band) => {
      let sum = 0;
      for (let x = left - 2; x < right + 2; x++) sum += shareAt(band, x + offset);
      return sum;
    });
    const middle = ascending(widths)[2];
    const isEven = widths.filter((w) => Math.abs(w - middle) <= UNEVEN_PX).length >= MIN_EVEN;
    const margin = right - left + 2 * FLANK_PX;
    const outer = Math.min(
      running[Math.max(0, left - margin)],
      total - running[Math.min(width, right + margin) - 1],
    );
    const isWhole = [false, true].every((isFromEnd) => {
      const offset = shift[isFromEnd ? NUM_BANDS - 1 : 0];
      const from = Math.max(0, left + offset - 1);
      const to = Math.min(width, Math.max(0, right + offset + 1));
      return reaches(isInk, outside, isFromEnd, from, to);
    });
    found.push({
      left,
      right,
      shift,
      width: right - left,
      isWhole,
      isEven,
      isSolid: most >= INNER_COVERAGE,
      isOuter: outer <= OUTSIDE_SHARE * total,
      isBand,
    });
  }
  return found;
}

/** Whether ink in these columns reaches the first (last) row, or the end of what is outside there. */
function reaches({ data, width, height }, outside, isFromEnd, from, to) {
  const rowAt = (depth) => (isFromEnd ? height - 1 - depth : depth) * width;
  const has = (values, row, value) => values.subarray(row + from, row + to).includes(value);
  let first = 0;
  if (outside) {
    while (first < height && !has(outside.data, rowAt(first), 0)) first++;
    if (first === height) first = 0;
  }
  for (let depth = first; depth < Math.min(first + END_PX, height); depth++) {
    if (has(data, rowAt(depth), 1)) return true;
  }
  return false;
}

/** A line's pixels with its rim, save where strokes show on both sides of it. */
function markedOf({ left, right, shift }, isInk, strokes) {
  const { width } = isInk;
  const data = strokes?.data;
  const out = new Uint8Array(isInk.data.length);
  const bounds = boundsOf(rowsOf(isInk, (row) => row.includes(1)));
  for (let band = 0; band < NUM_BANDS; band++) {
    const from = Math.max(0, left + shift[band] - 2);
    const to = Math.max(0, Math.min(width, right + shift[band] + 2));
    for (let y = bounds[band]; y < bounds[band + 1]; y++) {
      const row = y * width;
      const isInner = data && from >= 2 && to + 2 <= width;
      const isCrossed =
        isInner &&
        (data[row + from - 2] || data[row + from - 1]) &&
        (data[row + to] || data[row + to + 1]);
      if (!isCrossed) for (let x = from; x < to; x++) out[row + x] = 1;
    }
  }
  return { ...isInk, data: out };
}
