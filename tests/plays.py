"""A play on a plain page, with a model that no Python stands behind."""

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from unittest import mock

import torch

from mamlkit import Sinusoids, load_checkpoint, load_glyphs
from mamlkit.course import CHECKPOINTS, figures, plays
from mamlkit.course.plays import stage

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{name}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 0 16px;
  max-width: 760px; background: #fff; color: #1c1c1e; }}
[data-theme=dark] body {{ background: #121212; color: #ced6dd; }}
</style></head><body><main><h1>{name}</h1>{div}</main>
<script type="text/plain" id="script">{script}</script><script>
// Every callback of a frame is timed.
window.work = [];
const ask = requestAnimationFrame;
window.requestAnimationFrame = (draw) => ask((now) => {{
  const began = performance.now();
  draw(now);
  work.push(performance.now() - began);
}});
const el = document.querySelector(".mamlkit-play");
const state = JSON.parse(el.dataset.state), listeners = {{}};
const model = {{
  get: (key) => state[key],
  set(key, value) {{
    state[key] = value;
    (listeners[`change:${{key}}`] ?? []).forEach((f) => f());
  }},
  save_changes() {{ window.saved = (window.saved ?? 0) + 1; }},
  on(event, f) {{ (listeners[event] ??= []).push(f); }},
}};
const text = document.getElementById("script").textContent;
const url = URL.createObjectURL(new Blob([text], {{type: "text/javascript"}}));
import(url).then((module) => {{
  Object.assign(window, {{ state, model, module }});
  window.leave = module.default.render({{ model, el }});
}});
</script></body></html>"""


def shown(call: Callable[[], None]) -> list[tuple[dict, dict]]:
    """Collect (data, metadata) of all that a call displays."""
    found = []

    def collect(data, metadata=None, **_):
        found.append((data, metadata))

    with (
        mock.patch.object(stage, "show_bundle", collect),
        mock.patch.object(figures, "show_bundle", collect),
    ):
        call()
    return found


def state_of(html: str) -> dict:
    """Read the state that a stored play holds."""
    return json.loads(unescape(re.search(r'data-state="([^"]*)"', html)[1]))


def sample_waves(n_tasks: int = 6, seed: int = 9):
    """The waves of the valley's tests."""
    return Sinusoids(amplitude=(1.0, 4.0)).sample(
        n_tasks,
        k_shot=10,
        k_query=20,
        generator=torch.Generator().manual_seed(seed),
    )


def sample_gait():
    """A body that slides: forward and backward, faster after each step."""
    body = torch.tensor(
        [[-0.7, 0.0], [-0.6, 0.1], [-0.6, 0.4], [-0.5, 0.7], [0.5, 0.7]]
        + [[0.4, 0.4], [0.5, 0.1], [0.6, 0.0], [0.5, 0.75], [0.7, 1.0]]
    )
    speed = torch.arange(4.0)[:, None] * torch.tensor([1.0, -1.0])
    way = 0.05 * torch.arange(201.0) * speed[..., None]
    points = body.expand(4, 2, 201, 10, 2).clone()
    points[..., 0] += way[..., None]
    return (1000 * points).round().to(torch.int16)


def sample_policy() -> tuple[dict, list[float]]:
    """The stored navigation policy, and α of each of its steps."""
    stored = load_checkpoint(CHECKPOINTS / "navigation.pt")["maml"]
    return stored["params"], stored["lr"]


CALLS = {
    "valley": lambda: plays.valley(sample_waves()),
    "game": lambda: plays.game(load_glyphs("val")[:40]),
    "fit": lambda: plays.fit(),
    "fit_reader": lambda: plays.fit(reader=True),
    "gait": lambda: plays.gait(sample_gait(), torch.arange(8.0).view(4, 2)),
    "walks": lambda: plays.walks(*sample_policy()),
}


def script_of(name: str) -> str:
    """Name the script of a call: what stands before the underscore."""
    return name.partition("_")[0]


def write_page(folder: Path, name: str) -> Path:
    """Write the page of a play as a reader of the site has it."""
    div = shown(CALLS[name])[0][0]["text/html"]
    path = folder / f"{name}.html"
    script = plays.script(script_of(name))
    path.write_text(
        PAGE.format(name=name, div=div, script=script), encoding="utf-8"
    )
    return path
