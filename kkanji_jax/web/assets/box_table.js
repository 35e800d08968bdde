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

const NUMBERS = ["x", "y", "w", "h", "x1", "y1", "x2", "y2"];
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const GROUPED = /^\s*-?\d{1,3}(\.\d{3})+\s*$/; // 1.234 is a thousand, or about one
const FRONT = /^(?:[^\S\r\n]*(?:\r\n?|\n))*(?:sep=([,;\t]) *(?:\r\n?|\n)(?:[^\S\r\n]*(?:\r\n?|\n))*)?/i;

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

/** Quoted where a cell or line would end, and no formula, as answers/row_formats.py has it. */
export function cellOf(text) {
  const told = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[,"\r\n]/.test(told) || told !== told.trim() ? `"${told.replaceAll('"', '""')}"` : told;
}

/** The text of a file in UTF-8, UTF-16 with a byte order mark, or CP932, as csv_text.py has it. */
export function textOf(buffer) {
  const [first, second] = new Uint8Array(buffer, 0, Math.min(2, buffer.byteLength));
  const isWide = (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
  const wide = first === 0xff ? "utf-16le" : "utf-16be";
  for (const encoding of isWide ? [wide] : ["utf-8", "shift_jis"]) {
    try {
      return new TextDecoder(encoding, { fatal: true }).decode(buffer);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  }
  throw new TableError("x,y,w,h");
}

/** A cell without the ' that keeps a spreadsheet from taking it for a formula. */
const unquoted = (cell) => (/^'[=+\-@\t\r]/.test(cell) ? cell.slice(1) : cell);

/** The boxes of a table that name this picture or none: [{box, id}]; and how many name others. */
export function boxesIn(text, path) {
  const { rows, delimiter } = cellsOf(text.replace(/^\ufeff/, ""));
  const { cells: names = [], line: headingLine } = rows.shift() ?? {};
  const heading = names.map((name) => NAMES[name.trim().toLowerCase()] ?? "");
  const has = (...names) => names.every((name) => heading.includes(name));
  if (!has("x", "y", "w", "h") && !has("x1", "y1", "x2", "y2") && !has("box")) {
    throw new TableError("x,y,w,h");
  }
  const isTwice = (name) => heading.indexOf(name) !== heading.lastIndexOf(name);
  if (NUMBERS.some(isTwice)) throw new TableError(String(headingLine));
  // Only our own rows have their ids quoted; numbers may have a decimal comma where it separates
  // no cells, and then 1.234 may be a thousand.
  const isOwn = has("box");
  let [grouped, hasPoints] = [null, false];
  const read = (name, cell, line) => {
    if (name === "id" ? isOwn : true) cell = unquoted(cell);
    if (delimiter === "," || !NUMBERS.includes(name)) return cell;
    if (GROUPED.test(cell)) grouped ??= line;
    else hasPoints ||= cell.includes(".") && !cell.includes(",");
    return cell.replaceAll(",", ".");
  };
  const boxes = [];
  let numOthers = 0;
  for (const { cells, line } of rows) {
    const of = Object.fromEntries(heading.map((name, i) => [name, read(name, cells[i] ?? "", line)]));
    if (Number(of.rank || 1) > 1) continue; // another candidate of the same box
    if (of.image && !isOf(of.image, path)) numOthers++;
    else boxes.push({ box: placeOf(of, has, line), id: of.id ?? "" });
  }
  if (grouped && !hasPoints) throw new TableError(String(grouped));
  return { boxes, numOthers };
}

/** To the nearest whole number, halves to the even one, as Python rounds. */
function rounded(value) {
  const nearest = Math.round(value);
  return Math.abs(value % 1) === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

function placeOf(of, has, line) {
  let [left, top, width, height] = has("box") ? of.box.trim().split(/\s+/) : [];
  if (has("x", "y", "w", "h")) [left, top, width, height] = [of.x, of.y, of.w, of.h];
  else if (has("x1", "y1", "x2", "y2")) [left, top, width, height] = [of.x1, of.y1, of.x2, of.y2];
  const numbers = [left, top, width, height].map((cell) =>
    NUMBER.test(cell?.trim() ?? "") ? Number(cell) : NaN,
  );
  if (!numbers.every(Number.isFinite)) throw new TableError(String(line));
  [left, top, width, height] = numbers;
  if (!has("x", "y", "w", "h") && has("x1", "y1", "x2", "y2")) {
    [width, height] = [width - left, height - top];
  }
  return { left: rounded(left), top: rounded(top), width: rounded(width), height: rounded(height) };
}

/** Whether a name in a table is that of a file: its end, with or without suffix. */
function isOf(image, path) {
  const name = image.split(/[/\\]/).at(-1);
  return name === path || name === path.replace(/\.[^.]*$/, "");
}

/**
 * What separates cells, and rows of cells with the line that each ends on; quoted cells may hold
 * anything. In front there may be empty lines and Excel's `sep=;`.
 */
function cellsOf(text) {
  const [front, told] = FRONT.exec(text);
  text = text.slice(front.length);
  const [first] = text.split(/\r\n?|\n/, 1);
  const delimiter = told ?? [",", ";", "\t"].reduce((best, each) =>
    first.split(each).length > first.split(best).length ? each : best,
  );
  const rows = [];
  let [cells, cell, isQuoted, line] = [[], "", false, front.split(/\r\n?|\n/).length];
  let opened = line;
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
    } else if (c === '"' && cell === "") [isQuoted, opened] = [true, line];
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
  if (isQuoted && /[\r\n]/.test(cell)) throw new TableError(String(opened)); // it swallowed lines
  endRow();
  return { rows, delimiter };
}
