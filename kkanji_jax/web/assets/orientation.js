// A glyph read in its four turns: the port of kkanji_jax/inference/orientation.py; change them together.

import { REMARKS } from "./glyph_image.js";
import { GLYPH_PX } from "./published_form.js";

const MIN_GAIN = 4; // nats
const MIN_DOUBT = 0;
const LEVEL_STROKE = "U+4E00";
const TURNED = [null, REMARKS.turnedLeft, REMARKS.turnedOver, REMARKS.turnedRight];

/** A glyph's pixels after so many quarter turns to the left. */
export function turnedGlyph(data, turns) {
  const last = GLYPH_PX - 1;
  const from = [
    (x, y) => y * GLYPH_PX + x,
    (x, y) => x * GLYPH_PX + (last - y),
    (x, y) => (last - y) * GLYPH_PX + (last - x),
    (x, y) => (last - x) * GLYPH_PX + y,
  ][turns];
  return data.map((_, at) => data[from(at % GLYPH_PX, Math.trunc(at / GLYPH_PX))]);
}

/** The logarithm of the sum of exp(logit / temperature), and the class of the largest logit. */
function sureness(logits, temperature) {
  const best = logits.reduce((most, value, id) => (value > logits[most] ? id : most), 0);
  const sum = logits.reduce((all, value) => all + Math.exp((value - logits[best]) / temperature), 0);
  return { best, sure: logits[best] / temperature + Math.log(sum) };
}

/** {turns, data, output, remarks} of the surest turn; `run` gives {logits} of a glyph's pixels. */
export function surestTurn(data, run, model) {
  const glyphs = [0, 1, 2, 3].map((turns) => turnedGlyph(data, turns));
  const outputs = glyphs.map((glyph) => run(glyph));
  const temperature = model.calibration?.temperature ?? 1;
  const told = outputs.map(({ logits }) => sureness(logits, temperature));
  const levelStroke = model.codepoints.indexOf(LEVEL_STROKE);
  const counts = ({ best }, turns) => turns === 0 || best !== levelStroke;
  const surer = (turns, than) => {
    const differs = told[turns].best !== told[than].best;
    return differs && counts(told[turns], turns) ? told[turns].sure - told[than].sure : -Infinity;
  };
  const gains = [0, 1, 2, 3].map((turns) => surer(turns, 0));
  const surest = gains.indexOf(Math.max(...gains));
  const turns = gains[surest] >= MIN_GAIN ? surest : 0;
  const remarks = turns ? [TURNED[turns]] : [];
  if ([0, 1, 2, 3].some((other) => surer(other, turns) >= MIN_DOUBT)) remarks.push(REMARKS.mayBeTurned);
  return { turns, data: glyphs[turns], output: outputs[turns], remarks };
}
