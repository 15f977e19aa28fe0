import io
import json
import logging
import os
import subprocess
import sys

import nbformat
import pytest

from mamlkit.__main__ import main
from mamlkit.course import chapters
from mamlkit.paths import ROOT
from mamlkit.publish import runner, verdicts

# A chapter without heavy imports, for runs that are about the runner.
LIGHT = {
    "setup": "from mamlkit.course.claims import claim, report_claims",
    "exercise": None,
}


@pytest.fixture
def course(make_chapter, monkeypatch, tmp_path):
    """Make tiny chapters the course that the command sees."""
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(runner, "BUILD", tmp_path / "build")

    def make(*names, **changes):
        return [make_chapter(name, **LIGHT | changes) for name in names][-1]

    return make


def report(folder):
    return json.loads((folder / "report.json").read_text())


def text_of(notebook):
    nb = nbformat.read(notebook, 4)
    return "".join(
        o.get("text", "") for c in nb.cells for o in c.get("outputs", [])
    )


def test_every_flag_of_run_arrives(course, tmp_path, monkeypatch, capsys):
    course("03_try_a_thing", "04_try_more")
    out = tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    flags = "--scale ci --seed 1 -p RATE=0.25 --out elsewhere".split()
    assert main(["run", "4", *flags]) == 0
    (chapter,) = report(out)["chapters"]
    assert chapter["chapter"] == "04_try_more"
    said = text_of(out / "04_try_more.ipynb")
    assert "rate 0.25 seed 1 scale ci" in said
    claims = {c["text"]: c["verdict"] for c in chapter["claims"]}
    assert claims == {
        "Two is two.": "held",
        "The seed is small.": "not judged",
    }
    assert chapter["seconds"] > 0 and chapter["peak_mb"] > 1
    printed = capsys.readouterr().out
    assert "held        Two is two. Measured: 2" in printed
    assert "04_try_more" in printed and "03_try_a_thing" not in printed


def test_failing_claim_and_broken_cell_fail_the_run(course, tmp_path, capsys):
    course("03_try_a_thing")
    broken = course("04_break", work="print('so far')\n1 / 0")
    out = tmp_path / "out"
    assert main(["run", "--seed", "5", "--out", str(out)]) == 1
    good, bad = report(out)["chapters"]
    assert [c["verdict"] for c in good["claims"]] == ["held", "failed"]
    assert "claims that do not hold" in good["error"]
    assert bad["error"] == "ZeroDivisionError: division by zero"
    assert bad["peak_mb"] is None and bad["claims"] == []
    trace = (out / "04_break.traceback.txt").read_text()
    assert "1 / 0" in trace and "\x1b" not in trace
    assert "so far" in text_of(out / broken.name)
    printed = capsys.readouterr().out
    assert "failed      The seed is small. Measured: 5" in printed
    assert "division by zero" in printed
    # The next run that succeeds leaves no old traceback behind.
    course("04_break")
    assert main(["run", "04", "--out", str(out)]) == 0
    assert not (out / "04_break.traceback.txt").exists()


# A claim in characters that an old console does not have.
GREEK = {"loose": 'claim("θ′ ≈ θ.", True, "±1")'}


def test_a_console_that_is_not_utf8_shows_what_it_can(
    course, tmp_path, monkeypatch
):
    course("03_try_a_thing", **GREEK)
    shown = io.BytesIO()
    console = io.TextIOWrapper(shown, encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", console)
    assert main(["run", "--out", str(tmp_path / "out")]) == 0
    assert b"\\u03b8\\u2032 \\u2248 \\u03b8." in shown.getvalue()
    (chapter,) = report(tmp_path / "out")["chapters"]
    assert chapter["claims"][1]["text"] == "θ′ ≈ θ."


def test_the_report_is_there_before_it_is_printed(
    course, tmp_path, monkeypatch
):
    path = course("03_try_a_thing", **GREEK)
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    with pytest.raises(UnicodeEncodeError):
        runner.run([path], out=tmp_path / "out")
    assert report(tmp_path / "out")["chapters"][0]["claims"]


def test_cell_that_takes_too_long_is_stopped(course, tmp_path, monkeypatch):
    monkeypatch.setitem(runner.TIMEOUTS, "ci", 1)
    course("03_try_a_thing", work="import time\ntime.sleep(60)")
    out = tmp_path / "out"
    assert main(["run", "--scale", "ci", "--out", str(out)]) == 1
    (chapter,) = report(out)["chapters"]
    assert chapter["error"].startswith("CellTimeoutError")
    assert "after 1 seconds" in chapter["error"]
    assert chapter["seconds"] < 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run 9", "no chapter '9': there are 03"),
        ("run no_such.ipynb", "no chapter 'no_such.ipynb'"),
        ("run --scale huge", "no scale 'huge': there are ci"),
        ("run --seed x", "invalid int value: 'x'"),
        ("run -p LR=1", "03_try_a_thing has no parameter LR: it declares"),
        ("run -p RATE", "-p RATE: give NAME=VALUE"),
        ("run -p =1", "-p =1: give NAME=VALUE"),
        ("run {file}", "papermill {file} out.ipynb -p SCALE ci"),
        ("run /no/03_try_a_thing.ipynb", "no such file: /no/03_try_a_thing"),
        ("lab 03 04", "lab opens one chapter"),
        ("lab --no-browser", "follows --, as in mamlkit lab -- --no-browser"),
        ("run -p RATE=fast", "strings are quoted"),
        ("run -p SEED=1", "SEED has its own flag: --seed"),
        ("run --out {file}/x", "" if os.name == "nt" else "Not a directory: "),
        ("lab 9", "no chapter '9'"),
        ("render 9", "no chapter '9'"),
        ("claims 9", "no chapter '9'"),
        ("fetch mnist", "invalid choice: 'mnist'"),
        ("reproduce nothing", "no experiment 'nothing': there are sinusoid"),
        ("reproduce sinusoid --no-such", "unrecognized arguments: --no-such"),
        ("dance", "invalid choice: 'dance'"),
        ("progress --folder /no/such", "no such folder: /no/such"),
        ("", "required: COMMAND"),
    ],
)
def test_mistake_is_one_line_and_nothing_runs(
    course, tmp_path, capsys, arguments, message
):
    course("03_try_a_thing")
    (tmp_path / "file").touch()
    words = arguments.format(file=tmp_path / "file").split()
    message = message.format(file=tmp_path / "file")
    try:
        code = main(words)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    assert code == 2
    assert said.err.startswith("mamlkit: ") and said.err.count("\n") == 1
    assert message in said.err
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize(
    "name", ["4", "04", "04_try_more", "notebooks/04_try_more.ipynb"]
)
def test_chapter_is_found_by_number_name_or_path(course, name):
    path = course("03_try_a_thing", "04_try_more")
    assert chapters.find_chapters([name]) == [path]
    assert len(chapters.find_chapters()) == 2


def test_folder_without_chapters_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path)
    with pytest.raises(ValueError, match="run from a checkout"):
        chapters.find_chapters()


def test_kernel_is_our_own_python(course, tmp_path, monkeypatch):
    decoy = tmp_path / "jupyter" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    spec = {"argv": ["false"], "display_name": "x", "language": "python"}
    (decoy / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    course("03_try_a_thing", work="import sys\nprint(sys.executable)")
    assert main(["run", "--scale", "ci"]) == 0
    executed = tmp_path / "build" / "run" / "03_try_a_thing.ipynb"
    assert text_of(executed).split("\n")[0] == sys.executable
    assert os.environ["JUPYTER_PATH"] == str(tmp_path / "jupyter")
    assert report(tmp_path / "build")["scale"] == "ci"


def test_claims_judges_each_seed_and_stores_what_did_not_hold(
    course, monkeypatch, tmp_path, capsys
):
    assert [*verdicts.SEEDS] == [0, 1, 2, 3, 4]
    file = tmp_path / "claims.json"
    monkeypatch.setattr(verdicts, "FILE", file)
    monkeypatch.setattr(verdicts, "BUILD", tmp_path / "build")
    monkeypatch.setattr(verdicts, "SEEDS", range(3))
    course("03_try_a_thing")
    course("04_break", work="1 / 0")
    assert main(["claims", "03"]) == 1
    table = capsys.readouterr().out.split("  The seed is small.")[-1]
    found = [line.split()[:4] for line in table.splitlines()[1:4]]
    assert found == [
        ["seed", "0", "held", "0"],
        ["seed", "1", "held", "1"],
        ["seed", "2", "failed", "2"],
    ]
    (entry,) = json.loads(file.read_text()).values()
    assert [run["held"] for run in entry["by_seed"]] == [2, 2, 1]
    ((seed, verdict, text, _),) = entry["not_held"]
    assert (seed, verdict, text) == (2, "failed", "The seed is small.")
    summary = "Seeds 0 to 2, chapter by chapter: 5 held, 1 failed, "
    summary += "0 not judged. Not judged yet: 04."
    assert verdicts.summary() == summary
    course("03_try_a_thing", work="print('something else')")
    assert verdicts.summary() == f"{summary} Code changed since: 03."
    # A broken chapter stands beside the other's verdicts, and says why.
    monkeypatch.setattr(verdicts, "SEEDS", range(1))
    assert main(["claims", "04"]) == 1
    both = json.loads(file.read_text())
    assert both["03_try_a_thing"] == entry
    assert "division by zero" in both["04_break"]["by_seed"][0]["error"]


def test_fetch_passes_the_folder_on(monkeypatch, tmp_path):
    from mamlkit.datasets import omniglot

    asked = []
    monkeypatch.setattr(omniglot, "fetch", asked.append)
    main(["fetch", "omniglot"])
    main(["fetch", "omniglot", "--from", str(tmp_path)])
    assert asked == [None, tmp_path]


def test_reproduce_passes_its_flags_on(monkeypatch):
    from mamlkit.reproduce import sinusoid

    seen = []
    monkeypatch.setattr(sinusoid, "run", seen.append)
    main(["reproduce", "sinusoid"])
    main("reproduce sinusoid --seed 3 --iterations 7".split())
    assert [args.seed for args in seen] == [0, 3]
    assert seen[1].iterations == 7


def test_who_reads_no_further_hears_no_complaint(monkeypatch):
    command = [sys.executable, "-m", "mamlkit", "progress"]
    where = {"cwd": ROOT, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, stdout=subprocess.PIPE, **where) as asked:
        asked.stdout.close()
        assert asked.stderr.read() == b""
    assert asked.returncode == 141
    monkeypatch.setattr(sys, "stdout", None)  # closed from the start
    assert main(["progress"]) == 0


def test_ctrl_c_ends_in_one_line(course, monkeypatch, capsys):
    course("03_try_a_thing")

    def interrupted(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "execute", interrupted)
    assert main(["run"]) == 130
    assert capsys.readouterr().err == "mamlkit: interrupted\n"


def test_ctrl_c_in_a_chapter_leaves_the_kernels_end_unsaid(
    course, monkeypatch, capsys
):
    def interrupted(*_args, **_settings):
        raise KeyboardInterrupt

    course("03_try_a_thing")
    monkeypatch.setattr(runner.papermill, "execute_notebook", interrupted)
    logger = logging.getLogger("asyncio")
    monkeypatch.setattr(logger, "level", logging.NOTSET)
    assert main(["run"]) == 130
    assert not logger.isEnabledFor(logging.ERROR)
    assert capsys.readouterr().err == "mamlkit: interrupted\n"


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("mujoco", "mujoco"),
        ("imageio", "mujoco"),
        ("gymnasium", "rl"),
        ("higher", "bench"),
        ("papermill", "course"),
    ],
)
def test_a_missing_package_is_said_with_its_extra(
    course, monkeypatch, capsys, module, extra
):
    def missing(*_args, **_settings):
        raise ModuleNotFoundError(name=module)

    course("03_try_a_thing")
    monkeypatch.setattr(runner, "run", missing)
    assert main(["run"]) == 2
    wanted = f"mamlkit: this needs {module}: pip install 'mamlkit[{extra}]'\n"
    assert capsys.readouterr().err == wanted


def test_help_lists_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0
    commands = "run lab doctor render html claims fetch reproduce".split()
    assert all(f"    {name}" in said for name in commands)


def test_scales_of_the_command_are_those_of_the_runner(course, capsys):
    course("03_try_a_thing")
    assert main(["run", "--scale", "?"]) == 2
    said = capsys.readouterr().err
    assert all(scale in said for scale in runner.TIMEOUTS)
