// The few-shot game: five drawings, one question, no experience needed.
//
// In JupyterLab the kernel keeps the score and deals the next game; on a page
// the browser keeps it, and the page holds a few games.

import { add, said, stage } from "./stage.js";

const WAYS = 5;
const SHELF = "mamlkit-score"; // in localStorage, as the file of score.py

const STYLE_OF_GAME = `
.mamlkit-game { max-width: 620px; }
.top { display: flex; gap: 14px; align-items: center; min-height: 132px; }
.top .words { flex: 1; }
.words p + p { margin-top: 4px; }
.dots { display: flex; gap: 5px; margin-top: 8px; }
.dot { width: 14px; height: 14px; border-radius: 50%; font-size: 11px;
  line-height: 14px; text-align: center; border: 1px solid var(--soft); }
.dot.now { border: 3px solid var(--ink); }
.dot.right { background: var(--truth); border-color: var(--truth);
  color: var(--paper); }
.dot.wrong { border-color: var(--ink); border-style: dashed; }
.drawing { display: block; background-color: #fff; background-repeat:
  no-repeat; image-rendering: pixelated; width: 100%; aspect-ratio: 1;
  border-radius: 4px; }
.query { width: 112px; flex: none; text-align: center; }
.query .drawing { border: 2px solid var(--ink); }
.query span { font-weight: 700; font-size: 18px; line-height: 22px; }
.five { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr));
  gap: 8px; margin: 6px 0; }
.five button { padding: 6px; min-width: 0; border: 2px solid var(--soft);
  display: grid; gap: 2px; justify-items: center; white-space: nowrap; }
.five button:disabled { color: var(--ink); border-color: var(--rule); }
.five button:hover:enabled { border-color: var(--ink); }
.five strong { font-size: 16px; line-height: 24px; height: 24px; }
.five button.right { border: 4px solid var(--truth); padding: 4px; }
.five button.wrong { border: 2px dashed var(--ink); }
.status { min-height: 98px; margin-top: 8px; }
.status p + p { margin-top: 3px; }
.row { display: flex; gap: 8px; align-items: center; min-height: 44px; }
.row .main { min-width: 130px; }
@container (max-width: 480px) {
  .five { gap: 4px; }
  .five button { padding: 3px; }
  .five button.right { padding: 1px; }
  .query { width: 88px; }
  .top { min-height: 154px; align-items: start; }
  .status { min-height: 164px; }
}
`;

/** The 95 % interval of a share of few trials (Wilson 1927). */
export function wilson(right, n) {
  const z = 1.96, share = right / n, middle = share + z * z / (2 * n);
  const half = z * Math.sqrt(share * (1 - share) / n + z * z / (4 * n * n));
  return [-1, 1].map((sign) => Math.min(1, Math.max(0,
    (middle + sign * half) / (1 + z * z / n))));
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), n = sorted.length;
  return (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2;
}

/** The games that this browser keeps; what is damaged counts as none. */
function shelf() {
  try {
    const { games } = JSON.parse(localStorage.getItem(SHELF)) ?? { games: [] };
    games.forEach(({ right, seconds }) => right.map(Boolean) && seconds[0]);
    return games;
  } catch {
    return [];
  }
}

function keep(game) {
  try {
    const date = new Date().toISOString().slice(0, 10);
    const games = [...shelf(), { date, ...game }];
    localStorage.setItem(SHELF, JSON.stringify({ games }));
    return games;
  } catch {
    return null; // the browser allows no storage
  }
}

const count = (right) => `${right.filter(Boolean).length} of ${right.length}`;
const percent = (share) => `${Math.round(100 * share)} %`;

function render({ model, el }) {
  const live = model.get("home") === "kernel";
  const here = stage(el, { name: "game", style: STYLE_OF_GAME,
    label: "The few-shot game", colours: model.get("colours"),
    speaks: false });
  const { root } = here;
  const games = () => model.get("games");
  let at = live ? games().length - 1 :
    Math.min(shelf().length, games().length);
  let replay = false; // rounds seen before are no test, and are not kept
  let right = [], seconds = [], shown = 0, state = "start", waiting = 0;
  const rounds = games()[0].answers.length;

  const top = add(root, "div", { class: "top" });
  const query = add(top, "div", { class: "query" });
  add(query, "span", { "aria-hidden": "true" }, "?");
  const asked = add(query, "span", { class: "drawing", role: "img",
    "aria-label": "the drawing asked about" });
  const words = add(top, "div", { class: "words" });
  const head = add(words, "p", { class: "lead" });
  const dots = add(words, "div", { class: "dots", "aria-hidden": "true" });
  const marks = Array.from({ length: rounds },
    () => add(dots, "span", { class: "dot" }));

  const five = add(root, "div", { class: "five", role: "group",
    "aria-label": "The five examples" });
  const answers = Array.from({ length: WAYS }, (_, i) => {
    const button = add(five, "button", { type: "button" });
    const drawing = add(button, "span", { class: "drawing" });
    const text = add(button, "strong", {}, `${i + 1}`);
    button.onclick = () => answer(i);
    return { button, drawing, text };
  });
  const row = add(root, "div", { class: "row" });
  const next = add(row, "button", { type: "button", class: "main" }, "Start");
  next.onclick = advance;
  const forget = add(row, "button", { type: "button" }, "Forget my score");
  forget.hidden = true;
  forget.onclick = () => {
    localStorage.removeItem(SHELF);
    forget.hidden = true;
    tell(["Your score is deleted from this browser."]);
    next.focus();
  };
  const status = add(root, "div", { class: "status", role: "status" });

  /** Show the drawings of a round, which is a row of the game's sheet. */
  function lay({ sheet, answers: { length } }, round) {
    [asked, ...answers.map(({ drawing }) => drawing)].forEach((node, i) => {
      node.style.cssText =
        `background-image:url(data:image/png;base64,${sheet});` +
        `background-size:${100 * (WAYS + 1)}% ${100 * length}%;` +
        `background-position:${100 * i / WAYS}% ` +
        `${100 * round / Math.max(1, length - 1)}%`;
    });
  }
  function tell(...lines) { // each a list of texts and elements
    status.replaceChildren();
    for (const line of lines) add(status, "p").append(...line);
  }
  const strong = (text) => {
    const node = document.createElement("strong");
    node.textContent = text;
    return node;
  };
  function label(i, mark = "", what = "") {
    const { button, text } = answers[i];
    text.textContent = `${mark}${i + 1}`;
    button.setAttribute("aria-label", `Example ${i + 1}${what}`);
  }
  function reveal(own) {
    answers[own].button.classList.add("right");
    label(own, "✓ ", ", the right one");
  }
  function clear() {
    answers.forEach(({ button }, i) => {
      button.classList.remove("right", "wrong");
      label(i);
    });
  }
  function begin() { // a game, not yet its first round
    [right, seconds] = [[], []];
    marks.forEach((mark) => {
      mark.className = "dot";
      mark.textContent = "";
    });
  }
  function wait(text) {
    state = text;
    next.textContent = text;
    next.disabled = false;
    answers.forEach(({ button }) => { button.disabled = true; });
  }

  function advance() {
    if (next.disabled) return;
    if (state === "Play again") {
      at += 1;
      if (at >= games().length) [at, replay] = [0, true];
      begin();
    }
    if (at >= games().length) [at, replay] = [0, true];
    const round = right.length;
    clear();
    head.textContent = "";
    head.append(strong(`Round ${round + 1} of ${rounds}.`),
      " Which of the five is the same character as the drawing with the " +
      "question mark, drawn by another hand?");
    marks[round].className = "dot now";
    lay(games()[at], round);
    answers.forEach(({ button }) => { button.disabled = false; });
    tell(["Choose a number from 1 to 5."]);
    next.textContent = "Next round";
    next.disabled = true;
    forget.hidden = true;
    answers[0].button.focus({ preventScroll: true });
    shown = performance.now();
    state = "asking";
  }

  function answer(chosen) {
    if (state !== "asking") return;
    const took = (performance.now() - shown) / 1000, round = right.length;
    const own = games()[at].answers[round], hit = chosen === own;
    right.push(hit);
    seconds.push(Math.round(100 * took) / 100);
    marks[round].className = `dot ${hit ? "right" : "wrong"}`;
    marks[round].textContent = hit ? "✓" : "✗";
    reveal(own);
    if (!hit) {
      answers[chosen].button.classList.add("wrong");
      label(chosen, "✗ ", ", your choice");
    }
    const verdict = [strong(hit ? `✓ Right, it is ${own + 1}.`
      : `✗ It is ${own + 1}, not ${chosen + 1}.`),
    ` ${said(took, 1)} seconds.`];
    if (right.length === rounds) over(verdict);
    else {
      tell(verdict, [`Right so far: ${count(right)}.`]);
      wait("Next round");
    }
    next.focus({ preventScroll: true });
  }

  function over(verdict) {
    const n = right.length, sum = right.filter(Boolean).length;
    const [low, high] = wilson(sum, n);
    const result = [strong(`${sum} of ${n} right, ${percent(sum / n)}`),
      ` (so few rounds could come from anything between ${percent(low)} and ` +
      `${percent(high)}), median time ${said(median(seconds), 1)} seconds.`];
    const end = (text) => tell(verdict, result, [text]);
    wait("Play again");
    if (live) {
      end("Keeping it …");
      clearTimeout(waiting);
      waiting = setTimeout(end, 8000, "Not kept: the kernel does not " +
        "answer. Run this cell again to go on.");
      answered = end;
      model.set("finished", { right: [...right], seconds: [...seconds] });
      model.save_changes();
    } else if (replay) {
      end("You had seen these rounds before, so this game is not kept.");
    } else {
      const kept = keep({ right, seconds });
      end(kept ? "Kept in this browser and nowhere else. All your games: " +
        `${count(kept.flatMap((game) => game.right))} right.`
        : "Not kept: this browser stores nothing for this page.");
      forget.hidden = !kept;
    }
  }
  let answered = () => {};
  // The next game comes after the words on where the last one is kept.
  model.on("change:games", () => {
    clearTimeout(waiting);
    if (state === "Play again") answered(model.get("kept"));
  });

  root.addEventListener("keydown", (event) => { // 1 to 5 answer at once
    const chosen = Number(event.key) - 1;
    if (state !== "asking" || !answers[chosen]) return;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    answer(chosen);
  });

  const example = model.get("example"), own = example.answers[0];
  head.append(strong("For example:"), ` number ${own + 1} is the same ` +
    "character as the drawing with the question mark, drawn by another hand.");
  clear();
  begin();
  lay(example, 0);
  reveal(own);
  wait("Start");
  const before = live ? [] : shelf().flatMap((game) => game.right);
  tell([strong(`${rounds} rounds, each timed.`), " All characters are " +
    "invented. Press Start, then answer by tap, click or the keys 1 to 5."],
  before.length ? [`Your games so far: ${count(before)} right.`] : []);
  forget.hidden = !before.length;
  return () => {
    clearTimeout(waiting);
    here.leave();
  };
}

export default { render };
