// EfficientNet's forward pass in plain JavaScript, from the bundle's own weights.
// Maps are [row][column][channel], as in kkanji_jax/efficientnet.py; batch normalisation is folded
// into the convolutions, which model.json lists in their order.

import { GLYPH_PX } from "./glyph_image.js";

const LANES = 4; // output channels side by side in `dense`, whose sums are float64: V8 is thrice as fast

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

function silu(values) {
  for (let i = 0; i < values.length; i++) values[i] = values[i] / (1 + Math.exp(-values[i]));
  return values;
}

/** A matrix product over channels with its weights packed: x is [pixels][numIn]. */
function dense(x, { packed, bias, numIn, numOut }) {
  const pixels = x.length / numIn;
  const out = new Float32Array(pixels * numOut);
  const even = pixels & ~1;
  for (let first = 0; first < numOut; first += LANES) {
    const start = first * numIn;
    const b0 = bias[first];
    const b1 = bias[first + 1];
    const b2 = bias[first + 2];
    const b3 = bias[first + 3];
    const lanes = Math.min(LANES, numOut - first);
    for (let pixel = 0; pixel < pixels; pixel += 2) {
      const upper = pixel * numIn;
      const lower = pixel < even ? upper + numIn : upper;
      let s0 = b0;
      let s1 = b1;
      let s2 = b2;
      let s3 = b3;
      let t0 = b0;
      let t1 = b1;
      let t2 = b2;
      let t3 = b3;
      for (let i = 0, at = start; i < numIn; i++, at += LANES) {
        const a = x[upper + i];
        const b = x[lower + i];
        const w0 = packed[at];
        const w1 = packed[at + 1];
        const w2 = packed[at + 2];
        const w3 = packed[at + 3];
        s0 += a * w0;
        s1 += a * w1;
        s2 += a * w2;
        s3 += a * w3;
        t0 += b * w0;
        t1 += b * w1;
        t2 += b * w2;
        t3 += b * w3;
      }
      const rows = pixel < even ? 2 : 1;
      for (let row = 0; row < rows; row++) {
        const place = (pixel + row) * numOut + first;
        out[place] = row ? t0 : s0;
        if (lanes > 1) out[place + 1] = row ? t1 : s1;
        if (lanes > 2) out[place + 2] = row ? t2 : s2;
        if (lanes > 3) out[place + 3] = row ? t3 : s3;
      }
    }
  }
  return out;
}

/** Each channel's own filter, or with one input channel many: TensorFlow's "SAME" padding. */
function convolve(x, side, { weights, bias, kernelPx, stride, channels, numIn }) {
  const outSide = Math.ceil(side / stride);
  const before = Math.max((outSide - 1) * stride + kernelPx - side, 0) >> 1;
  const out = new Float32Array(outSide * outSide * channels);
  for (let row = 0; row < outSide; row++) {
    for (let column = 0; column < outSide; column++) {
      const place = (row * outSide + column) * channels;
      out.set(bias, place);
      for (let i = 0; i < kernelPx; i++) {
        const y = row * stride + i - before;
        if (y < 0 || y >= side) continue;
        for (let j = 0; j < kernelPx; j++) {
          const left = column * stride + j - before;
          if (left < 0 || left >= side) continue;
          const tap = (i * kernelPx + j) * channels;
          const from = (y * side + left) * numIn;
          if (numIn === 1) {
            const value = x[from];
            for (let c = 0; c < channels; c++) out[place + c] += value * weights[tap + c];
          } else {
            for (let c = 0; c < channels; c++) out[place + c] += x[from + c] * weights[tap + c];
          }
        }
      }
    }
  }
  return { map: out, side: outSide };
}

function meanOverPixels(x, channels) {
  const mean = new Float64Array(channels);
  for (let i = 0; i < x.length; i += channels) {
    for (let c = 0; c < channels; c++) mean[c] += x[i + c];
  }
  return Float32Array.from(mean, (sum) => (sum * channels) / x.length);
}

export class Network {
  /** `model` is model.json; `buffer` the bytes of params.npz, of which it tells the places. */
  constructor(model, buffer) {
    const table = halves(model.dtype);
    this.model = model;
    this.read = (name) => {
      const { offset, shape } = model.arrays[name];
      const size = shape.reduce((product, side) => product * side, 1);
      const bits = new Uint16Array(buffer, offset, size);
      const values = new Float32Array(size);
      for (let i = 0; i < size; i++) values[i] = table[bits[i]];
      return values;
    };
    this.stem = this.filters("params/stem_kernel", "stem_norm", model.stem);
    this.stem.numIn = 1;
    this.blocks = model.blocks.map((block, number) => this.block(block, number));
    this.head = this.matrix("params/head/kernel", "head_norm");
    this.classifier = this.matrix("params/classifier/kernel");
    this.resizing = model.resizing && Float32Array.from(model.resizing);
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

  filters(name, norm, { kernel_px, stride }) {
    const { gain, shift } = this.norm(norm);
    const channels = gain.length;
    const weights = this.read(name).map((value, i) => value * gain[i % channels]);
    return { weights, bias: shift, kernelPx: kernel_px, stride, channels, numIn: channels };
  }

  /** A kernel [in][out], scaled by a normalisation if there is one, packed by LANES outputs. */
  matrix(name, norm) {
    const kernel = this.read(name);
    const [numIn, numOut] = this.model.arrays[name].shape;
    const { gain, shift } = norm
      ? this.norm(norm)
      : { gain: null, shift: this.read(name.replace(/kernel$/, "bias")) };
    const width = Math.ceil(numOut / LANES) * LANES;
    const packed = new Float32Array(width * numIn);
    for (let i = 0; i < numIn; i++) {
      for (let o = 0; o < numOut; o++) {
        const place = (o - (o % LANES)) * numIn + i * LANES + (o % LANES);
        packed[place] = kernel[i * numOut + o] * (gain ? gain[o] : 1);
      }
    }
    const bias = new Float32Array(width);
    bias.set(shift);
    return { packed, bias, numIn, numOut };
  }

  /** Logits of a glyph's 64x64 bytes. */
  run(glyph) {
    let { map, side } = this.resized(Float32Array.from(glyph, (value) => value / 255));
    ({ map, side } = convolve(map, side, this.stem));
    silu(map);
    for (const block of this.blocks) {
      const input = map;
      if (block.expand) map = silu(dense(map, block.expand));
      ({ map, side } = convolve(map, side, block.depthwise));
      silu(map);
      const channels = block.depthwise.channels;
      const gate = dense(silu(dense(meanOverPixels(map, channels), block.squeeze)), block.excite);
      for (let c = 0; c < channels; c++) gate[c] = 1 / (1 + Math.exp(-gate[c]));
      for (let i = 0; i < map.length; i += channels) {
        for (let c = 0; c < channels; c++) map[i + c] *= gate[c];
      }
      map = dense(map, block.project);
      if (block.hasResidual) for (let i = 0; i < map.length; i++) map[i] += input[i];
    }
    map = silu(dense(map, this.head));
    return dense(meanOverPixels(map, this.head.numOut), this.classifier);
  }

  /** The glyph at the network's own size: a matrix product along each side. */
  resized(map) {
    if (!this.resizing) return { map, side: GLYPH_PX };
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
    return { map: along(along(map)), side };
  }
}
