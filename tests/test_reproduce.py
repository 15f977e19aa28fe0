"""Result files: what is written is read back, or one line says why not."""

import pytest
import torch

from mamlkit.reproduce import read_result, row, write_result


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
