"""The pad: its Python side, and its script in a headless browser."""

import json

import pytest
import torch
from playwright.sync_api import expect

from mamlkit.course.pad import _SCRIPT, Pad

# Draws a line 3.5 pixels from the top of what showed sample 1, then takes
# sample 2, and clears; leaves what was sent in the page.
PAGE = """<body><pre id="out"></pre><script type="module">
const script = new Blob([SCRIPT], { type: "text/javascript" });
const pad = (await import(URL.createObjectURL(script))).default;
const sent = [], values = VALUES;
const model = { get: (name) => values[name], save_changes: () => {},
  set: (name, value) => sent.push(value) };
const el = document.body.appendChild(document.createElement("div"));
pad.render({ model, el });
const canvas = el.querySelector("canvas");
const choice = el.querySelector("select");
const first = choice.selectedIndex;
const point = (kind, x, y) => {
  const event = new Event(kind);
  Object.assign(event, { offsetX: x, offsetY: y });
  canvas.dispatchEvent(event);
};
point("pointermove", 100, 100);
point("pointerdown", 0, 24.5);
point("pointermove", 100, 24.5);
point("pointermove", 196, 24.5);
point("pointerup", 196, 24.5);
choice.selectedIndex = 2;
choice.dispatchEvent(new Event("change"));
el.querySelector("button").click();
// Opened again, it shows what was drawn, under its name.
values.pixels = sent[0];
const again = document.createElement("div");
pad.render({ model, el: again });
document.getElementById("out").textContent = JSON.stringify(
  { sent, first, again: again.querySelector("select").selectedIndex,
    keys: el.dataset.lmSuppressShortcuts,
    options: [...choice.options].map((o) => o.text) });
</script></body>"""


@pytest.fixture
def samples():
    return torch.rand(2, 28, 28, generator=torch.Generator().manual_seed(0))


def test_pad_starts_with_the_first_sample_and_follows_the_browser(samples):
    pad = Pad("a", samples)
    assert pad.ink.shape == (1, 28, 28)
    torch.testing.assert_close(pad.ink[0], samples[0], atol=1 / 500, rtol=0)
    seen = []
    pad.observe(lambda change: seen.append(pad.ink.sum().item()), "pixels")
    pad.set_state({"pixels": [255] * 784})  # what a message from it does
    assert seen == [784.0]


@pytest.mark.parametrize(
    "bad, message",
    [
        (torch.zeros(28, 28), r"shape \(n, 28, 28\), got \(28, 28\)"),
        (torch.zeros(0, 28, 28), r"got \(0, 28, 28\)"),
        (torch.full((1, 28, 28), 255.0), r"in \[0, 1\]"),
        (torch.full((1, 28, 28), torch.nan), r"in \[0, 1\]"),
    ],
)
def test_pad_refuses_other_drawings(bad, message):
    with pytest.raises(ValueError, match=message):
        Pad("a", bad)


def test_script_sends_strokes_samples_and_clears(browser, samples, tmp_path):
    pad = Pad("a", samples)
    values = {"label": "a", "samples": pad.samples, "pixels": pad.pixels}
    html = PAGE.replace("SCRIPT", json.dumps(_SCRIPT), 1)
    path = tmp_path / "pad.html"
    path.write_text(html.replace("VALUES", json.dumps(values), 1))
    page = browser.new_page()
    page.goto(path.as_uri())
    expect(page.locator("#out")).not_to_be_empty()
    out = json.loads(page.locator("#out").inner_text())
    page.close()
    drawn, chosen, cleared = out["sent"]
    assert out["options"] == ["my drawing", "ready-made 1", "ready-made 2"]
    assert set(cleared) == {0}
    assert (out["first"], out["again"], out["keys"]) == (1, 0, "true")
    rows = torch.tensor(drawn).view(28, 28)
    assert (rows[3] > 250).all()  # the middle of the pen
    assert (rows[[0, 1, 5, 6]] == 0).all()
    assert 30 < rows[2].float().mean() < 110  # a quarter of a pixel
    assert chosen == pad.samples[1]
