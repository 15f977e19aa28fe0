// What pages do by themselves: the route that was chosen, the walk on the
// first page, and the plays. Without it everything can still be read.

(() => {
const page = document.documentElement;
// A browser may store nothing, and then say so by an error or by null.
const storage = (act) => {
  try { return act(localStorage); } catch { return null; }
};

// The route ------------------------------------------------------------------

function showRoute() {
  page.dataset.route ||= "whole";
  const chosen = storage((kept) => kept.getItem("route"));
  if (["core", "whole"].includes(chosen)) page.dataset.route = chosen;
  for (const button of document.querySelectorAll("button[data-route]"))
    button.setAttribute("aria-pressed",
      button.dataset.route === page.dataset.route);
}
document.addEventListener("click", (event) => {
  const choice = event.target.closest?.(":is(button, a)[data-route]");
  if (!choice) return;
  page.dataset.route = choice.dataset.route;
  storage((kept) => kept.setItem("route", choice.dataset.route));
  showRoute();
});
// Another page's choice, or this reader's own a moment before this page opened.
addEventListener("storage", showRoute);
showRoute();

// On a phone a picture opens twice as wide as the screen, to be moved about ---

const narrow = matchMedia("(max-width: 36rem)");
document.addEventListener("click", (event) => {
  const link = event.target.closest?.(".figure a");
  if (!link || !narrow.matches) return;
  event.preventDefault();
  const box = document.createElement("dialog");
  box.className = "larger";
  box.ariaLabel = "Larger picture";
  box.innerHTML = '<button type="button">Close</button>' +
    '<div tabindex="0"></div>';
  const picture = link.querySelector("img").cloneNode();
  picture.loading = "eager";
  box.lastChild.append(picture);
  box.firstChild.onclick = () => box.close();
  box.onclose = () => box.remove();
  document.body.append(box);
  box.showModal();
});

// Folds say what they hold ---------------------------------------------------

for (const fold of document.querySelectorAll("details.hide > summary"))
  fold.removeAttribute("aria-label"); // "Toggle hidden content"
// When a window is resized, the theme lets keys reach what scrolls. What a
// fold hides does not scroll until it is open.
document.addEventListener("toggle",
  () => dispatchEvent(new Event("resize")), true);

// A touch on a place of this page shows it, and not the drawer upon it -------

for (const drawer of document.querySelectorAll("dialog"))
  drawer.addEventListener("click", (event) => {
    const link = event.target.closest("a");
    if (link?.hash && link.pathname === location.pathname) drawer.close();
  });

// What is wider than its frame fades at the edge where it goes on ------------

function fade(frame) {
  const { scrollLeft, scrollWidth, clientWidth } = frame;
  const left = scrollLeft > 1;
  const right = scrollWidth - clientWidth - scrollLeft > 1;
  frame.classList.toggle("goes-on", left || right);
  frame.classList.toggle("left", left);
  frame.classList.toggle("right", right);
}
// What is printed in columns keeps them on a phone, where other lines wrap.
for (const pre of document.querySelectorAll(".cell_output pre"))
  pre.classList.toggle("columns", /\S {2,}\S.*\n.*\S {2,}\S/.test(
    pre.textContent));

const frames = document.querySelectorAll("article :is(pre, .formula, " +
  ".scroll, .pst-scrollable-table-container)");
const sizes = new ResizeObserver((seen) =>
  seen.forEach(({ target }) => fade(target)));
for (const frame of frames) {
  sizes.observe(frame);
  frame.addEventListener("scroll", () => fade(frame), { passive: true });
}
// The listener above makes a resize of each fold that opens; in a page's first
// moments the observer can miss it.
addEventListener("resize", () => frames.forEach(fade));
// Letters that arrive late are wider or narrower than those before them.
document.fonts.addEventListener("loadingdone", () => frames.forEach(fade));

// On paper: light, and open where a reader could not open it -----------------

let onScreen; // light or dark
addEventListener("beforeprint", () => {
  onScreen = page.dataset.theme;
  page.dataset.theme = "light";
  for (const fold of document.querySelectorAll("details.below-input"))
    fold.open = true;
});
addEventListener("afterprint", () => { page.dataset.theme = onScreen; });

// The search ----------------------------------------------------------------

// From a folder a browser fetches no file, so results come without their excerpts.
if (location.protocol === "file:" &&
    typeof DOCUMENTATION_OPTIONS !== "undefined")
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
// A result opens at the first place where the page has these words.
const results = document.getElementById("search-results");
if (results) new MutationObserver(() => {
  const words = new URLSearchParams(location.search).get("q") ?? "";
  const place = encodeURIComponent(words.trim()).replace(/-/g, "%2D");
  for (const link of results.querySelectorAll("li a:not([href*='#'])"))
    link.setAttribute("href",
      `${link.getAttribute("href")}#:~:text=${place}`);
}).observe(results, { childList: true, subtree: true });
// Excerpts are of the text; Sphinx takes the buttons above it along.
if (typeof Search !== "undefined")
  Search.htmlToText = (html, anchor) => {
    const found = new DOMParser().parseFromString(html, "text/html");
    for (const part of found.querySelectorAll(
      ".headerlink, script, style, svg, .katex-mathml, .above-input, " +
      ".above-title")) part.remove();
    const place = anchor && found.getElementById(anchor.slice(1));
    const text = (place || found.querySelector("article"))?.textContent;
    return text?.replace(/\s+/g, " ").trim() ?? "";
  };

// Plays ----------------------------------------------------------------------

const addresses = new Map(); // name of a script -> its module's address

/** Make a module of a play's script, after those that it imports. */
function addressOf(name) {
  if (!addresses.has(name)) {
    const text = window.mamlkitPlays[name].replace(
      /(\bfrom\s*)(["'])\.\/([\w.-]+)\2/g,
      (_, from, quote, other) => `${from}"${addressOf(other)}"`);
    const blob = new Blob([text], { type: "text/javascript" });
    addresses.set(name, URL.createObjectURL(blob));
  }
  return addresses.get(name);
}

/** What anywidget hands to a play, where no kernel is. */
function modelOf(state) {
  const heard = {}; // event -> what is called
  return {
    get: (key) => state[key],
    set(key, value) {
      state[key] = value;
      for (const call of [...(heard[`change:${key}`] ?? []),
        ...(heard.change ?? [])]) call();
    },
    save_changes() {},
    on: (name, call) => (heard[name] ??= []).push(call),
    off(name, call) {
      heard[name] = (heard[name] ?? []).filter((other) => other !== call);
    },
  };
}

async function mount(place) {
  const play = place.dataset.play;
  if (!window.mamlkitPlays?.[`${play}.js`]) return;
  const state = JSON.parse(place.dataset.state);
  const { default: made } = await import(addressOf(`${play}.js`));
  const { render } = typeof made === "function" ? await made() : made;
  place.dataset.mounted = "";
  await render({ model: modelOf(state), el: place });
  putAway(pictureOf(place), place);
}

/** The picture that a cell has beside its play, for who only reads. */
function pictureOf(place) {
  const output = place.closest(".output");
  if (!output || place.dataset.play === "predict") return null;
  return [output.previousElementSibling, output.nextElementSibling]
    .find((other) => other?.querySelector(":scope > .figure"));
}

/** Fold a picture beneath the play that shows the same, and more. */
function putAway(picture, place) {
  if (!picture) return;
  const fold = document.createElement("details");
  fold.className = "still";
  fold.innerHTML = "<summary>The same as a picture</summary>";
  place.closest(".output").after(fold);
  fold.append(picture);
}

const places = document.querySelectorAll(".mamlkit-play[data-play]");
if (places.length) {
  const script = document.createElement("script");
  script.src = `${page.dataset.content_root ?? "./"}plays/plays.js`;
  script.onload = () => places.forEach(mount);
  document.head.append(script);
}

// Your own score, which no stored figure can have, stands beneath it ----------

function tellScore([{ target, isIntersecting }]) {
  if (!isIntersecting) return;
  let games = [];
  try {
    games = JSON.parse(localStorage.getItem("mamlkit-score")).games;
  } catch { /* nothing was played, or what is kept is damaged */ }
  const rounds = games.flatMap(({ right }) => right);
  const told = target.querySelector("output") ??
    target.appendChild(document.createElement("output"));
  told.textContent = rounds.length &&
    ` You: ${rounds.filter(Boolean).length} of ${rounds.length}.` || "";
}
for (const caption of document.querySelectorAll("figcaption"))
  if (/\byour score\b/i.test(caption.textContent))
    new IntersectionObserver(tellScore).observe(caption);

// The walk on the first page -------------------------------------------------

const hero = document.getElementById("hero");
if (hero) walk(hero, JSON.parse(hero.querySelector("script").textContent));

function walk(figure, { frames, waves, scale, amplitude, phase }) {
  const find = (what) => figure.querySelector(what);
  const map = find(".map"), button = find("button"), slider = find("input");
  const steps = [...map.querySelectorAll(".step")];
  const path = frames.map(({ theta }) => at(theta));
  const xs = Array.from({ length: 81 }, (_, i) => -5 + i / 8);
  const drawings = [...figure.querySelectorAll(".waves svg")];
  let playing = 0;

  function at([a, b]) {
    return [(a - amplitude[0]) * scale, (phase[1] - b) * scale];
  }
  function curve([a, b]) {
    return "M" + xs.map((x) => `${(100 + 19 * x).toFixed(1)} ` +
      (68 - 14 * a * Math.sin(x - b)).toFixed(1)).join("L");
  }
  drawings.forEach((drawing, i) =>
    drawing.querySelector(".truth").setAttribute("d", curve(waves[i].truth)));

  /** Draw a place on the walk; between two frames, what lies between. */
  function draw(where) {
    const i = Math.floor(where), next = Math.min(i + 1, frames.length - 1);
    const between = (one, other) =>
      one.map((v, k) => v + (where - i) * (other[k] - v));
    const theta = between(frames[i].theta, frames[next].theta);
    const [x, y] = at(theta);
    map.querySelector(".walk").setAttribute("d",
      "M" + [...path.slice(0, i + 1), [x, y]].join("L"));
    for (const [name, value] of [["cx", x], ["cy", y]])
      map.querySelector(".theta").setAttribute(name, value);
    map.querySelector(".name").setAttribute("x", x);
    map.querySelector(".name").setAttribute("y", y);
    for (const drawing of drawings)
      drawing.querySelector(".start").setAttribute("d", curve(theta));
    steps.forEach((step, k) => {
      const end = between(frames[i].ends[k], frames[next].ends[k]);
      const [u, v] = at(end);
      step.querySelector("path").setAttribute("d", `M${x} ${y}L${u} ${v}`);
      step.querySelector("circle").setAttribute("cx", u);
      step.querySelector("circle").setAttribute("cy", v);
      drawings[k]?.querySelector(".fit").setAttribute("d", curve(end));
    });
    find("output").textContent = frames[i].iteration;
    find(".loss").textContent = frames[i].loss.toFixed(2);
    slider.value = i;
    slider.setAttribute("aria-valuetext", `meta-iteration ` +
      `${frames[i].iteration}, mean loss after one step ` +
      frames[i].loss.toFixed(2));
  }
  function stop() {
    cancelAnimationFrame(playing);
    playing = 0;
    button.textContent = "Play";
    button.setAttribute("aria-label", "Play the walk");
  }
  function play() {
    const last = frames.length - 1, from = +slider.value % last;
    let begun;
    button.textContent = "Pause";
    button.setAttribute("aria-label", "Pause the walk");
    const turn = (now) => {
      begun ??= now;
      const where = from + (now - begun) / 90; // ms a frame: eight seconds
      draw(Math.min(where, last));
      if (where >= last) stop();
      else playing = requestAnimationFrame(turn);
    };
    playing = requestAnimationFrame(turn);
  }
  button.onclick = () => (playing ? stop() : play());
  slider.oninput = () => { stop(); draw(+slider.value); };
  draw(frames.length - 1);
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) {
    slider.value = 0;
    draw(0);
    play();
  }
}
})();
