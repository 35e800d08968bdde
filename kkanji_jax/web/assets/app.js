// The page: its elements, and the messages to and from the worker.

import { makePaper } from "./drawing.js";
import { MAX_PIXELS } from "./glyph_image.js";
import { Picture } from "./picture.js";
import { Results } from "./results.js";
import { count, say, speak } from "./strings.js";

const $ = (id) => document.getElementById(id);
const worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
let model = null; // what the worker said when it was ready
let lastId = 0; // of what was last asked for: an answer to an older question is dropped
let lastSaid = () => say("loading");

document.documentElement.classList.add("is-running");

const tell = (make) => {
  lastSaid = make; // called again in another language
  $("status").textContent = lastSaid();
};

const results = new Results(
  {
    result: $("result"),
    verdict: $("verdict"),
    verdictName: $("verdict-name"),
    verdictMeans: $("verdict-means"),
    best: $("best"),
    glyph: $("glyph"),
    candidates: $("candidates"),
    copyTable: $("copy-table"),
    more: $("more"),
  },
  tell,
);

function ask(image) {
  lastId += 1;
  tell(() => say(model ? "reading" : "loading"));
  worker.postMessage({ id: lastId, image }, [image.data.buffer]);
}

function forget() {
  lastId += 1;
  results.hide();
  tell(() => (model ? say("loaded", { classes: count(model.classes) }) : say("loading")));
}

const paper = makePaper($("paper"), { undo: $("undo"), clear: $("clear") }, () => {
  if (paper.isEmpty()) forget();
  else ask(paper.pixels());
});

const picture = new Picture(
  { viewer: $("viewer"), sheet: $("sheet"), scan: $("scan"), frame: $("box"), numbers: $("numbers") },
  ask,
  (width, height) => {
    const most = count(MAX_PIXELS);
    tell(() => say("tooLarge", { width: count(width), height: count(height), most }));
  },
);

function setMode(mode) {
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.setAttribute("aria-pressed", String(button.dataset.mode === mode));
  }
  $("draw").hidden = mode !== "draw";
  $("picture").hidden = mode !== "picture";
}

async function open(file) {
  if (!file) {
    tell(() => say("noPicture"));
    return;
  }
  setMode("picture");
  forget();
  let isOneCharacter;
  try {
    isOneCharacter = await picture.show(file);
  } catch {
    tell(() => say("notAnImage", { name: file.name || file.type || "?" }));
    return;
  }
  $("invitation").hidden = true;
  $("reader").hidden = false;
  picture.setZoom(1);
  if (isOneCharacter) picture.readWhole();
  else {
    const { width, height } = picture.size;
    tell(() => say("dragNow", { width: count(width), height: count(height) }));
  }
}

worker.addEventListener("message", ({ data }) => {
  if (data.progress !== undefined) {
    $("progress").value = data.progress;
  } else if (data.ready) {
    model = data.ready;
    $("progress").hidden = true;
    document.documentElement.classList.add("is-ready");
    describe();
    if (lastId === 0) forget();
  } else if (data.failed) {
    $("progress").hidden = true;
    tell(() => say(data.failed, { detail: data.detail }));
  } else if (data.id === lastId) {
    results.show(data);
    document.documentElement.dataset.milliseconds = data.milliseconds.toFixed(1);
    document.documentElement.dataset.answers = String(data.id);
  }
});
worker.addEventListener("error", () => tell(() => say("notLoaded", { detail: "worker.js" })));

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
addEventListener("resize", () => picture.bitmap && picture.setZoom(picture.zoom));

const pictureIn = (transfer) =>
  [...(transfer?.files ?? [])].find(({ type }) => type.startsWith("image/")) ?? transfer?.files?.[0];
let depth = 0; // dragenter and dragleave of children: over the page while above 0
addEventListener("dragenter", () => document.body.classList.toggle("is-dragging", (depth += 1) > 0));
addEventListener("dragleave", () => document.body.classList.toggle("is-dragging", (depth -= 1) > 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  document.body.classList.remove("is-dragging");
  open(pictureIn(event.dataTransfer));
});
addEventListener("paste", (event) => {
  const file = pictureIn(event.clipboardData);
  if (file) {
    event.preventDefault();
    open(file);
  } else if (!(event.target instanceof HTMLInputElement)) {
    open(null);
  }
});

speakAll(navigator.language.startsWith("ja") ? "ja" : "en");
