"""What is written is read back, or one line says why not."""

import pytest
import torch

from mamlkit.checkpoint import save_checkpoint
from mamlkit.reproduce import Known, read_result, row, write_result


def write(folder, rows=()):
    return write_result(
        "demo",
        settings={"lr": 0.1},
        seed=3,
        seconds=1.26,
        curve=[[1, 0.5]],
        rows=list(rows),
        folder=folder,
    )


def test_a_result_is_read_back_with_its_rows_by_name(tmp_path):
    write(tmp_path / "new", [row("mse", torch.tensor([1.0, 3.0]), paper=2.5)])
    result = read_result("demo", tmp_path / "new")
    assert result["rows"]["mse"] == {
        "name": "mse", "value": 2.0, "interval": 1.96, "n": 2, "paper": 2.5,
    }  # fmt: skip
    assert result["settings"]["lr"] == 0.1 and result["seed"] == 3
    assert result["settings"]["threads"] == torch.get_num_threads()


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot write .*demo.json") as error:
        write(tmp_path / "file")
    assert "\n" not in str(error.value)


def test_a_missing_result_says_which_command_makes_it(tmp_path):
    with pytest.raises(ValueError, match="mamlkit reproduce"):
        read_result("demo", tmp_path)


def never():
    raise AssertionError("found again")


def test_what_was_found_is_there_again_after_an_interruption(tmp_path):
    def killed():
        raise KeyboardInterrupt

    path = tmp_path / "new" / "known.pt"
    known = Known(path, lr=0.1)
    assert known("weights", lambda: torch.ones(2)).tolist() == [1, 1]
    assert known("weights", never).tolist() == [1, 1]
    with pytest.raises(KeyboardInterrupt):
        known("rows", killed)
    again = Known(path, lr=0.1)
    assert again("weights", never).tolist() == [1, 1]
    assert again("rows", lambda: [3]) == [3]
    whole = Known(path, lr=0.1)
    assert whole("weights", never).tolist() == [1, 1]
    assert whole("rows", never) == [3]


def test_what_was_found_with_other_settings_is_refused(tmp_path):
    path = tmp_path / "known.pt"
    Known(path, lr=0.1)("rows", lambda: [3])
    for other in ({"lr": 0.2}, {"lr": 0.1, "steps": 1}):
        with pytest.raises(ValueError, match="known.pt comes from other"):
            Known(path, **other)
    assert Known(path, lr=0.1)("rows", never) == [3]


def test_without_settings_nothing_is_asked_of_a_file(tmp_path):
    save_checkpoint(tmp_path / "known.pt", {"rows": [3]})
    assert Known(tmp_path / "known.pt")("rows", never) == [3]


def test_without_a_file_nothing_is_kept():
    known = Known()
    assert known("rows", lambda: [3]) == known("rows", never) == [3]
    assert Known()("rows", lambda: [4]) == [4]
