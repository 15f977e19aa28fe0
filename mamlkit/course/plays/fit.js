// The fit: ten points to drag, and what each way of learning makes of them.

import {
  add, arrow, clamp, drag, line, plane, put, said, slider, stage, widened,
} from "./stage.js";
import { reader } from "./reader.js";

const X = [-5, 5], Y = [-6, 6], MAX_STEPS = 10, MAX_POINTS = 10;
const GRID = Float64Array.from({ length: 101 }, (_, i) => -5 + i / 10);
const NOISE = 0.5; // standard deviation

// Ways of learning ----------------------------------------------------------
//
// A kind is method => (points, steps) => values on a grid of x, or null where
// the points do not say enough. A new kind is a line in KINDS.

const UNITS = 40, SIZES = [UNITS, UNITS, UNITS * UNITS, UNITS, UNITS, 1];

/** float32 in base64, as the six tensors of the 1-40-40-1 network. */
function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const flat = new Float32Array(bytes.buffer);
  let at = 0;
  return SIZES.map((size) => Float64Array.from(flat.slice(at, at += size)));
}

/** Outputs and both layers' units, for every x. */
function forward([w1, b1, w2, b2, w3, b3], x) {
  const n = x.length, first = new Float64Array(n * UNITS);
  const second = new Float64Array(n * UNITS), y = new Float64Array(n);
  for (let k = 0; k < n; k++) {
    const at = k * UNITS;
    for (let i = 0; i < UNITS; i++)
      first[at + i] = Math.max(0, w1[i] * x[k] + b1[i]);
    let out = b3[0];
    for (let j = 0; j < UNITS; j++) {
      let sum = b2[j];
      for (let i = 0, row = j * UNITS; i < UNITS; i++)
        sum += w2[row + i] * first[at + i];
      if (sum > 0) out += w3[j] * (second[at + j] = sum);
    }
    y[k] = out;
  }
  return { first, second, y };
}

/** One step of gradient descent on the mean squared error, in place. */
function descend(params, x, y, lr) {
  const { first, second, y: out } = forward(params, x);
  const [w1, b1, w2, b2, w3, b3] = params, n = x.length;
  const grads = params.map((p) => new Float64Array(p.length));
  const [g1, h1, g2, h2, g3, h3] = grads, back = new Float64Array(UNITS);
  for (let k = 0; k < n; k++) {
    const at = k * UNITS, error = 2 * (out[k] - y[k]) / n;
    h3[0] += error;
    back.fill(0);
    for (let j = 0; j < UNITS; j++) {
      g3[j] += error * second[at + j];
      if (!(second[at + j] > 0)) continue;
      const delta = error * w3[j], row = j * UNITS;
      h2[j] += delta;
      for (let i = 0; i < UNITS; i++) {
        g2[row + i] += delta * first[at + i];
        back[i] += delta * w2[row + i];
      }
    }
    for (let i = 0; i < UNITS; i++) {
      if (!(first[at + i] > 0)) continue;
      g1[i] += back[i] * x[k];
      h1[i] += back[i];
    }
  }
  params.forEach((p, t) => {
    for (let i = 0; i < p.length; i++) p[i] -= lr * grads[t][i];
  });
}

function network({ weights, lr }) {
  const start = unpack(weights);
  return ({ x, y }, steps, grid) => {
    const params = start.map((p) => p.slice());
    if (x.length) for (let i = 0; i < steps; i++) descend(params, x, y, lr);
    return forward(params, grid).y;
  };
}

/** The wave p sin x + q cos x with the least squared error on the points. */
function waves() {
  return ({ x, y }, steps, grid) => {
    let ss = 0, sc = 0, cc = 0, ys = 0, yc = 0;
    x.forEach((at, i) => {
      const s = Math.sin(at), c = Math.cos(at);
      ss += s * s; sc += s * c; cc += c * c;
      ys += y[i] * s; yc += y[i] * c;
    });
    const det = ss * cc - sc * sc;
    if (det < 1e-9) return null; // fewer than two points that differ
    const p = (ys * cc - yc * sc) / det, q = (yc * ss - ys * sc) / det;
    return grid.map((at) => p * Math.sin(at) + q * Math.cos(at));
  };
}

const reads = (method) =>
  reader({ ...method, flat: widened(method.weights) });
const KINDS = { network, reader: reads, waves };

/** Make a method of the state's list ready for points, steps and a grid. */
export const fitter = (method) => KINDS[method.kind](method);

export function error(values, truth) {
  let sum = 0;
  values.forEach((v, i) => { sum += (v - truth[i]) ** 2; });
  return sum / values.length;
}

// What is seen --------------------------------------------------------------

const STYLE_OF_FIT = `
.scene { display: grid; gap: 6px 18px; }
.zero { stroke: var(--rule); }
.field { touch-action: pan-y; }
.hidden { fill: none; stroke: var(--wave); stroke-width: 9; opacity: .28;
  stroke-linecap: round; }
.curve { fill: none; stroke-width: 3; stroke-linejoin: round; }
.point circle.body { fill: var(--ink); stroke: var(--paper);
  stroke-width: 2; }
.point:focus-visible { outline: none; }
.point:focus-visible circle.body { stroke: var(--focus); stroke-width: 5;
  r: 9px; }
.hint { font: 700 14px sans-serif; paint-order: stroke;
  stroke: var(--paper); stroke-width: 4px; }
.halo { fill: none; stroke: var(--ink); stroke-width: 2; opacity: 0; }
.fresh .halo { animation: halo 1.6s ease-out infinite; }
@keyframes halo { from { r: 8px; opacity: .9; } to { r: 28px; opacity: 0; } }
@media (prefers-reduced-motion: reduce) {
  .fresh .halo { animation: none; opacity: .7; r: 14px; }
}
.list { display: grid; gap: 7px; align-content: start; }
.method { display: grid; grid-template-columns: 34px 1fr auto;
  gap: 2px 8px; align-items: center; }
.method svg { width: 34px; height: 14px; }
.method b { font-weight: 600; }
.track { grid-column: 2 / -1; height: 8px; border-radius: 3px;
  background: var(--shade); overflow: hidden; }
.track div { height: 8px; transform-origin: left; border-radius: 3px; }
.caption { font-size: 14px; min-height: 2.9em; }
.buttons { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
.buttons label { display: inline-flex; align-items: center; gap: 6px;
  min-height: 36px; }
.turn { display: grid; grid-template-columns: 1fr auto; gap: 4px 16px;
  align-items: end; margin: 4px 0 8px; }
.turn button { min-width: 132px; }
.sentence { margin-top: 8px; min-height: 4.4em; }
@container (min-width: 640px) {
  .scene { grid-template-columns: minmax(0, 7fr) minmax(0, 3fr); }
}
@container (max-width: 480px) { .sentence { min-height: 8.8em; } }
`;

const DASHES = ["", "9 5", "2 5", "12 4 2 4", "16 3 2 3 2 3"];
const TOP_ERROR = 6; // at which a bar is full

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) *
    Math.cos(2 * Math.PI * Math.random());
}

function render({ model, el }) {
  const family = model.get("family"), methods = model.get("methods");
  const fitters = methods.map(fitter);
  let wave = model.get("wave"), steps = model.get("steps");
  let { x, y } = model.get("points");
  [x, y] = [[...x], [...y]];
  let fresh = true, moved = false, playing = 0;

  const here = stage(el, { name: "fit", style: STYLE_OF_FIT,
    label: "The fit: drag the points, and see what each method makes of them",
    colours: model.get("colours") });
  const { root } = here;
  const times = (n) => `${n} ${n === 1 ? "step" : "steps"}`;
  const height = (at) => wave.amplitude * Math.sin(at - wave.phase);

  const lead = add(root, "p", { class: "lead" });
  add(lead, "strong", {}, "Drag the points, then the number of steps.");
  lead.append(" Three networks of one shape see the same points and take " +
    "the same number of gradient steps. They differ in where they start." +
    (methods.some(({ kind }) => kind === "reader") ? " The transformer " +
      "takes no step: it reads the points." : ""));

  const scene = add(root, "div", { class: "scene" });
  const ticks = [-4, -2, 0, 2, 4];
  const { svg, under, drawn: curves, px, py, back, layout, press } = plane(
    scene, { label: "The points and the curves. Arrow keys move a point, " +
      "Delete takes it away.", x: [...X, ticks], y: [...Y, ticks],
      high: (wide) => Math.round(clamp(wide * 0.72, [260, 380])),
      margin: { left: 26, right: 4, top: 4, bottom: 20 } });
  const hidden = add(curves, "svg:path", { class: "hidden" });
  const lines = methods.map(({ key }, i) => add(curves, "svg:path",
    { class: "curve", style: `stroke:var(--${key});stroke-dasharray:` +
      (DASHES[i] || "none") }));
  // The first method is drawn over the others.
  lines.slice().reverse().forEach((path) => curves.append(path));
  const handles = add(svg, "svg:g");

  const list = add(scene, "div", { class: "list" });
  const caption = add(list, "p", { class: "caption soft" });
  const rows = methods.map(({ key, name }, i) => {
    const row = add(list, "div", { class: "method" });
    const swatch = add(row, "svg:svg", { "aria-hidden": "true" });
    add(swatch, "svg:path", { class: "curve", d: "M1 7h32", style:
      `stroke:var(--${key});stroke-dasharray:${DASHES[i] || "none"}` });
    add(row, "span", {}, name);
    const number = add(row, "b", { class: "number" });
    const bar = add(add(row, "div", { class: "track" }), "div",
      { style: `background:var(--${key})` });
    return { number, bar };
  });
  const truth = add(list, "div", { class: "method soft" });
  add(add(truth, "svg:svg", { "aria-hidden": "true" }), "svg:path",
    { class: "hidden", d: "M5 7h24" });
  add(truth, "span", {}, "the hidden wave");

  const turn = add(root, "div", { class: "turn" });
  const count = slider(add(turn, "div"), { name: "gradient steps:", min: 0,
    max: MAX_STEPS, step: 1, value: steps, tell: String,
    turn: (v) => { rest(); setSteps(v); told(); } });
  const take = add(turn, "button", { type: "button", class: "main" });
  take.onclick = () => playing ? rest() : play();

  const buttons = add(root, "div", { class: "buttons" });
  const button = (text, onclick) => {
    const node = add(buttons, "button", { type: "button" }, text);
    node.onclick = onclick;
    return node;
  };
  button("New wave", () => {
    const between = ([low, high]) => low + (high - low) * Math.random();
    wave = { amplitude: between(family.amplitude),
      phase: between(family.phase) };
    x = Array.from({ length: MAX_POINTS }, () => between(family.x));
    x.sort((a, b) => a - b);
    y = x.map(height);
    moved = false;
    changed("A new wave, and ten points on it");
  });
  button("Add noise", () => {
    y = y.map((at) => clamp(at + NOISE * normal(), Y));
    moved = true;
    changed(`Noise added: each point moved up or down by about ${NOISE}`);
  });
  button("Clear", () => {
    [x, y] = [[], []];
    changed("No points. Click on the paper, or press Add a point");
  });
  const more = button("Add a point", () => {
    const at = clamp(family.x[0] + (family.x[1] - family.x[0]) *
      Math.random(), X);
    place(at, height(at));
    handles.lastChild.focus({ preventScroll: true });
  });
  const box = add(add(buttons, "label", {}, " show the hidden wave"), "input",
    { type: "checkbox" });
  box.parentNode.prepend(box);
  box.checked = true;
  box.onchange = () => {
    hidden.style.display = box.checked ? "" : "none";
    here.say(`The hidden wave is ${box.checked ? "shown" : "not shown"}.`);
  };
  const sentence = add(root, "p", { class: "sentence" });

  let errors = [];
  const draw = here.frame(() => {
    const goal = GRID.map(height), across = Array.from(GRID, px);
    // A curve far off the paper must not overflow the renderer.
    const path = (values) => line(across,
      Array.from(values, (v) => py(clamp(v, [-50, 50]))));
    put(hidden, { d: path(goal) });
    errors = fitters.map((fit, i) => {
      const values = fit({ x, y }, steps, GRID);
      put(lines[i], { d: values ? path(values) : "" });
      const off = values ? error(values, goal) : NaN;
      rows[i].number.textContent = values ? said(off) : "–";
      rows[i].bar.style.transform =
        `scaleX(${values ? Math.min(1, off / TOP_ERROR || 1) : 0})`;
      return off;
    });
    caption.textContent =
      `mean squared error on the hidden wave after ${times(steps)}`;
    sentence.textContent = inWords();
    x.forEach((at, i) => {
      const node = handles.children[i];
      put(node, { transform: `translate(${px(at)} ${py(y[i])})`,
        "aria-label": `point ${i + 1} of ${x.length}`,
        "aria-valuenow": y[i].toFixed(2),
        "aria-valuetext": `x ${said(at, 1)}, y ${said(y[i], 1)}` });
      node.classList.toggle("fresh", fresh && i === hinted);
      node.lastChild.textContent = fresh && i === hinted ? "drag me" : "";
    });
    more.disabled = x.length >= MAX_POINTS;
  });
  const hinted = x.length >> 1;

  function inWords() {
    const seen = ["no points", "1 point"][x.length] ?? `${x.length} points`;
    const parts = methods.map(({ name, kind }, i) =>
      `${name} ${Number.isFinite(errors[i]) ? said(errors[i])
        : kind === "network" ? "without bound" : "unknown"}`);
    const few = Number.isNaN(errors.at(-1)) ? " Least squares needs two " +
      "points." : "";
    const off = moved ? " Points are off the hidden wave; the errors are " +
      "against the wave." : "";
    return `After ${times(steps)} on ${seen}, mean squared error on the ` +
      `hidden wave: ${parts.join(", ")}.${few}${off}`;
  }
  function speak(what) {
    draw();
    // The frame computes the errors, and is over when the voice begins.
    here.say(() => `${what}. ${inWords()}`);
  }
  function changed(what) {
    fresh = false;
    while (handles.children.length > x.length) handles.lastChild.remove();
    while (handles.children.length < x.length) addHandle();
    speak(what);
    keep();
  }
  function keep() {
    model.set("points", { x: [...x], y: [...y] });
    model.save_changes();
  }
  function moveTo(i, [at, up]) {
    [x[i], y[i]] = [at, up];
    fresh = false;
    moved ||= Math.abs(up - height(at)) > 0.05;
    speak(`Point ${i + 1} at x ${said(at, 1)}, y ${said(up, 1)}`);
  }
  function place(at, up) {
    x.push(at);
    y.push(up);
    moved ||= Math.abs(up - height(at)) > 0.05;
    changed(`Point ${x.length} at x ${said(at, 1)}, y ${said(up, 1)}`);
  }
  function addHandle() {
    const node = add(handles, "svg:g", { class: "point grab", tabindex: "0",
      role: "slider", "aria-roledescription": "point on a plane",
      "aria-valuemin": Y[0], "aria-valuemax": Y[1] });
    add(node, "svg:circle", { r: 20, fill: "transparent" });
    add(node, "svg:circle", { r: 8, class: "halo" });
    add(node, "svg:circle", { r: 7, class: "body" });
    add(node, "svg:text", { class: "hint", x: 14, y: -12 });
    const index = () => [...handles.children].indexOf(node);
    let held = 0;
    drag(node, svg, {
      // Where hands are too broad for the points, the nearest one is meant.
      take: (u, v) => {
        const far = x.map((at, i) => Math.hypot(px(at) - u, py(y[i]) - v));
        held = far.indexOf(Math.min(...far));
        handles.children[held].focus({ preventScroll: true });
        return [px(x[held]), py(y[held])];
      },
      move: (u, v) => moveTo(held, back(u, v)),
      drop: keep,
    });
    node.addEventListener("keydown", (event) => {
      const i = index();
      if (event.key === "Delete" || event.key === "Backspace") {
        event.preventDefault();
        x.splice(i, 1);
        y.splice(i, 1);
        changed("A point is taken away");
        handles.children[Math.min(i, x.length - 1)]?.focus();
        return;
      }
      const way = arrow(event);
      if (!way) return;
      moveTo(i, [clamp(x[i] + 0.1 * way[0], X),
        clamp(y[i] + 0.1 * way[1], Y)]);
      keep();
    });
  }
  press((at, up) => {
    if (x.length < MAX_POINTS) place(at, up);
  });

  function setSteps(value) {
    steps = value;
    count.show(steps);
    model.set("steps", steps);
    draw();
  }
  const told = () => speak(times(steps));
  function play() { // from the start, a step at a time
    take.textContent = "Stop";
    setSteps(here.still() ? MAX_STEPS : 0);
    playing = setInterval(() => {
      if (steps < MAX_STEPS) setSteps(steps + 1);
      else rest();
    }, 450);
  }
  function rest() {
    clearInterval(playing);
    take.textContent = "Take ten steps";
    if (playing) told();
    playing = 0;
  }
  rest();

  here.every(() => {
    const box = layout();
    if (!box) return;
    const { x: left, y: top, width, height: tall } = box;
    add(under, "svg:path", { class: "zero",
      d: `M${left} ${py(0)}h${width}` });
    put(add(under, "svg:text", {}, "x"), { x: px(5) - 2,
      y: top + tall + 16, "text-anchor": "end" });
    put(add(under, "svg:text", {}, "y"), { x: left - 5, y: py(5.4),
      "text-anchor": "end" });
    draw();
  });
  x.forEach(addHandle);

  return () => {
    clearInterval(playing);
    here.leave();
  };
}

export default { render };
