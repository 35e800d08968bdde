// The paper: strokes of a brush, black on white.

const WIDTH = 26; // of a stroke, of the paper's 512
const INK = "#000";

/** Calls `onStroke()` when the drawing has changed and the hand has paused. */
export function makePaper(canvas, { undo, clear }, onStroke) {
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let strokes = [];
  let current = null;

  const pointOf = (event) => {
    const place = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - place.left) * canvas.width) / place.width,
      y: ((event.clientY - place.top) * canvas.height) / place.height,
      width: WIDTH * (event.pointerType === "pen" ? 0.4 + 1.2 * event.pressure : 1),
    };
  };

  const dot = ({ x, y, width }) => {
    context.beginPath();
    context.arc(x, y, width / 2, 0, 2 * Math.PI);
    context.fill();
  };

  const line = (from, to) => {
    context.lineWidth = (from.width + to.width) / 2;
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x, to.y);
    context.stroke();
  };

  const repaint = () => {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = context.strokeStyle = INK;
    context.lineCap = context.lineJoin = "round";
    for (const stroke of strokes) {
      dot(stroke[0]);
      for (let i = 1; i < stroke.length; i++) line(stroke[i - 1], stroke[i]);
    }
    undo.disabled = clear.disabled = strokes.length === 0;
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || current) return;
    event.preventDefault();
    canvas.setPointerCapture(event.pointerId);
    current = { id: event.pointerId, points: [pointOf(event)] };
    strokes.push(current.points);
    repaint();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== current?.id) return;
    const coalesced = event.getCoalescedEvents?.() ?? [];
    for (const step of coalesced.length ? coalesced : [event]) {
      const point = pointOf(step);
      line(current.points.at(-1), point);
      current.points.push(point);
    }
  });
  const lift = (event) => {
    if (event.pointerId !== current?.id) return;
    current = null;
    onStroke();
  };
  canvas.addEventListener("pointerup", lift);
  canvas.addEventListener("pointercancel", lift);
  undo.addEventListener("click", () => {
    current = null; // a stroke that another finger still draws is undone for good
    strokes.pop();
    repaint();
    onStroke();
  });
  clear.addEventListener("click", () => {
    current = null;
    strokes = [];
    repaint();
    onStroke();
  });
  repaint();
  return {
    isEmpty: () => strokes.length === 0,
    pixels: () => context.getImageData(0, 0, canvas.width, canvas.height),
  };
}
