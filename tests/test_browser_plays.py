"""The plays in a real browser, by mouse, finger and keys; their numbers."""

import json
import re
import statistics
from contextlib import contextmanager

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from browser import complaints, keep
from plays import (
    CALLS,
    sample_gait,
    sample_policy,
    sample_waves,
    write_page,
)
from playwright.sync_api import expect
from torch.func import functional_call, grad
from torch.nn import functional as F

from mamlkit import (
    MLP,
    Batch,
    InContextLearner,
    Tasks,
    Wave,
    adapt,
    functional_loss,
    load_checkpoint,
    meta_loss,
    rl,
)
from mamlkit.course import CHECKPOINTS

WIDTHS = {"desktop": 1440, "tablet": 800, "phone": 390}
each_play = pytest.mark.parametrize("name", CALLS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plays")
    for name in CALLS:
        write_page(folder, name)
    return folder


@pytest.fixture
def opened(browser, folder):
    """Open the page of a play; whatever it complains of fails the test."""
    contexts, found = [], []

    def open_(name, **options):
        options = {"viewport": {"width": 1000, "height": 900}} | options
        context = browser.new_context(offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        found.append(complaints(page, folder.as_uri()))
        page.goto((folder / f"{name}.html").as_uri())
        page.wait_for_function("!!window.leave")
        page.wait_for_timeout(50)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not any(found), found


def drawn(page):
    """Wait until what was asked for before is on the page.

    For two frames: a play that moves asks for its next frame in this one.
    """
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame("
        "() => requestAnimationFrame(done)))"
    )


def heard(page, text):
    """Wait until the voice of a play has said something, and it is drawn."""
    expect(page.locator(".heard")).to_contain_text(text)
    drawn(page)


# The valley's numbers


def double(tasks):
    return Tasks(*(Batch(*(t.double() for t in part)) for part in tasks))


PLACES = [(0.6, 0.1), (3.1, 1.7), (4.8, 4.1), (-0.4, -1.0), (1e-3, 2.0)]


def test_gradients_in_the_browser_are_those_of_meta_loss(opened):
    page, tasks = opened("valley"), double(sample_waves())
    loss_fn = functional_loss(Wave(), F.mse_loss)
    compared = 0
    for a, b in PLACES:
        params = {"amplitude": torch.tensor(a), "phase": torch.tensor(b)}
        params = {name: p.double() for name, p in params.items()}
        for lr, steps in [(0.1, 0), (0.1, 1), (0.05, 3), (0.1, 10), (0.3, 2)]:
            loss, *gradients = page.evaluate(
                """([theta, lr, steps]) => {
                const batch = module.prepare(state.tasks);
                const options = { lr, steps };
                return [module.metaLoss(batch, theta, options),
                  module.metaGradient(batch, theta, options),
                  module.metaGradient(batch, theta,
                    { ...options, firstOrder: true })];
                }""",
                [[a, b], lr, steps],
            )
            expected = meta_loss(params, loss_fn, tasks, lr=lr, steps=steps)
            assert loss == pytest.approx(expected.item(), abs=1e-5)
            for first_order, got in enumerate(gradients):
                wanted = grad(meta_loss)(
                    params,
                    loss_fn,
                    tasks,
                    lr=lr,
                    steps=steps,
                    first_order=bool(first_order),
                )
                wanted = [p.item() for p in wanted.values()]
                assert got == pytest.approx(wanted, abs=1e-5, rel=1e-5)
                compared += 1
            if steps:  # and the two orders differ, so each is tested
                assert gradients[0] != pytest.approx(gradients[1], rel=1e-3)
    assert compared == 2 * 5 * len(PLACES)


@contextmanager
def no_jump(page):
    """What happens inside leaves the play as high as it was."""
    height = "el.getBoundingClientRect().height"
    before = page.evaluate(height)
    yield
    page.wait_for_timeout(500)
    assert page.evaluate(height) == before


def numbers(page):
    return [float(t) for t in page.locator(".scores b").all_inner_texts()]


def expected_losses(theta, lr=0.1, steps=1):
    params = dict(zip(("amplitude", "phase"), torch.tensor(theta).double()))
    loss_fn = functional_loss(Wave(), F.mse_loss)
    tasks = double(sample_waves())
    return [
        meta_loss(params, loss_fn, tasks, lr=lr, steps=n).item()
        for n in (0, steps)
    ]


def test_theta_is_dragged_by_mouse_and_every_number_follows(opened):
    page = opened("valley")
    box = page.locator(".theta circle.body").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    with no_jump(page):
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 160, y - 100, steps=12)
        page.mouse.up()
    theta = page.evaluate("state.theta")
    assert theta[0] > 2 and theta[1] > 1
    shown = page.locator(".theta circle.body").bounding_box()
    assert shown["x"] == pytest.approx(box["x"] + 160, abs=2)
    assert shown["y"] == pytest.approx(box["y"] - 100, abs=2)
    assert numbers(page) == pytest.approx(expected_losses(theta), abs=0.006)
    heard(page, f"θ at amplitude {theta[0]:.2f}, phase {theta[1]:.2f}.")
    gaps = page.locator(".wave .number").all_inner_texts()
    ends = [float(text.split("→")[1]) for text in gaps]
    assert statistics.mean(ends) == pytest.approx(numbers(page)[1], abs=0.01)
    assert page.evaluate("window.saved") >= 1
    # A press beside it brings it there.
    page.locator(".field").click(position={"x": 60, "y": 200})
    assert page.evaluate("state.theta")[0] < 1


def test_the_valley_by_keys(opened):
    page = opened("valley")
    page.keyboard.press("Tab")
    theta = page.get_by_role("slider", name="θ, where every task starts")
    expect(theta).to_be_focused()
    for key in ("ArrowRight", "ArrowUp", "Shift+ArrowRight"):
        page.keyboard.press(key)
    heard(page, "amplitude 0.90, phase 0.15")
    expect(theta).to_have_attribute(
        "aria-valuetext", "amplitude 0.90, phase 0.15"
    )
    for _ in range(200):  # it stays on the plane
        page.keyboard.press("Shift+ArrowLeft")
    assert page.evaluate("state.theta[0]") == -0.5
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    heard(page, "α 0.11")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    heard(page, "after 2 steps")
    expect(page.locator(".scores")).to_contain_text("after 2 steps")
    theta_now = page.evaluate("state.theta")
    wanted = expected_losses(theta_now, lr=0.11, steps=2)
    assert numbers(page) == pytest.approx(wanted, abs=0.006)
    page.get_by_role("button", name="Reset").focus()
    page.keyboard.press("Enter")
    heard(page, "back at its start")
    assert page.evaluate("state.theta") == [0.6, 0.1]


@pytest.mark.parametrize(
    ("button", "options"),
    [
        ("MAML", {"steps": 1}),
        ("first-order MAML", {"steps": 1, "first_order": True}),
        ("joint training", {"steps": 0}),
    ],
)
def test_an_outer_step_is_gradient_descent_with_that_gradient(
    opened, button, options
):
    page, tasks = opened("valley"), double(sample_waves())
    loss_fn = functional_loss(Wave(), F.mse_loss)
    theta = torch.tensor([0.6, 0.1]).double()
    for _ in range(3):
        params = dict(zip(("amplitude", "phase"), theta))
        slope = grad(meta_loss)(params, loss_fn, tasks, lr=0.1, **options)
        theta = theta - 0.05 * torch.stack([*slope.values()])
        page.get_by_role(
            "button", name=f"One step of {button}", exact=True
        ).click()
    assert page.evaluate("state.theta") == pytest.approx(
        theta.tolist(), abs=1e-6
    )
    heard(page, f"{button} stands at amplitude")


def test_three_walks_from_one_start_and_what_each_is_good_for(opened):
    page = opened("valley")
    ends = {}
    with no_jump(page):
        for name in ("MAML", "first-order MAML", "joint training"):
            run = page.get_by_role("button", name=f"Run {name}", exact=True)
            run.click()
            expect(run).to_have_text("Stop")
            expect(run).to_have_text("Run")
            ends[name] = numbers(page)
    heard(page, "joint training stops at")
    before, after = zip(*ends.values())
    assert min(before) == before[2] and max(before) == before[0]
    assert min(after) == after[0] and max(after) == after[2]
    said = page.locator(".outer .where").all_inner_texts()
    for text, values in zip(said, ends.values()):
        assert f"loss {values[0]:.2f} before, {values[1]:.2f} after" in text
    # The next walk after a drag begins where θ was left.
    page.locator(".field").click(position={"x": 60, "y": 100})
    page.get_by_role("button", name="One step of joint training").click()
    said = page.locator(".outer .where")
    expect(said.nth(0)).to_have_text("")
    expect(said.nth(2)).to_contain_text("waits at")


INK = """places => {
  const at = (v, [low, high]) => (v - low) / (high - low);
  const paper = el.shadowRoot.querySelector("canvas");
  const { width, height } = paper;
  const pixels = paper.getContext("2d").getImageData(0, 0, width, height);
  return places.map(([a, b]) => {
    const x = Math.round(at(a, [-0.5, 5]) * width);
    const y = Math.round((1 - at(b, [-1.2, 4.4])) * height);
    return pixels.data[4 * (y * width + x) + 3];
  });
}"""


def test_the_map_is_the_loss_and_its_lowest_place_is_marked(opened):
    page = opened("valley")
    page.wait_for_timeout(800)  # the fine map
    places = [(3.2, 1.8), (1.9, 1.7), (0.6, 0.1), (4.8, -0.9)]
    inks = page.evaluate(INK, places)
    losses = [expected_losses(place)[1] for place in places]
    assert losses == sorted(losses) and inks == sorted({*inks})
    expect(page.locator("svg", has_text="lowest").last).to_be_visible()


def test_the_map_follows_a_slider_within_two_frames(opened):
    page = opened("valley")
    page.get_by_role("slider", name="inner steps").press("Home")
    page.evaluate("new Promise((done) => ask(() => ask(done)))")
    place = (1.85, 1.74)  # the best for no step
    best, other = page.evaluate(INK, [place, (3.2, 1.8)])
    assert best < other


def carry(page, handle, ways, up=0):
    """Take hold with a finger, Chrome's own touches, and move it aside."""
    client = page.context.new_cdp_session(page)
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    for kind, dx in (("Start", 0), *(("Move", w) for w in ways)):
        lift = up * dx / ways[-1]
        points = [{"x": x + dx, "y": y - lift}]
        client.send(
            "Input.dispatchTouchEvent",
            {"type": f"touch{kind}", "touchPoints": points},
        )
        page.wait_for_timeout(30)
    client.send(
        "Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []}
    )


@pytest.mark.parametrize(
    "name, handle, place",
    [
        ("fit", ".point circle.body", "state.points.y[0]"),
        ("walks", ".goal", "state.goal[1]"),
        ("valley", ".theta circle.body", "state.theta[1]"),
    ],
)
def test_a_finger_carries_a_handle_and_not_the_page(
    opened, name, handle, place
):
    page = opened(name, viewport={"width": 390, "height": 900}, has_touch=True)
    page.evaluate("document.body.style.paddingBottom = '2000px'")
    before = page.evaluate(place)
    ways = [*range(4, 41, 4)]
    carry(page, page.locator(handle).first, ways, up=40)
    page.wait_for_timeout(100)
    assert page.evaluate(place) > before + 0.1
    assert page.evaluate("scrollY") == 0


def test_on_a_phone_a_walk_is_in_sight_of_its_buttons(opened):
    page = opened("valley", viewport={"width": 390, "height": 844})
    plane = page.locator(".plane").bounding_box()
    run = page.get_by_role("button", name="Run").first.bounding_box()
    assert run["y"] + run["height"] - plane["y"] < 600
    page.set_viewport_size({"width": 1000, "height": 844})
    steps = page.get_by_role("slider", name="inner steps").bounding_box()
    page.wait_for_timeout(100)
    run = page.get_by_role("button", name="Run").first.bounding_box()
    assert run["y"] > steps["y"]


def test_a_finger_moves_theta_and_still_scrolls_the_page(opened):
    phone = {"width": 390, "height": 700}
    page = opened("valley", viewport=phone, has_touch=True)
    field = page.locator(".field").bounding_box()
    page.touchscreen.tap(field["x"] + 200, field["y"] + 150)
    theta = page.evaluate("state.theta")
    assert theta[0] > 2 and theta[1] > 1
    touch = """selector => getComputedStyle(
      el.shadowRoot.querySelector(selector)).touchAction"""
    assert page.evaluate(touch, ".theta") == "none"
    assert page.evaluate(touch, ".field") == "pan-y"
    carry(page, page.locator(".theta circle.body"), [-40, -80])
    page.wait_for_timeout(100)
    assert page.evaluate("state.theta[0]") < theta[0] - 1
    assert page.evaluate("scrollY") == 0


# The game


def answers(page, game=0):
    return page.evaluate(f"state.games[{game}].answers")


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_game_by_mouse_is_scored_and_kept_in_the_browser(opened, width):
    page = opened("game", viewport={"width": width, "height": 900})
    buttons = page.locator(".five button")
    status = page.locator(".status")
    expect(buttons.first).to_be_disabled()
    shown = page.evaluate("state.example.answers[0]")
    expect(buttons.nth(shown)).to_have_class("right")
    expect(page.locator(".lead")).to_contain_text(f"number {shown + 1} is")
    with no_jump(page):
        page.get_by_role("button", name="Start").click()
        for number, right in enumerate(answers(page)):
            expect(page.locator(".lead")).to_contain_text(
                f"Round {number + 1} of 10."
            )
            wrong = number in (0, 4)
            buttons.nth((right + wrong) % 5).click()
            verdict = f"It is {right + 1}, not" if wrong else "Right, it is"
            expect(status).to_contain_text(verdict)
            expect(buttons.nth(right)).to_have_accessible_name(
                f"Example {right + 1}, the right one"
            )
            if number < 9:
                page.get_by_role("button", name="Next round").click()
    expect(status).to_contain_text("8 of 10 right, 80 %")
    expect(status).to_contain_text("anything between 49 % and 94 %")
    expect(status).to_contain_text("All your games: 8 of 10 right.")
    (kept,) = json.loads(page.evaluate("localStorage['mamlkit-score']"))[
        "games"
    ]
    assert kept["right"] == [n not in (0, 4) for n in range(10)]
    assert len(kept["seconds"]) == 10 and len(kept["date"]) == 10
    # The next visit goes on with other rounds, and knows the score.
    page.reload()
    page.wait_for_function("!!window.leave")
    expect(status).to_contain_text("Your games so far: 8 of 10 right.")
    page.get_by_role("button", name="Start").click()
    buttons.nth(answers(page, 1)[0]).click()
    expect(status).to_contain_text("Right, it is")
    page.reload()
    page.get_by_role("button", name="Forget my score").click()
    expect(status).to_contain_text("deleted from this browser")
    assert page.evaluate("localStorage['mamlkit-score'] ?? null") is None


def play_by_keys(page, game):
    for number, right in enumerate(answers(page, game)):
        expect(page.get_by_role("button", name="Example 1")).to_be_focused()
        if number % 2:
            page.keyboard.press(f"{right + 1}")
        else:
            for _ in range(right):
                page.keyboard.press("Tab")
            page.keyboard.press("Space")
        if number < 9:
            name = "Next round"
            expect(page.get_by_role("button", name=name)).to_be_focused()
            page.keyboard.press("Enter")


def test_games_by_keys_until_the_page_has_no_more(opened):
    page = opened("game")
    status = page.locator(".status")
    page.keyboard.press("Tab")
    for game in range(3):
        page.keyboard.press("Enter")
        play_by_keys(page, game)
        expect(status).to_contain_text("10 of 10 right, 100 %")
        all_ = f"All your games: {10 * game + 10} of {10 * game + 10} right"
        expect(status).to_contain_text(all_)
        again = page.get_by_role("button", name="Play again")
        expect(again).to_be_focused()
    page.keyboard.press("Enter")
    play_by_keys(page, 0)
    expect(status).to_contain_text("seen these rounds before")
    kept = json.loads(page.evaluate("localStorage['mamlkit-score']"))
    assert len(kept["games"]) == 3


def test_a_damaged_score_and_a_browser_without_storage_cost_nothing(opened):
    page = opened("game")
    page.evaluate("localStorage['mamlkit-score'] = '{\"games\": 3}'")
    page.reload()
    page.wait_for_function("!!window.leave")
    page.evaluate(
        """Object.defineProperty(Storage.prototype, "setItem",
        { value() { throw new Error("full"); } })"""
    )
    page.get_by_role("button", name="Start").click()
    play_by_keys(page, 0)
    expect(page.locator(".status")).to_contain_text("Not kept: this browser")


def test_with_a_kernel_the_score_goes_there_and_the_next_game_comes(opened):
    page = opened("game")
    page.evaluate(
        """leave(); state.home = "kernel";
        const games = state.games; state.games = games.slice(0, 1);
        model.on("change:finished", () => {
          window.sent = state.finished;
          model.set("kept", "Kept in a file.");
          model.set("games", games.slice(0, 2));
        });
        window.leave = module.default.render({ model, el });"""
    )
    page.get_by_role("button", name="Start").click()
    for keys in ("Control+1", "Alt+2"):  # the browser's own
        page.keyboard.press(keys)
    play_by_keys(page, 0)
    expect(page.locator(".status")).to_contain_text("Kept in a file.")
    sent = page.evaluate("sent")
    assert sent["right"] == [True] * 10 and len(sent["seconds"]) == 10
    assert page.evaluate("localStorage.length") == 0
    page.keyboard.press("Enter")
    expect(page.locator(".lead")).to_contain_text("Round 1 of 10.")
    play_by_keys(page, 1)
    expect(page.locator(".status")).to_contain_text("Kept in a file.")
    # A page that is opened again goes on with what was not yet played.
    page.evaluate(
        """leave(); state.games = state.games.slice(0, 2); state.kept = "";
        window.leave = module.default.render({ model, el });"""
    )
    page.get_by_role("button", name="Start").click()
    play_by_keys(page, 1)
    assert page.evaluate("sent.right") == [True] * 10


def test_drawings_do_not_tell_the_answer_to_who_looks_at_the_page(opened):
    page = opened("game")
    page.get_by_role("button", name="Start").click()
    seen = set()
    for _ in range(5):
        names = page.locator(".five button").evaluate_all(
            "all => all.map((b) => b.getAttribute('aria-label'))"
        )
        asked = page.locator(".query [role=img]").get_attribute("aria-label")
        seen.add((asked, *names))
        page.keyboard.press("1")
        page.keyboard.press("Enter")
    assert len(seen) == 1 and len({*seen.pop()}) == 6


# The fit


def fitted(params, points, lr, steps, grid):
    model = MLP().double()
    loss_fn = functional_loss(model, F.mse_loss)
    params = {name: p.double() for name, p in params.items()}
    adapted = adapt(params, loss_fn, points, lr=lr, steps=steps)
    return functional_call(model, adapted, (grid,)).detach().flatten()


def test_curves_in_the_browser_are_those_of_adapt(opened):
    page = opened("fit")
    stored = load_checkpoint(CHECKPOINTS / "sinusoid.pt")
    torch.manual_seed(0)
    scratch = dict(MLP().named_parameters())
    starts = [stored["maml"], stored["pretrained"], scratch]
    rng = torch.Generator().manual_seed(1)
    grid = torch.linspace(-5, 5, 23)[:, None].double()
    for n in (10, 3, 1):
        x = (10 * torch.rand(n, 1, generator=rng) - 5).double()
        y = (8 * torch.rand(n, 1, generator=rng) - 4).double()
        for steps in (0, 1, 4, 10):
            got = page.evaluate(
                """([x, y, steps, grid]) => state.methods.map((method) =>
                [method.lr, [...module.fitter(method)({ x, y }, steps, grid)
                  ?? []]])""",
                [
                    x.flatten().tolist(),
                    y.flatten().tolist(),
                    steps,
                    grid.flatten().tolist(),
                ],
            )
            for params, (lr, values) in zip(starts, got):
                expected = fitted(params, Batch(x, y), lr, steps, grid)
                torch.testing.assert_close(
                    torch.tensor(values).double(),
                    expected,
                    atol=1e-4,
                    rtol=1e-4,
                )
            waves = torch.cat([x.sin(), x.cos()], 1)
            if n > 1:
                best = torch.linalg.lstsq(waves, y).solution
                limit = torch.cat([grid.sin(), grid.cos()], 1) @ best
                torch.testing.assert_close(
                    torch.tensor(got[3][1]).double(), limit.flatten()
                )
            else:
                assert got[3][1] == []


def test_the_reader_in_the_browser_is_the_stored_transformer(opened):
    page = opened("fit_reader")
    small = load_checkpoint(CHECKPOINTS / "in_context.pt")["small"]
    model = InContextLearner(width=32, layers=3)
    model.load_state_dict(small)
    model.double()
    rng = torch.Generator().manual_seed(1)
    grid = torch.linspace(-5, 5, 23)[:, None].double()
    for n in (10, 3, 1):
        x = (10 * torch.rand(n, 1, generator=rng) - 5).double()
        y = (8 * torch.rand(n, 1, generator=rng) - 4).double()
        points = [x.flatten().tolist(), y.flatten().tolist()]
        got = page.evaluate(
            """([x, y, grid]) => [0, 10].map((steps) =>
            [...module.fitter(state.methods[3])({ x, y }, steps, grid)])""",
            [*points, grid.flatten().tolist()],
        )
        assert got[0] == got[1]  # it takes no step
        expected = model(Batch(x, y), grid).detach().flatten()
        assert expected.std() > 0.1  # there is something to compare
        torch.testing.assert_close(
            torch.tensor(got[0]).double(), expected, atol=1e-6, rtol=1e-6
        )
    empty = "module.fitter(state.methods[3])({ x: [], y: [] }, 1, [0, 1])"
    assert page.evaluate(empty) is None


def test_the_reader_is_told_of_and_follows_the_points(opened):
    page = opened("fit_reader")
    expect(page.locator(".lead")).to_contain_text("it reads the points")
    before = errors(page)
    assert len(before) == 5 and before[3] < 0.05
    slider = page.get_by_role("slider", name="gradient steps")
    slider.press("End")
    expect(page.locator(".caption")).to_contain_text("after 10 steps")
    assert errors(page)[3] == before[3] and errors(page)[0] != before[0]
    point = page.get_by_role("slider", name="point 5 of 10", exact=True)
    for _ in range(8):
        point.press("Shift+ArrowUp")
    heard(page, "Point 5 at x")
    assert errors(page)[3] > before[3] + 0.1
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".sentence")).to_contain_text("transformer unknown")


def errors(page):
    drawn(page)
    texts = page.locator(".method b").all_inner_texts()
    return [float(text) for text in texts]


def test_errors_shown_are_those_on_the_hidden_wave(opened):
    page = opened("fit")
    stored = load_checkpoint(CHECKPOINTS / "sinusoid.pt")
    state = page.evaluate("state")
    points = Batch(
        *(torch.tensor(state["points"][k])[:, None].double() for k in "xy")
    )
    grid = torch.linspace(-5, 5, 101)[:, None].double()
    wave = state["wave"]
    truth = wave["amplitude"] * torch.sin(grid - wave["phase"]).flatten()
    for steps in (1, 2):
        for key, shown in zip(("maml", "pretrained"), errors(page)):
            lr = {m["key"]: m.get("lr") for m in state["methods"]}[key]
            curve = fitted(stored[key], points, lr, steps, grid)
            wanted = F.mse_loss(curve, truth).item()
            assert shown == pytest.approx(wanted, abs=0.006)
        assert errors(page)[3] == 0
        page.get_by_role("slider", name="gradient steps").press("ArrowRight")
        after = f"after {steps + 1} steps"
        expect(page.locator(".caption")).to_contain_text(after)


def test_points_are_dragged_by_mouse_and_the_words_say_so(opened):
    page = opened("fit")
    before = errors(page)
    box = page.locator(".point circle.body").nth(3).bounding_box()
    x, y = box["x"] + 7, box["y"] + 7
    with no_jump(page):
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 10, y - 150, steps=10)
        page.mouse.up()
    assert errors(page)[3] > before[3] + 0.1
    heard(page, "Point 4 at x")
    sentence = page.locator(".sentence")
    expect(sentence).to_contain_text("Points are off the hidden wave")
    for name, off in zip(("MAML", "pretrained"), errors(page)):
        expect(sentence).to_contain_text(f"{name} {off:.2f}")
    with no_jump(page):
        page.get_by_role("button", name="New wave").click()
    heard(page, "A new wave, and ten points on it.")
    assert errors(page)[3] == 0
    with no_jump(page):
        page.get_by_role("button", name="Add noise").click()
    heard(page, "Noise added")
    assert errors(page)[3] > 0
    page.get_by_role("button", name="Clear").click()
    heard(page, "No points")
    expect(page.locator(".point")).to_have_count(0)
    # A press on the wave itself is a press on the field.
    x, y = page.locator("path.hidden").first.evaluate("""path => {
      const { x, y } = path.getPointAtLength(path.getTotalLength() / 3);
      const seen = new DOMPoint(x, y).matrixTransform(path.getScreenCTM());
      return [seen.x, seen.y];
    }""")
    page.mouse.click(x, y)
    expect(page.locator(".point")).to_have_count(1)
    page.get_by_role("button", name="Clear").click()
    for at in (60, 160, 260, 360):
        page.locator(".field").click(position={"x": at, "y": 100})
    expect(page.locator(".point")).to_have_count(4)
    heard(page, "Point 4 at x")
    box = page.locator(".point circle.body").nth(1).bounding_box()
    page.mouse.move(box["x"] + 7, box["y"] + 7)
    page.mouse.down()
    page.mouse.move(box["x"] + 40, box["y"] + 90, steps=5)
    page.mouse.up()
    heard(page, "Point 2 at x")
    expect(page.locator(".point")).to_have_count(4)


def test_the_fit_by_keys(opened):
    page = opened("fit")
    page.keyboard.press("Tab")
    first = page.get_by_role("slider", name="point 1 of 10", exact=True)
    expect(first).to_be_focused()
    page.keyboard.press("Shift+ArrowUp")
    page.keyboard.press("ArrowLeft")
    heard(page, "Point 1 at x −4.6, y 3.0.")
    page.keyboard.press("Delete")
    expect(page.locator(".point")).to_have_count(9)
    heard(page, "A point is taken away.")
    more = page.get_by_role("button", name="Add a point")
    more.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".point")).to_have_count(10)
    expect(more).to_be_disabled()
    expect(page.locator(".point").last).to_be_focused()
    take = page.get_by_role("button", name="Take ten steps")
    take.focus()
    page.keyboard.press("Enter")
    expect(page.locator(".caption")).to_contain_text("after 10 steps")
    heard(page, "10 steps. After 10 steps on 10 points")
    expect(take).to_be_visible()
    hidden = page.locator("path.hidden").first
    box = page.get_by_role("checkbox", name="show the hidden wave")
    box.focus()
    page.keyboard.press("Space")
    expect(hidden).to_be_hidden()


def test_the_fit_says_what_diverged(opened):
    page = opened("fit")
    page.evaluate(
        """state.methods[1].lr = 5; leave();
        window.leave = module.default.render({ model, el });"""
    )
    page.get_by_role("slider", name="gradient steps").press("End")
    expect(page.locator(".sentence")).to_contain_text(
        "pretrained without bound"
    )
    expect(page.locator(".method b").nth(1)).to_have_text("∞")


# All three


# The gait


def test_the_figure_is_the_stored_one_and_between_frames_their_mean(opened):
    page, points = opened("gait"), sample_gait().double() / 1000
    for run, at in ((2, 7.0), (5, 30.5), (7, 100.0)):
        drawn = page.evaluate(
            "([run, at]) => module.figure(module.unpack(state.points), "
            "state.shape, run, at)",
            [run, at],
        )
        stored = points[run // 2, run % 2, ::2]
        share, frame = at % 1, int(at)
        wanted = stored[frame]
        if share:
            wanted = (1 - share) * wanted + share * stored[frame + 1]
        torch.testing.assert_close(
            torch.tensor(drawn).double(), wanted, atol=0.0101, rtol=0
        )


def test_it_runs_the_way_that_is_rewarded(opened):
    page = opened("gait")
    said = page.locator(".sentence")
    expect(said).to_contain_text("After 1 gradient step, rewarded for running")
    page.get_by_role("slider", name="time").press("End")
    expect(said).to_contain_text("at 10.0 s it is 10.0 m ahead")
    expect(said).to_contain_text("The return of this run is 2.")
    page.get_by_role("button", name="backward").click()
    expect(said).to_contain_text("at 0.0 s")
    page.get_by_role("slider", name="gradient steps").press("End")
    run = page.get_by_role("button", name="Run", exact=True)
    run.click()
    page.wait_for_timeout(700)
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(run).to_be_visible()
    text = said.inner_text()
    at, gone = (float(n) for n in re.findall(r"(\d+\.\d) (?:s|m) ", text)[:2])
    assert 0.3 < at < 5 and abs(gone - 3 * at) <= 0.4, text
    assert "m back of" in text
    page.wait_for_timeout(300)
    assert said.inner_text() == text
    heard(page, "rewarded for running backward")


# The walks


def journey(goal, seed):
    """Walks, parameters and noise from 0 to 3 steps, in double."""
    params, lrs = sample_policy()
    params = {k: p.bfloat16().double() for k, p in params.items()}
    policy, goals = rl.GaussianPolicy(), torch.tensor([goal]).double()
    loss_fn = rl.policy_loss(policy, rl.naive)
    rng, again = (torch.Generator().manual_seed(seed) for _ in "ab")
    found = []
    for lr in [*lrs, 0.0]:
        stacked = rl.repeat(params, 1)
        walks = rl.roll_out(stacked, policy, goals, rollouts=40, generator=rng)
        noise = torch.randn(100, 40, 2, generator=again, dtype=torch.double)
        seen = rl.Experience(*(t[0] for t in rl.weigh(walks)))
        found.append((walks, params, seen.advantages, noise))
        params = adapt(params, loss_fn, seen, lr=lr)
    return found


@pytest.mark.parametrize("goal", [(0.4, 0.3), (-0.1, 0.02), (-0.5, 0.5)])
def test_walks_and_steps_in_the_browser_are_those_of_rl(opened, goal):
    page, found = opened("walks"), journey(goal, seed=3)
    got = page.evaluate(
        """([goal, noises]) => {
        let params = module.unpack(state.weights);
        return noises.map((noise, i) => {
          const walks = module.walk(params, noise);
          const seen = module.judge(walks, goal);
          const flat = params.flatMap((p) => [...p]);
          params = module.reinforce(params, walks, seen, state.lr[i] ?? 0);
          return [[...walks.states], [...seen.rewards], seen.mean, flat,
            [...module.weigh(walks, seen)]];
        });
        }""",
        [goal, [noise.flatten().tolist() for *_, noise in found]],
    )
    close = {"atol": 1e-5, "rtol": 1e-5}
    for (walks, params, advantages, _), parts in zip(found, got, strict=True):
        states, rewards, mean, flat, weighed = (
            torch.tensor(part).double() for part in parts
        )
        torch.testing.assert_close(states, walks.states.flatten(), **close)
        torch.testing.assert_close(rewards, walks.rewards.flatten(), **close)
        torch.testing.assert_close(weighed, advantages.flatten(), **close)
        torch.testing.assert_close(mean, rl.total_return(walks)[0], **close)
        wanted = torch.cat([p.flatten() for p in params.values()])
        torch.testing.assert_close(flat, wanted, atol=1e-7, rtol=0)
    assert (found[-1][0].alive == 0).any()  # some walk ended early
    still = page.evaluate("(goal) => module.standing(goal)", goal)
    assert still == pytest.approx(-100 * (goal[0] ** 2 + goal[1] ** 2) ** 0.5)


def test_the_noise_of_the_walks_is_normal_and_has_a_seed(opened):
    page = opened("walks")
    one, again, other = (
        torch.tensor(page.evaluate(f"[...module.noiseOf({seed})]"))
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, again) and not torch.equal(one, other)
    for noise in (one, other):  # 8000 numbers; four standard errors
        assert abs(noise.mean()) < 0.045 and abs(noise.std() - 1) < 0.032
        assert abs((noise**4).mean() - 3) < 0.45
        assert abs((noise[1:] * noise[:-1]).mean()) < 0.045
    assert abs((one * other).mean()) < 0.045  # one seed tells not the next


def returns(page):
    texts = page.locator(".row b").all_inner_texts()
    return [float(t.replace("−", "-")) for t in texts if t != "–"]


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_goal_is_placed_and_steps_lead_to_it(opened, width):
    options = {"has_touch": True} if width == 390 else {}
    page = opened("walks", viewport={"width": width, "height": 900}, **options)
    said = page.locator(".sentence")
    expect(said).to_contain_text("Goal at x 0.40, y 0.30. Before a step")
    traces = "[...el.shadowRoot.querySelectorAll('.trace')].map((p) => "
    traces += "p.getAttribute('d').length)"
    with no_jump(page):
        field = page.locator(".field")
        box = field.bounding_box()
        place = {"x": box["width"] / 6 + 2, "y": box["height"] / 2}
        press = field.tap if options else field.click
        press(position=place)
        expect(said).to_contain_text("Goal at x −0.49, y 0.00. Before a step")
        assert page.evaluate("state.goal")[0] == pytest.approx(-0.49, abs=0.02)
        part = sum(page.evaluate(traces))
        page.wait_for_timeout(3500)
        assert sum(page.evaluate(traces)) > 1.3 * part  # they were moving
    before, still = returns(page)
    ends = "[...el.shadowRoot.querySelectorAll('.walker')].map((c) => "
    ends += "c.getAttribute('cx')).join()"
    first = page.evaluate(ends)
    one = page.get_by_role("button", name="One step")
    for n in (1, 2, 3):
        one.click()
        expect(said).to_contain_text(f"After {n} step")
    expect(one).to_be_disabled()
    found = returns(page)
    assert found[0] == before and found[-1] == still < -45
    assert found[1] > still / 2 and found[3] > -10
    heard(page, "standing still would have −4")
    page.get_by_role("button", name="Start again").click()
    expect(said).to_contain_text("Goal at x −0.49, y 0.00. Before a step")
    expect(one).to_be_enabled()
    assert len(returns(page)) == 2
    page.wait_for_timeout(3500)
    assert page.evaluate(ends) != first  # by another noise


def test_the_walks_by_keys(opened):
    page = opened("walks", reduced_motion="reduce")
    said = page.locator(".sentence")
    page.keyboard.press("Tab")
    expect(page.get_by_role("slider", name="goal")).to_be_focused()
    paths = "[...el.shadowRoot.querySelectorAll('.trace')].map((p) => "
    paths += "p.getAttribute('d')).join()"
    blind, before = page.evaluate(paths), returns(page)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Shift+ArrowUp")
    heard(page, "Goal at x 0.38, y 0.40. Before a step, 40 new walks")
    assert page.evaluate(paths) == blind  # θ does not see the goal
    assert returns(page)[1] < before[1]
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    heard(page, "After 1 step, 40 new walks have a mean return of")
    assert page.evaluate(paths) != blind
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("ArrowDown")
    expect(said).to_contain_text("Goal at x 0.38, y 0.38. Before a step")
    expect(page.get_by_role("button", name="One step")).to_be_enabled()


def serious(page):
    found = Axe().run(page, options={"preload": False}).response
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]


@each_play
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_is_accessible_and_fits(opened, name, theme, width):
    page = opened(name, viewport={"width": width, "height": 900})
    page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
    page.wait_for_timeout(800)  # colours follow, and the map gets fine
    inner = page.evaluate("document.documentElement.scrollWidth")
    assert inner == width
    assert not serious(page)
    keep(page, f"play_{name}_{theme}_{width}", whole=True)
    if name == "game":
        page.get_by_role("button", name="Start").click()
        page.keyboard.press("2")
        assert not serious(page)
    seen = page.evaluate(
        """() => {
        const light = (c) => [0.2126, 0.7152, 0.0722].reduce((s, w, i) =>
          s + w * ((c[i] / 255 + 0.055) / 1.055) ** 2.4, 0);
        const root = el.shadowRoot.querySelector(".play").style;
        const read = (key) => root.getPropertyValue(`--${key}`)
          .match(/\\d+/g).map(Number);
        const paper = light(read("paper"));
        return [...Object.keys(state.colours), "ink", "soft"].map((key) => {
          const [low, high] = [paper, light(read(key))].sort((a, b) => a - b);
          return [key, (high + 0.05) / (low + 0.05)];
        });
        }"""
    )
    wanted = {"ink": 7, "soft": 4.5}
    dim = [(k, c) for k, c in seen if c < wanted.get(k, 2.95)]
    assert not dim


@each_play
def test_without_motion_nothing_moves_by_itself(opened, name):
    page = opened(name, reduced_motion="reduce")
    moving = """() => [...el.shadowRoot.querySelectorAll("*")].flatMap((e) =>
      e.getAnimations()).length"""
    assert page.evaluate(moving) == 0
    if name == "valley":
        page.get_by_role("button", name="Run MAML", exact=True).click()
        page.wait_for_timeout(300)
        assert page.evaluate("state.theta[0]") > 3
        page.get_by_role("slider", name="inner steps").press("ArrowRight")
    if name == "gait":
        page.get_by_role("button", name="Run", exact=True).click()
        expect(page.locator(".sentence")).to_contain_text("at 10.0 s")
    if name == "walks":
        page.get_by_role("button", name="One step").click()
        expect(page.locator(".sentence")).to_contain_text("After 1 step")
        walkers = """[...el.shadowRoot.querySelectorAll(".walker")].map((c) =>
          c.getAttribute("cx")).join()"""
        drawn = page.evaluate(walkers)
        page.wait_for_timeout(300)
        assert page.evaluate(walkers) == drawn
    if name.startswith("fit"):
        page.get_by_role("button", name="Take ten steps").click()
        expect(page.locator(".caption")).to_contain_text("after 10 steps")


@each_play
def test_a_play_that_is_taken_away_leaves_nothing_running(opened, name):
    page = opened(name)
    if name != "game":
        runs = {"valley": "Run MAML", "gait": "Run", "walks": "One step"}
        run = runs.get(name, "Take ten steps")
        page.get_by_role("button", name=run, exact=True).click()
    page.evaluate("leave()")
    page.wait_for_timeout(100)
    page.evaluate("work.length = 0")
    before = page.evaluate("JSON.stringify(state)")
    page.wait_for_timeout(700)
    assert page.evaluate("work.length") == 0
    assert page.evaluate("JSON.stringify(state)") == before


# Arithmetic that takes 11 ms, two thirds of a frame, on a quiet core of two.
TWO_THIRDS = """() => new Promise((done) => setTimeout(() => {
  let sum = 0;
  for (let i = 0; i < 8e5; i++) sum += Math.tanh(i % 7) * (i % 3);
  done(sum);
}))"""


def worked(page, session, act):
    """Milliseconds that the page's thread works on what `act` does."""

    def total():
        metrics = session.send("Performance.getMetrics")["metrics"]
        return {m["name"]: m["value"] for m in metrics}["ScriptDuration"]

    before = total()
    act()
    return 1000 * (total() - before)


@pytest.mark.parametrize(
    ("name", "handle", "steps", "share"),
    [
        ("valley", ".theta circle.body", "inner steps", 0.3),
        ("fit", ".point circle.body", "gradient steps", 0.6),
        ("fit_reader", ".point circle.body", "gradient steps", 1.0),
    ],
)
def test_a_drag_leaves_time_in_each_frame(opened, name, handle, steps, share):
    """60 frames a second are 16.7 ms each; at ten steps, the most there are.

    Judged is the time that the page's thread works, beside that of a fixed
    piece of arithmetic, as others may be using the machine.
    """
    page = opened(name)
    page.get_by_role("slider", name=steps).press("End")
    page.wait_for_timeout(1500)
    box = page.locator(handle).first.bounding_box()
    x, y = box["x"] + 7, box["y"] + 7
    page.evaluate("work.length = 0")
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def drag():
        page.mouse.move(x, y)
        page.mouse.down()
        for n in range(60):
            page.mouse.move(x + 2 * n % 90, y - n)
            page.wait_for_timeout(16)
        page.mouse.up()

    def arithmetic():
        for _ in range(20):
            page.evaluate(TWO_THIRDS)

    spent = worked(page, session, drag)
    frames = page.evaluate("work.length")
    assert frames > 20
    most = worked(page, session, arithmetic) / 20
    assert 0 < spent / frames < share * most
