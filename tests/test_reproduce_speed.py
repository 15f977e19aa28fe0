from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch

from mamlkit.__main__ import main
from mamlkit.reproduce import peers, speed

# Peers are installed by those who want them; ours are compared always.
VARIANTS = ["loop"]
VARIANTS += [name for name in ("higher", "torchopt", "jax") if find_spec(name)]


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", speed.PROBLEMS)
def test_all_have_our_gradient(name, variant):
    found = speed.compare(name, [variant, "vmap"])
    assert found[variant] < 1e-4 and found["vmap"] < 1e-4


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_go_the_way_that_vmap_goes(variant):
    """After two of Adam's updates the gradients still agree."""
    vectors = []
    for each in ("vmap", variant):
        vector, iteration = speed.prepare("sinusoid_1_step", each)
        start = vector()
        iteration()
        iteration()
        vectors.append(vector())
    assert (start - vectors[0]).norm() > 1e-3 * start.norm()
    assert torch.allclose(*vectors, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_another_gradient_ends_the_run(monkeypatch, factor):
    prepare = speed.prepare

    def scaled(name, variant):
        vector, iteration = prepare(name, variant)
        return (
            lambda: vector() * (factor if variant == "vmap" else 1),
            iteration,
        )

    monkeypatch.setattr(speed, "prepare", scaled)
    with pytest.raises(ValueError, match="the gradient of vmap differs"):
        speed.compare("sinusoid_1_step", ["loop", "vmap"])


def test_a_library_that_is_not_installed_is_left_out_and_said(
    monkeypatch, capsys
):
    monkeypatch.setattr(speed.torch, "set_num_threads", lambda count: None)
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    monkeypatch.setattr(speed, "compare", lambda _, vs: dict.fromkeys(vs, 0.0))
    done = SimpleNamespace(stdout="1.5\n")
    monkeypatch.setattr(speed.subprocess, "run", lambda *_, **__: done)
    written = {}
    monkeypatch.setattr(
        speed, "write_result", lambda _, **result: written.update(result)
    )
    problem = ["--rounds", "1", "--problems", "sinusoid_1_step"]
    assert main(["reproduce", "speed", *problem]) == 0
    said = capsys.readouterr().out
    assert said.startswith("left out, as not installed: torchopt, jax\n")
    names = [row["name"] for row in written["rows"]]
    assert names == [
        f"sinusoid_1_step_{v}" for v in ("higher", "loop", "vmap", "compiled")
    ]
    monkeypatch.setattr(peers, "find_spec", lambda name: name)
    written.clear()
    assert main(["reproduce", "speed", *problem]) == 0
    assert "left out" not in capsys.readouterr().out
    names = [row["name"] for row in written["rows"]]
    assert names == [f"sinusoid_1_step_{v}" for v in speed.VARIANTS]
