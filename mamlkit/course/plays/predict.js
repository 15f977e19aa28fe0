// Predict, commit, reveal: a question, and outputs that stay shut until it is
// answered. At a chapter's end the same file counts how often you were right.

const ANSWERED = "mamlkit-predict"; // an event, for the count on the same page

const STYLE = `
.mamlkit-ask { margin: .5em 0; max-width: 44em; }
.mamlkit-ask p { margin: 0 0 .5em; }
.mamlkit-ask-options { display: flex; flex-direction: column; gap: .4em; }
.mamlkit-ask button { font: inherit; color: inherit; background: transparent;
  text-align: left; border: 1px solid rgba(128, 128, 128, .7);
  border-radius: .4em; padding: .45em .8em; cursor: pointer;
  white-space: normal; display: flex; align-items: baseline; }
.mamlkit-ask button:enabled::before { content: ""; flex: none;
  width: .65em; height: .65em; margin-right: .6em; border-radius: 50%;
  border: 1px solid currentColor; }
.mamlkit-ask button:hover:enabled { background: rgba(128, 128, 128, .18); }
.mamlkit-ask button:focus-visible { outline: 3px solid #0072B2;
  outline-offset: 2px; }
.mamlkit-ask button:disabled { cursor: default; border-style: dotted;
  opacity: 1; color: inherit; }
.mamlkit-ask button.chosen { border: 2px solid currentColor;
  font-weight: bold; }
.mamlkit-ask [role=status]:not(:empty) { margin-top: .5em; }
@media not print {
  .mamlkit-shut, .mamlkit-first > .above-input { display: none !important; }
}
`;

function add(parent, tag, text = "", attributes = {}) {
  const element = parent.appendChild(document.createElement(tag));
  element.textContent = text;
  for (const name in attributes) element.setAttribute(name, attributes[name]);
  return element;
}

// The places on a page where an output can be shut, each in its own way.
const PAGES = [
  { // JupyterLab and Notebook 7
    cell: ".jp-Cell",
    code: ".jp-CodeCell",
    outputs: ".jp-Cell-outputArea",
    isShut: (cell) => !!cell.querySelector(".jp-OutputPlaceholder"),
    shut(cell, shut) {
      if (this.isShut(cell) === shut) return;
      cell.querySelector(".jp-OutputCollapser > *")?.click();
    },
  },
  { // a page made by myst-nb
    cell: ".cell",
    code: ".cell",
    outputs: ".cell_output",
    // What follows at once and is shut too: claims that tell the answer.
    more: ".cell:not(:has(.cell_input)), .cell:has(.below-input)",
    isShut: (cell) => !!cell.querySelector("details:not([open]) .cell_output"),
    shut(cell, shut) {
      const fold = cell.querySelector(".cell_output")?.closest("details");
      if (fold) fold.open = !shut;
    },
    // While all is shut, one row stands for cells whose code is folded, too.
    gather(cells, shut, openAll) {
      const folded = cells.filter((cell) =>
        !cell.querySelector(".cell_input") ||
        cell.querySelector(".above-input"));
      const first = folded.find((cell) => cell.querySelector(".below-input"));
      if (!first) return;
      for (const cell of folded)
        cell.classList.toggle("mamlkit-shut", shut && cell !== first);
      first.classList.toggle("mamlkit-first", shut);
      const fold = first.querySelector(".below-input");
      const name = fold.querySelector(".collapsed") ??
        fold.querySelector("summary");
      if (shut) {
        fold.dataset.name = name.textContent;
        name.textContent = "Show the results without answering";
        fold.addEventListener("toggle", () => fold.open && openAll(),
          { once: true });
      } else name.textContent = fold.dataset.name ?? name.textContent;
    },
  },
];

// The `count` code cells below the one that `el` is in.
function below(el, count) {
  for (const page of PAGES) {
    let cell = el.closest(page.cell);
    if (!cell) continue;
    const cells = [];
    while (cells.length < count && (cell = cell.nextElementSibling))
      if (cell.matches(page.code)) cells.push(cell);
    while (page.more && (cell = cell?.nextElementSibling)?.matches(page.more))
      cells.push(cell);
    return { page, cells, around: el.closest(page.cell).parentElement };
  }
  return { cells: [] };
}

// Shut the outputs below, again after each time that a run brings new ones.
// Whoever opens them by hand is let be, and told what turned out (`opened`).
function guard(el, count, opened) {
  const seen = new Map(); // cell -> what stops watching it
  const shutNow = ({ page, cell }) => {
    if (cell.querySelector(page.outputs)?.childElementCount)
      page.shut(cell, true);
  };
  function watch() {
    const { page, cells } = below(el, count);
    for (const cell of cells) {
      if (seen.has(cell)) continue;
      const watcher = new MutationObserver(() => shutNow({ page, cell }));
      const outputs = cell.querySelector(page.outputs);
      if (outputs) watcher.observe(outputs, { childList: true });
      seen.set(cell, watcher);
      shutNow({ page, cell });
    }
  }
  const { around } = below(el, count);
  const comings = new MutationObserver(watch);
  if (around) comings.observe(around, { childList: true });
  watch();
  const { page, cells } = below(el, count);
  page?.gather?.(cells, true, () => {
    open(el, count);
    opened();
  });
  return () => {
    comings.disconnect();
    seen.forEach((watcher) => watcher.disconnect());
  };
}

// Open the outputs below; false where the page has none to open.
function open(el, count) {
  const { page, cells } = below(el, count);
  page?.gather?.(cells, false);
  cells.forEach((cell) => page.shut(cell, false));
  return cells.length >= count &&
    cells.every((cell) => !page.isShut(cell));
}

function ask(model, el) {
  const options = model.get("options"), key = model.get("key");
  // JupyterLab's single-key commands must not take a button's keys.
  el.setAttribute("data-lm-suppress-shortcuts", "true");
  add(el, "style", STYLE);
  const form = add(el, "div", "", { class: "mamlkit-ask", role: "group" });
  const question = add(form, "p");
  add(question, "strong", "Predict: ");
  question.append(model.get("question"));
  form.setAttribute("aria-label", question.textContent);
  const list = add(form, "div", "", { class: "mamlkit-ask-options" });
  const said = add(form, "div", "", { role: "status" });
  const buttons = options.map((text, index) => {
    const button = add(list, "button", text, { type: "button" });
    button.onclick = () => {
      model.set("chosen", index);
      model.save_changes();
      commit();
    };
    return button;
  });
  let release = () => {}, opened;

  function tell() {
    const chosen = model.get("chosen"), right = model.get("right");
    if (chosen < 0) return;
    buttons.forEach((button, index) => {
      button.disabled = true;
      button.classList.toggle("chosen", index === chosen);
      const mark = index === right ? "✓ " : index === chosen ? "● " : "";
      button.textContent = mark + options[index];
    });
    const verdict = right < 0 ? "Kept. Run the cells below to see."
      : right === chosen ? "✓ You were right."
      : `✗ In this run it is: ${options[right]}.`;
    said.replaceChildren();
    add(said, "strong", verdict);
    said.append(` ${right < 0 ? "" : model.get("why")} `);
    add(said, "em", opened ? "What was folded below is open."
      : "Now open what is folded below.");
    document.dispatchEvent(
      new CustomEvent(ANSWERED, { detail: { key, answer: [chosen, right] } }));
  }
  function commit() {
    release();
    opened = open(el, model.get("cells"));
    tell();
  }
  function tellOnlooker() {
    const right = model.get("right");
    if (right < 0 || model.get("chosen") >= 0) return;
    said.replaceChildren();
    add(said, "strong", `In this run it is: ${options[right]}.`);
    said.append(` ${model.get("why")}`);
  }
  model.on("change:right", tell);
  if (model.get("chosen") >= 0) commit();
  else {
    // `el` may not be in the page yet.
    const frame = requestAnimationFrame(() => {
      release = guard(el, model.get("cells"), tellOnlooker);
    });
    release = () => cancelAnimationFrame(frame);
  }
  return () => {
    release();
    model.off?.("change:right", tell);
  };
}

function count(model, el) {
  const asked = model.get("asked");
  let answers = model.get("answers");
  const said = add(el, "p", "",
    { role: "status", style: "margin: 0; padding: .4em 0" });
  function tell() {
    const made = asked.filter((key) => (answers[key]?.[0] ?? -1) >= 0);
    const right = made.filter((key) => answers[key][0] === answers[key][1]);
    said.textContent = made.length
      ? `Predictions: you made ${made.length} of ${asked.length}, and were ` +
        `right in ${right.length}.`
      : `Predictions: you made none of ${asked.length} yet.`;
  }
  const onKernel = () => {
    answers = { ...answers, ...model.get("answers") };
    tell();
  };
  const onPage = ({ detail: { key, answer } }) => {
    answers = { ...answers, [key]: answer };
    tell();
  };
  model.on("change:answers", onKernel);
  document.addEventListener(ANSWERED, onPage);
  tell();
  return () => {
    model.off?.("change:answers", onKernel);
    document.removeEventListener(ANSWERED, onPage);
  };
}

function render({ model, el }) {
  el.replaceChildren();
  return model.get("asked") ? count(model, el) : ask(model, el);
}
export default { render };
