// The form in which CODH publishes characters: which pictures have it already, or its negative.
// The port of kkanji_jax/glyphs/published_form.py. Change them together.

import { borderOf, medianOf, negative } from "./paper_and_ink.js";

export const GLYPH_PX = 64;
const SMALL_PX = 28;
const DARK_BELOW = 64;
const BRIGHT_FROM = 192;
const MIN_EXTREME_SHARE = 0.7;
const MIN_PUBLISHED_LENGTH = 0.6;
const BLACK_TO = 16;

/** The picture, or its negative, if that is a published glyph already; else null. */
export function publishedIn(grey, inkIsBright) {
  const side = grey.width;
  if (side !== grey.height || (side !== GLYPH_PX && side !== SMALL_PX)) return null;
  if (inkIsBright !== false && isPublishedForm(grey)) return grey;
  if (inkIsBright || medianOf(borderOf(grey)) < 255 - BLACK_TO) return null;
  return isPublishedForm(negative(grey)) ? negative(grey) : null;
}

function isPublishedForm(grey) {
  const { data, width } = grey;
  if (medianOf(borderOf(grey)) >= 128) return false;
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
