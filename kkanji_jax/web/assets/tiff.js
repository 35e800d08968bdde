// TIFF files, which most browsers do not decode: TIFF 6.0's baseline, and LZW and Deflate.
//
// Grey, palettes and RGB, with or without alpha, in strips or tiles; 1 to 16 bits. Anything else
// throws a TiffError that says what it is. Results are those of Pillow.

const MAX_PIXELS = 100_000_000; // of a page, as in glyphs/image_files.py
const DEPTHS = [0xff, 0x3ff, 0xfff, 0xffff]; // the greatest value of 8, 10, 12 and 16 bits
const TAGS = {
  256: "width", 257: "height", 258: "bits", 259: "compression", 262: "photometric", 266: "fillOrder",
  273: "offsets", 274: "orientation", 277: "samples", 278: "rowsPerStrip", 279: "byteCounts",
  284: "planar", 317: "predictor", 320: "colours", 322: "tileWidth", 323: "tileHeight",
  324: "offsets", 325: "byteCounts", 338: "extra", 339: "format",
};
const COMPRESSIONS = {
  2: "CCITT", 3: "CCITT G3", 4: "CCITT G4", 6: "JPEG", 7: "JPEG", 34712: "JPEG 2000",
  34925: "LZMA", 50000: "Zstandard", 50001: "WebP",
};
const PHOTOMETRICS = { 4: "mask", 5: "CMYK", 6: "YCbCr", 8: "L*a*b*" };
const SIZES = { 1: 1, 3: 2, 4: 4 }; // bytes of BYTE, SHORT and LONG

/** A TIFF that is not read here; the message names the reason. */
export class TiffError extends Error {}

export const isTiff = (bytes) =>
  (bytes[0] === 0x49 && bytes[1] === 0x49 && (bytes[2] === 42 || bytes[2] === 43) && bytes[3] === 0) ||
  (bytes[0] === 0x4d && bytes[1] === 0x4d && bytes[2] === 0 && (bytes[3] === 42 || bytes[3] === 43));

/** The pixels of a file's bytes as an ImageData has them: {data, width, height}, upright. */
export async function decodeTiff(bytes) {
  const tiff = { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) };
  tiff.isLittle = bytes[0] === 0x49;
  try {
    const fields = fieldsOf(tiff);
    check(fields);
    return upright(await rgbaOf(tiff, fields), fields.orientation);
  } catch (error) {
    if (error instanceof RangeError) throw new TiffError("damaged");
    throw error;
  }
}

function fieldsOf({ view, isLittle }) {
  if (view.getUint16(2, isLittle) === 43) throw new TiffError("BigTIFF");
  const fields = {};
  let at = view.getUint32(4, isLittle);
  const number = view.getUint16(at, isLittle);
  at += 2;
  for (let i = 0; i < number; i++, at += 12) {
    const name = TAGS[view.getUint16(at, isLittle)];
    const size = SIZES[view.getUint16(at + 2, isLittle)];
    if (!name || !size) continue;
    const count = view.getUint32(at + 4, isLittle);
    const start = count * size <= 4 ? at + 8 : view.getUint32(at + 8, isLittle);
    if (start + count * size > view.byteLength) throw new TiffError("damaged");
    const read = { 1: "getUint8", 2: "getUint16", 4: "getUint32" }[size];
    fields[name] = Array.from({ length: count }, (_, k) => view[read](start + k * size, isLittle));
  }
  if (view.getUint32(at, isLittle) !== 0) throw new TiffError("several pages");
  const one = (name, usual) => fields[name]?.[0] ?? usual;
  const width = one("width", 0);
  const height = one("height", 0);
  const samples = one("samples", 1);
  return {
    width,
    height,
    samples,
    bits: fields.bits ?? Array(samples).fill(1),
    compression: one("compression", 1),
    photometric: one("photometric", 0),
    fillOrder: one("fillOrder", 1),
    orientation: one("orientation", 1),
    isPlanar: one("planar", 1) === 2 && samples > 1,
    predictor: one("predictor", 1),
    extra: one("extra", null),
    format: fields.format ?? [1],
    colours: fields.colours,
    isTiled: fields.tileWidth !== undefined,
    blockWidth: one("tileWidth", width),
    blockHeight: one("tileHeight", Math.min(one("rowsPerStrip", height), height)),
    offsets: fields.offsets ?? [],
    byteCounts: fields.byteCounts ?? [],
  };
}

function check(f) {
  const depth = f.bits[0];
  const own = f.photometric === 2 ? 3 : 1;
  const refuse = (isRefused, what) => {
    if (isRefused) throw new TiffError(what);
  };
  const isKnown = [1, 5, 8, 32773, 32946].includes(f.compression);
  refuse(!isKnown, `compression ${COMPRESSIONS[f.compression] ?? f.compression}`);
  refuse(f.photometric > 3, PHOTOMETRICS[f.photometric] ?? `colours of kind ${f.photometric}`);
  refuse(f.format.some((kind) => kind !== 1), "samples that are no unsigned integers");
  refuse(f.bits.some((bits) => bits !== depth), "samples of several depths");
  const depths = own === 1 && f.samples === 1 ? [1, 2, 4, 8, 16] : [8, 16];
  refuse(!depths.includes(depth) || (f.photometric === 3 && depth > 8), `${depth} bits a sample`);
  refuse(f.samples < own || f.samples > own + 1, `${f.samples} samples a pixel`);
  refuse(f.photometric === 3 && f.colours?.length !== 3 * 2 ** depth, "damaged");
  refuse(f.fillOrder !== 1, "bits in reverse order");
  refuse(![1, 2].includes(f.predictor) || (f.predictor === 2 && depth < 8), "predictor");
  refuse(!f.width || !f.height || !f.blockWidth || !f.blockHeight, "damaged");
  refuse(f.width * f.height > MAX_PIXELS, `${f.width} × ${f.height} pixels`);
  refuse(f.blockWidth * f.blockHeight > MAX_PIXELS, "damaged");
}

/** Samples of every block, put in their place and turned into red, green, blue and alpha. */
async function rgbaOf(tiff, f) {
  const depth = f.bits[0];
  const perBlock = f.isPlanar ? 1 : f.samples; // samples of a pixel that lie together
  const across = Math.ceil(f.width / f.blockWidth);
  const down = Math.ceil(f.height / f.blockHeight);
  const blocks = across * down * (f.isPlanar ? f.samples : 1);
  if (f.offsets.length < blocks || f.byteCounts.length < blocks) throw new TiffError("damaged");
  const planes = new (depth === 16 ? Uint16Array : Uint8Array)(f.width * f.height * f.samples);
  const rowBytes = Math.ceil((f.blockWidth * perBlock * depth) / 8);
  for (let number = 0; number < blocks; number++) {
    const plane = f.isPlanar ? Math.floor(number / (across * down)) : 0;
    const place = number % (across * down);
    const left = (place % across) * f.blockWidth;
    const top = Math.floor(place / across) * f.blockHeight;
    const rows = f.isTiled ? f.blockHeight : Math.min(f.blockHeight, f.height - top);
    const [start, length] = [f.offsets[number], f.byteCounts[number]];
    if (start + length > tiff.bytes.length) throw new TiffError("damaged");
    const packed = tiff.bytes.subarray(start, start + length);
    const raw = await unpacked(packed, f.compression, rows * rowBytes);
    if (raw.length < rows * rowBytes) throw new TiffError("damaged");
    for (let y = 0; y < Math.min(rows, f.height - top); y++) {
      const row = samplesOf(raw.subarray(y * rowBytes, (y + 1) * rowBytes), depth, tiff.isLittle);
      if (f.predictor === 2) addUp(row, perBlock);
      const wide = Math.min(f.blockWidth, f.width - left);
      let to = ((top + y) * f.width + left) * f.samples + plane;
      for (let x = 0; x < wide; x++, to += f.samples) {
        for (let s = 0; s < perBlock; s++) planes[to + s] = row[x * perBlock + s];
      }
    }
  }
  return { data: coloured(planes, f, depth), width: f.width, height: f.height };
}

function samplesOf(row, depth, isLittle) {
  if (depth === 8) return row.slice();
  if (depth === 16) {
    const view = new DataView(row.buffer, row.byteOffset, row.length);
    return Uint16Array.from({ length: row.length / 2 }, (_, i) => view.getUint16(2 * i, isLittle));
  }
  const per = 8 / depth;
  const mask = (1 << depth) - 1;
  return Uint8Array.from({ length: row.length * per }, (_, i) => {
    return (row[Math.floor(i / per)] >> (depth * (per - 1 - (i % per)))) & mask;
  });
}

/** Undoes horizontal differencing: typed arrays wrap as it wants. */
function addUp(row, step) {
  for (let i = step; i < row.length; i++) row[i] += row[i - step];
}

function coloured(planes, { width, height, samples, photometric, extra, colours }, depth) {
  const data = new Uint8ClampedArray(4 * width * height);
  const own = photometric === 2 ? 3 : 1;
  const greatest = (1 << depth) - 1;
  let full = depth < 8 ? greatest : 0xff;
  if (depth === 16 && own === 1) {
    let most = 0;
    for (let i = 0; i < planes.length; i += samples) if (planes[i] > most) most = planes[i];
    full = DEPTHS.find((value) => most <= value);
  }
  const eightBits = (value) => {
    if (depth === 8) return value;
    if (own === 3 || photometric === 3) return value >> 8;
    return Math.floor((value * 255 + (full >> 1)) / full);
  };
  const hasAlpha = samples > own && extra !== 0;
  for (let pixel = 0, from = 0, to = 0; pixel < width * height; pixel++, from += samples, to += 4) {
    for (let c = 0; c < 3; c++) {
      const value = planes[from + (own === 3 ? c : 0)];
      if (photometric === 3) data[to + c] = colours[c * (greatest + 1) + value] >> 8;
      else data[to + c] = photometric === 0 ? 255 - eightBits(value) : eightBits(value);
    }
    const alpha = hasAlpha ? planes[from + own] >> (depth - 8) : 255;
    data[to + 3] = alpha;
    if (extra === 1 && hasAlpha && alpha > 0 && alpha < 255) {
      for (let c = 0; c < 3; c++) data[to + c] = Math.trunc((255 * data[to + c]) / alpha);
    }
  }
  return data;
}

/** The picture turned and mirrored as the tag Orientation says. */
function upright(image, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return image;
  const isTurned = orientation > 4;
  const width = isTurned ? image.height : image.width;
  const height = isTurned ? image.width : image.height;
  const [right, low] = [image.width - 1, image.height - 1];
  const sourceOf = {
    2: (x, y) => [right - x, y],
    3: (x, y) => [right - x, low - y],
    4: (x, y) => [x, low - y],
    5: (x, y) => [y, x],
    6: (x, y) => [y, low - x],
    7: (x, y) => [right - y, low - x],
    8: (x, y) => [right - y, x],
  }[orientation];
  const from = new Uint32Array(image.data.buffer);
  const to = new Uint32Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    for (let x = 0; x < width; x++, at++) {
      const [column, row] = sourceOf(x, y);
      to[at] = from[row * image.width + column];
    }
  }
  return { data: new Uint8ClampedArray(to.buffer), width, height };
}

async function unpacked(packed, compression, length) {
  if (compression === 1) return packed;
  if (compression === 32773) return packBits(packed, length);
  if (compression === 5) return lzw(packed, length);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new TiffError("damaged");
  }
}

function packBits(packed, length) {
  const out = new Uint8Array(length);
  let to = 0;
  for (let at = 0; at < packed.length && to < length; ) {
    const head = packed[at++];
    if (head < 128) {
      out.set(packed.subarray(at, at + Math.min(head + 1, length - to)), to);
      at += head + 1;
      to += head + 1;
    } else if (head > 128) {
      out.fill(packed[at++], to, to + 257 - head);
      to += 257 - head;
    }
  }
  return out.subarray(0, to);
}

const [CLEAR, END] = [256, 257];

/** Codes of 9 to 12 bits, the highest bit first; a width ends one code early, as TIFF has it. */
function lzw(packed, length) {
  const out = new Uint8Array(length);
  const before = new Uint16Array(4096);
  const last = new Uint8Array(4096);
  const lengths = new Uint16Array(4096);
  for (let i = 0; i < 256; i++) [last[i], lengths[i]] = [i, 1];
  let [next, bits, previous, to, held, numHeld] = [258, 9, -1, 0, 0, 0];
  for (let at = 0; to < length; ) {
    while (numHeld < bits && at < packed.length) {
      held = ((held << 8) | packed[at++]) & 0xffffff;
      numHeld += 8;
    }
    if (numHeld < bits) break;
    numHeld -= bits;
    const code = (held >> numHeld) & ((1 << bits) - 1);
    if (code === END) break;
    if (code === CLEAR) {
      [next, bits, previous] = [258, 9, -1];
      continue;
    }
    const isNew = code === next && previous >= 0;
    if (code > next || (code === next && !isNew) || (code > END && previous < 0)) {
      throw new TiffError("damaged");
    }
    const from = isNew ? previous : code;
    const long = lengths[from];
    let walk = from;
    for (let i = long - 1; i >= 0; i--) {
      if (to + i < length) out[to + i] = last[walk];
      if (i > 0) walk = before[walk];
    }
    const first = last[walk];
    if (isNew && to + long < length) out[to + long] = first;
    if (previous >= 0 && next < 4096) {
      before[next] = previous;
      last[next] = first;
      lengths[next] = lengths[previous] + 1;
      next++;
      if (next + 1 === 1 << bits && bits < 12) bits++;
    }
    to += long + (isNew ? 1 : 0);
    previous = code;
  }
  return out.subarray(0, Math.min(to, length));
}
