// Boxes and their readings as CSV: what `predict --boxes` reads, and the columns that it writes.

export const COLUMNS = [
  "path", "rank", "character", "codepoint", "probability", "verdict", "error", "id", "box",
  "variants", "neighbours", "ink", "remark",
];
// A column's name in lower case -> what it is here; see kkanji_jax/pages/box_tables.py.
const NAMES = {
  x: "x", y: "y", w: "w", h: "h", width: "w", height: "h", x1: "x1", y1: "y1", x2: "x2", y2: "y2",
  xmin: "x1", ymin: "y1", xmax: "x2", ymax: "y2", box: "box", id: "id", "char id": "id", rank: "rank",
  image: "image", path: "image", image_id: "image", file: "image", filename: "image",
};

/** A file that holds no boxes; the message says what is wrong with which line. */
export class TableError extends Error {}

/** The table of boxes that were read: one row each, of its best candidate, for Excel too. */
export function tableOfBoxes(entries, path) {
  const rows = entries.map(({ box, id, answer }) => {
    const reading = answer?.reading;
    const [best] = reading?.candidates ?? [];
    const variants = best?.forms.map((form) => `${form.character} ${form.codepoint} ${form.relation}`);
    return {
      path,
      rank: best?.rank,
      character: best?.character,
      codepoint: best?.codepoint,
      probability: best?.probability.toFixed(6),
      verdict: reading?.verdict,
      id,
      box: [box.left, box.top, box.width, box.height].join(" "),
      variants: variants?.join("; "),
      remark: reading?.remarks.join("; "),
    };
  });
  const lines = rows.map((row) => COLUMNS.map((name) => cellOf(String(row[name] ?? ""))).join(","));
  return `\ufeff${[COLUMNS.join(","), ...lines].join("\n")}\n`;
}

/** Quoted where a cell or line would end, and no formula, as inference/output.py has it. */
export function cellOf(text) {
  const told = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[,"\r\n]/.test(told) || told !== told.trim() ? `"${told.replaceAll('"', '""')}"` : told;
}

/** The boxes of a table that name this picture or none: [{box, id}]; and how many name others. */
export function boxesIn(text, path) {
  const rows = cellsOf(text.replace(/^\ufeff/, ""));
  const heading = (rows.shift()?.cells ?? []).map((name) => NAMES[name.trim().toLowerCase()] ?? "");
  const has = (...names) => names.every((name) => heading.includes(name));
  if (!has("x", "y", "w", "h") && !has("x1", "y1", "x2", "y2") && !has("box")) {
    throw new TableError("x,y,w,h");
  }
  const boxes = [];
  let numOthers = 0;
  for (const { cells, line } of rows) {
    const of = Object.fromEntries(heading.map((name, i) => [name, cells[i] ?? ""]));
    if (Number(of.rank || 1) > 1) continue; // another candidate of the same box
    if (of.image && !isOf(of.image, path)) numOthers++;
    else boxes.push({ box: placeOf(of, has, line), id: of.id ?? "" });
  }
  return { boxes, numOthers };
}

function placeOf(of, has, line) {
  let [left, top, width, height] = has("box") ? of.box.trim().split(/\s+/) : [];
  if (has("x", "y", "w", "h")) [left, top, width, height] = [of.x, of.y, of.w, of.h];
  else if (has("x1", "y1", "x2", "y2")) [left, top, width, height] = [of.x1, of.y1, of.x2, of.y2];
  const numbers = [left, top, width, height].map((cell) =>
    cell?.trim() ? Number(cell.replace(",", ".")) : NaN,
  );
  if (!numbers.every(Number.isFinite)) throw new TableError(String(line));
  [left, top, width, height] = numbers;
  if (!has("x", "y", "w", "h") && has("x1", "y1", "x2", "y2")) {
    [width, height] = [width - left, height - top];
  }
  return { left: Math.round(left), top: Math.round(top), width: Math.round(width), height: Math.round(height) };
}

/** Whether a name in a table is that of a file: its end, with or without suffix. */
function isOf(image, path) {
  const name = image.split(/[/\\]/).at(-1);
  return name === path || name === path.replace(/\.[^.]*$/, "");
}

/** Rows of cells and the line that each ends on; quoted cells may hold anything. */
function cellsOf(text) {
  const first = text.split(/\r?\n/, 1)[0];
  const delimiter = [",", ";", "\t"].reduce((best, each) =>
    first.split(each).length > first.split(best).length ? each : best,
  );
  const rows = [];
  let [cells, cell, isQuoted, line] = [[], "", false, 1];
  const endRow = () => {
    cells.push(cell);
    if (cells.some(Boolean)) rows.push({ cells, line });
    [cells, cell] = [[], ""];
  };
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (isQuoted) {
      if (c !== '"') cell += c;
      else if (text[i + 1] === '"') cell += text[++i];
      else isQuoted = false;
    } else if (c === '"' && cell === "") isQuoted = true;
    else if (c === delimiter) {
      cells.push(cell);
      cell = "";
    } else if (c === "\n" || c === "\r") {
      if (c === "\r" && text[i + 1] === "\n") i++;
      endRow();
      line++;
      continue;
    } else cell += c;
    if (c === "\n") line++;
  }
  endRow();
  return rows;
}
