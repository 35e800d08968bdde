// Ends of other characters' strokes at the border of a picture, found and removed.
// The port of kkanji_jax/glyphs/ink_parts.py; change them together.

const STRAY_SHARE = 0.06;
const STRAY_REACH = 0.2;
const RIM_PX = 2;

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
  const kept = Uint8Array.from(data);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      if (!isStray[labels[at]]) continue;
      for (let row = Math.max(0, y - RIM_PX); row <= Math.min(height - 1, y + RIM_PX); row++) {
        const last = row * width + Math.min(width - 1, x + RIM_PX);
        for (let near = row * width + Math.max(0, x - RIM_PX); near <= last; near++) {
          if (!labels[near] || isStray[labels[near]]) kept[near] = 0;
        }
      }
    }
  }
  return { data: kept, width, height };
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
