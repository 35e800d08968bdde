/* The loops of the page's network, for WebAssembly with SIMD; network.js says when each runs.
 * scripts/assets/build_wasm.py makes kernels.wasm of this file: run it after every change.
 *
 * Maps are [pixel][channel] in float32. The number of channels is a multiple of LANES, and what
 * fills it up is zero, in maps and weights alike; so no loop here has a rest.
 */

#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name))) void name
#define INLINE static inline __attribute__((always_inline))

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

enum { LANES = 8, PIXELS = 4 }; /* output channels and pixels that share a loop */

/* Sigmoids beyond it are 0 and 1 within 5e-18. Smaller ones would make products subnormal, over
 * which a processor takes a hundred times as long. */
#define LIMIT 40

enum { PLAIN, SILU, SIGMOID, ADDED }; /* what is done with a sum; ADDED: to what `out` holds */

/* e^x within 2e-7 of itself, x cut off at -LIMIT and LIMIT: 2^n e^r, as in Cephes's expf. */
INLINE Four exponential(Four x) {
  v128_t limit = wasm_f32x4_splat(LIMIT);
  x = (Four)wasm_f32x4_pmin(limit, wasm_f32x4_pmax(wasm_f32x4_neg(limit), (v128_t)x));
  Four n = (Four)wasm_f32x4_nearest((v128_t)(x * 1.44269504f));
  Four r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Four sum = 1.9875691500e-4f * r + 1.3981999507e-3f;
  sum = sum * r + 8.3334519073e-3f;
  sum = sum * r + 4.1665795894e-2f;
  sum = sum * r + 1.6666665459e-1f;
  sum = sum * r + 5.0000001201e-1f;
  sum = sum * r * r + r + 1;
  v128_t exponent = wasm_i32x4_trunc_sat_f32x4((v128_t)n);
  return (Four)wasm_i32x4_add((v128_t)sum, wasm_i32x4_shl(exponent, 23));
}

INLINE Four activated(Four x, int activation) {
  if (activation == SILU) return x / (1 + exponential(-x));
  if (activation == SIGMOID) return 1 / (1 + exponential(-x));
  return x;
}

INLINE void store(float *out, Four sum, int activation) {
  if (activation == ADDED) sum += *(Four *)out;
  *(Four *)out = activated(sum, activation);
}

/* LANES outputs of `pixels` neighbours, which is a constant where this is called. */
INLINE void panel(int pixels, const float *x, int num_in, const float *weights, const float *bias,
                  int num_out, float *out, int activation) {
  Four left[PIXELS], right[PIXELS];
  for (int p = 0; p < pixels; p++) left[p] = *(Four *)bias, right[p] = *(Four *)(bias + 4);
  for (int i = 0; i < num_in; i++) {
    Four low = *(Four *)(weights + i * LANES), high = *(Four *)(weights + i * LANES + 4);
    for (int p = 0; p < pixels; p++) {
      float value = x[p * num_in + i];
      left[p] += value * low;
      right[p] += value * high;
    }
  }
  for (int p = 0; p < pixels; p++) {
    store(out + p * num_out, left[p], activation);
    store(out + p * num_out + 4, right[p], activation);
  }
}

/* A matrix product over channels; `weights` is [num_out / LANES][num_in][LANES]. */
EXPORT(dense)(const float *x, int pixels, int num_in, const float *weights, const float *bias,
              int num_out, float *out, int activation) {
  int paired = pixels - pixels % PIXELS;
  for (int first = 0; first < num_out; first += LANES) {
    const float *own = weights + first * num_in;
    for (int pixel = 0; pixel < paired; pixel += PIXELS)
      panel(PIXELS, x + pixel * num_in, num_in, own, bias + first, num_out,
            out + pixel * num_out + first, activation);
    for (int pixel = paired; pixel < pixels; pixel++)
      panel(1, x + pixel * num_in, num_in, own, bias + first, num_out,
            out + pixel * num_out + first, activation);
  }
}

/* Of a map `side` pixels wide: from one channel to many if it spreads, else each by its own. */
typedef struct {
  const float *x, *weights, *bias;
  int side, kernel, stride, channels, spreads;
} Convolution;

/* Which taps of a row or column lie on the map. */
typedef struct { int from, to; } Span;

INLINE Span inside(int start, Convolution of) {
  return (Span){start < 0 ? -start : 0, start + of.kernel > of.side ? of.side - start : of.kernel};
}

INLINE Four taken(const float *pixel, int channel, int spreads) {
  return spreads ? *pixel + (Four){} : *(Four *)(pixel + channel);
}

/* All channels of `columns` neighbours, a constant; the first has its first tap at (y, left). */
INLINE void filtered(int columns, Convolution of, int y, int left, Span down, Span across,
                     float *out) {
  int num_in = of.spreads ? 1 : of.channels;
  for (int c = 0; c < of.channels; c += LANES) {
    Four sums[PIXELS], more[PIXELS];
    for (int p = 0; p < columns; p++) {
      sums[p] = *(Four *)(of.bias + c);
      more[p] = *(Four *)(of.bias + c + 4);
    }
    for (int i = down.from; i < down.to; i++) {
      for (int j = across.from; j < across.to; j++) {
        const float *x = of.x + ((y + i) * of.side + left + j) * num_in;
        const float *tap = of.weights + (i * of.kernel + j) * of.channels + c;
        Four low = *(Four *)tap, high = *(Four *)(tap + 4);
        for (int p = 0; p < columns; p++, x += of.stride * num_in) {
          sums[p] += taken(x, c, of.spreads) * low;
          more[p] += taken(x, c + 4, of.spreads) * high;
        }
      }
    }
    for (int p = 0; p < columns; p++) {
      store(out + p * of.channels + c, sums[p], SILU);
      store(out + p * of.channels + c + 4, more[p], SILU);
    }
  }
}

/* TensorFlow's "SAME" padding, then silu. */
INLINE void convolved(Convolution of, float *out) {
  int out_side = (of.side + of.stride - 1) / of.stride;
  int padding = (out_side - 1) * of.stride + of.kernel - of.side;
  int before = padding > 0 ? padding / 2 : 0;
  for (int row = 0; row < out_side; row++) {
    int y = row * of.stride - before;
    Span down = inside(y, of);
    for (int column = 0; column < out_side;) {
      int left = column * of.stride - before;
      int end = left + (PIXELS - 1) * of.stride + of.kernel;
      float *place = out + (row * out_side + column) * of.channels;
      if (left >= 0 && end <= of.side) {
        filtered(PIXELS, of, y, left, down, (Span){0, of.kernel}, place);
        column += PIXELS;
      } else {
        filtered(1, of, y, left, down, inside(left, of), place);
        column += 1;
      }
    }
  }
}

/* From one channel to many. */
EXPORT(stem)(const float *x, int side, const float *weights, const float *bias, int kernel,
             int stride, int channels, float *out) {
  convolved((Convolution){x, weights, bias, side, kernel, stride, channels, 1}, out);
}

/* Each channel by its own filter. */
EXPORT(depthwise)(const float *x, int side, const float *weights, const float *bias, int kernel,
                  int stride, int channels, float *out) {
  convolved((Convolution){x, weights, bias, side, kernel, stride, channels, 0}, out);
}

/* The mean over pixels of each channel. */
EXPORT(mean)(const float *x, int pixels, int channels, float *out) {
  for (int c = 0; c < channels; c += LANES) {
    Four left = {}, right = {};
    for (int pixel = 0; pixel < pixels; pixel++) {
      left += *(Four *)(x + pixel * channels + c);
      right += *(Four *)(x + pixel * channels + c + 4);
    }
    *(Four *)(out + c) = left / (float)pixels;
    *(Four *)(out + c + 4) = right / (float)pixels;
  }
}

/* Every pixel times the gates of its channels, in place. */
EXPORT(gated)(float *x, int pixels, int channels, const float *gates) {
  for (int pixel = 0; pixel < pixels; pixel++, x += channels)
    for (int c = 0; c < channels; c += 4) *(Four *)(x + c) *= *(Four *)(gates + c);
}
