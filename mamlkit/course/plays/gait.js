// The gait: one body, one starting point, two rewards. After some gradient
// steps the stick figure runs the way that it was rewarded for.

import { add, clamp, put, said, slider, stage } from "./stage.js";

const FEET = -0.1, HEIGHT = 1.9; // of the scene, in metres
const LIMBS = [ // which points a line joins, and how it is drawn
  { points: [0, 1, 2, 3], kind: "back" }, { points: [4, 5, 6, 7],
    kind: "front" }, { points: [3, 4], kind: "trunk" },
  { points: [8, 9], kind: "trunk" }];
const WAYS = ["forward", "backward"];

const STYLE_OF_GAIT = `
.scene svg { width: 100%; overflow: visible; }
.ground { stroke: var(--soft); stroke-width: 2; }
.mark { stroke: var(--rule); stroke-width: 1.5; }
.start { stroke: var(--ink); stroke-width: 2; stroke-dasharray: 5 4; }
.limb { fill: none; stroke-linecap: round; stroke-linejoin: round; }
.back { stroke: var(--back); stroke-width: 7; }
.front { stroke: var(--front); stroke-width: 7; }
.trunk { stroke: var(--ink); stroke-width: 11; }
.ways { display: flex; flex-wrap: wrap; gap: 8px; align-items: center;
  margin: 6px 0; }
.ways button[aria-pressed=true] { border: 2px solid var(--ink);
  font-weight: 700; }
.turn { display: grid; grid-template-columns: 1fr 1fr auto; gap: 4px 16px;
  align-items: end; margin: 4px 0 8px; }
.turn button { min-width: 92px; }
.sentence { min-height: 3em; }
@container (max-width: 480px) {
  .turn { grid-template-columns: 1fr; }
  .sentence { min-height: 5.9em; }
}
`;

/** int16 centimetres in base64 as metres. */
export function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return Float32Array.from({ length: bytes.length / 2 },
    (_, i) => view.getInt16(2 * i, true) / 100);
}

/** The points of a figure at a time between two frames, [[x, height], ...]. */
export function figure(points, [, frames, count], run, at) {
  const from = clamp(Math.floor(at), [0, frames - 2]), share = at - from;
  const place = (frame, i) => points[((run * frames + frame) * count) * 2 + i];
  return Array.from({ length: count }, (_, k) => [0, 1].map((axis) => {
    const i = 2 * k + axis;
    return (1 - share) * place(from, i) + share * place(from + 1, i);
  }));
}

function render({ model, el }) {
  const points = unpack(model.get("points"));
  const shape = model.get("shape"), [runs, frames] = shape;
  const returns = model.get("returns"), pace = model.get("seconds");
  const last = frames - 1;
  let way = 0, steps = model.get("steps"), at = 0, playing = 0;

  const here = stage(el, { name: "gait", style: STYLE_OF_GAIT,
    label: "The gait: choose a reward and a number of gradient steps, " +
      "and let the half-cheetah run", colours: model.get("colours") });
  const { root } = here;
  const lead = add(root, "p", { class: "lead" });
  add(lead, "strong", {}, "Choose a reward, then the number of steps.");
  lead.append(" Without a step, both policies are the same θ.");

  const scene = add(root, "div", { class: "scene" });
  const svg = add(scene, "svg:svg", { role: "img" });
  const marks = add(svg, "svg:g", { "aria-hidden": "true" });
  const ground = add(svg, "svg:line", { class: "ground" });
  const limbs = LIMBS.map(({ kind }) => add(svg, "svg:polyline",
    { class: `limb ${kind}` }));

  const ways = add(root, "div", { class: "ways" });
  add(ways, "span", {}, "Rewarded for running:");
  const choices = WAYS.map((name, i) => {
    const node = add(ways, "button", { type: "button" }, name);
    node.onclick = () => { way = i; again(); };
    return node;
  });
  const turn = add(root, "div", { class: "turn" });
  slider(add(turn, "div"), { name: "gradient steps:", min: 0,
    max: runs / 2 - 1, step: 1, value: steps, tell: String,
    turn: (v) => { steps = v; again(); } });
  const clock = slider(add(turn, "div"), { name: "time:", min: 0, max: last,
    step: 1, value: 0, tell: (v) => `${said(v * pace, 1)} s`,
    turn: (v) => { rest(); at = v; draw(); told(); } });
  const go = add(turn, "button", { type: "button", class: "main" });
  go.onclick = () => playing ? rest() : run();
  const sentence = add(root, "p", { class: "sentence" });

  const now = (time = at) => figure(points, shape, 2 * steps + way, time);
  const middle = (body) => (body[3][0] + body[4][0]) / 2;
  const gone = () => middle(now()) - middle(now(0));
  const draw = here.frame(() => {
    const width = scene.clientWidth, scale = clamp(width / 5, [70, 150]);
    const tall = HEIGHT * scale, floor = tall + FEET * scale;
    put(svg, { viewBox: `0 0 ${width} ${tall + 22}`, height: tall + 22 });
    const body = now(), eye = middle(body);
    const px = (x) => width / 2 + (x - eye) * scale;
    put(ground, { x1: 0, x2: width, y1: floor + 4, y2: floor + 4 });
    marks.replaceChildren();
    const reach = width / scale / 2;
    for (let x = Math.ceil(eye - reach); x <= eye + reach; x++) {
      add(marks, "svg:line", { class: x ? "mark" : "start", x1: px(x),
        x2: px(x), y1: x ? floor - 8 : 8, y2: floor + 4 });
      add(marks, "svg:text", { x: px(x), y: floor + 20, class: "soft",
        "text-anchor": "middle" }, x ? said(x, 0) : "start");
    }
    limbs.forEach((limb, i) => put(limb, { points: LIMBS[i].points
      .map((k) => `${px(body[k][0])},${floor - body[k][1] * scale}`)
      .join(" ") }));
    clock.show(Math.round(at));
    const far = gone(), where = far < 0 ? "back" : "ahead";
    const text = `After ${steps} gradient ${steps === 1 ? "step" : "steps"}, `
      + `rewarded for running ${WAYS[way]}: at ${said(at * pace, 1)} s it is `
      + `${said(Math.abs(far), 1)} m ${where} of its start. `
      + `The return of this run is ${said(returns[2 * steps + way], 0)}.`;
    sentence.textContent = text;
    svg.setAttribute("aria-label", text);
    choices.forEach((node, i) =>
      node.setAttribute("aria-pressed", String(i === way)));
    go.textContent = playing ? "Pause" : "Run";
  });
  const told = () => here.say(() => sentence.textContent);
  function rest() {
    cancelAnimationFrame(playing);
    playing = 0;
    draw();
  }
  function run() {
    if (at >= last) at = 0;
    if (here.still()) { at = last; draw(); told(); return; }
    let before;
    const tick = (time) => {
      at = Math.min(last, at + (time - (before ?? time)) / 1000 / pace);
      before = time;
      draw();
      if (at < last) playing = requestAnimationFrame(tick);
      else { rest(); told(); }
    };
    playing = requestAnimationFrame(tick);
    draw();
  }
  function again() {
    rest();
    at = 0;
    draw();
    told();
  }
  here.every(draw);
  draw();
  return () => { cancelAnimationFrame(playing); here.leave(); };
}
export default { render };
