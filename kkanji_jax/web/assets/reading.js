// Logits -> candidates and a verdict: the rules of kkanji_jax/inference/recogniser.py and calibrate.py.

export const TOP_K = 10;

/** Where written examples of a class stand: a sheet, its row, and how many there are. */
function examplesOf(classId, lookalikes) {
  if (!lookalikes?.counts[classId]) return null;
  const { tile_px, per_sheet, counts } = lookalikes;
  const sheet = `./lookalikes/${Math.trunc(classId / per_sheet)}.png`;
  return { sheet, row: classId % per_sheet, count: counts[classId], tilePx: tile_px };
}

/** The largest logit, standardised over all: what calibrations of version 1 tell unknowns by. */
function standardised(logits, largest) {
  const mean = logits.reduce((sum, value) => sum + value, 0) / logits.length;
  const squares = logits.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return squares > 0 ? (largest - mean) / Math.sqrt(squares / logits.length) : 0;
}

/**
 * The best candidates, how far to rely on the first, and what is remarkable of the picture. What is
 * in `trouble`, blank or unclear, has no candidates; what has `remarks` is not accepted.
 */
export function readingOf(logits, model, trouble = "", remarks = []) {
  if (trouble) return { candidates: [], verdict: trouble, remarks, accuracy: null, n: null };
  const { version, temperature = 1, verdicts = null } = model.calibration ?? {};
  const best = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const weights = Float64Array.from(logits, (value) => Math.exp((value - best) / temperature));
  const total = weights.reduce((sum, value) => sum + value, 0);
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a] || a - b);
  const candidates = order.slice(0, TOP_K).map((classId, i) => {
    const codepoint = model.codepoints[classId];
    const character = String.fromCodePoint(parseInt(codepoint.slice(2), 16));
    const forms = model.forms[codepoint] ?? [];
    const trained = model.train_counts[classId];
    const probability = weights[classId] / total;
    const examples = examplesOf(classId, model.lookalikes);
    return { rank: i + 1, classId, character, codepoint, probability, forms, trained, examples };
  });
  let verdict = "";
  if (verdicts) {
    const { accept, unknown } = verdicts;
    const { probability } = candidates[0];
    const known = version === 1 ? standardised(logits, best) : probability;
    const isSure = accept.threshold !== null && probability >= accept.threshold;
    verdict = known < unknown.threshold ? "unknown" : isSure ? "accept" : "ask";
  }
  if (verdict === "accept" && remarks.length) verdict = "ask";
  const stated = verdicts?.[verdict];
  return { candidates, verdict, remarks, accuracy: stated?.accuracy ?? null, n: stated?.n ?? null };
}
