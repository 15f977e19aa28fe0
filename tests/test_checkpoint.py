"""Checkpoints are whole or absent, and never run code."""

import os
import sys
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mamlkit import (
    anil_loss,
    imaml_loss,
    load_checkpoint,
    meta_loss,
    multi_step_loss,
    reptile_loss,
    save_checkpoint,
)
from mamlkit.checkpoint import described


def test_what_is_saved_is_loaded(tmp_path):
    state = {"params": {"w": torch.randn(3)}, "loss": [1.0], "name": "a"}
    save_checkpoint(tmp_path / "new" / "run.pt", state)
    loaded = load_checkpoint(tmp_path / "new" / "run.pt")
    assert torch.equal(loaded["params"]["w"], state["params"]["w"])
    assert loaded["loss"] == [1.0] and loaded["name"] == "a"
    assert os.listdir(tmp_path / "new") == ["run.pt"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, {"a": 1})
    for other in (lambda: 1, np.float64(0.9)):
        with pytest.raises(ValueError, match="could not be read again"):
            save_checkpoint(path, {"a": other})
    assert load_checkpoint(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["run.pt"]


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_a_truncated_file_is_refused(tmp_path, keep):
    path = tmp_path / "run.pt"
    save_checkpoint(path, {"w": torch.zeros(50)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match="not a readable checkpoint .* or delete"
    ):
        load_checkpoint(path)


def test_a_file_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save(Evil(), tmp_path / "run.pt")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "run.pt")
    assert not (tmp_path / "ran").exists()


def test_junk_and_a_folder_are_refused(tmp_path):
    (tmp_path / "junk.pt").write_text("junk")
    for path in (tmp_path / "junk.pt", tmp_path):
        with pytest.raises(ValueError, match="name another file, or delete"):
            load_checkpoint(path)


def test_a_missing_file_and_an_impossible_folder(tmp_path):
    with pytest.raises(ValueError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "run.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*run.pt"):
        save_checkpoint(tmp_path / "file" / "run.pt", {})


def test_settings_that_differ_are_named(tmp_path):
    save_checkpoint(tmp_path / "run.pt", {"settings": {"lr": 1, "n": 2}})
    assert load_checkpoint(tmp_path / "run.pt", {"lr": 1, "n": 2})
    with pytest.raises(ValueError, match=r"other settings \(lr 1 there, 3"):
        load_checkpoint(tmp_path / "run.pt", {"lr": 3, "n": 2})
    inside = {"settings": {"a": {"b": 1, "c": 2}}}
    save_checkpoint(tmp_path / "run.pt", inside)
    with pytest.raises(ValueError, match=r"settings \(a.b 1 there, 3 here\)"):
        load_checkpoint(tmp_path / "run.pt", {"a": {"b": 3, "c": 2}})
    save_checkpoint(tmp_path / "run.pt", {"w": 1})
    with pytest.raises(ValueError, match="other settings"):
        load_checkpoint(tmp_path / "run.pt", {"lr": 1})


def test_long_settings_are_cut_where_they_part_and_short_ones_come_first(
    tmp_path,
):
    path, same = tmp_path / "run.pt", "same " * 50
    there, here = (
        {"settings": {"a": f"{same}{end}", "b": {"c": n}}}
        for end, n in (("one" + same, 1), ("other" + same, 2))
    )
    save_checkpoint(path, there)
    with pytest.raises(ValueError) as caught:
        load_checkpoint(path, here["settings"])
    said = str(caught.value)
    assert "settings (b.c 1 there, 2 here, a …" in said
    assert " onesame" in said and " othersame" in said
    assert len(said) < len(str(path)) + 300


def test_a_setting_of_a_module_is_named_with_single_dots(tmp_path):
    one, other = (
        {"criterion": described(nn.MSELoss(reduction=how))}
        for how in ("mean", "sum")
    )
    save_checkpoint(tmp_path / "run.pt", {"settings": one})
    said = r"\(criterion.with.reduction mean there, sum here\)"
    with pytest.raises(ValueError, match=said):
        load_checkpoint(tmp_path / "run.pt", other)


# --- what a run must share with its checkpoint


def scaled(scale):
    def objective(*args, **options):
        return scale * meta_loss(*args, **options)

    return objective


class Scaled:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, *args, **options):
        return self.scale * meta_loss(*args, **options)

    def method(self, *args, **options):
        return self(*args, **options)


HEAD = ["0.weight"]
A, B = torch.tensor([0.2, 0.8]), torch.tensor([0.8, 0.2])
PAIRS = {
    "partial": (
        partial(anil_loss, adapted=["0.weight"]),
        partial(anil_loss, adapted=["2.weight"]),
    ),
    "number": (partial(imaml_loss, strength=1.0),
               partial(imaml_loss, strength=2.0)),
    "function": (meta_loss, reptile_loss),
    "tensors of one sum": (partial(multi_step_loss, weights=A),
                           partial(multi_step_loss, weights=B)),
    "many numbers of one sum": (
        partial(multi_step_loss, weights=torch.arange(100.0)),
        partial(multi_step_loss, weights=torch.arange(100.0).flip(0)),
    ),
    "closure": (scaled(2.0), scaled(3.0)),
    "lambda": (
        lambda *a, **k: anil_loss(*a, adapted=["0.weight"], **k),
        lambda *a, **k: anil_loss(*a, adapted=["2.weight"], **k),
    ),
    "number in a lambda": (
        lambda *a, **k: 2 * meta_loss(*a, **k),
        lambda *a, **k: 3 * meta_loss(*a, **k),
    ),
    "function in a lambda": (
        lambda *a, **k: meta_loss(*a, **k),
        lambda *a, **k: reptile_loss(*a, **k),
    ),
    "object": (Scaled(2.0), Scaled(3.0)),
    "method": (Scaled(2.0).method, Scaled(3.0).method),
    "module": (nn.CrossEntropyLoss(),
               nn.CrossEntropyLoss(label_smoothing=0.1)),
    "module with weights": (nn.CrossEntropyLoss(A), nn.CrossEntropyLoss(B)),
    "criterion": (F.mse_loss, F.l1_loss),
    "optimizer": (partial(torch.optim.SGD, momentum=0.9),
                  partial(torch.optim.SGD, momentum=0.5)),
    "rates": ({"a": 0.1, "b": 0.2}, {"a": 0.2, "b": 0.1}),
    "rate": (0.1, 0.2),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_settings_that_differ_are_described_differently(pair, tmp_path):
    one, other = PAIRS[pair]
    assert described(one) == described(one)
    assert described(one) != described(other)
    save_checkpoint(tmp_path / "run.pt", {"settings": described(one)})
    assert load_checkpoint(tmp_path / "run.pt")["settings"] == described(one)


def test_a_global_in_a_lambda_is_looked_up(monkeypatch):
    def objective(*args, **options):
        return anil_loss(*args, adapted=HEAD, **options)

    before = described(objective)
    monkeypatch.setattr(sys.modules[__name__], "HEAD", ["2.weight"])
    assert described(objective) != before


def test_the_same_settings_made_anew_are_the_same():
    for make in (
        lambda: scaled(2.0),
        lambda: partial(anil_loss, adapted=["0.weight"]),
        lambda: Scaled(2.0).method,
        lambda: lambda *a, **k: 2 * meta_loss(*a, **k),
        lambda: nn.MSELoss(),
        lambda: np.float32(0.5),
        lambda: torch.nn.Linear(2, 3),
    ):
        assert described(make()) == described(make())
    assert described(np.float64(0.1)) == described(0.1)
    assert described(torch.tensor(0.5)) == described(0.5)
