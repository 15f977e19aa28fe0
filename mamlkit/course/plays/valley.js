// The valley: where should θ wait, so that a few steps reach every task?
//
// The model is a sin(x - b) = p sin x + q cos x with p = a cos b and
// q = -a sin b. Its squared error on a set of examples depends on them through
// six means alone, so a loss, its gradient and its Hessian cost the same for
// ten examples as for a thousand, and all are exact.

import {
  add, arrow, clamp, drag, line, put, said, slider, stage,
} from "./stage.js";

const AMPLITUDE = [-0.5, 5], PHASE = [-1.2, 4.4]; // the plane that is shown
const MAX_STEPS = 10, MAX_LR = 0.3, MAX_WALK = 400;
const COARSE = 41, FINE = 111; // points of the map along a side
const LEVELS = Array.from({ length: 12 }, (_, i) => ((i + 1) / 4) ** 2);
const METHODS = [
  { key: "maml", name: "MAML", mark: "circle" },
  { key: "fomaml", name: "first-order MAML", mark: "square" },
  { key: "joint", name: "joint training", mark: "hexagon" },
];

// Losses and gradients ------------------------------------------------------

/** Means of sin², sin cos, cos², y sin, y cos and y² over examples. */
function means({ x, y }) {
  const sums = new Float64Array(6);
  x.forEach((at, i) => {
    const s = Math.sin(at), c = Math.cos(at);
    [s * s, s * c, c * c, y[i] * s, y[i] * c, y[i] * y[i]].forEach(
      (term, j) => { sums[j] += term / x.length; });
  });
  return sums;
}

function loss(m, a, b) {
  const p = a * Math.cos(b), q = -a * Math.sin(b);
  return p * p * m[0] + 2 * p * q * m[1] + q * q * m[2]
    - 2 * p * m[3] - 2 * q * m[4] + m[5];
}

/** The loss by amplitude and phase, differentiated once and twice. */
function derivatives(m, a, b) {
  const c = Math.cos(b), s = Math.sin(b), p = a * c, q = -a * s;
  const lp = 2 * (p * m[0] + q * m[1] - m[3]); // by p
  const lq = 2 * (p * m[1] + q * m[2] - m[4]); // by q
  const lpb = -2 * a * (s * m[0] + c * m[1]); // by p, then by b
  const lqb = -2 * a * (s * m[1] + c * m[2]);
  return {
    ga: lp * c - lq * s,
    gb: -a * (lp * s + lq * c),
    haa: 2 * (c * c * m[0] - 2 * c * s * m[1] + s * s * m[2]),
    hab: lpb * c - lp * s - lqb * s - lq * c,
    hbb: -a * (lpb * s + lp * c + lqb * c - lq * s),
  };
}

/** θ, and where each of the inner steps on the support set leads. */
function walk(m, [a, b], lr, steps) {
  const path = [[a, b]];
  for (let i = 0; i < steps; i++) {
    const d = derivatives(m, a, b);
    path.push([a -= lr * d.ga, b -= lr * d.gb]);
  }
  return path;
}

/** A batch of tasks, { support: {x, y}, query: {x, y} }, as their means. */
export function prepare(tasks) {
  return tasks.map(({ support, query }) =>
    ({ support: means(support), query: means(query) }));
}

/** meta_loss: the mean query loss after inner steps from θ. */
export function metaLoss(batch, [a, b], { lr, steps }) {
  let total = 0;
  for (const { support: m, query } of batch) {
    let at = a, bt = b;
    for (let i = 0; i < steps; i++) { // as in `derivatives`, first order only
      const c = Math.cos(bt), s = Math.sin(bt), p = at * c, q = -at * s;
      const lp = 2 * lr * (p * m[0] + q * m[1] - m[3]);
      const lq = 2 * lr * (p * m[1] + q * m[2] - m[4]);
      bt += at * (lp * s + lq * c);
      at -= lp * c - lq * s;
    }
    total += loss(query, at, bt);
  }
  return total / batch.length;
}

/**
 * The gradient of metaLoss by amplitude and phase. The Jacobian of θ' by θ
 * is a product of I - lr H, one factor a step; `firstOrder` leaves it out.
 */
export function metaGradient(batch, theta, { lr, steps, firstOrder = false }) {
  const total = [0, 0];
  for (const { support, query } of batch) {
    let [a, b] = theta, [jaa, jab, jba, jbb] = [1, 0, 0, 1];
    for (let i = 0; i < steps; i++) {
      const d = derivatives(support, a, b);
      const aa = 1 - lr * d.haa, ab = -lr * d.hab, bb = 1 - lr * d.hbb;
      [jaa, jab, jba, jbb] = [aa * jaa + ab * jba, aa * jab + ab * jbb,
        ab * jaa + bb * jba, ab * jab + bb * jbb];
      a -= lr * d.ga;
      b -= lr * d.gb;
    }
    const { ga, gb } = derivatives(query, a, b);
    total[0] += (firstOrder ? ga : jaa * ga + jba * gb) / batch.length;
    total[1] += (firstOrder ? gb : jab * ga + jbb * gb) / batch.length;
  }
  return total;
}

function outerGradient(key, batch, theta, lr, steps) {
  if (key === "joint") return metaGradient(batch, theta, { lr, steps: 0 });
  return metaGradient(batch, theta,
    { lr, steps, firstOrder: key === "fomaml" });
}

// The map -------------------------------------------------------------------

const between = ([low, high], share) => low + (high - low) * share;

/** Fill rows of the map; row by row, so that a frame may end in between. */
function fillRow(values, side, row, batch, options) {
  const b = between(PHASE, row / (side - 1));
  for (let i = 0; i < side; i++)
    values[row * side + i] =
      metaLoss(batch, [between(AMPLITUDE, i / (side - 1)), b], options);
}

/** Where the lines of one loss run, as segments in cells of the map. */
function contour(values, side, level, segment) {
  const cross = (v, w) => (level - v) / (w - v);
  for (let j = 0; j + 1 < side; j++) for (let i = 0; i + 1 < side; i++) {
    const at = j * side + i;
    const v = [values[at], values[at + 1], values[at + side + 1],
      values[at + side]];
    const ends = [];
    for (let k = 0; k < 4; k++) {
      const w = v[(k + 1) % 4];
      if ((v[k] < level) === (w < level)) continue;
      const t = cross(v[k], w);
      ends.push([[i + t, j], [i + 1, j + t], [i + 1 - t, j + 1],
        [i, j + 1 - t]][k]);
    }
    for (let k = 0; k + 1 < ends.length; k += 2) segment(ends[k], ends[k + 1]);
  }
}

function paint(canvas, values, side, { ink, paper }) {
  const pen = canvas.getContext("2d"), { width, height } = canvas;
  const small = document.createElement("canvas");
  small.width = small.height = side;
  const pixels = new ImageData(side, side);
  for (let j = 0; j < side; j++) for (let i = 0; i < side; i++) {
    const root = Math.sqrt(values[(side - 1 - j) * side + i]);
    const at = 4 * (j * side + i);
    pixels.data.set(ink, at);
    pixels.data[at + 3] = 150 * Math.min(1, root / 3 || 0); // NaN is no loss
  }
  small.getContext("2d").putImageData(pixels, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.imageSmoothingQuality = "high";
  // Points of the map are centres of pixels; its edges are the plane's.
  pen.drawImage(small, 0.5, 0.5, side - 1, side - 1, 0, 0, width, height);
  const sx = width / (side - 1), sy = height / (side - 1);
  pen.strokeStyle = `rgb(${paper.join()})`;
  pen.globalAlpha = 0.55;
  pen.lineWidth = width / 400;
  pen.beginPath();
  for (const level of LEVELS)
    contour(values, side, level, ([x0, y0], [x1, y1]) => {
      pen.moveTo(x0 * sx, height - y0 * sy);
      pen.lineTo(x1 * sx, height - y1 * sy);
    });
  pen.stroke();
  pen.globalAlpha = 1;
}

// What is seen --------------------------------------------------------------

const STYLE_OF_VALLEY = `
.scores { display: grid; grid-template-columns: max-content 1fr max-content;
  gap: 2px 10px; align-items: center; margin-bottom: 10px; }
.scores b { font-weight: 600; min-width: 3.2em; text-align: right; }
.bar { height: 12px; border-radius: 3px; background: var(--ink); width: 100%;
  transform-origin: left; }
.bar.before { background: var(--soft); }
.scene { display: grid; gap: 14px; }
.plane { position: relative; }
.plane canvas { position: absolute; border-radius: 4px; }
.plane svg { position: relative; width: 100%; height: 100%;
  overflow: visible; }
.field { touch-action: pan-y; cursor: crosshair; fill: transparent; }
.theta circle.body { fill: var(--ink); stroke: var(--paper);
  stroke-width: 2; }
.theta text { fill: var(--paper); font-size: 17px; font-weight: 700;
  font-style: italic; text-anchor: middle; font-family: Georgia, serif; }
.theta:focus-visible { outline: none; }
.theta:focus-visible circle.body { stroke: var(--focus); stroke-width: 5; }
.hint { font-weight: 700; paint-order: stroke; stroke: var(--paper);
  stroke-width: 4px; }
.halo { fill: none; stroke: var(--ink); stroke-width: 2; opacity: 0; }
.fresh .halo { animation: halo 1.6s ease-out infinite; }
@keyframes halo { from { r: 13px; opacity: .9; } to { r: 34px; opacity: 0; } }
@media (prefers-reduced-motion: reduce) {
  .fresh .halo { animation: none; opacity: .7; r: 20px; }
}
.steps { fill: none; stroke: var(--ink); stroke-width: 2; }
.stops { fill: none; stroke: var(--ink); stroke-width: 6;
  stroke-linecap: round; }
.left { fill: none; stroke: var(--gap); stroke-width: 2;
  stroke-dasharray: 2 4; }
.star { fill: var(--truth); stroke: var(--paper); stroke-width: 1.5; }
.name { font-weight: 700; paint-order: stroke; stroke: var(--paper);
  stroke-width: 3px; }
.trail { fill: none; stroke-width: 3.5; stroke-linejoin: round; opacity: .9; }
.end { stroke: var(--paper); stroke-width: 1.5; }
.waves { display: grid; grid-template-columns: 1fr 1fr; gap: 8px; }
.wave { border: 1px solid var(--rule); border-radius: 6px; overflow: hidden; }
.wave p { display: flex; justify-content: space-between; font-size: 13px;
  padding: 1px 8px 0; }
.wave svg { width: 100%; height: 76px; }
.true { fill: none; stroke: var(--truth); stroke-width: 5; opacity: .5; }
.fit { fill: none; stroke: var(--ink); stroke-width: 2; }
.start { fill: none; stroke: var(--soft); stroke-width: 1.5;
  stroke-dasharray: 2 3; }
.between { fill: var(--gap); opacity: .25; }
.dots { fill: none; stroke: var(--ink); stroke-width: 5;
  stroke-linecap: round; }
.key { display: flex; flex-wrap: wrap; gap: 0 16px; font-size: 13px;
  margin: 6px 0 8px; color: var(--soft); }
.key span { display: inline-flex; align-items: center; gap: 5px; }
.key svg { width: 22px; height: 14px; }
.sliders { display: grid; grid-template-columns: 1fr 1fr; gap: 4px 24px; }
.outer { display: grid; gap: 2px 8px; align-items: center; margin-top: 6px;
  grid-template-columns: 1fr auto auto; }
.outer .who { display: flex; align-items: center; gap: 8px; }
.outer .who svg { flex: none; width: 34px; height: 16px; }
.outer .where { grid-column: 1 / -1; font-size: 14px; min-height: 1.45em;
  color: var(--soft); }
.or { margin-top: 8px; font-weight: 600; }
.foot button { flex: none; }
.foot { display: flex; justify-content: space-between; gap: 12px;
  align-items: flex-start; margin-top: 8px; font-size: 14px; }
@container (min-width: 640px) {
  .scene { grid-template-columns: minmax(0, 11fr) minmax(0, 9fr); }
  .outer { grid-template-columns: max-content auto auto 1fr; }
  .outer .where { grid-column: auto; padding-left: 8px; min-height: 0; }
  .waves { grid-auto-rows: minmax(0, 1fr); }
  .wave { display: flex; flex-direction: column; }
  .wave svg { flex: 1 1 0; min-height: 0; }
}
`;

const MARGIN = { left: 30, right: 8, top: 8, bottom: 34 };

function star(x, y, size) {
  let text = "";
  for (let i = 0; i < 10; i++) {
    const r = i % 2 ? size * 0.45 : size, turn = Math.PI * (i / 5 - 0.5);
    text += `${i ? "L" : "M"}${(x + r * Math.cos(turn)).toFixed(1)} ` +
      (y + r * Math.sin(turn)).toFixed(1);
  }
  return `${text}Z`;
}

const SHAPES = {
  circle: (x, y) => `M${x - 6} ${y}a6 6 0 1 0 12 0a6 6 0 1 0 -12 0Z`,
  square: (x, y) => `M${x - 6} ${y - 6}h12v12h-12Z`,
  hexagon: (x, y) => `M${x} ${y - 7}l6 3.5v7l-6 3.5l-6 -3.5v-7Z`,
};

/** The point that lies `t` steps along a path of whole steps. */
function along(path, t) {
  const i = Math.min(Math.floor(t), path.length - 1);
  const [from, to] = [path[i], path[Math.min(i + 1, path.length - 1)]];
  return [0, 1].map((k) => from[k] + (t - i) * (to[k] - from[k]));
}

function render({ model, el }) {
  const tasks = model.get("tasks"), batch = prepare(tasks);
  const optimum = model.get("optimum"), rate = model.get("meta_lr");
  const home = [...model.get("start")];
  let theta = [...model.get("theta")];
  let lr = model.get("lr"), steps = model.get("steps");
  let shown = steps; // so many steps are drawn; follows `steps` smoothly
  let start = theta, running = null, stale = false;
  const trails = {};
  METHODS.forEach(({ key }) => { trails[key] = []; });

  const here = stage(el, { name: "valley", style: STYLE_OF_VALLEY,
    label: "The valley: drag θ, and see how far each task's steps lead",
    colours: model.get("colours") });
  const { root } = here;
  const times = (n) => `${n} ${n === 1 ? "step" : "steps"}`;

  // The question, and the two numbers that answer it.
  const lead = add(root, "p", { class: "lead" });
  add(lead, "strong", {}, "Drag θ.");
  lead.append(" It waits in one place; then every task takes its own steps " +
    "from there, on ten points of its own wave. From where do they all come " +
    "close to their stars?");
  const scores = add(root, "div", { class: "scores" });
  const bars = ["before", "after"].map((when) => {
    const name = add(scores, "span", {}, `mean loss ${when}`);
    const bar = add(add(scores, "div"), "div", { class: `bar ${when}` });
    return { name, bar, number: add(scores, "b", { class: "number" }) };
  });

  const scene = add(root, "div", { class: "scene" });
  const left = add(scene, "div");
  const plane = add(left, "div", { class: "plane" });
  const canvas = add(plane, "canvas", { "aria-hidden": "true" });
  const svg = add(plane, "svg:svg", { role: "group",
    "aria-label": "The plane of amplitude and phase" });
  const axes = add(svg, "svg:g", { class: "axes", "aria-hidden": "true" });
  const field = add(svg, "svg:rect", { class: "field" });
  const lowest = add(svg, "svg:g", { "aria-hidden": "true" });
  const roads = add(svg, "svg:g", { "aria-hidden": "true" });
  const lines = METHODS.map(({ key }) => [
    add(roads, "svg:path", { class: "trail", style: `stroke:var(--${key})` }),
    add(roads, "svg:path", { class: "end", style: `fill:var(--${key})` })]);
  const inner = add(svg, "svg:g", { "aria-hidden": "true" });
  const marks = tasks.map((_, i) => ({
    left: add(inner, "svg:path", { class: "left" }),
    steps: add(inner, "svg:path", { class: "steps" }),
    stops: add(inner, "svg:path", { class: "stops" }),
    star: add(inner, "svg:path", { class: "star" }),
    name: add(inner, "svg:text", { class: "name" }, `${i + 1}`),
  }));
  const handle = add(svg, "svg:g", { class: "theta grab fresh", tabindex: "0",
    role: "slider", "aria-label": "θ, where every task starts",
    "aria-roledescription": "point on a plane",
    "aria-valuemin": AMPLITUDE[0], "aria-valuemax": AMPLITUDE[1] });
  add(handle, "svg:circle", { r: 24, fill: "transparent" });
  add(handle, "svg:circle", { r: 13, class: "halo" });
  add(handle, "svg:circle", { r: 13, class: "body" });
  add(handle, "svg:text", { y: 6 }, "θ");
  const hint = add(handle, "svg:text", { class: "hint", x: 20, y: -14,
    style: "fill:var(--ink);text-anchor:start;font:700 14px sans-serif" },
  "drag me");

  const panels = add(scene, "div", { class: "waves" });
  const waves = tasks.map((_, i) => {
    const box = add(panels, "div", { class: "wave" });
    const head = add(box, "p");
    add(head, "strong", {}, `★ ${i + 1}`).style.color = "var(--truth)";
    const number = add(head, "span", { class: "number" });
    const picture = add(box, "svg:svg", { "aria-hidden": "true" });
    return { number, svg: picture,
      between: add(picture, "svg:path", { class: "between" }),
      true: add(picture, "svg:path", { class: "true" }),
      dots: add(picture, "svg:path", { class: "dots" }),
      start: add(picture, "svg:path", { class: "start" }),
      fit: add(picture, "svg:path", { class: "fit" }) };
  });

  const key = add(root, "div", { class: "key", "aria-hidden": "true" });
  for (const [kinds, text] of [
    [["true", "M1 7h20"], "a task's own wave, and its place on the plane"],
    [["steps", "M1 7h20"], "its steps from θ, and the wave they end in"],
    [["start", "M1 7h20"], "θ's own wave"],
    [["between", "M1 1h20v12h-20Z"], "what is left"]]) {
    const item = add(key, "span");
    add(add(item, "svg:svg", { viewBox: "0 0 22 14" }), "svg:path",
      { class: kinds[0], d: kinds[1] });
    item.append(text);
  }

  const sliders = add(root, "div", { class: "sliders" });
  const setting = (what) => {
    drawMap();
    settle();
    say(what());
  };
  slider(sliders, { name: "step size α =", min: 0, max: MAX_LR,
    step: 0.01, value: lr, tell: (v) => said(v),
    turn: (v) => { lr = v; setting(() => `α ${said(lr)}`); } });
  slider(sliders, { name: "inner steps:", min: 0, max: MAX_STEPS, step: 1,
    value: steps, tell: String,
    turn: (v) => { steps = v; setting(() => times(steps)); } });

  // The outer loop walks θ, in three ways.
  const below = add(root, "div");
  add(below, "p", { class: "or" }, "Or let an outer loop walk θ downhill:");
  const outer = add(below, "div", { class: "outer" });
  const controls = METHODS.map(({ key, name, mark }) => {
    const who = add(outer, "span", { class: "who" });
    const swatch = add(who, "svg:svg", { viewBox: "0 0 34 16",
      "aria-hidden": "true" });
    add(swatch, "svg:path", { class: "trail", d: "M1 8h22",
      style: `stroke:var(--${key})` });
    add(swatch, "svg:path", { class: "end", d: SHAPES[mark](25, 8),
      style: `fill:var(--${key})` });
    add(who, "span", {}, name);
    const step = add(outer, "button", { type: "button",
      "aria-label": `One step of ${name}` }, "Step");
    const run = add(outer, "button", { type: "button",
      "aria-label": `Run ${name}` }, "Run");
    const where = add(outer, "span", { class: "where number" });
    step.onclick = () => { stop(); forward(key, 1); told(key, "stands at"); };
    run.onclick = () => running === key ? stop() : go(key);
    return { key, name, step, run, where };
  });
  const foot = add(root, "div", { class: "foot" });
  add(foot, "span", { class: "soft" }, "Each starts where you let go of θ " +
    `and takes outer steps of β = ${rate} times its own gradient, on the ` +
    "tasks shown.");
  add(foot, "button", { type: "button" }, "Reset").onclick = () => {
    stop();
    METHODS.forEach(({ key }) => { trails[key] = []; });
    theta = start = [...home];
    stale = false;
    update();
    say("θ is back at its start");
  };

  // Places on the plane and in pixels.
  let width = 0, height = 0;
  const px = ([a, b]) => [
    MARGIN.left + width * (a - AMPLITUDE[0]) / (AMPLITUDE[1] - AMPLITUDE[0]),
    MARGIN.top + height * (PHASE[1] - b) / (PHASE[1] - PHASE[0])];
  const fromPx = (x, y) => [
    between(AMPLITUDE, clamp((x - MARGIN.left) / width, [0, 1])),
    between(PHASE, clamp(1 - (y - MARGIN.top) / height, [0, 1]))];
  const road = (path) => line(...[0, 1].map((k) => path.map((p) => px(p)[k])));

  const draw = here.frame(() => {
    const before = metaLoss(batch, theta, { lr, steps: 0 });
    const after = metaLoss(batch, theta, { lr, steps });
    [before, after].forEach((value, i) => {
      bars[i].number.textContent = said(value);
      bars[i].bar.style.transform = `scaleX(${Math.min(1, value / 6)})`;
    });
    bars[1].name.textContent = `mean loss after ${times(steps)}`;
    const [x, y] = px(theta);
    put(handle, { transform: `translate(${x} ${y})`,
      "aria-valuenow": theta[0].toFixed(2),
      "aria-valuetext": `amplitude ${said(theta[0])}, phase ` +
        said(theta[1]) });
    batch.forEach(({ support, query }, i) => {
      const path = walk(support, theta, lr, steps);
      const now = along(path, shown);
      const part = [...path.slice(0, Math.floor(shown) + 1), now];
      const mark = marks[i], wave = waves[i];
      put(mark.steps, { d: road(part) });
      put(mark.stops, { d: part.slice(1).map((p) => {
        const [u, v] = px(p);
        return `M${u.toFixed(1)} ${v.toFixed(1)}h.01`;
      }).join("") });
      put(mark.left, { d: road([now, nearest(optimum[i], now)]) });
      const [from, to] = [theta, path.at(-1)].map((p) => loss(query, ...p));
      wave.number.textContent = `${said(from)} → ${said(to)}`;
      drawWave(wave, optimum[i], now);
    });
    METHODS.forEach(({ key, mark }, i) => {
      const trail = trails[key], [way, end] = lines[i];
      put(way, { d: road(trail) });
      put(end, { d: trail.length ? SHAPES[mark](...px(trail.at(-1))) : "" });
      controls[i].where.textContent = report(trail);
    });
  });

  // A phase a turn away is the same wave: the gap leads to the nearer one.
  const nearest = ([a, b], now) => {
    const turns = Math.round((now[1] - b) / (2 * Math.PI));
    return [a, b + 2 * Math.PI * turns];
  };

  const XS = Float64Array.from({ length: 61 }, (_, i) => -5 + i / 6);
  const tallest = 0.5 + Math.max(...optimum.map(([a]) => a), 2);
  let waveWidth = 0, waveHeight = 0;
  const across = (x) => waveWidth * (x + 5) / 10;
  const up = (y) => waveHeight / 2 * (1 - y / tallest);
  function curve([a, b]) {
    return [Array.from(XS, across),
      Array.from(XS, (x) => up(a * Math.sin(x - b)))];
  }
  function drawWave(wave, truth, now) {
    const [xs, ys] = curve(now), [, goal] = curve(truth);
    put(wave.fit, { d: line(xs, ys) });
    put(wave.start, { d: line(...curve(theta)) });
    put(wave.between, { d: `${line(xs, ys)}` +
      line(xs.slice().reverse(), goal.slice().reverse()).replace("M", "L") });
  }

  const report = (trail) => {
    if (!trail.length) return "";
    const [a, b] = trail.at(-1);
    return `waits at ${said(a, 1)}, ${said(b, 1)}: loss ` +
      `${said(metaLoss(batch, [a, b], { lr, steps: 0 }))} before, ` +
      `${said(metaLoss(batch, [a, b], { lr, steps }))} after`;
  };

  // The map: coarse at once, fine when nothing changes for a while.
  let values = null, side = 0, refining = 0;
  function fill(points) {
    side = points;
    values = new Float64Array(side * side);
    for (let row = 0; row < side; row++)
      fillRow(values, side, row, batch, { lr, steps });
    repaint();
  }
  function repaint() {
    if (!values || !canvas.width) return;
    paint(canvas, values, side, here.colours);
    const best = values.indexOf(values.reduce((a, b) => Math.min(a, b)));
    const place = [between(AMPLITUDE, best % side / (side - 1)),
      between(PHASE, Math.floor(best / side) / (side - 1))];
    const [x, y] = px(place);
    lowest.replaceChildren();
    add(lowest, "svg:path", { d: `M${x - 6} ${y}h12M${x} ${y - 6}v12`,
      stroke: "var(--ink)", "stroke-width": 2 });
    add(lowest, "svg:text", { x, y: y - 11, class: "name",
      "text-anchor": "middle" }, "lowest");
  }
  const drawMap = here.frame(() => {
    fill(COARSE);
    clearTimeout(refining);
    refining = setTimeout(() => refine(0), 150);
  });
  let finer = null;
  function refine(row) {
    finer = row ? finer : new Float64Array(FINE * FINE);
    const until = performance.now() + 5;
    while (row < FINE && performance.now() < until)
      fillRow(finer, FINE, row++, batch, { lr, steps });
    if (row < FINE) refining = setTimeout(() => refine(row), 0);
    else {
      [values, side] = [finer, FINE];
      repaint();
    }
  }

  // Steps that change are walked, not jumped.
  let settling = 0;
  function settle() {
    cancelAnimationFrame(settling);
    draw();
    if (here.still()) shown = steps;
    if (shown === steps) return;
    const from = shown, began = performance.now();
    const long = Math.min(600, 250 * Math.abs(steps - from));
    const tick = (now) => {
      const t = clamp((now - began) / long, [0, 1]);
      shown = t < 1 ? from + (steps - from) * t : steps;
      draw();
      if (t < 1) settling = requestAnimationFrame(tick);
    };
    settling = requestAnimationFrame(tick);
  }

  function say(what) {
    here.say(`${what}. Mean loss ` +
      `${said(metaLoss(batch, theta, { lr, steps: 0 }))} before, ` +
      `${said(metaLoss(batch, theta, { lr, steps }))} after ${times(steps)}.`);
  }
  const told = (key, verb) => {
    const { name } = METHODS.find((method) => method.key === key);
    say(`${name} ${verb} amplitude ${said(theta[0])}, phase ` +
      said(theta[1]));
  };

  function update() {
    model.set("theta", theta);
    draw();
  }
  function moveTo(place) {
    stop();
    handle.classList.remove("fresh");
    hint.textContent = "";
    theta = start = place;
    stale = true;
    update();
    say(`θ at amplitude ${said(theta[0])}, phase ${said(theta[1])}`);
  }

  /** Outer steps of one method from where its walk has come to. */
  function forward(key, count) {
    if (stale) METHODS.forEach((method) => { trails[method.key] = []; });
    stale = false;
    handle.classList.remove("fresh");
    hint.textContent = "";
    const trail = trails[key];
    if (!trail.length) trail.push(start);
    let length = Infinity;
    for (let i = 0; i < count && trail.length <= MAX_WALK; i++) {
      const [a, b] = trail.at(-1);
      const [ga, gb] = outerGradient(key, batch, [a, b], lr, steps);
      length = Math.hypot(ga, gb);
      if (length < 2e-3) break;
      // A cliff must not throw θ off the plane.
      const size = Math.min(rate, 0.3 / length);
      trail.push([clamp(a - size * ga, AMPLITUDE),
        clamp(b - size * gb, PHASE)]);
    }
    theta = trail.at(-1);
    update();
    return length >= 2e-3 && trail.length <= MAX_WALK;
  }
  let ticking = 0;
  function go(key) {
    stop();
    running = key;
    controls.find((c) => c.key === key).run.textContent = "Stop";
    const tick = () => {
      if (forward(key, here.still() ? MAX_WALK : 2))
        ticking = requestAnimationFrame(tick);
      else stop();
    };
    ticking = requestAnimationFrame(tick);
  }
  function stop() {
    if (!running) return;
    cancelAnimationFrame(ticking);
    controls.forEach(({ run }) => { run.textContent = "Run"; });
    told(running, "stops at");
    running = null;
    model.save_changes();
  }

  // Hands and keys.
  const move = (x, y) => moveTo(fromPx(x, y));
  const drop = () => model.save_changes();
  const take = () => {
    handle.focus({ preventScroll: true });
    return px(theta);
  };
  drag(handle, svg, { take, move, drop });
  drag(field, svg, { move, drop, take(x, y, event) {
    // A finger may be scrolling the page; its tap comes as a click.
    if (event.pointerType === "touch") return null;
    move(x, y);
    return take();
  } });
  field.addEventListener("click", (event) => {
    const box = svg.getBoundingClientRect();
    moveTo(fromPx(event.clientX - box.left, event.clientY - box.top));
  });
  handle.addEventListener("keydown", (event) => {
    const way = arrow(event);
    if (!way) return;
    moveTo([clamp(theta[0] + 0.05 * way[0], AMPLITUDE),
      clamp(theta[1] + 0.05 * way[1], PHASE)]);
    model.save_changes();
  });

  // Sizes and colours of the page.
  let was = 0;
  here.every(() => {
    const wide = Math.floor(left.clientWidth);
    if (wide < 60) return; // not laid out yet
    const tall = Math.round(wide > 360 ? wide * 0.92 : wide);
    const resized = was !== (was = wide);
    width = wide - MARGIN.left - MARGIN.right;
    height = tall - MARGIN.top - MARGIN.bottom;
    plane.style.height = `${tall}px`;
    const beside = scene.clientWidth > 1.5 * wide;
    panels.style.height = beside ? `${tall}px` : "";
    // On a phone a walk must be in sight of its buttons.
    const above = beside ? sliders : left;
    if (below.previousElementSibling !== above) above.after(below);
    put(field, { x: MARGIN.left, y: MARGIN.top, width, height });
    if (resized) {
      const dots = Math.min(2, devicePixelRatio || 1);
      canvas.width = Math.round(width * dots);
      canvas.height = Math.round(height * dots);
      canvas.style.cssText = `left:${MARGIN.left}px;top:${MARGIN.top}px;` +
        `width:${width}px;height:${height}px`;
      drawAxes();
      waveWidth = waves[0].svg.clientWidth;
      waveHeight = waves[0].svg.clientHeight;
      waves.forEach((wave, i) => {
        put(wave.true, { d: line(...curve(optimum[i])) });
        const { x, y } = tasks[i].support;
        put(wave.dots, { d: x.map((at, j) =>
          `M${across(at).toFixed(1)} ${up(y[j]).toFixed(1)}h.01`).join("") });
        const [u, v] = px(optimum[i]);
        put(marks[i].star, { d: star(u, v, 10) });
        put(marks[i].name, { x: u + 9, y: v - 6 });
      });
    }
    if (values) repaint(); else drawMap();
    draw();
  });

  function drawAxes() {
    axes.replaceChildren();
    put(add(axes, "svg:rect"), { x: MARGIN.left, y: MARGIN.top, width, height,
      fill: "none", stroke: "var(--soft)" });
    const bottom = MARGIN.top + height;
    for (let a = 0; a <= 5; a++)
      put(add(axes, "svg:text", { class: "soft number" }, `${a}`),
        { x: px([a, 0])[0], y: bottom + 15, "text-anchor": "middle" });
    for (let b = -1; b <= 4; b++)
      put(add(axes, "svg:text", { class: "soft number" }, said(b, 0)),
        { x: MARGIN.left - 6, y: px([0, b])[1] + 4, "text-anchor": "end" });
    put(add(axes, "svg:text", {}, "amplitude →"),
      { x: MARGIN.left + width, y: bottom + 30, "text-anchor": "end" });
    put(add(axes, "svg:text", { class: "soft" }, "low"),
      { x: MARGIN.left, y: bottom + 30 });
    for (let i = 0; i < 6; i++)
      put(add(axes, "svg:rect"), { x: MARGIN.left + 28 + 14 * i, width: 14,
        y: bottom + 20, height: 11, fill: "var(--ink)",
        "fill-opacity": 0.59 * i / 5 });
    put(add(axes, "svg:text", { class: "soft" }, "high loss"),
      { x: MARGIN.left + 28 + 90, y: bottom + 30 });
    put(add(axes, "svg:text", {}, "phase ↑"),
      { x: MARGIN.left + 8, y: MARGIN.top + 18, class: "name" });
  }

  return () => {
    cancelAnimationFrame(ticking);
    cancelAnimationFrame(settling);
    clearTimeout(refining);
    here.leave();
  };
}

export default { render };
