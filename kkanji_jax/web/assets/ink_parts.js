// Parts of the ink that are no part of the character, found and removed.
// The port of kkanji_jax/glyphs/ink_parts.py; change them together.

const STRAY_SHARE = 0.06;
const STRAY_REACH = 0.2;
const RIM_PX = 2;
const AID_SHARE = 0.45;
const AID_EXTENT = 0.7;
const AID_LENGTH = 0.4;
const AID_STROKE = 0.75;
const AID_BREADTH = 0.85;
const CUT_SHARE = 0.4;
const CUT_EXTENT = 0.45;
const CUT_LENGTH = 0.3;
const CUT_GAP = 0.06;
const CUT_BREADTH = 1;
const SIDE_PX = 2;
const GAP_PX = 2;
const SEVERAL_LENGTH = 1.7;
const SEVERAL_GAP = 0.03;
const SQUARE = 0.8;
const SQUARE_DEPTH = 0.5;
const MIN_SQUARE_PX = 3;
const MIN_CUT = 0.15;
const MIN_LONE_CUT = 0.05;
const LONG = 1.9;
const LONE_SHARE = 0.03;
const LONE_ROOM = 0.02;
const SEVERAL_SHARE = 0.25;
const SEVERAL_EXTENT = 0.6;

/** The same ink strengths without the ends of other characters' strokes at the border. */
export function withoutStrays(soft) {
  const { data, width, height } = soft;
  const labels = new Int32Array(data.length);
  const isStray = [false];
  const parts = [];
  let total = 0;
  for (let seed = 0; seed < data.length; seed++) {
    if (data[seed] < 128 || labels[seed]) continue;
    const part = fill(soft, labels, seed, parts.length + 1);
    total += part.area;
    parts.push(part);
  }
  if (parts.length < 2) return soft;
  for (const { area, top, bottom, left, right } of parts) {
    const reach = Math.min(
      top === 0 ? bottom / height : 1,
      bottom === height ? (height - top) / height : 1,
      left === 0 ? right / width : 1,
      right === width ? (width - left) / width : 1,
    );
    isStray.push(reach < STRAY_REACH && area < STRAY_SHARE * total);
  }
  if (!isStray.includes(true)) return soft;
  return cleared(soft, Uint8Array.from(labels, (label) => (isStray[label] ? 1 : 0)));
}

/** Labels the part that `seed` belongs to, 8 neighbours; its area and half-open box. */
function fill({ data, width, height }, labels, seed, label) {
  const part = { area: 0, top: height, bottom: 0, left: width, right: 0 };
  const waiting = [seed];
  labels[seed] = label;
  while (waiting.length) {
    const at = waiting.pop();
    const y = Math.trunc(at / width);
    const x = at - y * width;
    part.area++;
    part.top = Math.min(part.top, y);
    part.bottom = Math.max(part.bottom, y + 1);
    part.left = Math.min(part.left, x);
    part.right = Math.max(part.right, x + 1);
    for (let row = Math.max(0, y - 1); row <= Math.min(height - 1, y + 1); row++) {
      const last = row * width + Math.min(width - 1, x + 1);
      for (let near = row * width + Math.max(0, x - 1); near <= last; near++) {
        if (labels[near] || data[near] < 128) continue;
        labels[near] = label;
        waiting.push(near);
      }
    }
  }
  return part;
}

/** The same ink strengths without the pixels of a mask and the grey rim round them. */
export function cleared({ data, width, height }, pixels) {
  const kept = Uint8Array.from(data);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!pixels[at]) continue;
      for (let row = Math.max(0, y - RIM_PX); row <= Math.min(height - 1, y + RIM_PX); row++) {
        const last = row * width + Math.min(width - 1, x + RIM_PX);
        for (let near = row * width + Math.max(0, x - RIM_PX); near <= last; near++) {
          if (data[near] < 128 || pixels[near]) kept[near] = 0;
        }
      }
    }
  }
  return { data: kept, width, height };
}

export const inkOf = ({ data, width, height }) => ({
  data: data.map((value) => (value >= 128 ? 1 : 0)),
  width,
  height,
});

/** Twice the area of strokes over the length of their outline: their mean width in pixels. */
export function strokeWidth({ data, width, height }) {
  let [area, outline] = [0, 0];
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      area += data[at];
      if (x + 1 < width) outline += data[at] !== data[at + 1];
      if (y + 1 < height) outline += data[at] !== data[at + width];
    }
  }
  return (2 * area) / Math.max(outline, 1);
}

/** The part of a mask in columns [from, to) (rows where it is level). */
function strip({ data, width, height }, from, to, isLevel) {
  const [left, right, top, bottom] = isLevel ? [0, width, from, to] : [from, to, 0, height];
  const out = new Uint8Array((right - left) * (bottom - top));
  for (let y = top; y < bottom; y++) {
    out.set(data.subarray(y * width + left, y * width + right), (y - top) * (right - left));
  }
  return { data: out, width: right - left, height: bottom - top };
}

/** How much ink, and the half-open box of it. */
function extentOf({ data, width, height }) {
  const box = { area: 0, top: height, bottom: 0, left: width, right: 0 };
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!data[at]) continue;
      box.area++;
      box.top = Math.min(box.top, y);
      box.bottom = y + 1;
      box.left = Math.min(box.left, x);
      box.right = Math.max(box.right, x + 1);
    }
  }
  return box;
}

/** Half-open stretches without ink between the first and the last with some. */
function gapsOf(counts) {
  const found = [];
  let end = -1;
  for (let at = 0; at < counts.length; at++) {
    if (!counts[at]) continue;
    if (end >= 0 && at > end) found.push([end, at]);
    end = at + 1;
  }
  return found;
}

function countsOf({ data, width, height }, isLevel) {
  const counts = new Int32Array(isLevel ? height : width);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) counts[isLevel ? y : x] += data[at];
  }
  return counts;
}

/** The same ink strengths without reading aids at the right and cut neighbours at a side. */
export function withoutNeighbours(soft) {
  for (let turn = 0; turn < 2; turn++) {
    const beside = besideOf(inkOf(soft));
    if (beside === null) break;
    const { isLevel, from, to } = beside;
    const { data, width, height } = soft;
    const kept = Uint8Array.from(data);
    for (let y = 0, at = 0; y < height; y++) {
      for (let x = 0; x < width; x++, at++) {
        const place = isLevel ? y : x;
        if (place >= from && place < to) kept[at] = 0;
      }
    }
    soft = { data: kept, width, height };
  }
  return soft;
}

function besideOf(isInk) {
  const box = extentOf(isInk);
  if (!box.area) return null;
  const longest = Math.max(isInk.width, isInk.height);
  for (const isLevel of [false, true]) {
    const length = isLevel ? isInk.height : isInk.width;
    const [first, last] = isLevel ? [box.top, box.bottom] : [box.left, box.right];
    const touches = [first <= SIDE_PX, last >= length - SIDE_PX];
    for (const [start, end] of gapsOf(countsOf(isInk, isLevel))) {
      if (end - start < GAP_PX) continue;
      const before = strip(isInk, 0, start, isLevel);
      const after = strip(isInk, end, length, isLevel);
      const isBefore = extentOf(before).area < extentOf(after).area;
      const [part, rest] = isBefore ? [before, after] : [after, before];
      const isAid = !isLevel && !isBefore && isReadingAid(part, rest, last - first);
      const isCut =
        end - start >= CUT_GAP * longest &&
        touches[isBefore ? 0 : 1] &&
        !touches[isBefore ? 1 : 0] &&
        isCutOff(part, rest, last - first, isLevel);
      if (isAid || isCut) return { isLevel, from: isBefore ? 0 : end, to: isBefore ? start : length };
    }
  }
  return null;
}

function sizesOf(mask, isLevel) {
  const { area, top, bottom, left, right } = extentOf(mask);
  const [height, width] = [bottom - top, right - left];
  return isLevel ? { area, height: width, width: height } : { area, height, width };
}

function isReadingAid(part, rest, breadth) {
  const [own, aid] = [sizesOf(rest, false), sizesOf(part, false)];
  return (
    aid.area <= AID_SHARE * (aid.area + own.area) &&
    aid.width <= AID_EXTENT * own.width &&
    aid.height >= AID_LENGTH * own.height &&
    breadth >= AID_BREADTH * Math.max(aid.height, own.height) &&
    strokeWidth(part) <= AID_STROKE * strokeWidth(rest)
  );
}

function isCutOff(part, rest, breadth, isLevel) {
  const [own, other] = [sizesOf(rest, isLevel), sizesOf(part, isLevel)];
  return (
    other.area <= CUT_SHARE * (other.area + own.area) &&
    other.width <= CUT_EXTENT * own.width &&
    other.height >= CUT_LENGTH * own.height &&
    breadth >= CUT_BREADTH * Math.max(other.height, own.height)
  );
}

/** The picture with its side (top, bottom, left, right) as the first row. */
export function fromSide({ data, width, height }, side) {
  if (side === 0) return { data, width, height };
  const [wide, high] = side < 2 ? [width, height] : [height, width];
  const out = new Uint8Array(data.length);
  for (let y = 0, at = 0; y < high; y++) {
    for (let x = 0; x < wide; x++, at++) {
      if (side === 1) out[at] = data[(height - 1 - y) * width + x];
      else out[at] = data[x * width + (side === 2 ? y : width - 1 - y)];
    }
  }
  return { data: out, width: wide, height: high };
}

/** Whether strokes seem to go on beyond the picture, as those of half a character do. */
export function isCutBySide(soft) {
  const isInk = inkOf(soft);
  const { area, top, bottom, left, right } = extentOf(isInk);
  if (!area) return false;
  const { width, height } = isInk;
  const rooms = [top, height - bottom, left, width - right];
  const touched = [0, 1, 2, 3].filter((side) => rooms[side] === 0);
  if (!touched.length) return false;
  const spans = [bottom - top, right - left];
  const depth = Math.max(MIN_SQUARE_PX, Math.floor(SQUARE_DEPTH * strokeWidth(isInk)));
  const cut = touched.map((side) => cutPx(fromSide(isInk, side), depth) / spans[side < 2 ? 1 : 0]);
  if (Math.max(...cut) >= MIN_CUT) return true;
  const [side] = touched;
  const length = side < 2 ? height : width;
  if (touched.length > 1 || rooms[side ^ 1] < LONE_ROOM * length) return false;
  const beside = fromSide(isInk, side);
  let met = 0;
  for (let x = 0; x < beside.width; x++) {
    let isMet = 0;
    for (let y = 0; y < Math.min(SIDE_PX, beside.height); y++) isMet |= beside.data[y * beside.width + x];
    met += isMet;
  }
  const isLong = Math.max(...spans) >= LONG * Math.min(...spans);
  return met >= LONE_SHARE * spans[side < 2 ? 1 : 0] && (isLong || cut[0] >= MIN_LONE_CUT);
}

/** How many pixels of the first row are strokes that are no broader `depth` rows further in. */
function cutPx({ data, width, height }, depth) {
  let cut = 0;
  for (let start = 0, end = 0; start < width; start = end + 1) {
    while (start < width && !data[start]) start++;
    if (start === width) break;
    for (end = start; end < width && data[end]; ) end++;
    let [left, right] = [start, end];
    for (let y = 1; y <= Math.min(depth, height - 1) && left < right; y++) {
      const isInk = (x) => x >= 0 && x < width && data[y * width + x];
      let [from, to] = [left - 1, right + 1]; // all of this row's ink that touches the stretch
      while (from < to && !isInk(from)) from++;
      while (from < to && !isInk(to - 1)) to--;
      if (from < to) {
        while (isInk(from - 1)) from--;
        while (isInk(to)) to++;
      }
      [left, right] = [from, to];
    }
    if (left < right && end - start >= SQUARE * (right - left)) cut += end - start;
  }
  return cut;
}

/** Whether the picture plainly shows more than one character, apart from each other. */
export function holdsSeveral(soft) {
  const isInk = inkOf(soft);
  const { area, top, bottom, left, right } = extentOf(isInk);
  if (!area) return false;
  const isLevel = bottom - top >= right - left; // the gap lies level across a tall picture
  const [length, breadth] = isLevel ? [bottom - top, right - left] : [right - left, bottom - top];
  if (length < SEVERAL_LENGTH * breadth) return false;
  const start = isLevel ? top : left;
  const ink = countsOf(isInk, isLevel).subarray(start, start + length);
  for (const [from, to] of gapsOf(ink)) {
    if (to - from < SEVERAL_GAP * length) continue;
    const before = ink.subarray(0, from).reduce((sum, count) => sum + count, 0);
    const isShared = Math.min(before, area - before) >= SEVERAL_SHARE * area;
    if (isShared && Math.min(from, length - to) >= SEVERAL_EXTENT * breadth) return true;
  }
  return false;
}
