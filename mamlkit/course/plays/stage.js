// What the plays share: a place of their own on any page, colours that can be
// read there, words for who listens, and points that hands move.

const SVG = "http://www.w3.org/2000/svg";

// Everything is drawn in these: `ink` on `paper`, `soft` for the unimportant,
// `rule` for edges; the other colours come with the state, by name.
const STYLE = `
:host { display: block; width: 100%; overflow: visible; }
* { box-sizing: border-box; }
.play { container-type: inline-size; color: var(--ink); text-align: left;
  font-size: 15px; line-height: 1.45; padding: 2px 3px 6px; }
p { margin: 0; }
.lead { font-size: 16px; margin-bottom: 8px; }
.soft { color: var(--soft); }
.heard { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); white-space: nowrap; }
.number { font-variant-numeric: tabular-nums; }
svg, canvas { display: block; }
svg text { fill: var(--ink); font-size: 13px; }
svg .soft { fill: var(--soft); }
.plane { position: relative; }
.plane svg { width: 100%; height: 100%; overflow: visible; }
.plane .frame { fill: none; stroke: var(--rule); }
.plane .field { fill: transparent; }
/* What is only looked at lets a press through to the field beneath. */
svg [aria-hidden] { pointer-events: none; }
button { font: inherit; font-size: 14px; color: inherit; cursor: pointer;
  background: transparent; border: 1px solid var(--soft); border-radius: 8px;
  min-height: 36px; min-width: 44px; padding: 0 .8em; white-space: nowrap; }
button:hover:enabled { background: var(--shade); }
button.main:enabled { background: var(--ink); color: var(--paper);
  border-color: var(--ink); }
button:disabled { cursor: default; color: var(--soft);
  border-color: var(--rule); }
label { display: block; font-size: 14px; }
input[type=range] { display: block; width: 100%; height: 30px; margin: 0;
  accent-color: var(--ink); cursor: pointer; }
:focus-visible { outline: 3px solid var(--focus); outline-offset: 2px; }
.grab, .grab * { cursor: grab; touch-action: none; }
.grab:active { cursor: grabbing; }
input[type=checkbox] { accent-color: var(--ink); width: 18px; height: 18px; }
@media (pointer: coarse) {
  button { min-height: 44px; }
  input[type=range] { height: 44px; }
}
@media print { button, input { display: none; } }
`;

/** Append an element; a tag like "svg:path" is of SVG. */
export function add(parent, tag, attributes = {}, text = "") {
  const [name, svg] = tag.split(":").reverse();
  const node = svg ? document.createElementNS(SVG, name)
    : document.createElement(name);
  put(node, attributes);
  if (text) node.textContent = text;
  return parent.appendChild(node);
}

export function put(node, attributes) {
  for (const name in attributes) node.setAttribute(name, attributes[name]);
}

/** A number as text, two decimals unless told, with a true minus. */
export function said(value, digits = 2) {
  if (!Number.isFinite(value)) return "∞";
  const text = value >= 1000 ? value.toExponential(0) : value.toFixed(digits);
  return text.replace(/^-(?=[0.]*$)/, "").replace("-", "−");
}

export const clamp = (value, [low, high]) =>
  Math.min(high, Math.max(low, value));

/** How a line of points is written in SVG; what is not finite is left out. */
export function line(xs, ys) {
  let text = "", pen = "M";
  for (let i = 0; i < xs.length; i++) {
    if (!Number.isFinite(ys[i])) { pen = "M"; continue; }
    text += `${pen}${xs[i].toFixed(1)} ${ys[i].toFixed(1)}`;
    pen = "L";
  }
  return text;
}

/** bfloat16 in base64: each is the upper half of a float32. */
export function widened(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const halves = new Uint16Array(bytes.buffer);
  const words = Uint32Array.from(halves, (half) => half << 16);
  return Float64Array.from(new Float32Array(words.buffer));
}

// Colours -------------------------------------------------------------------

const brush = () => document.createElement("canvas").getContext("2d", {
  willReadFrequently: true });
let pen;

/** Any colour of CSS as red, green, blue, each to 255, and alpha to 1. */
function read(colour) {
  pen ??= brush();
  pen.clearRect(0, 0, 1, 1);
  pen.fillStyle = "#000";
  pen.fillStyle = colour;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}

function light([r, g, b]) { // the relative luminance of WCAG
  const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92
    : ((v + 0.055) / 1.055) ** 2.4;
  return 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
}

export function contrast(one, other) {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

const mix = (one, other, share) =>
  [0, 1, 2].map((i) => Math.round(one[i] + share * (other[i] - one[i])));

/** The colour, moved away from the paper until the contrast is enough. */
function readable(colour, paper, wanted) {
  const end = light(paper) > 0.18 ? [0, 0, 0] : [255, 255, 255];
  const solid = mix(paper, colour, colour[3] ?? 1);
  let share = 0, now = solid;
  while (contrast(now, paper) < wanted && share < 1)
    now = mix(solid, end, share += 0.04);
  return now;
}

/** What is behind an element: the first ground that is not clear. */
function ground(node) {
  for (let at = node; at; at = at.parentElement ?? at.getRootNode().host) {
    const colour = read(getComputedStyle(at).backgroundColor);
    if (colour[3] > 0.5) return colour.slice(0, 3);
  }
  const ink = read(getComputedStyle(node).color);
  return light(ink) > 0.4 ? [18, 18, 18] : [255, 255, 255];
}

function palette(el, colours) {
  const paper = ground(el);
  const ink = readable(read(getComputedStyle(el).color), paper, 10);
  const found = { paper, ink, soft: readable(mix(ink, paper, 0.4), paper, 5),
    rule: mix(ink, paper, 0.8), shade: mix(ink, paper, 0.9) };
  const seen = light(paper) > 0.18 ? 3 : 4.5; // light on dark looks thinner
  for (const name in colours) { // what is drawn in black is so in the ink
    const colour = read(colours[name]);
    found[name] = light(colour) < 0.02 ? ink : readable(colour, paper, seen);
  }
  found.focus ??= readable([0, 114, 178], paper, 3);
  return found;
}

// The stage -----------------------------------------------------------------

/**
 * Set a play up in `el`: a style that no page's rules reach, colours that
 * follow the page's theme, one redraw a frame, and a voice.
 *
 * Returns root; colours, name -> [r, g, b]; frame(draw), to draw once a frame
 * however often asked; say(text or function), to whom listens; still(), for
 * whether motion is unwanted; every(redraw), called on a new theme or width;
 * and leave(), to be called when the play is taken away. A play whose own text
 * is a live region does not let the stage speak.
 */
export function stage(el, { name, label, style, colours, speaks = true }) {
  el.replaceChildren();
  const shadow = el.shadowRoot ?? el.attachShadow({ mode: "open" });
  shadow.replaceChildren();
  // JupyterLab's single-key commands must not take the play's keys.
  el.setAttribute("data-lm-suppress-shortcuts", "true");
  add(shadow, "style", {}, STYLE + style);
  const root = add(shadow, "div", { class: `play mamlkit-${name}`,
    role: "group", "aria-label": label });
  const voice = document.createElement("div");
  put(voice, { class: "heard", role: "status" });
  if (speaks) root.append(voice);
  const motion = matchMedia("(prefers-reduced-motion: reduce)");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const redraws = [], endings = [];
  const here = { root, colours: {}, still: () => motion.matches };

  function theme() {
    const found = palette(el, colours);
    if (JSON.stringify(found) === JSON.stringify(here.colours)) return;
    here.colours = found;
    for (const key in found)
      root.style.setProperty(`--${key}`, `rgb(${found[key].join()})`);
    redraws.forEach((redraw) => redraw());
  }
  // A page may load the rest of a theme after it has said its name.
  const soon = () => [0, 300, 1500].forEach((ms) => setTimeout(theme, ms));
  const watcher = new MutationObserver(soon);
  for (const node of [document.documentElement, document.body])
    watcher.observe(node, { attributes: true, attributeFilter: ["class",
      "style", "data-theme", "data-mode", "data-jp-theme-name"] });
  dark.addEventListener("change", soon);
  addEventListener("beforeprint", theme);
  const width = new ResizeObserver(() => {
    theme();
    redraws.forEach((redraw) => redraw());
  });
  width.observe(root);
  endings.push(() => watcher.disconnect(), () => width.disconnect(),
    () => dark.removeEventListener("change", soon),
    () => removeEventListener("beforeprint", theme));

  let speaking;
  here.say = (text) => { // once hands rest, or every drag would be a speech
    clearTimeout(speaking);
    speaking = setTimeout(() => {
      voice.textContent = typeof text === "function" ? text() : text;
    }, 400);
  };
  here.frame = (draw) => { // however often asked, drawn once a frame
    let asked = 0;
    endings.push(() => cancelAnimationFrame(asked));
    return () => {
      asked ||= requestAnimationFrame(() => { asked = 0; draw(); });
    };
  };
  here.every = (redraw) => redraws.push(redraw);
  endings.push(() => clearTimeout(speaking));
  here.leave = () => endings.forEach((end) => end());
  theme();
  return here;
}

/**
 * Follow a pointer that takes hold of `node` until it lets go.
 *
 * `take(x, y, event)`, called first with its place in pixels from the corner
 * of `frame`, returns where what is taken stands, which then keeps its
 * distance from the pointer; or null to leave the pointer alone. `move(x, y)`
 * gets the new place.
 */
export function drag(node, frame, { take, move, drop }) {
  let held = null, off = [0, 0];
  // `touch-action` alone lets the page scroll away with what is held.
  if (node.classList.contains("grab"))
    node.addEventListener("touchstart", (event) => event.preventDefault(),
      { passive: false });
  const place = (event) => {
    const box = frame.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  node.addEventListener("pointerdown", (event) => {
    if (event.button || held !== null) return;
    const [x, y] = place(event), stands = take(x, y, event);
    if (!stands) return;
    event.preventDefault();
    off = [stands[0] - x, stands[1] - y];
    held = event.pointerId;
    node.setPointerCapture(held);
  });
  node.addEventListener("pointermove", (event) => {
    if (event.pointerId !== held) return;
    const [x, y] = place(event);
    move(x + off[0], y + off[1]);
  });
  for (const kind of ["pointerup", "pointercancel"])
    node.addEventListener(kind, (event) => {
      if (event.pointerId !== held) return;
      held = null;
      drop();
    });
}

/** Which way an arrow key points, [right, up]; with shift five times. */
export function arrow(event) {
  const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1],
    ArrowDown: [0, -1] };
  const way = ways[event.key];
  if (!way || event.ctrlKey || event.metaKey || event.altKey) return null;
  event.preventDefault();
  return way.map((step) => step * (event.shiftKey ? 5 : 1));
}

/** A slider with its name and value above; returns the input. */
export function slider(parent, { name, min, max, step, value, tell, turn }) {
  const label = add(parent, "label");
  add(label, "span", {}, `${name} `);
  const shown = add(label, "strong", { class: "number" });
  const input = add(label, "input", { type: "range", min, max, step });
  const show = () => {
    shown.textContent = tell(+input.value);
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.value = value;
  input.setAttribute("aria-label", name);
  input.addEventListener("input", () => { show(); turn(+input.value); });
  input.show = (number) => { input.value = number; show(); };
  show();
  return input;
}

/**
 * A plane in a frame with ticks, to draw on and to press.
 *
 * `x` and `y` are [low, high, ticks]; `margin` is left, right, top and bottom
 * in pixels. `high(wide)` says how high it is. Returns svg; under, axes that
 * are drawn anew in each layout; drawn, cut at the frame; px, py and back(u,
 * v), from places to pixels and back; layout(), which draws the axes and
 * returns the frame's box, or null before the page is laid out; and
 * press(pressed), called with the place of a click.
 */
export function plane(parent, { label, x, y, margin, high }) {
  const paper = add(parent, "div", { class: "plane" });
  const svg = add(paper, "svg:svg", { role: "group", "aria-label": label });
  const under = add(svg, "svg:g", { "aria-hidden": "true" });
  const field = add(svg, "svg:rect", { class: "field" });
  const id = `clip-${Math.random().toString(36).slice(2)}`;
  const cut = add(add(add(svg, "svg:defs"), "svg:clipPath", { id }),
    "svg:rect");
  const drawn = add(svg, "svg:g", { "clip-path": `url(#${id})`,
    "aria-hidden": "true" });
  let width = 0, height = 0;
  const px = (at) => margin.left + width * (at - x[0]) / (x[1] - x[0]);
  const py = (at) => margin.top + height * (y[1] - at) / (y[1] - y[0]);
  const back = (u, v) => [
    clamp(x[0] + (x[1] - x[0]) * (u - margin.left) / width, x),
    clamp(y[1] - (y[1] - y[0]) * (v - margin.top) / height, y)];
  const tick = (text, place) =>
    put(add(under, "svg:text", { class: "soft" }, text), place);

  function layout() {
    const wide = Math.floor(paper.clientWidth), tall = high(wide);
    if (wide < 60) return null;
    paper.style.height = `${tall}px`;
    width = wide - margin.left - margin.right;
    height = tall - margin.top - margin.bottom;
    const box = { x: margin.left, y: margin.top, width, height };
    put(field, box);
    put(cut, box);
    under.replaceChildren();
    add(under, "svg:rect", { class: "frame", ...box });
    const digits = (at) => Number.isInteger(at) ? 0 : 1;
    for (const at of x[2]) tick(said(at, digits(at)),
      { x: px(at), y: tall - 4, "text-anchor": "middle" });
    for (const at of y[2]) tick(said(at, digits(at)),
      { x: margin.left - 5, y: py(at) + 4, "text-anchor": "end" });
    return box;
  }
  const press = (pressed) => field.addEventListener("click", (event) => {
    const corner = svg.getBoundingClientRect();
    pressed(...back(event.clientX - corner.left, event.clientY - corner.top));
  });
  return { svg, under, drawn, px, py, back, layout, press };
}
