// EfficientNet's forward pass, from the bundle's own weights: which loop of kernels.c runs on what.
// Maps are [row][column][channel], as in kkanji_jax/model/efficientnet.py; batch normalisation is folded
// into the convolutions, which model.json lists in their order.

import { GLYPH_PX } from "./published_form.js";
import { ADDED, LANES, padded, PLAIN, SIGMOID, SILU } from "./kernels.js";

/** Every float16 or bfloat16 by its bits. */
function halves(dtype) {
  const table = new Float32Array(65536);
  if (dtype === "bfloat16") {
    const bits = new Uint32Array(table.buffer);
    for (let i = 0; i < 65536; i++) bits[i] = i << 16;
    return table;
  }
  for (let i = 0; i < 65536; i++) {
    const exponent = (i >> 10) & 31;
    const fraction = i & 1023;
    const size =
      exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[i] = exponent === 31 ? NaN : i & 0x8000 ? -size : size;
  }
  return table;
}

/**
 * Reads an array of params.npz by name, in float32: the port of kkanji_jax/saved/arrays.py,
 * `restored`; change them together.
 */
function reader({ arrays, dtype }, buffer) {
  const view = (name, Kind) => {
    const { offset, shape } = arrays[name];
    return new Kind(buffer, offset, shape.reduce((product, side) => product * side, 1));
  };
  if (dtype !== "int8") {
    const table = halves(dtype);
    return (name) => {
      const bits = view(name, Uint16Array);
      const values = new Float32Array(bits.length);
      for (let i = 0; i < values.length; i++) values[i] = table[bits[i]];
      return values;
    };
  }
  return (name) => {
    const nameOfScale = `${name}:scale`;
    if (!(nameOfScale in arrays)) return view(name, Float32Array).slice();
    const whole = view(name, Int8Array);
    const scale = view(nameOfScale, Float32Array); // of each output, which is the last axis
    const values = new Float32Array(whole.length);
    for (let i = 0; i < values.length; i++) values[i] = whole[i] * scale[i % scale.length];
    return values;
  };
}

/** Rows [..][from] widened with zeros to [..][to]. */
function widened(values, from, to) {
  if (from === to) return values;
  const out = new Float32Array((values.length / from) * to);
  for (let i = 0; i < values.length; i++) out[Math.trunc(i / from) * to + (i % from)] = values[i];
  return out;
}

/** Where a matrix of `numIn` rows that is packed by LANES outputs holds an input's weight. */
const placeOf = (i, o, numIn) => (o - (o % LANES)) * numIn + i * LANES + (o % LANES);

export class Network {
  /** `model` is model.json; `buffer` the bytes of params.npz, of which it tells the places. */
  constructor(model, buffer, kernels) {
    const weights = new Weights(model, reader(model, buffer), kernels);
    this.model = model;
    this.kernels = kernels;
    this.stem = weights.filters("params/stem_kernel", "stem_norm", model.stem);
    this.blocks = model.blocks.map((block, number) => weights.block(block, number));
    this.head = weights.matrix("params/head/kernel", "head_norm");
    this.classifier = weights.matrix("params/classifier/kernel");
    this.resizing = model.resizing && Float32Array.from(model.resizing);
    this.buffers = this.reserved();
  }

  /** Buffers for maps and vectors, each as large as the largest layer needs. */
  reserved() {
    const { stem, blocks, head, classifier } = this;
    let side = Math.ceil(this.model.image_px / stem.stride);
    const sizes = { image: this.model.image_px ** 2, narrow: side * side * stem.channels };
    const need = (name, size) => (sizes[name] = Math.max(sizes[name] ?? 0, size));
    for (const { expand, depthwise, squeeze, project } of blocks) {
      if (expand) need("wide", side * side * expand.numOut);
      side = Math.ceil(side / depthwise.stride);
      need("deep", side * side * depthwise.channels);
      need("narrow", side * side * project.numOut);
      need("squeezed", squeeze.numOut);
      for (const name of ["means", "gates"]) need(name, depthwise.channels);
    }
    need("wide", side * side * head.numOut);
    need("means", head.numOut);
    need("logits", classifier.numOut);
    const places = Object.entries(sizes).map(([name, size]) => [name, this.kernels.reserve(size)]);
    return Object.fromEntries(places);
  }

  /** {logits, support} of a glyph's 64x64 bytes; no support without one in the calibration. */
  run(glyph) {
    const { kernels, buffers } = this;
    const { image, narrow, wide, deep, means, squeezed, gates, logits } = buffers;
    let side = this.model.image_px;
    const dense = (from, pixels, { weights, bias, numIn, numOut }, to, activation) =>
      kernels.dense(from, pixels, numIn, weights, bias, numOut, to, activation);
    const convolve = (loop, from, { weights, bias, kernelPx, stride, channels }, to) => {
      loop(from, side, weights, bias, kernelPx, stride, channels, to);
      side = Math.ceil(side / stride);
    };
    kernels.floats(image, side * side).set(this.resized(glyph));
    convolve(kernels.stem, image, this.stem, narrow);
    for (const { expand, depthwise, squeeze, excite, project, hasResidual } of this.blocks) {
      if (expand) dense(narrow, side * side, expand, wide, SILU);
      convolve(kernels.depthwise, expand ? wide : narrow, depthwise, deep);
      kernels.mean(deep, side * side, depthwise.channels, means);
      dense(means, 1, squeeze, squeezed, SILU);
      dense(squeezed, 1, excite, gates, SIGMOID);
      kernels.gated(deep, side * side, depthwise.channels, gates);
      dense(deep, side * side, project, narrow, hasResidual ? ADDED : PLAIN);
    }
    dense(narrow, side * side, this.head, wide, SILU);
    kernels.mean(wide, side * side, this.head.numOut, means);
    dense(means, 1, this.classifier, logits, PLAIN);
    const found = kernels.floats(logits, this.model.codepoints.length).slice();
    return { logits: found, support: this.supportOf(found) };
  }

  /**
   * How far all features speak for the class of the largest logit: the port of
   * kkanji_jax/evaluation/support.py, of the features that the last glyph left; change them together.
   */
  supportOf(logits) {
    const told = this.model.calibration?.support;
    if (!told) return null;
    const { kernels, classifier, buffers } = this;
    const best = logits.reduce((most, value, id) => (value > logits[most] ? id : most), 0);
    const features = kernels.floats(buffers.means, told.weights.length);
    const packed = kernels.floats(classifier.weights, classifier.numIn * classifier.numOut);
    const column = placeOf(0, best, classifier.numIn);
    return features.reduce(
      (sum, value, i) => sum + value * packed[column + i * LANES] * told.weights[i],
      told.bias,
    );
  }

  /** The glyph from 0 to 1 at the network's own size: a matrix product along each side. */
  resized(glyph) {
    const map = Float32Array.from(glyph, (value) => value / 255);
    if (!this.resizing) return map;
    const side = this.model.image_px;
    const along = (x) => {
      const out = new Float32Array(side * (x.length / GLYPH_PX));
      const lines = x.length / GLYPH_PX;
      for (let line = 0; line < lines; line++) {
        for (let o = 0; o < side; o++) {
          let sum = 0;
          for (let i = 0; i < GLYPH_PX; i++) {
            sum += this.resizing[o * GLYPH_PX + i] * x[line * GLYPH_PX + i];
          }
          out[o * lines + line] = sum; // turned, so that the second call does the other side
        }
      }
      return out;
    };
    return along(along(map));
  }
}

/** Reads layers, folds their normalisation in, and keeps them where the kernels find them. */
class Weights {
  constructor(model, read, kernels) {
    Object.assign(this, { model, read, kernels });
  }

  block({ kernel_px, stride, has_residual }, number) {
    const path = `params/blocks/${number}`;
    const norm = (name) => `blocks/${number}/${name}_norm`;
    const hasExpansion = `${path}/expand/kernel` in this.model.arrays;
    return {
      hasResidual: has_residual,
      expand: hasExpansion ? this.matrix(`${path}/expand/kernel`, norm("expand")) : null,
      depthwise: this.filters(`${path}/depthwise_kernel`, norm("depthwise"), { kernel_px, stride }),
      squeeze: this.matrix(`${path}/squeeze/kernel`),
      excite: this.matrix(`${path}/excite/kernel`),
      project: this.matrix(`${path}/project/kernel`, norm("project")),
    };
  }

  /** Gain and shift of a batch normalisation. */
  norm(name) {
    const [scale, bias] = ["scale", "bias"].map((leaf) => this.read(`params/${name}/${leaf}`));
    const [mean, variance] = ["mean", "var"].map((leaf) => this.read(`batch_stats/${name}/${leaf}`));
    const gain = scale.map((value, i) => value / Math.sqrt(variance[i] + this.model.norm_epsilon));
    return { gain, shift: bias.map((value, i) => value - mean[i] * gain[i]) };
  }

  /** Kernels [tap][channel] of a convolution that does not mix channels. */
  filters(name, norm, { kernel_px, stride }) {
    const { gain, shift } = this.norm(norm);
    const numChannels = gain.length;
    const channels = padded(numChannels);
    const taps = this.read(name).map((value, i) => value * gain[i % numChannels]);
    const weights = this.kernels.keep(widened(taps, numChannels, channels));
    const bias = this.kernels.keep(widened(shift, numChannels, channels));
    return { weights, bias, kernelPx: kernel_px, stride, channels };
  }

  /** A kernel [in][out], scaled by a normalisation if there is one, packed by LANES outputs. */
  matrix(name, norm) {
    const kernel = this.read(name);
    const [rows, columns] = this.model.arrays[name].shape;
    const [numIn, numOut] = [padded(rows), padded(columns)];
    const { gain, shift } = norm
      ? this.norm(norm)
      : { gain: null, shift: this.read(name.replace(/kernel$/, "bias")) };
    const packed = new Float32Array(numIn * numOut);
    for (let i = 0; i < rows; i++) {
      for (let o = 0; o < columns; o++) {
        packed[placeOf(i, o, numIn)] = kernel[i * columns + o] * (gain ? gain[o] : 1);
      }
    }
    const bias = this.kernels.keep(widened(shift, columns, numOut));
    return { weights: this.kernels.keep(packed), bias, numIn, numOut };
  }
}
