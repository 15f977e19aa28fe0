// The walks: a goal that the reader places, a policy that does not see it,
// and gradient steps on its own walks. The numbers of mamlkit.rl.

import {
  add, arrow, clamp, drag, line, plane, put, said, stage, widened,
} from "./stage.js";

const WALKS = 40, HORIZON = 100, DISCOUNT = 0.99, DRAWN = 8;
const SPEED = 0.1, REACH = 0.01; // as in navigation.py
const UNITS = 100, FEATURES = 8;
// In the order of the policy's own parameters: log_std, then the layers.
const SIZES = [2, 2 * UNITS, UNITS, UNITS * UNITS, UNITS, 2 * UNITS, 2];
const GOALS = [-0.5, 0.5], SEEN = [-0.75, 0.75];

// Numbers -------------------------------------------------------------------

/** bfloat16 in base64, as the policy's seven tensors. */
export function unpack(text) {
  const flat = widened(text);
  let at = 0;
  return SIZES.map((size) => flat.slice(at, at += size));
}

/** Standard normal noise, (HORIZON, WALKS, 2), the same for the same seed. */
export function noiseOf(seed) {
  const uniform = () => { // mulberry32
    seed = (seed + 0x6D2B79F5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), seed | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
  return Float64Array.from({ length: HORIZON * WALKS * 2 }, () =>
    Math.sqrt(-2 * Math.log(1 - uniform())) *
      Math.cos(2 * Math.PI * uniform()));
}

/** The mean action in a state; fills both layers' units. */
function act([, w1, b1, w2, b2, w3, b3], x, y, first, second) {
  for (let i = 0; i < UNITS; i++)
    first[i] = Math.max(0, w1[2 * i] * x + w1[2 * i + 1] * y + b1[i]);
  let [right, up] = b3;
  for (let j = 0; j < UNITS; j++) {
    const row = j * UNITS;
    // Four sums at once: one alone would wait for itself at every number.
    let a = b2[j], b = 0, c = 0, d = 0;
    for (let i = 0; i < UNITS; i += 4) {
      a += w2[row + i] * first[i];
      b += w2[row + i + 1] * first[i + 1];
      c += w2[row + i + 2] * first[i + 2];
      d += w2[row + i + 3] * first[i + 3];
    }
    second[j] = Math.max(0, a + b + c + d);
    right += w3[j] * second[j];
    up += w3[UNITS + j] * second[j];
  }
  return [right, up];
}

/** Walk to the horizon: states and actions, (WALKS, HORIZON, 2), and ends. */
export function walk(params, noise) {
  const states = new Float64Array(WALKS * HORIZON * 2);
  const actions = new Float64Array(states.length);
  const ends = new Float64Array(WALKS * 2);
  const deviation = params[0].map(Math.exp);
  const first = new Float64Array(UNITS), second = new Float64Array(UNITS);
  for (let k = 0; k < WALKS; k++) {
    const place = [0, 0];
    for (let t = 0; t < HORIZON; t++) {
      const at = (k * HORIZON + t) * 2;
      states.set(place, at);
      const mean = act(params, ...place, first, second);
      for (let i = 0; i < 2; i++) {
        const action = mean[i] + deviation[i] * noise[(t * WALKS + k) * 2 + i];
        actions[at + i] = action;
        place[i] += SPEED * clamp(action, [-1, 1]);
      }
    }
    ends.set(place, 2 * k);
  }
  return { states, actions, ends };
}

/** Rewards (WALKS, HORIZON), steps until each end, and the mean return. */
export function judge({ states, ends }, goal) {
  const rewards = new Float64Array(WALKS * HORIZON);
  const lengths = new Array(WALKS).fill(HORIZON);
  const arrived = new Array(WALKS).fill(false);
  let total = 0;
  for (let k = 0; k < WALKS; k++) {
    for (let t = 0; t < HORIZON; t++) {
      const [from, at] = t + 1 < HORIZON
        ? [states, (k * HORIZON + t + 1) * 2] : [ends, 2 * k];
      const x = from[at] - goal[0], y = from[at + 1] - goal[1];
      total += rewards[k * HORIZON + t] = -Math.hypot(x, y);
      if (Math.abs(x) < REACH && Math.abs(y) < REACH) {
        [lengths[k], arrived[k]] = [t + 1, true];
        break;
      }
    }
  }
  return { rewards, lengths, arrived, mean: total / WALKS };
}

/** Solve A x = b by elimination; A is changed. */
function solve(matrix, target) {
  const n = target.length, x = [...target];
  for (let i = 0; i < n; i++) {
    let best = i;
    for (let r = i + 1; r < n; r++)
      if (Math.abs(matrix[r][i]) > Math.abs(matrix[best][i])) best = r;
    [matrix[i], matrix[best]] = [matrix[best], matrix[i]];
    [x[i], x[best]] = [x[best], x[i]];
    for (let r = i + 1; r < n; r++) {
      const share = matrix[r][i] / matrix[i][i];
      for (let c = i; c < n; c++) matrix[r][c] -= share * matrix[i][c];
      x[r] -= share * x[i];
    }
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let c = i + 1; c < n; c++) x[i] -= matrix[i][c] * x[c];
    x[i] /= matrix[i][i];
  }
  return x;
}

/** Advantages of mean 0 and deviation 1, (WALKS, HORIZON), as `weigh`. */
export function weigh({ states }, { rewards, lengths }) {
  const returns = new Float64Array(rewards.length);
  const matrix = Array.from({ length: FEATURES }, (_, i) =>
    Array.from({ length: FEATURES }, (_, j) => i === j ? 1e-5 : 0));
  const target = new Array(FEATURES).fill(0);
  const features = (n) => {
    const [x, y] = [states[2 * n], states[2 * n + 1]].map((s) =>
      clamp(s, [-10, 10]));
    const t = n % HORIZON / 100;
    return [x, y, x * x, y * y, 1, t, t * t, t * t * t];
  };
  const alive = [];
  for (let k = 0; k < WALKS; k++) {
    let total = 0;
    for (let t = lengths[k] - 1; t >= 0; t--) {
      const n = k * HORIZON + t, row = features(n);
      returns[n] = total = rewards[n] + DISCOUNT * total;
      alive.push(n);
      for (let i = 0; i < FEATURES; i++) {
        target[i] += row[i] * total;
        for (let j = 0; j < FEATURES; j++) matrix[i][j] += row[i] * row[j];
      }
    }
  }
  const weights = solve(matrix, target);
  const found = new Float64Array(rewards.length);
  let mean = 0, square = 0;
  for (const n of alive) {
    found[n] = features(n).reduce((s, f, i) => s - f * weights[i], returns[n]);
    mean += found[n] / alive.length;
  }
  for (const n of alive)
    square += (found[n] -= mean) ** 2 / alive.length;
  for (const n of alive) found[n] /= Math.sqrt(square) + 1e-8;
  return found;
}

/** New parameters after one step of REINFORCE. */
export function reinforce(params, walks, seen, lr) {
  const { states, actions } = walks, advantages = weigh(walks, seen);
  const [logStd, , , w2, , w3] = params;
  const grads = params.map((p) => new Float64Array(p.length));
  const [gs, g1, h1, g2, h2, g3, h3] = grads;
  const first = new Float64Array(UNITS), second = new Float64Array(UNITS);
  const back = new Float64Array(UNITS), deltas = [0, 0];
  const count = seen.lengths.reduce((sum, n) => sum + n, 0);
  for (let k = 0; k < WALKS; k++) for (let t = 0; t < seen.lengths[k]; t++) {
    const n = k * HORIZON + t, x = states[2 * n], y = states[2 * n + 1];
    const mean = act(params, x, y, first, second);
    const weight = -advantages[n] / count; // the loss is to fall
    for (let i = 0; i < 2; i++) {
      const off = (actions[2 * n + i] - mean[i]) / Math.exp(logStd[i]);
      gs[i] += weight * (off * off - 1);
      h3[i] += deltas[i] = weight * off / Math.exp(logStd[i]);
    }
    back.fill(0);
    for (let j = 0; j < UNITS; j++) {
      if (!(second[j] > 0)) continue;
      for (let i = 0; i < 2; i++) g3[i * UNITS + j] += deltas[i] * second[j];
      const delta = deltas[0] * w3[j] + deltas[1] * w3[UNITS + j];
      const row = j * UNITS;
      h2[j] += delta;
      for (let i = 0; i < UNITS; i++) {
        g2[row + i] += delta * first[i];
        back[i] += delta * w2[row + i];
      }
    }
    for (let i = 0; i < UNITS; i++) {
      if (!(first[i] > 0)) continue;
      g1[2 * i] += back[i] * x;
      g1[2 * i + 1] += back[i] * y;
      h1[i] += back[i];
    }
  }
  return params.map((p, i) => p.map((v, j) => v - lr * grads[i][j]));
}

/** The return of never moving. */
export function standing(goal) {
  const still = Math.max(...goal.map(Math.abs)) < REACH;
  return -Math.hypot(...goal) * (still ? 1 : HORIZON);
}

// What is seen --------------------------------------------------------------

const STYLE_OF_WALKS = `
.scene { display: grid; gap: 8px 22px; justify-items: center; }
.left { width: 100%; max-width: 400px; }
.family { fill: none; stroke: var(--soft); stroke-dasharray: 4 4; }
.field { cursor: crosshair; }
.past { fill: none; stroke: var(--rule); stroke-width: 1.6;
  stroke-linejoin: round; }
.trace { fill: none; stroke: var(--maml); stroke-width: 1.6; opacity: .8;
  stroke-linejoin: round; }
.walker { fill: var(--maml); stroke: var(--paper); stroke-width: 1.5; }
.start { fill: var(--paper); stroke: var(--ink); stroke-width: 2; }
.star { fill: var(--goal); stroke: var(--paper); stroke-width: 1.5; }
.goal:focus-visible { outline: none; }
.goal:focus-visible .star { stroke: var(--focus); stroke-width: 4;
  paint-order: stroke; }
.list { display: grid; gap: 10px; align-content: center; width: 100%; }
.row { display: grid; grid-template-columns: 1fr auto; gap: 2px 8px; }
.row b { font-weight: 600; }
.row.now span { font-weight: 700; }
.track { grid-column: 1 / -1; height: 8px; border-radius: 3px;
  background: var(--shade); overflow: hidden; }
.track div { height: 8px; border-radius: 3px; background: var(--maml);
  transform-origin: left; }
.track .floor { background: var(--soft); }
.caption { font-size: 14px; }
.buttons { display: flex; flex-wrap: wrap; gap: 8px; margin: 4px 0; }
.sentence { margin-top: 8px; min-height: 4.4em; }
@container (min-width: 600px) {
  .scene { grid-template-columns: minmax(0, 400px) minmax(0, 1fr); }
}
@container (max-width: 480px) { .sentence { min-height: 7.3em; } }
`;
const TOP_COST = 70; // at which a bar is full
const STAR = Array.from({ length: 10 }, (_, i) => {
  const far = i % 2 ? 4.5 : 11, turn = Math.PI * (i / 5 - 0.5);
  return [far * Math.cos(turn), far * Math.sin(turn)].map((v) => v.toFixed(1));
}).join(" ");

function render({ model, el }) {
  const start = unpack(model.get("weights")), rates = model.get("lr");
  let goal = [...model.get("goal")], seed = 1;
  let params, walks, seen, past, step, means, at = HORIZON, playing = 0;

  const here = stage(el, { name: "walks", style: STYLE_OF_WALKS,
    label: "The walks: place the goal, and take gradient steps",
    colours: model.get("colours") });
  const { root } = here;
  const lead = add(root, "p", { class: "lead" });
  add(lead, "strong", {}, "Place the goal, then take a step.");
  lead.append(" The point starts in the middle, and its policy does not see " +
    "the goal. Each step learns from the rewards of the 40 walks before it.");

  const scene = add(root, "div", { class: "scene" });
  const left = add(scene, "div", { class: "left" });
  const { svg, under, drawn, px, py, back, layout, press } = plane(left, {
    label: `The square, the goal, and ${DRAWN} of the ${WALKS} walks. ` +
      "Arrow keys move the goal.", x: [...SEEN, [-0.5, 0, 0.5]],
    y: [...SEEN, [-0.5, 0, 0.5]], high: (wide) => wide,
    margin: { left: 26, right: 10, top: 10, bottom: 26 } });
  const many = (tag, attributes) => Array.from({ length: DRAWN }, () =>
    add(drawn, tag, attributes));
  const pasts = many("svg:path", { class: "past" });
  const traces = many("svg:path", { class: "trace" });
  const walkers = many("svg:circle", { class: "walker", r: 5 });
  const middle = add(drawn, "svg:circle", { class: "start", r: 5 });
  const star = add(svg, "svg:g", { class: "goal grab", tabindex: "0",
    role: "slider", "aria-roledescription": "point on a plane",
    "aria-label": "goal", "aria-valuemin": GOALS[0],
    "aria-valuemax": GOALS[1] });
  add(star, "svg:circle", { r: 20, fill: "transparent" });
  add(star, "svg:polygon", { class: "star", points: STAR });

  const list = add(scene, "div", { class: "list" });
  add(list, "p", { class: "caption soft" },
    `mean return of ${WALKS} walks; a shorter bar is better`);
  const addRow = (name, kind) => {
    const row = add(list, "div", { class: "row" });
    add(row, "span", {}, name);
    const number = add(row, "b", { class: "number" });
    const bar = add(add(row, "div", { class: "track" }), "div",
      { class: kind });
    return { row, show: (value) => {
      number.textContent = value === undefined ? "–" : said(value, 1);
      bar.style.transform = `scaleX(${Math.min(1, -(value ?? 0) / TOP_COST)})`;
    } };
  };
  const names = [0, ...rates].map((_, n) => n === 0 ? "before a step"
    : `after ${n} ${n === 1 ? "step" : "steps"}`);
  const rows = names.map((name) => addRow(name, ""));
  const floor = addRow("standing still", "floor");

  const buttons = add(left, "div", { class: "buttons" });
  const button = (text, onclick, kind = "") => {
    const node = add(buttons, "button", { type: "button", class: kind }, text);
    node.onclick = onclick;
    return node;
  };
  const more = button("One step", () => {
    params = reinforce(params, walks, seen, rates[step]);
    past = { walks, seen };
    step += 1;
    look(seed + 1);
    run();
  }, "main");
  button("Start again", () => { begin(seed + 1); run(); });
  const sentence = add(root, "p", { class: "sentence" });

  function way(walked, k, last) { // in pixels: all xs, all ys
    const xs = [], ys = [];
    for (let t = 0; t <= last; t++) {
      const [from, i] = t < HORIZON ? [walked.states, (k * HORIZON + t) * 2]
        : [walked.ends, 2 * k];
      xs.push(px(from[i]));
      ys.push(py(from[i + 1]));
    }
    return [xs, ys];
  }
  const draw = here.frame(() => {
    for (let k = 0; k < DRAWN; k++) {
      put(pasts[k], { d: past ? line(...way(past.walks, k,
        past.seen.lengths[k])) : "" });
      const [xs, ys] = way(walks, k,
        Math.min(Math.floor(at), seen.lengths[k]));
      put(traces[k], { d: line(xs, ys) });
      put(walkers[k], { cx: xs.at(-1), cy: ys.at(-1) });
    }
    put(middle, { cx: px(0), cy: py(0) });
    put(star, { transform: `translate(${px(goal[0])} ${py(goal[1])})`,
      "aria-valuenow": goal[0].toFixed(2), "aria-valuetext": where() });
    rows.forEach(({ row, show }, n) => {
      show(means[n]);
      row.classList.toggle("now", n === step);
    });
    floor.show(standing(goal));
    sentence.textContent = inWords();
    more.disabled = step >= rates.length;
  });
  const where = () => `x ${said(goal[0])}, y ${said(goal[1])}`;
  function inWords() {
    const reached = seen.arrived.filter(Boolean).length;
    const next = step < rates.length ? `The next step has α = ${rates[step]}.`
      : "No α was chosen for further steps.";
    return `Goal at ${where()}. ${names[step].replace(/^./, (c) =>
      c.toUpperCase())}, ${WALKS} new walks have a mean return of ` +
      `${said(means[step], 1)}, and ${reached} of them reach the goal; ` +
      `standing still would have ${said(standing(goal), 1)}. ` +
      `${DRAWN} of the walks are drawn` +
      `${past ? ", in grey those before the step" : ""}. ${next}`;
  }
  const told = () => here.say(inWords);
  function value() {
    seen = judge(walks, goal);
    means[step] = seen.mean;
  }
  function look(next) {
    seed = next;
    walks = walk(params, noiseOf(seed));
    value();
  }
  function begin(next) {
    [params, past, step, means] = [start, null, 0, []];
    look(next);
  }
  function rest() {
    cancelAnimationFrame(playing);
    playing = 0;
    at = HORIZON;
    draw();
  }
  function run() {
    rest();
    told();
    if (here.still()) return;
    at = 0;
    let before;
    const tick = (time) => {
      at += (time - (before ?? time)) / 30; // 100 steps in 3 seconds
      before = time;
      if (at >= HORIZON) return rest();
      draw();
      playing = requestAnimationFrame(tick);
    };
    playing = requestAnimationFrame(tick);
  }
  // Without a step the walks are those of θ, wherever the goal is.
  function moveTo(place) {
    goal = place.map((v) => clamp(v, GOALS));
    if (step) begin(seed + 1);
    else value();
    rest();
    told();
  }
  function keep() {
    model.set("goal", [...goal]);
    model.save_changes();
  }
  drag(star, svg, { take: () => [px(goal[0]), py(goal[1])],
    move: (u, v) => moveTo(back(u, v)), drop: keep });
  star.addEventListener("keydown", (event) => {
    const ways = arrow(event);
    if (!ways) return;
    moveTo(goal.map((v, i) => v + 0.02 * ways[i]));
    keep();
  });
  press((x, y) => {
    moveTo([x, y]);
    keep();
    run();
  });

  here.every(() => {
    if (!layout()) return;
    const side = px(GOALS[1]) - px(GOALS[0]);
    add(under, "svg:rect", { class: "family", x: px(GOALS[0]),
      y: py(GOALS[1]), width: side, height: side });
    draw();
  });
  begin(seed);
  draw();
  return () => { cancelAnimationFrame(playing); here.leave(); };
}

export default { render };
