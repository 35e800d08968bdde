// The page: its elements, and the messages to and from the worker.

import { BoxList, isSame } from "./box_list.js";
import { boxesIn, TableError, tableOfBoxes, textOf } from "./box_table.js";
import { MAX_PIXELS } from "./colour.js";
import { makePaper } from "./drawing.js";
import { Picture, pixelsOf } from "./picture.js";
import { named } from "./reading.js";
import { Results } from "./results.js";
import { count, say, speak } from "./strings.js";
import { TiffError } from "./tiff.js";

const $ = (id) => document.getElementById(id);
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
let model = null; // what the worker said when it was ready
let broken = null; // what to say where it cannot be
let mode = "draw";
let asked = 0; // how many questions the worker was asked, each by its number
let current = 0; // the question whose answer is shown: an answer to an older one is not
const waiting = new Map(); // question -> what to do with its answer
let readings = 0; // of whole lists: a later one ends an earlier one
const idle = () => (model ? say("loaded", { classes: count(model.classes) }) : say("loading"));
let lastSaid = idle;
let lacking = []; // of the characters that were asked for in the answer in view

document.documentElement.classList.add("is-running");

const tell = (make) => {
  lastSaid = broken ?? make; // called again in another language
  $("status").textContent = lastSaid();
};

const results = new Results(
  {
    result: $("result"),
    verdict: $("verdict"),
    verdictName: $("verdict-name"),
    verdictMeans: $("verdict-means"),
    best: $("best"),
    brief: $("brief"),
    glyph: $("glyph"),
    candidates: $("candidates"),
    copyTable: $("copy-table"),
    more: $("more"),
  },
  tell,
);

/**
 * Has the worker read pixels, of a drawing or a picture; `then` is called with its answer. Returns
 * the question's number.
 */
function post(image, isDrawn, then) {
  asked += 1;
  waiting.set(asked, then);
  const ink = $("ink").value;
  const inkIsBright = isDrawn || ink === "auto" ? null : ink === "bright";
  const isOriented = !isDrawn && $("orient").value === "auto";
  const which = $("characters").value;
  const characters = which === "listed" ? $("listed").value : which;
  worker.postMessage({ id: asked, image, inkIsBright, isOriented, characters }, [image.data.buffer]);
  return asked;
}

/** Has pixels read, and their answer shown unless another picture or box comes before it. */
function ask(image, isDrawn, then = () => {}) {
  tell(() => say(model ? "reading" : "loading"));
  const own = post(image, isDrawn, (answer) => {
    then(answer);
    if (own === current) show(answer);
  });
  current = own;
}

function show(answer) {
  if (answer.noneKnown) {
    results.hide();
    tell(() => say("noneKnown"));
    return;
  }
  results.show(answer);
  lacking = answer.lacking;
  tellLacking();
  const { dataset } = document.documentElement;
  dataset.milliseconds = answer.milliseconds.toFixed(1);
  dataset.answers = String(Number(dataset.answers ?? 0) + 1);
}

function tellLacking() {
  const shown = lacking.slice(0, 40).map(named);
  $("lacking").hidden = lacking.length === 0;
  $("lacking").textContent = say("lacking", { n: count(lacking.length), characters: shown.join(" ") });
}

/** Shows no answer, and none that comes to what was asked before. */
function forget(make = idle) {
  current = 0;
  results.hide();
  tell(make);
}

const paper = makePaper($("paper"), { undo: $("undo"), clear: $("clear") }, () => {
  if (paper.isEmpty()) forget();
  else ask(paper.pixels(), true);
});

const list = new BoxList(
  { list: $("boxes"), marks: $("marks"), viewer: $("viewer") },
  {
    choose,
    removed,
    change: () => {
      const isEmpty = list.entries.length === 0;
      $("boxes-none").hidden = !isEmpty;
      $("download").disabled = isEmpty;
    },
  },
);

const picture = new Picture(
  { viewer: $("viewer"), sheet: $("sheet"), scan: $("scan"), frame: $("box"), numbers: $("numbers") },
  {
    read: (image, box) => {
      if (!box) {
        ask(image, false);
        return;
      }
      const entry = list.entryOf(box);
      list.render();
      ask(image, false, (answer) => answer.reading && list.take(entry, box, answer));
    },
    refuse: (width, height) => {
      const most = count(MAX_PIXELS);
      forget(() => say("tooLarge", { width: count(width), height: count(height), most }));
    },
    begin: () => {
      list.current = null;
    },
  },
);

const dragNow = () => {
  const { width, height } = picture.size;
  return say("dragNow", { width: count(width), height: count(height) });
};

function setMode(chosen) {
  if (chosen === mode) return;
  mode = chosen;
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }
  $("draw").hidden = mode !== "draw";
  $("picture").hidden = mode !== "picture";
  picture.refit();
  readAgain();
}

/** The answer to what is in view now: it is read again, or there is none. */
function readAgain() {
  forget();
  if (mode === "draw") {
    if (!paper.isEmpty()) ask(paper.pixels(), true);
  } else if (picture.bitmap && !picture.readAgain()) {
    tell(dragNow);
  }
}

async function open(file) {
  if (!file) {
    tell(() => say("noPicture"));
    return;
  }
  if (/\.csv$/i.test(file.name) || file.type === "text/csv") {
    await importBoxes(file);
    return;
  }
  setMode("picture");
  forget(() => say("opening"));
  try {
    if (!(await picture.show(file))) return; // a later one was opened
  } catch (error) {
    const name = file.name || file.type || "?";
    const isTiff = error instanceof TiffError;
    tell(() => (isTiff ? say("notThisTiff", { name, detail: error.message }) : say("notAnImage", { name })));
    return;
  }
  list.clear(picture.size);
  $("invitation").hidden = true;
  $("reader").hidden = false;
  picture.setZoom(1);
  if (picture.isOneCharacter) picture.wasRead = "whole";
  if (mode === "picture") readAgain();
}

function choose(entry) {
  picture.box = entry.box;
  picture.wasRead = "box";
  list.current = entry;
  list.render();
  picture.drawBox();
  picture.showBox();
  if (entry.answer) {
    current = 0;
    show(entry.answer);
  } else {
    picture.readBox();
  }
}

/** The box in view goes with its entry, or it would be read, and listed, again. */
function removed(entry) {
  const { box } = picture;
  const isInView = list.current ? list.current === entry : box && isSame(box, entry.box);
  if (!isInView) return;
  picture.clearBox();
  picture.wasRead = null;
  forget(dragNow);
}

async function importBoxes(file) {
  if (!picture.bitmap) {
    tell(() => say("pictureFirst"));
    return;
  }
  let found;
  try {
    found = boxesIn(textOf(await file.arrayBuffer()), picture.name);
  } catch (error) {
    if (!(error instanceof TableError)) throw error;
    tell(() => say(/^\d/.test(error.message) ? "badLine" : "notBoxes", { name: file.name, line: error.message }));
    return;
  }
  const inside = found.boxes.map(({ box, id }) => ({ box: picture.within(box), id }));
  const kept = inside.filter(({ box }) => box && box.width * box.height <= MAX_PIXELS);
  picture.clearBox();
  const taken = new Set(kept.map(({ box, id }) => list.entryWith(box, id)));
  list.render();
  const n = count(taken.size);
  const left = count(found.numOthers + inside.length - kept.length);
  forget(() => say("imported", { n, left }));
  readAll(list.entries.filter(({ answer }) => !answer));
}

/** Reads boxes one after the other, with a bar of progress, while their picture is there. */
function readAll(entries) {
  const { bitmap } = picture;
  const bar = $("progress");
  const own = ++readings;
  const next = (done) => {
    if (own !== readings) return;
    bar.hidden = model !== null && done >= entries.length;
    if (model) bar.value = done / Math.max(1, entries.length);
    bar.setAttribute("aria-label", say(model ? "readingBoxes" : "loading"));
    const entry = entries[done];
    if (!entry || picture.bitmap !== bitmap) {
      bar.hidden = model !== null;
      return;
    }
    const { box } = entry;
    post(pixelsOf(bitmap, box), false, (answer) => {
      if (answer.reading) list.take(entry, box, answer);
      next(done + 1);
    });
  };
  next(0);
}

/** Other options: what is in view is read again, and all boxes of the list. */
function readAnew() {
  $("listed-row").hidden = $("characters").value !== "listed";
  for (const entry of list.entries) entry.answer = null;
  list.render();
  readAgain();
  const inView = mode === "picture" ? list.current : null;
  readAll(list.entries.filter((entry) => entry !== inView));
}

function download() {
  const table = tableOfBoxes(list.entries, picture.name);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table], { type: "text/csv" }));
  link.download = `${picture.name.replace(/\.[^.]*$/, "") || "picture"}-boxes.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

worker.addEventListener("message", ({ data }) => {
  if (data.progress !== undefined) {
    $("progress").value = data.progress;
  } else if (data.ready) {
    model = data.ready;
    $("progress").hidden = true;
    document.documentElement.classList.add("is-ready");
    describe();
    tell(lastSaid);
  } else if (data.failed) {
    $("progress").hidden = true;
    broken = () => say(data.failed, { detail: data.detail });
    tell(broken);
  } else {
    const then = waiting.get(data.id);
    waiting.delete(data.id);
    then(data);
  }
});
worker.addEventListener("error", () => {
  broken = () => say("notLoaded", { detail: "worker.js" });
  tell(broken);
});

function describe() {
  if (!model) return;
  const { about, classes } = model;
  $("about").textContent = say("about", {
    version: about.package_version,
    variant: about.variant.toUpperCase(),
    classes: count(classes),
    step: count(about.step),
  });
}

function speakAll(language) {
  speak(language);
  describe();
  results.render();
  tellLacking();
  list.render();
  $("status").textContent = lastSaid();
}

for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => speakAll(button.dataset.language));
}
for (const button of document.querySelectorAll("[data-mode]")) {
  button.addEventListener("click", () => setMode(button.dataset.mode));
}
$("open").addEventListener("click", () => $("file").click());
$("another").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", ({ target }) => {
  if (target.files.length) open(target.files[0]);
  target.value = "";
});
$("zoom-in").addEventListener("click", picture.enlarge);
$("zoom-out").addEventListener("click", picture.reduce);
$("zoom-fit").addEventListener("click", () => picture.setZoom(1));
$("whole").addEventListener("click", () => picture.readWhole());
$("ink").addEventListener("change", readAnew);
$("orient").addEventListener("change", readAnew);
$("characters").addEventListener("change", () => {
  if ($("characters").value !== "listed" || $("listed").value.trim()) readAnew();
  else {
    $("listed-row").hidden = false;
    $("listed").focus();
  }
});
$("listed").addEventListener("change", readAnew);
$("download").addEventListener("click", download);
$("import").addEventListener("click", () => $("table").click());
$("table").addEventListener("change", ({ target }) => {
  if (target.files.length) importBoxes(target.files[0]);
  target.value = "";
});

const fileIn = (transfer) =>
  [...(transfer?.files ?? [])].find(({ type }) => type.startsWith("image/")) ?? transfer?.files?.[0];
let depth = 0; // dragenter and dragleave of children: over the page while above 0
addEventListener("dragenter", () => document.body.classList.toggle("is-dragging", (depth += 1) > 0));
addEventListener("dragleave", () => document.body.classList.toggle("is-dragging", (depth -= 1) > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("is-dragging");
  open(fileIn(event.dataTransfer));
});
addEventListener("paste", (event) => {
  const file = fileIn(event.clipboardData);
  if (file) {
    event.preventDefault();
    open(file);
  } else if (!(event.target instanceof HTMLInputElement)) {
    open(null);
  }
});

speakAll(navigator.language.startsWith("ja") ? "ja" : "en");
