"""The plays without a browser: what they show, store and know."""

import base64
import io
import re
from pathlib import Path

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output
from PIL import Image
from plays import (
    CALLS,
    sample_policy,
    sample_waves,
    script_of,
    shown,
    state_of,
)
from torch.nn import functional as F

from mamlkit import (
    MLP,
    InContextLearner,
    Sinusoids,
    Wave,
    adaptation_curve,
    functional_loss,
    load_checkpoint,
    load_glyphs,
    meta_loss,
)
from mamlkit.course import CHECKPOINTS, plays
from mamlkit.course.game import deal_game, pack
from mamlkit.course.plays import stage
from mamlkit.publish import render
from mamlkit.reproduce import read_result

VIEW = "application/vnd.jupyter.widget-view+json"
FOLDER = Path(stage.__file__).parent
each_play = pytest.mark.parametrize("name", CALLS)


@pytest.fixture(scope="module")
def displayed():
    return {name: shown(call) for name, call in CALLS.items()}


@each_play
def test_a_play_comes_first_and_then_its_picture(displayed, name):
    (play, _), (picture, meta) = displayed[name]
    assert base64.b64decode(picture["image/png"])[:4] == b"\x89PNG"
    assert len(meta["image/png"]["alt"]) > 80
    assert {*play} == {VIEW, "text/html", "text/plain"}
    start = (
        f'<div class="mamlkit-play" data-play="{script_of(name)}" data-state="'
    )
    assert play["text/html"].startswith(start)
    assert play["text/html"].endswith("</div>")
    assert play["text/plain"].strip() and "<" not in play["text/plain"]


@each_play
def test_a_stored_notebook_keeps_the_state_and_drops_the_view(displayed, name):
    nb = new_notebook(cells=[new_code_cell("1", id="one")])
    executed = new_notebook(cells=[new_code_cell("1", id="one")])
    executed.cells[0].outputs = [
        new_output("display_data", dict(data), metadata=meta)
        for data, meta in displayed[name]
    ] + [new_output("display_data", {VIEW: {}, "text/plain": "IntSlider()"})]
    render.take_outputs(nb, executed)
    play, _ = nb.cells[0].outputs
    assert {*play.data} == {"text/html", "text/plain"}
    assert state_of(play.data["text/html"])
    assert render.output_faults(nb, 1) == []


@each_play
def test_its_script_is_whole_and_asks_no_network(name):
    text = plays.script(script_of(name))
    assert not re.search(r"^import\b", text, re.M) and "import(" not in text
    assert re.findall(r"^export default \{ render \};$", text, re.M)
    addresses = {*re.findall(r"https?://[^\"'` ]+", text)}
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert {*re.findall(r"\bmodel\.(\w+)", text)} <= {
        "get",
        "set",
        "save_changes",
        "on",
    }


def test_scripts_fit_the_width():
    for path in FOLDER.glob("*.js"):
        long = [s for s in path.read_text().splitlines() if len(s) > 79]
        assert not long, (path.name, long)


def test_what_is_asked_of_the_stage_is_there():
    """JavaScript would tell only when the page is opened."""
    given = (FOLDER / "stage.js").read_text()
    given = {*re.findall(r"^export (?:function|const) (\w+)", given, re.M)}
    asked = set()
    for name in CALLS:
        text = (FOLDER / f"{script_of(name)}.js").read_text()
        (names,) = re.findall(
            r'^import \{([^}]+)\} from "\./stage', text, re.M
        )
        asked |= {n.strip() for n in names.split(",") if n.strip()}
    assert asked <= given


def test_a_live_play_has_the_state_as_traits():
    play = stage.Play("fit", {"steps": 3, "wave": {"phase": 0.5}})
    assert play.steps == 3 and play.wave == {"phase": 0.5}
    assert {"steps", "wave", "_esm"} <= {*play.keys}
    assert play._esm == plays.script("fit")


# The valley


def test_the_valley_knows_its_tasks_and_their_own_waves(displayed):
    state = state_of(displayed["valley"][0][0]["text/html"])
    waves = sample_waves()
    for i, task in enumerate(state["tasks"]):
        for part, batch in waves._asdict().items():
            for axis in ("x", "y"):
                got = torch.tensor(task[part][axis])
                torch.testing.assert_close(
                    got, getattr(batch, axis)[i].flatten()
                )
        a, b = state["optimum"][i]
        x, y = (torch.tensor(task["query"][axis]) for axis in "xy")
        torch.testing.assert_close(
            a * torch.sin(x - b), y, atol=1e-4, rtol=1e-4
        )
        assert a >= 0 and -1.2 <= b < -1.2 + 2 * torch.pi
    assert state["theta"] == state["start"] == [0.6, 0.1]
    assert {"lr", "steps", "meta_lr", "colours"} <= {*state}


def test_the_valleys_alt_text_tells_true_losses(displayed):
    alt = displayed["valley"][1][1]["image/png"]["alt"]
    found = re.findall(
        r"amplitude ([\d.]+), phase ([\d.]+); .*? from ([\d.]+) to ([\d.]+)\.",
        alt,
    )
    assert len(found) == 2
    loss_fn, waves = functional_loss(Wave(), F.mse_loss), sample_waves()
    for a, b, *losses in found:
        params = {
            "amplitude": torch.tensor(float(a)),
            "phase": torch.tensor(float(b)),
        }
        for steps, said in zip((0, 1), losses):
            value = meta_loss(params, loss_fn, waves, lr=0.1, steps=steps)
            # The place is said to one decimal only.
            assert value.item() == pytest.approx(float(said), abs=0.2)
    (_, _, before, after), (_, _, higher, lower) = found
    assert float(before) < float(higher) and float(after) > float(lower)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.4}, "0 to 0.3 for lr .* got 0.4"),
        ({"steps": 11}, "0 to 10 for steps, got 0.1 and 11"),
    ],
)
def test_the_valley_refuses_what_its_sliders_cannot_reach(options, message):
    with pytest.raises(ValueError, match=message):
        plays.valley(sample_waves(), **options)


def test_the_valley_refuses_more_tasks_than_it_has_room_for():
    with pytest.raises(ValueError, match="1 to 8 tasks, got 9"):
        plays.valley(sample_waves(9))


# The game


def unpack(sheet):
    png = Image.open(io.BytesIO(base64.b64decode(sheet))).convert("L")
    pixels = torch.tensor([*png.tobytes()]).view(png.height // 28, 28, 6, 28)
    return 1 - pixels.permute(0, 2, 1, 3) / 255  # (rounds, 6, 28, 28)


def test_packed_rounds_are_the_rounds_and_small():
    rounds = deal_game(load_glyphs("val")[:40], 10, seed=0, number=1)
    packed = pack(rounds)
    drawings = unpack(packed["sheet"])
    torch.testing.assert_close(drawings[:, :1, None], rounds.query.x)
    torch.testing.assert_close(drawings[:, 1:, None], rounds.support.x)
    assert packed["answers"] == rounds.query.y[:, 0].tolist()
    assert len(packed["sheet"]) < 12_000


def test_a_page_holds_games_that_its_picture_does_not_give_away(displayed):
    (play, _), (_, _) = displayed["game"]
    state = state_of(play["text/html"])
    assert state["home"] == "page" and len(state["games"]) == 3
    read = deal_game(load_glyphs("val")[:40], 10, seed=0, number=0)
    sheets = {game["sheet"] for game in [*state["games"], pack(read)]}
    assert len(sheets) == 4
    right = (read.query.y[:, 0] + 1).tolist()
    said = re.findall(r"\d+: (\d)", play["text/plain"])
    assert said == [str(n) for n in right]
    assert play["text/plain"] in play["text/html"]
    drawings = unpack(state["example"]["sheet"])
    torch.testing.assert_close(drawings[0, 1:, None], read.support.x[0])
    assert state["example"]["answers"] == [right[0] - 1]


# The fit


def test_the_fits_weights_are_those_of_the_experiment(displayed):
    html = displayed["fit"][0][0]["text/html"]
    state = state_of(html)
    assert len(html) < 60_000
    with_reader = displayed["fit_reader"][0][0]["text/html"]
    assert len(with_reader) < 130_000
    stored = load_checkpoint(CHECKPOINTS / "sinusoid.pt")
    methods = {m["key"]: m for m in state["methods"]}
    assert methods["maml"]["lr"] == stored["inner_lr"]
    assert methods["pretrained"]["lr"] == stored["fine_tuning_lr"]
    for key in ("maml", "pretrained"):
        data = bytearray(base64.b64decode(methods[key]["weights"]))
        flat = torch.cat([p.flatten() for p in stored[key].values()])
        assert torch.equal(torch.frombuffer(data, dtype=torch.float32), flat)
    assert [m["kind"] for m in state["methods"]] == ["network"] * 3 + ["waves"]


def test_a_reader_is_the_small_transformer_of_the_experiment(displayed):
    state = state_of(displayed["fit_reader"][0][0]["text/html"])
    kinds = [m["kind"] for m in state["methods"]]
    assert kinds == ["network"] * 3 + ["reader", "waves"]
    method = state["methods"][3]
    size = {k: method[k] for k in ("width", "layers", "heads")}
    small = load_checkpoint(CHECKPOINTS / "in_context.pt")["small"]
    names = [name for name, _ in InContextLearner(**size).named_parameters()]
    data = bytearray(base64.b64decode(method["weights"]))
    flat = torch.cat([small[name].flatten() for name in names])
    assert torch.equal(torch.frombuffer(data, dtype=torch.bfloat16), flat)


def test_the_fits_picture_has_the_reader_if_asked(displayed):
    alt = displayed["fit_reader"][1][1]["image/png"]["alt"]
    (said,) = re.findall(r"transformer ([\d.]+) without a step", alt)
    assert float(said) < 0.05
    assert "transformer" not in displayed["fit"][1][1]["image/png"]["alt"]


def test_the_fit_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    shown(CALLS["fit"])
    assert torch.equal(torch.rand(1), expected)


def test_the_fits_alt_text_tells_true_errors(displayed):
    alt = displayed["fit"][1][1]["image/png"]["alt"]
    pairs = re.findall(r"([\d.]+) after one step and ([\d.]+) after ten", alt)
    assert len(pairs) == 3
    maml, pretrained, scratch = (float(one) for one, _ in pairs)
    assert maml < 0.2 < pretrained < scratch


def test_the_fit_refuses_steps_beyond_its_slider():
    with pytest.raises(ValueError, match="0 to 10 steps, got 11"):
        plays.fit(steps=11)


def test_the_fit_begins_with_as_many_points_as_asked():
    found = shown(lambda: plays.fit(k_shot=4))
    state = state_of(found[0][0]["text/html"])
    assert state["points"]["x"] == [-4.5, -1.5, 1.5, 4.5]
    assert found[1][1]["image/png"]["alt"].startswith("4 points of a wave")
    with pytest.raises(ValueError, match="1 to 10 points, got 11"):
        plays.fit(k_shot=11)


@pytest.mark.parametrize("key", ["maml", "pretrained", "scratch"])
def test_every_rate_of_the_fit_is_the_best_of_a_grid(displayed, key):
    """Ten points, ten steps, waves that no other test uses.

    Rates that exploded when the experiment chose its own are out.
    """
    state = state_of(displayed["fit"][0][0]["text/html"])
    (method,) = [m for m in state["methods"] if m["key"] == key]
    data = bytearray(base64.b64decode(method["weights"]))
    flat = torch.frombuffer(data, dtype=torch.float32)
    params, at = {}, 0
    for name, p in MLP().named_parameters():
        params[name] = flat[at : at + p.numel()].view_as(p)
        at += p.numel()
    loss_fn = functional_loss(MLP(), F.mse_loss)
    tasks = Sinusoids().sample(
        300,
        k_shot=10,
        k_query=50,
        generator=torch.Generator().manual_seed(1_000_002),
    )
    grid = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
    # A few hundred waves do not show a rate that explodes on few in 20,000.
    tried = read_result("sinusoid")["settings"]["validation"]
    calm = [lr for lr in grid if not tried.get(f"{key}, lr {lr}", [0, 0])[1]]
    means = {
        lr: adaptation_curve(params, loss_fn, loss_fn, tasks, lr=lr, steps=10)[
            :, -1
        ]
        .mean()
        .nan_to_num(torch.inf)
        for lr in calm
    }
    assert min(means, key=means.get) == method["lr"], means


def test_the_gait_refuses_another_shape():
    with pytest.raises(ValueError, match="points must have the shape"):
        plays.gait(torch.zeros(4, 2, 201, 9, 2), torch.zeros(4, 2))


def test_the_walks_are_those_of_the_stored_policy_and_small(displayed):
    html = displayed["walks"][0][0]["text/html"]
    assert len(html) < 30_000
    params, lrs = sample_policy()
    state = state_of(html)
    data = bytearray(base64.b64decode(state["weights"]))
    flat = torch.cat([p.flatten() for p in params.values()]).bfloat16()
    assert torch.equal(torch.frombuffer(data, dtype=torch.bfloat16), flat)
    assert state["lr"] == lrs
    alt = displayed["walks"][1][1]["image/png"]["alt"]
    before, one, three = map(float, re.findall(r"steps? (-[\d.]+)", alt))
    assert before < -40 and one > before / 2 and three > one
    assert "standing still has -50.0" in alt


def test_the_walks_refuse_a_goal_that_their_square_does_not_have():
    with pytest.raises(ValueError, match=r"within -0.5 and 0.5 .* \(0.6, 0\)"):
        plays.walks(*sample_policy(), goal=(0.6, 0))
