// The image operations of Pillow that data/glyph_image.py uses, bit for bit: the network knows
// images that went through these, and a browser's own resizing gives other greys.
//
// A grey image is {data: Uint8Array | Uint8ClampedArray, width, height}, rows from the top.

const PRECISION_BITS = 22; // of Resample.c: 32 - 8 - 2

const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));

function bicubic(x) {
  const a = -0.5;
  const t = Math.abs(x);
  if (t < 1) return ((a + 2) * t - (a + 3)) * t * t + 1;
  return t < 2 ? (((t - 5) * t + 8) * t - 4) * a : 0;
}

export const BOX = { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) };
export const BICUBIC = { support: 2, weight: bicubic };
export const LANCZOS = {
  support: 3,
  weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0),
};

/** For each output pixel its first input pixel and its weights in fixed point. */
function windows(from, to, filter) {
  const scale = from / to;
  const spread = Math.max(scale, 1);
  const support = filter.support * spread;
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(from, Math.trunc(centre + support + 0.5));
    const weights = [];
    let total = 0;
    for (let x = first; x < end; x++) {
      const weight = filter.weight((x - centre + 0.5) * (1 / spread));
      weights.push(weight);
      total += weight;
    }
    const one = 2 ** PRECISION_BITS / (total || 1);
    return {
      first,
      weights: Int32Array.from(weights, (w) => Math.trunc(w * one + (w < 0 ? -0.5 : 0.5))),
    };
  });
}

/** Resamples `count` lines that begin `line` apart, along pixels that are `step` apart. */
function resample(source, target, places, count, line, step) {
  for (let x = 0; x < places.length; x++) {
    const { first, weights } = places[x];
    for (let y = 0; y < count; y++) {
      let sum = 1 << (PRECISION_BITS - 1); // stays within 31 bits: Pillow counts on it too
      let at = y * line.source + first * step.source;
      for (let i = 0; i < weights.length; i++, at += step.source) {
        sum = (sum + Math.imul(source[at], weights[i])) | 0;
      }
      const value = sum >> PRECISION_BITS;
      target[y * line.target + x * step.target] = value < 0 ? 0 : value > 255 ? 255 : value;
    }
  }
}

function resizeRows({ data, width, height }, to, filter) {
  if (to === width) return { data, width, height };
  const out = new Uint8Array(to * height);
  const line = { source: width, target: to };
  resample(data, out, windows(width, to, filter), height, line, { source: 1, target: 1 });
  return { data: out, width: to, height };
}

function resizeColumns({ data, width, height }, to, filter) {
  if (to === height) return { data, width, height };
  const out = new Uint8Array(width * to);
  const step = { source: width, target: width };
  resample(data, out, windows(height, to, filter), width, { source: 1, target: 1 }, step);
  return { data: out, width, height: to };
}

/**
 * Image.resize. Each direction is rounded to 8 bits, so their order shows in the result: Pillow 13
 * does the height first where it shrinks by more than twice as many pixels as the width.
 */
export function resize(image, width, height, filter) {
  const lost = image.height - height;
  const heightFirst = lost > 0 && lost > 2 * (image.width - width);
  return heightFirst
    ? resizeRows(resizeColumns(image, height, filter), width, filter)
    : resizeColumns(resizeRows(image, width, filter), height, filter);
}

const clamp = (value, last) => (value < 0 ? 0 : value > last ? last : value);

/** ImageFilter.GaussianBlur, which is three box blurs each way. */
export function gaussianBlur({ data, width, height }, radius) {
  const f = Math.fround;
  const variance = f((radius * radius) / 3);
  const whole = f(Math.floor((f(Math.sqrt(12 * variance + 1)) - 1) / 2));
  let part = f((2 * whole + 1) * (whole * (whole + 1) - 3 * variance));
  part = f(part / f(6 * (variance - (whole + 1) * (whole + 1))));
  const box = f(whole + part);
  const reach = Math.trunc(box);
  const near = Math.trunc(f(2 ** 24 / f(f(box * 2) + 1)));
  const far = Math.trunc((2 ** 24 - (reach * 2 + 1) * near) / 2);
  const out = Uint8Array.from(data);
  const blur = (start, length, step) => {
    const line = Uint8Array.from({ length }, (_, x) => out[start + x * step]);
    const at = (x) => line[clamp(x, length - 1)];
    for (let x = 0; x < length; x++) {
      let sum = 0;
      for (let dx = -reach; dx <= reach; dx++) sum += at(x + dx);
      const bulk = sum * near + (at(x - reach - 1) + at(x + reach + 1)) * far;
      out[start + x * step] = Math.floor((bulk + 2 ** 23) / 2 ** 24);
    }
  };
  for (let pass = 0; pass < 3; pass++) {
    for (let y = 0; y < height; y++) blur(y * width, width, 1);
  }
  for (let pass = 0; pass < 3; pass++) {
    for (let x = 0; x < width; x++) blur(x, height, width);
  }
  return { data: out, width, height };
}

/** Image.convert("L") of one pixel: ITU-R 601 luma in fixed point. */
export const luma = (r, g, b) => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;

/** Image.alpha_composite of one channel over an opaque sheet. */
export function over(value, alpha, paper) {
  if (alpha === 0) return paper;
  const own = Math.trunc((alpha * 255 * 255 * 128) / (255 * 255));
  const sum = value * own + paper * (255 * 128 - own) + (0x80 << 7);
  return (((sum >> 8) + sum) >> 8) >> 7;
}
