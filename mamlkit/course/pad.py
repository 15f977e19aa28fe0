"""A pad to draw characters on, by mouse, pen or finger, in a notebook."""

import anywidget
import torch
import traitlets
from torch import Tensor

SIZE = 28  # pixels a side, as in the course's images

_SCRIPT = """
const SIZE = 28, ZOOM = 7, SIDE = SIZE * ZOOM;

function add(parent, tag, text, attributes = {}) {
  const element = parent.appendChild(document.createElement(tag));
  element.textContent = text;
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  return element;
}

function render({ model, el }) {
  const label = model.get("label"), samples = model.get("samples");
  // JupyterLab's single-key commands must not take the pad's keys.
  el.setAttribute("data-lm-suppress-shortcuts", "true");
  add(el, "div", label, { style: "padding-right:1em" });
  const canvas = add(el, "canvas", "", { width: SIDE, height: SIDE,
    role: "img", "aria-label": label,
    style: "border:1px solid #6B6B6B;touch-action:none;cursor:crosshair" });
  const row = add(el, "div", "");
  const choice = add(row, "select", "", { "aria-label": `${label}: choose` });
  add(choice, "option", "my drawing");
  samples.forEach((_, i) => add(choice, "option", `ready-made ${i + 1}`));
  const clear = add(row, "button", "Clear");
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  let drawing = false;

  function send() { // a pixel is the mean of ZOOM x ZOOM points
    const rgba = pen.getImageData(0, 0, SIDE, SIDE).data;
    const ink = new Array(SIZE * SIZE).fill(0);
    for (let y = 0; y < SIDE; y++) for (let x = 0; x < SIDE; x++)
      ink[Math.floor(y / ZOOM) * SIZE + Math.floor(x / ZOOM)] +=
        (255 - rgba[4 * (y * SIDE + x)]) / ZOOM ** 2;
    model.set("pixels", ink.map(Math.round));
    model.save_changes();
  }
  function paint(pixels) {
    for (let i = 0; i < SIZE * SIZE; i++) {
      const light = 255 - (pixels ? pixels[i] : 0);
      pen.fillStyle = `rgb(${light}, ${light}, ${light})`;
      pen.fillRect(i % SIZE * ZOOM, Math.floor(i / SIZE) * ZOOM, ZOOM, ZOOM);
    }
  }
  function line(event) {
    pen.lineTo(event.offsetX, event.offsetY);
    pen.stroke();
  }
  canvas.onpointerdown = (event) => {
    drawing = true;
    if (choice.selectedIndex) paint(); // a ready-made one makes room
    choice.selectedIndex = 0;
    Object.assign(pen, { lineWidth: 1.5 * ZOOM, lineCap: "round",
      lineJoin: "round" });
    pen.beginPath();
    line(event);
    line(event); // so that a tap leaves a dot
  };
  canvas.onpointermove = (event) => { if (drawing) line(event); };
  canvas.onpointerup = canvas.onpointerleave = () => {
    if (drawing) send();
    drawing = false;
  };
  clear.onclick = () => { choice.selectedIndex = 0; paint(); send(); };
  choice.onchange = () => {
    paint(samples[choice.selectedIndex - 1]);
    send();
  };
  const pixels = model.get("pixels");
  paint(pixels);
  choice.selectedIndex = 1 + samples.findIndex(
    (sample) => sample.join() === pixels.join());
}
export default { render };
"""


class Pad(anywidget.AnyWidget):
    """A square of paper, with ready-made drawings to choose by keyboard.

    Observe `pixels` to follow what is drawn; read it as `ink`.

    Args:
        label: what to draw, shown above the paper.
        samples: ready-made drawings, ink in [0, 1], shape (n, 28, 28); the
            first one is on the paper at the start.

    Raises:
        ValueError: the drawings have another shape, or other values.
    """

    _esm = _SCRIPT
    label = traitlets.Unicode().tag(sync=True)
    samples = traitlets.List().tag(sync=True)
    pixels = traitlets.List().tag(sync=True)

    def __init__(self, label: str, samples: Tensor):
        shape = tuple(samples.shape)
        if len(shape) != 3 or shape[1:] != (SIZE, SIZE) or not shape[0]:
            raise ValueError(
                f"samples must have shape (n, {SIZE}, {SIZE}), got {shape}"
            )
        if not 0 <= samples.min() <= samples.max() <= 1:
            raise ValueError("samples must be ink in [0, 1]")
        levels = (samples * 255).round().int().flatten(1).tolist()
        super().__init__(label=label, samples=levels, pixels=levels[0])

    @property
    def ink(self) -> Tensor:
        """What is on the paper, in [0, 1], shape (1, 28, 28)."""
        return torch.tensor(self.pixels).float().view(1, SIZE, SIZE) / 255
