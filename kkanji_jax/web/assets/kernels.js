// The compiled loops of kernels.c and the one memory they share with the page.
// Weights and maps are placed there once, while the model loads; nothing is freed.

export const LANES = 8; // as in kernels.c: it counts channels in this many, zeros for what is none
export const [PLAIN, SILU, SIGMOID, ADDED] = [0, 1, 2, 3];

const PAGE_BYTES = 65536;

export const padded = (channels) => Math.ceil(channels / LANES) * LANES;

/** That this browser has no WebAssembly, or none with SIMD. */
export class NoWebAssembly extends Error {}

/** The loops that the bytes of kernels.wasm hold, ready to run. */
export async function compiled(bytes) {
  if (!globalThis.WebAssembly?.validate(bytes)) throw new NoWebAssembly("kernels.wasm");
  return new Kernels((await WebAssembly.instantiate(bytes)).instance.exports);
}

class Kernels {
  constructor({ memory, __heap_base, ...loops }) {
    Object.assign(this, loops);
    this.memory = memory;
    this.end = Math.ceil(__heap_base.value / 16) * 16;
  }

  /** The address of a new buffer of `size` floats, all zero. */
  reserve(size) {
    const place = this.end;
    this.end += Math.ceil(size / 4) * 16;
    const missing = this.end - this.memory.buffer.byteLength;
    if (missing > 0) this.memory.grow(Math.ceil(missing / PAGE_BYTES));
    return place;
  }

  /** The floats at an address, until the next `reserve`. */
  floats(place, size) {
    return new Float32Array(this.memory.buffer, place, size);
  }

  /** The address of a new buffer that holds `values`. */
  keep(values) {
    const place = this.reserve(values.length);
    this.floats(place, values.length).set(values);
    return place;
  }
}
