"""Checkpoints are whole or absent, and never run code."""

import os
import pickle

import pytest
import torch

from mamlkit import load_checkpoint, save_checkpoint


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
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"a": lambda: 1})
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
    save_checkpoint(tmp_path / "run.pt", {"w": 1})
    with pytest.raises(ValueError, match="other settings"):
        load_checkpoint(tmp_path / "run.pt", {"lr": 1})
