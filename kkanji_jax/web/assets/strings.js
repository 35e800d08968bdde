// What the page says, in two languages. {name} is filled in; a test holds the keys together.

export const STRINGS = {
  en: {
    skip: "Skip to the reader",
    title: "Kuzushiji, one character at a time",
    lead: "Draw a character, or show a picture of one: you see what it may be, and how far to trust that. Nothing leaves this device.",
    source: "Your character",
    modeDraw: "Draw",
    modePicture: "Picture or page",
    paper: "Paper to draw on, with mouse, pen or finger",
    undo: "Undo stroke",
    clear: "Clear",
    drawHint: "Write one character with the brush. It is read after every stroke.",
    drop: "Drop or paste a picture here",
    open: "Open a picture",
    viewer: "The page. Arrow keys move the box, with Shift they change its size, Enter reads it.",
    zoomOut: "Smaller",
    zoomIn: "Larger",
    fit: "Fit",
    whole: "Read the whole picture",
    another: "Another picture",
    boxHint: "Drag a box round one character. Two fingers move the page. On the keyboard: arrow keys move the box, with Shift they change its size, Enter reads it.",
    left: "Left",
    top: "Top",
    width: "Width",
    height: "Height",
    readBox: "Read this box",
    answer: "What it may be",
    loading: "Loading the model",
    loaded: "Ready. The model knows {classes} characters.",
    seen: "The character as the network sees it",
    seenShort: "As the network sees it",
    copyTable: "Copy all as a table",
    copy: "Copy {character}",
    copied: "Copied.",
    notCopied: "The browser did not allow copying.",
    more: "Show ten",
    fewer: "Show five",
    caution: "Probabilities are over the characters this model knows. What it does not know, it cannot name: compare, and decide yourself.",
    learnt: "Learnt from",
    photographs: "Photographs, where it learnt from some:",
    privacy: "Pictures and drawings stay in this browser: they are read here, and sent nowhere.",
    about: "kkanji_jax {version}, EfficientNet {variant}, {classes} characters, step {step}.",
    told: "{character}, {probability}. {verdict}",
    accept: "Accept.",
    ask: "Ask.",
    unknown: "Unknown.",
    blank: "Blank.",
    unclear: "Unclear.",
    acceptMeans: "Of such readings {accuracy} were right (n = {n}, books like those it learnt from).",
    askMeans: "Not sure: compare the candidates. The first was right in {accuracy} (n = {n}).",
    unknownMeans: "Hardly sure of any; perhaps none of these. The first was right in {accuracy} (n = {n}).",
    blankMeans: "There is no ink here worth naming.",
    unclearMeans: "Ink and paper cannot be told apart here: a clearer picture may help.",
    severalCharacters: "There are several characters here: draw the box round one.",
    cutOff: "Strokes go on beyond the edge: the character may be cut.",
    darkBand: "A dark band may hide part of the character.",
    fewPixels: "The picture has very few pixels: a larger one is read better.",
    redInk: "There is red ink only: it may be a seal.",
    uncalibrated: "This model has no calibration: its probabilities are as the network gives them.",
    trainedOn: "{n} examples",
    examples: "Written examples of {character}",
    old: "old form",
    new: "new form",
    compatibility: "compatibility form",
    unified: "unified form",
    dragNow: "{width} × {height} pixels. Drag a box round one character, or read the whole picture.",
    notAnImage: "The browser cannot read this as a picture: {name}.",
    tooLarge: "Too many pixels: {width} × {height}. At most {most} in one reading: draw a smaller box.",
    noPicture: "There was no picture in that.",
    notLoaded: "The model could not be loaded: {detail}. Load the page again.",
    noWebAssembly: "This browser cannot run the model: it takes WebAssembly with SIMD (Chrome 91, Firefox 114, Safari 16.4, or later).",
    reading: "Reading…",
  },
  ja: {
    skip: "本文へ",
    title: "くずし字を一字ずつ読む",
    lead: "一字を書くか、画像を見せてください。候補の文字と、どこまで信じてよいかを示します。画像はこの端末の外へ出ません。",
    source: "読みたい字",
    modeDraw: "書く",
    modePicture: "画像・ページ",
    paper: "マウス・ペン・指で書く紙",
    undo: "一画戻す",
    clear: "消す",
    drawHint: "筆で一字を書いてください。一画ごとに読みます。",
    drop: "画像をここに置くか、貼り付けてください",
    open: "画像を開く",
    viewer: "ページ画像。矢印キーで枠を動かし、Shift と矢印で大きさを変え、Enter で読みます。",
    zoomOut: "縮小",
    zoomIn: "拡大",
    fit: "全体",
    whole: "画像全体を読む",
    another: "別の画像",
    boxHint: "一字を囲むようにドラッグしてください。二本指でページを動かせます。キーボードでは、矢印キーで枠を動かし、Shift と矢印で大きさを変え、Enter で読みます。",
    left: "左",
    top: "上",
    width: "幅",
    height: "高さ",
    readBox: "この枠を読む",
    answer: "候補",
    loading: "モデルを読み込んでいます",
    loaded: "準備ができました。このモデルは {classes} 字を知っています。",
    seen: "ネットワークが見ている字形",
    seenShort: "ネットワークが見る形",
    copyTable: "すべてを表としてコピー",
    copy: "{character} をコピー",
    copied: "コピーしました。",
    notCopied: "ブラウザーがコピーを許可しませんでした。",
    more: "十件表示",
    fewer: "五件表示",
    caution: "確率は、このモデルが知っている文字の中での値です。知らない文字は答えられません。見比べて、ご自身で判断してください。",
    learnt: "学習データ：",
    photographs: "写真からも学習したモデルの場合:",
    privacy: "画像も書いた字もこのブラウザーの中だけで読み取られ、どこにも送信されません。",
    about: "kkanji_jax {version}、EfficientNet {variant}、{classes} 字、ステップ {step}。",
    told: "{character}、{probability}。{verdict}",
    accept: "採用。",
    ask: "要確認。",
    unknown: "不明。",
    blank: "空白。",
    unclear: "判別不能。",
    acceptMeans: "このような読みの正解率は {accuracy} でした（n = {n}、学習に使ったものと同類の本で測定）。",
    askMeans: "確かではありません。候補を見比べてください。第一候補の正解率は {accuracy} でした（n = {n}）。",
    unknownMeans: "どの候補にもほとんど確信がありません。どれでもないかもしれません。第一候補の正解率は {accuracy} でした（n = {n}）。",
    blankMeans: "字と言えるほどの墨がありません。",
    unclearMeans: "墨と紙の区別がつきません。もっと鮮明な画像をお試しください。",
    severalCharacters: "複数の文字があります。一字だけを囲んでください。",
    cutOff: "画が端で切れています。文字の一部が欠けているかもしれません。",
    darkBand: "黒い帯が文字の一部を隠しているかもしれません。",
    fewPixels: "画素がとても少ない画像です。大きい画像のほうがよく読めます。",
    redInk: "朱だけが見えます。印かもしれません。",
    uncalibrated: "このモデルは較正されていません。確率はネットワークの出力のままです。",
    trainedOn: "用例 {n}",
    examples: "{character}の用例",
    old: "旧字体",
    new: "新字体",
    compatibility: "互換字",
    unified: "統合字",
    dragNow: "{width} × {height} 画素。一字を囲むようにドラッグするか、画像全体を読んでください。",
    notAnImage: "画像として読めません：{name}",
    tooLarge: "画素が多すぎます：{width} × {height}。一度に読めるのは {most} までです。枠を小さくしてください。",
    noPicture: "画像が含まれていません。",
    notLoaded: "モデルを読み込めませんでした：{detail}。ページを再読み込みしてください。",
    noWebAssembly: "このブラウザーではモデルが動きません。SIMD 対応の WebAssembly が必要です（Chrome 91・Firefox 114・Safari 16.4 以降）。",
    reading: "読んでいます…",
  },
};

let language = "en";

export const currentLanguage = () => language;

/** The text of a key, filled in. */
export function say(key, values = {}) {
  return STRINGS[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

/** A share in per cent, to a tenth; what is less is said to be less. */
export function percent(share) {
  const style = { style: "percent", maximumFractionDigits: 1 };
  const told = new Intl.NumberFormat(language, style).format(Math.max(share, 0.001));
  return share > 0 && share < 0.001 ? `< ${told}` : share === 0 ? "0%" : told;
}

export const count = (n) => new Intl.NumberFormat(language).format(n);

/** Turns the whole page to a language; texts that depend on a reading are the caller's. */
export function speak(chosen) {
  language = chosen in STRINGS ? chosen : "en";
  document.documentElement.lang = language;
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = say(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", say(element.dataset.label));
  }
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
}
