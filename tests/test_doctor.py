"""The doctor says what it sees, and what is wrong."""

import mamlkit
from mamlkit.__main__ import main
from mamlkit.publish import doctor


def test_a_healthy_machine_is_called_so(capsys):
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert mamlkit.__version__ in said and "WRONG" not in said
    for what in ("Python", "torch", "device", "C++ compiler", "cache"):
        assert what in said


def test_what_is_wrong_is_said_and_is_the_exit_code(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.setattr(doctor, "DATA", tmp_path)
    assert main(["doctor"]) == 1
    assert "WRONG: glyphs.npz is missing" in capsys.readouterr().out
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    wrong = {what for what, _, wrong in doctor.examine() if wrong}
    assert {"cache", "build", "data"} <= wrong
