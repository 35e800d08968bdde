// Reads pictures off the page's own thread.
//
// In: {id, image, inkIsBright, isOriented, characters}: pixels as getImageData gives them; null or
// whether the ink is brighter than the paper; whether a picture that lies turned is turned; "all", a
// script, or a text of the characters that it may be.
// Out: {progress}, {ready}, {id, glyph, reading, lacking, milliseconds}, {id, noneKnown} where the
// model knows none of the characters, or {failed, detail}: what strings.js calls it.

import { glyphOf } from "./glyph_image.js";
import { compiled, NoWebAssembly } from "./kernels.js";
import { Network } from "./network.js";
import { surestTurn } from "./orientation.js";
import { allowedIds, readingOf } from "./reading.js";

async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer;
}

async function bytesOf(answer, total) {
  const bytes = new Uint8Array(total);
  let read = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (read + value.length > total) throw new Error(`params.npz: longer than ${total} bytes`);
    bytes.set(value, read);
    read += value.length;
    postMessage({ progress: read / total });
  }
  if (read !== total) throw new Error(`params.npz: ${read} of ${total} bytes`);
  return bytes.buffer;
}

/** A stroke on paper, read before anybody asks: compiled code is several times as fast. */
function sample() {
  const [width, height] = [512, 512];
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let y = 200; y < 300; y++) data.fill(0, 4 * (y * width + y), 4 * (y * width + y + 100));
  for (let at = 3; at < data.length; at += 4) data[at] = 255;
  return { data, width, height };
}

async function load() {
  const model = await (await fetched("./model.json")).json();
  const kernels = await compiled(await (await fetched("./kernels.wasm")).arrayBuffer());
  const weights = await fetched(`./params.npz?${model.params_sha256.slice(0, 16)}`);
  const network = new Network(model, await bytesOf(weights, model.params_bytes), kernels);
  for (let i = 0; i < 3; i++) network.run(glyphOf(sample()).glyph.data); // compiled by now
  return { model, network };
}

const loaded = load();
loaded.then(
  ({ model }) => {
    const { codepoints, about, calibration } = model;
    postMessage({ ready: { classes: codepoints.length, about, calibration } });
  },
  (error) => {
    const failed = error instanceof NoWebAssembly ? "noWebAssembly" : "notLoaded";
    postMessage({ failed, detail: error.message });
  },
);

addEventListener("message", async ({ data }) => {
  const { id, image, inkIsBright, isOriented, characters } = data;
  const { model, network } = await loaded;
  const start = performance.now();
  const { ids, lacking } = allowedIds(characters, model);
  if (ids?.length === 0) {
    postMessage({ id, noneKnown: true });
    return;
  }
  const { glyph, trouble, remarks } = glyphOf(image, { inkIsBright });
  let found = { data: glyph.data, output: {}, remarks: [] };
  if (!trouble && isOriented) found = surestTurn(glyph.data, (pixels) => network.run(pixels), model);
  else if (!trouble) found.output = network.run(glyph.data);
  const reading = readingOf(found.output, model, trouble, [...remarks, ...found.remarks], ids);
  postMessage({ id, glyph: found.data, reading, lacking, milliseconds: performance.now() - start });
});
