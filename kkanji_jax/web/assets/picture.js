// A picture or a page, and the box on it: mouse, pen, one finger, two fingers, keyboard, numbers.

import { MAX_PIXELS } from "./glyph_image.js";

const SMALL_PX = 400; // a picture up to this size is taken for one character
const ZOOM_STEP = 1.5;
const MIN_BOX_PX = 4;

/** The pixels of a file, undistorted: no colour management; EXIF turns it upright. */
export const decode = (blob) =>
  createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });

export function pixelsOf(bitmap, { left, top, width, height }) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, left, top, width, height, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

export class Picture {
  /** `read(pixels, box)` is called with what to read, `refuse(width, height)` if it is too much. */
  constructor(elements, read, refuse) {
    Object.assign(this, elements, { read, refuse, bitmap: null, box: null, zoom: 1 });
    this.pointers = new Map();
    this.watchPointers();
    this.viewer.addEventListener("keydown", (event) => this.onKey(event));
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

  /** Shows a file; true if it is small enough to be one character. Throws if it is no picture. */
  async show(blob) {
    const bitmap = await decode(blob);
    URL.revokeObjectURL(this.scan.src);
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.scan.src = URL.createObjectURL(blob);
    this.clearBox();
    const { width, height } = bitmap;
    return Math.max(width, height) <= SMALL_PX && Math.max(width / height, height / width) <= 4;
  }

  get size() {
    return { width: this.bitmap.width, height: this.bitmap.height };
  }

  /** Zoom 1 shows all of it, no larger than four times its own size. */
  setZoom(zoom) {
    const { width, height } = this.size;
    const { clientWidth, clientHeight } = this.viewer;
    const fit = Math.min(clientWidth / width, clientHeight / height, 4);
    const old = this.scale ?? fit;
    this.zoom = Math.min(Math.max(zoom, 1), Math.max(1, 4 / fit));
    this.scale = fit * this.zoom;
    const focus = this.box
      ? { x: this.box.left + this.box.width / 2, y: this.box.top + this.box.height / 2 }
      : this.centreAt(old);
    this.sheet.style.width = `${width * this.scale}px`;
    this.sheet.style.height = `${height * this.scale}px`;
    this.viewer.scrollLeft = focus.x * this.scale - clientWidth / 2;
    this.viewer.scrollTop = focus.y * this.scale - clientHeight / 2;
    this.drawBox();
  }

  /** The middle of what is seen of the picture, in its pixels. */
  centreAt(scale) {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.viewer;
    return {
      x: Math.min(scrollLeft / scale + clientWidth / scale / 2, this.size.width / 2 + scrollLeft / scale),
      y: Math.min(scrollTop / scale + clientHeight / scale / 2, this.size.height / 2 + scrollTop / scale),
    };
  }

  enlarge = () => this.setZoom(this.zoom * ZOOM_STEP);
  reduce = () => this.setZoom(this.zoom / ZOOM_STEP);

  readWhole() {
    this.clearBox();
    this.readPart({ left: 0, top: 0, ...this.size });
  }

  readBox() {
    if (this.box) this.readPart(this.box);
  }

  readPart(part) {
    if (part.width * part.height > MAX_PIXELS) this.refuse(part.width, part.height);
    else this.read(pixelsOf(this.bitmap, part), this.box);
  }

  clearBox() {
    this.box = null;
    this.drawBox();
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
    this.frame.hidden = !this.box;
    for (const name of ["left", "top", "width", "height"]) {
      this.numbers.elements[name].value = this.box ? this.box[name] : "";
      if (this.box) this.frame.style[name] = `${this.box[name] * this.scale}px`;
    }
  }

  pointOf(event) {
    const place = this.sheet.getBoundingClientRect();
    return { x: (event.clientX - place.left) / this.scale, y: (event.clientY - place.top) / this.scale };
  }

  watchPointers() {
    const { sheet, viewer, pointers } = this;
    let corner = null;
    let before = null;
    sheet.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      viewer.focus({ preventScroll: true });
      sheet.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, event);
      corner = pointers.size === 1 ? this.pointOf(event) : null; // a second finger moves the page
      if (corner) before = this.box;
      else this.box = before;
      this.drawBox();
    });
    sheet.addEventListener("pointermove", (event) => {
      const last = pointers.get(event.pointerId);
      if (!last) return;
      pointers.set(event.pointerId, event);
      if (corner) {
        const { x, y } = this.pointOf(event);
        this.place(corner.x, corner.y, x, y);
      } else {
        viewer.scrollLeft -= (event.clientX - last.clientX) / pointers.size;
        viewer.scrollTop -= (event.clientY - last.clientY) / pointers.size;
      }
    });
    const lift = (event) => {
      if (!pointers.delete(event.pointerId) || !corner) return;
      const { x, y } = this.pointOf(event);
      const isDrag = Math.min(Math.abs(x - corner.x), Math.abs(y - corner.y)) >= MIN_BOX_PX;
      corner = null;
      if (event.type === "pointerup" && isDrag) {
        this.readBox();
      } else {
        this.box = before;
        this.drawBox();
      }
    };
    sheet.addEventListener("pointerup", lift);
    sheet.addEventListener("pointercancel", lift);
  }

  onKey(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (event.key === "Enter") this.readBox();
    if (!step || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const side = Math.max(this.size.width, this.size.height);
    if (!this.box) {
      const half = Math.max(1, side / 40);
      const { x, y } = this.centreAt(this.scale);
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
    this.frame.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}
