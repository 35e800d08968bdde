// web_page.py's worker in node: for every line of input, all glyphs of FILE once; see turns.py.
//
//     node web_page.mjs WEB FILE

import fs from "node:fs";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const GLYPH_BYTES = 64 * 64;
const [web, file] = process.argv.slice(2);
const base = pathToFileURL(`${web}/`);

const { compiled } = await import(new URL("kernels.js", base));
const { Network } = await import(new URL("network.js", base));
const kernels = await compiled(fs.readFileSync(new URL("kernels.wasm", base)));
const model = JSON.parse(fs.readFileSync(new URL("model.json", base)));
const weights = new Uint8Array(fs.readFileSync(new URL("params.npz", base))).buffer;
const network = new Network(model, weights, kernels);
const glyphs = new Uint8Array(fs.readFileSync(file));
const units = glyphs.length / GLYPH_BYTES;

function readAll() {
  for (let i = 0; i < units; i++) {
    network.run(glyphs.subarray(i * GLYPH_BYTES, (i + 1) * GLYPH_BYTES));
  }
}

readAll(); // compiled well by now
console.log("turn: ");
for await (const _ of readline.createInterface({ input: process.stdin })) {
  const [cpu, wall] = [process.cpuUsage(), performance.now()];
  readAll();
  const { user, system } = process.cpuUsage(cpu);
  const wallSeconds = (performance.now() - wall) / 1e3;
  console.log(`turn: ${JSON.stringify([(user + system) / 1e6, wallSeconds, units])}`);
}
