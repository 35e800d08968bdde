// The pixels of a canvas -> grey, where red ink is as light as its paper. The port of grey_of, and of
// what load_picture does with transparency, in kkanji_jax/glyphs/image_files.py. Change them both.

import { luma, over } from "./pillow.js";

export const MAX_PIXELS = 4096 * 4096;
const SHOWN = 64;
const RED_FROM = 24;
const RED_STEP = 24;
const LIFT = 3;
const PAPER_SAMPLE_PX = 64;

/** A canvas's pixels over paper: {red, green, luma}, each a Uint8Array, and the size. */
export function pictureOf({ data, width, height }) {
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
export const greyOf = (image) => greyOfPicture(pictureOf(image));

/** The same of the picture that `pictureOf` gives. */
export function greyOfPicture({ red, green, luma: grey, width, height }) {
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
