// A picture or a page, and the box on it: mouse, pen, one finger, two fingers, keyboard, numbers.

import { MAX_PIXELS } from "./colour.js";
import { decodeTiff, isTiff } from "./tiff.js";

const SMALL_PX = 400; // a picture up to this size is taken for one character
const ZOOM_STEP = 1.5;
const MOST_ZOOM = 4; // of the screen's pixels for one of the picture's
const MIN_BOX_PX = 4; // of the picture
// Of the screen: what a hand moves that means to tap, and the least side of a box that is drawn.
const SLOP_PX = { mouse: 4, pen: 6, touch: 10 };
const MIN_SIDE_PX = 4;
const WHEEL = 0.01; // zoom by a wheel with Ctrl, which a trackpad's pinch is told as

/** The pixels of a file, undistorted: no colour management; EXIF turns it upright. */
export const decode = (source) =>
  createImageBitmap(source, { colorSpaceConversion: "none", premultiplyAlpha: "none" });

/** A file's pixels, and what an <img> can show of it: itself, or of a TIFF a PNG. */
async function opened(blob) {
  const head = new Uint8Array(await blob.slice(0, 4).arrayBuffer());
  if (!isTiff(head)) return { bitmap: await decode(blob), shown: blob };
  const { data, width, height } = await decodeTiff(new Uint8Array(await blob.arrayBuffer()));
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(new ImageData(data, width, height), 0, 0);
  const bitmap = await decode(new ImageData(data, width, height));
  return { bitmap, shown: await canvas.convertToBlob() };
}

export function pixelsOf(bitmap, { left, top, width, height }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

export class Picture {
  /**
   * `read(pixels, box)` is called with what to read, `box` null for all of it; `refuse(width, height)`
   * if it is too much; `begin()` when a box is begun anew.
   */
  constructor(elements, { read, refuse, begin }) {
    Object.assign(this, elements, { read, refuse, begin, bitmap: null, box: null, zoom: 1 });
    this.name = "";
    this.wasRead = null; // "box", "whole", or nothing yet
    this.openings = 0;
    this.pointers = new Map();
    this.watchPointers();
    this.viewer.addEventListener("keydown", (event) => this.onKey(event));
    this.viewer.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    new ResizeObserver(() => this.refit()).observe(this.viewer); // and when it is shown again
    this.numbers.addEventListener("submit", (event) => {
      event.preventDefault();
      this.readBox();
    });
    this.numbers.addEventListener("change", () => {
      const [left, top, width, height] = ["left", "top", "width", "height"].map(
        (name) => Math.round(Number(this.numbers.elements[name].value)) || 0,
      );
      this.place(left, top, left + Math.max(1, width), top + Math.max(1, height));
    });
  }

  /**
   * Shows a file: true if it is there, false if a later one was asked for meanwhile. Throws if it is
   * no picture, and then shows what it showed before.
   */
  async show(blob) {
    const own = ++this.openings;
    let found;
    try {
      found = await opened(blob);
    } catch (error) {
      if (own !== this.openings) return false;
      throw error;
    }
    if (own !== this.openings) {
      found.bitmap.close();
      return false;
    }
    URL.revokeObjectURL(this.scan.src);
    this.bitmap?.close();
    Object.assign(this, { bitmap: found.bitmap, name: blob.name ?? "", wasRead: null });
    this.scan.src = URL.createObjectURL(found.shown);
    this.zoom = 1;
    this.clearBox();
    this.refit();
    return true;
  }

  get size() {
    return { width: this.bitmap.width, height: this.bitmap.height };
  }

  get isOneCharacter() {
    const { width, height } = this.size;
    return Math.max(width, height) <= SMALL_PX && Math.max(width / height, height / width) <= 4;
  }

  /** As `setZoom` had it, in a viewer of another size. */
  refit() {
    if (this.bitmap) this.setZoom(this.zoom);
  }

  /**
   * Zoom 1 shows all of it, no larger than four times its own size. What is at `anchor`, a place of
   * the picture and one of the viewer, stays there. Does nothing while the viewer is hidden.
   */
  setZoom(zoom, anchor = this.anchor()) {
    const { width, height } = this.size;
    const { clientWidth, clientHeight } = this.viewer;
    if (!clientWidth || !clientHeight) return;
    const fit = Math.min(clientWidth / width, clientHeight / height, MOST_ZOOM);
    this.zoom = Math.min(Math.max(zoom, 1), Math.max(1, MOST_ZOOM / fit));
    this.scale = fit * this.zoom;
    this.sheet.style.width = `${width * this.scale}px`;
    this.sheet.style.height = `${height * this.scale}px`;
    const { x, y, atX = clientWidth / 2, atY = clientHeight / 2 } = anchor;
    this.viewer.scrollLeft = x * this.scale - atX;
    this.viewer.scrollTop = y * this.scale - atY;
    this.drawBox();
  }

  /** The middle of the box, or of what is seen. */
  anchor() {
    const { left, top, width, height } = this.box ?? { left: 0, top: 0, ...this.size };
    if (this.box || !this.scale) return { x: left + width / 2, y: top + height / 2 };
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.viewer;
    return {
      x: Math.min((scrollLeft + clientWidth / 2) / this.scale, width / 2 + scrollLeft / this.scale),
      y: Math.min((scrollTop + clientHeight / 2) / this.scale, height / 2 + scrollTop / this.scale),
    };
  }

  /** What lies under a place of the window, to stay there. */
  anchorAt(clientX, clientY) {
    const place = this.viewer.getBoundingClientRect();
    const { clientLeft, clientTop } = this.viewer;
    const point = this.pointOf({ clientX, clientY });
    return { ...point, atX: clientX - place.left - clientLeft, atY: clientY - place.top - clientTop };
  }

  enlarge = () => this.setZoom(this.zoom * ZOOM_STEP);
  reduce = () => this.setZoom(this.zoom / ZOOM_STEP);

  onWheel(event) {
    if (!event.ctrlKey || !this.bitmap) return;
    event.preventDefault();
    const factor = Math.exp(-WHEEL * event.deltaY);
    this.setZoom(this.zoom * factor, this.anchorAt(event.clientX, event.clientY));
  }

  readWhole() {
    this.clearBox();
    this.wasRead = "whole";
    this.readPart({ left: 0, top: 0, ...this.size });
  }

  readBox() {
    if (!this.box) return;
    this.wasRead = "box";
    this.readPart(this.box);
  }

  /** What was read last, once more; false if nothing was. */
  readAgain() {
    if (this.bitmap && this.wasRead === "whole") this.readWhole();
    else if (this.box && this.wasRead === "box") this.readBox();
    else return false;
    return true;
  }

  readPart(part) {
    if (part.width * part.height > MAX_PIXELS) this.refuse(part.width, part.height);
    else this.read(pixelsOf(this.bitmap, part), this.box);
  }

  clearBox() {
    this.box = null;
    this.begin();
    this.drawBox();
  }

  /** The part of a box that lies on the picture, in whole pixels; null if none does. */
  within({ left, top, width, height }) {
    const [x0, y0] = [Math.max(left, 0), Math.max(top, 0)];
    const x1 = Math.min(left + width, this.size.width);
    const y1 = Math.min(top + height, this.size.height);
    return x1 > x0 && y1 > y0 ? { left: x0, top: y0, width: x1 - x0, height: y1 - y0 } : null;
  }

  /** Sets the box to two corners in any order, cut to the picture, in its whole pixels. */
  place(x0, y0, x1, y1) {
    const { width, height } = this.size;
    const within = (value, most) => Math.min(Math.max(Math.round(value), 0), most);
    const left = Math.min(within(Math.min(x0, x1), width), width - 1);
    const top = Math.min(within(Math.min(y0, y1), height), height - 1);
    const right = Math.max(within(Math.max(x0, x1), width), left + 1);
    const bottom = Math.max(within(Math.max(y0, y1), height), top + 1);
    this.box = { left, top, width: right - left, height: bottom - top };
    this.drawBox();
  }

  drawBox() {
    this.frame.hidden = !this.box || !this.scale;
    for (const name of ["left", "top", "width", "height"]) {
      this.numbers.elements[name].value = this.box ? this.box[name] : "";
      if (this.box) this.frame.style[name] = `${this.box[name] * this.scale}px`;
    }
  }

  /** Brings the box into what is seen of the picture, without moving the page round it. */
  showBox() {
    const { left, top, width, height } = this.box;
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.viewer;
    const near = (start, size, from, room) => {
      const [first, last] = [start * this.scale, (start + size) * this.scale];
      if (first >= from && last <= from + room) return from;
      return (first + last - room) / 2;
    };
    this.viewer.scrollLeft = near(left, width, scrollLeft, clientWidth);
    this.viewer.scrollTop = near(top, height, scrollTop, clientHeight);
  }

  pointOf(event) {
    const place = this.sheet.getBoundingClientRect();
    return { x: (event.clientX - place.left) / this.scale, y: (event.clientY - place.top) / this.scale };
  }

  watchPointers() {
    const { sheet, viewer, pointers } = this;
    let start = null; // where the one pointer came down that may draw a box
    let isDrawing = false; // it has gone further than a tap does
    let before = null;
    sheet.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      viewer.focus({ preventScroll: true });
      sheet.setPointerCapture(event.pointerId);
      if (pointers.size === 0) before = this.box;
      pointers.set(event.pointerId, event);
      if (isDrawing) {
        this.box = before; // a second finger moves the page
        this.drawBox();
      }
      start = pointers.size === 1 ? event : null;
      isDrawing = false;
    });
    sheet.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) return;
      if (start) {
        const way = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
        isDrawing ||= way > (SLOP_PX[event.pointerType] ?? SLOP_PX.touch);
        if (isDrawing) this.placeBetween(start, event);
      } else {
        this.moveFingers(event, last);
      }
      pointers.set(event.pointerId, event);
    });
    const lift = (event) => {
      if (!pointers.delete(event.pointerId) || !start) return;
      const sides = [event.clientX - start.clientX, event.clientY - start.clientY].map(Math.abs);
      const isBox =
        isDrawing &&
        event.type === "pointerup" &&
        Math.min(...sides) >= MIN_SIDE_PX &&
        Math.min(this.box.width, this.box.height) >= MIN_BOX_PX;
      if (isBox) {
        this.begin();
        this.readBox();
      } else if (isDrawing) {
        this.box = before;
        this.drawBox();
      }
      [start, isDrawing] = [null, false];
    };
    sheet.addEventListener("pointerup", lift);
    sheet.addEventListener("pointercancel", lift);
  }

  placeBetween(start, end) {
    const [from, to] = [this.pointOf(start), this.pointOf(end)];
    this.place(from.x, from.y, to.x, to.y);
  }

  /** One of two fingers moved: the page goes with their middle, and grows with their distance. */
  moveFingers(event, last) {
    const others = [...this.pointers.values()].filter((each) => each.pointerId !== event.pointerId);
    if (others.length === 1) {
      const [other] = others;
      const away = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
      const middle = [(event.clientX + other.clientX) / 2, (event.clientY + other.clientY) / 2];
      const factor = away(event) / Math.max(1, away(last));
      this.setZoom(this.zoom * factor, this.anchorAt(...middle));
    }
    this.viewer.scrollLeft -= (event.clientX - last.clientX) / (others.length + 1);
    this.viewer.scrollTop -= (event.clientY - last.clientY) / (others.length + 1);
  }

  onKey(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") this.readBox();
    if (event.key === "Escape") this.clearBox();
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const side = Math.max(this.size.width, this.size.height);
    if (!this.box) {
      const half = Math.max(1, side / 40);
      const { x, y } = this.anchor();
      this.place(x - half, y - half, x + half, y + half);
      return;
    }
    const [dx, dy] = step.map((way) => way * Math.max(1, Math.round(side / 200)));
    const { left, top, width, height } = this.box;
    if (event.shiftKey) {
      this.place(left, top, left + Math.max(1, width + dx), top + Math.max(1, height + dy));
    } else {
      const x = Math.min(Math.max(0, left + dx), this.size.width - width);
      const y = Math.min(Math.max(0, top + dy), this.size.height - height);
      this.place(x, y, x + width, y + height);
    }
    this.showBox();
  }
}
