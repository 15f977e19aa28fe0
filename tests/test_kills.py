"""Kills at random moments, two writers at once, a full disk: nothing is lost.

The children are forked from a process that has imported mamlkit already, so
that fifty of them take seconds.
"""

import errno
import hashlib
import json
import multiprocessing
import os
import platform
import random
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from chapters import CHAPTERS
from test_outer import same, train

import mamlkit.outer
from mamlkit.course import chapters, score
from mamlkit.datasets import omniglot
from mamlkit.exercises import progress
from mamlkit.paths import ROOT, replacing
from mamlkit.publish import render
from mamlkit.reproduce import write_result

KILLS = 9  # of each kind
# More than the fastest disk writes between all kills.
KEYS = [f"{chapter}.{i}" for chapter in range(14) for i in range(1, 400)]
DRAWINGS = np.arange(2 * 20 * 105 * 105).reshape(2, 20, 105, 105) % 3 == 0
DIGEST = hashlib.sha256(np.packbits(DRAWINGS)).hexdigest()


# What is written: a call that writes, and a look at what lies there then.


def train_once(folder):
    mamlkit.outer.CHECKPOINT_SECONDS = 0
    return train(iterations=60, checkpoint=folder / "run.pt")


def trained(folder):
    _, resumed = train_once(folder)
    _, whole = train(iterations=60)
    assert resumed.loss == whole.loss
    assert same(resumed.params, whole.params)
    if random.random() < 0.5:  # or the next child has nothing to do
        (folder / "run.pt").unlink()


def fetch_once(folder):
    """Of archives that are small, and sound."""
    omniglot.ARCHIVES = {"any.zip": ("", 2, DIGEST)}
    omniglot.read_archive = lambda path, characters: DRAWINGS
    omniglot.fetch(folder, cache=folder)


def fetched(folder):
    with np.load(folder / omniglot.CACHED) as file:
        assert np.array_equal(file["ink"], omniglot.shrink(DRAWINGS))


def render_once(folder):
    """A chapter whose outputs are there at once."""
    path = folder / CHAPTERS[0].name
    if not path.exists():
        path.write_bytes(CHAPTERS[0].read_bytes())
    done = SimpleNamespace(notebook=CHAPTERS[0], seconds=1, error="")
    render.execute = lambda *_: done
    render.failed = lambda _: False
    render.render([path])


def rendered(folder):
    path = folder / CHAPTERS[0].name
    text = path.read_bytes()
    assert not render.output_faults(chapters.read(path), len(text))


def reproduce_once(folder):
    options = {"settings": {}, "seed": 0, "seconds": 1.0, "rows": []}
    curve = [(i, i) for i in range(20_000)]
    write_result("killed", curve=curve, folder=folder, **options)


def reproduced(folder):
    result = json.loads((folder / "killed.json").read_text())
    assert len(result["curve"]) == 20_000


def play_once(folder):
    score.score_path = lambda: folder / score.NAME
    said = score.keep_game([True, False], [1.0, 2.0])
    if "Kept" not in said:
        raise ValueError(said)


def played(folder):
    return len(score.read_games(folder / score.NAME))


def solve_once(folder):
    progress.somebody_is_there = lambda: True
    progress.progress_path = lambda: folder / progress.NAME
    known = progress.read_verdicts(folder / progress.NAME)
    mine = KEYS[int(os.environ.get("HALF", 0)) :: 2]
    progress.keep(next(k for k in mine if k not in known), "passed")


def solved(folder):
    return len(progress.read_verdicts(folder / progress.NAME))


KINDS = {
    "meta_train": (train_once, trained),
    "fetch": (fetch_once, fetched),
    "render": (render_once, rendered),
    "reproduce": (reproduce_once, reproduced),
    "score": (play_once, played),
    "progress": (solve_once, solved),
}
each_kind = pytest.mark.parametrize("kind", KINDS)


def again_and_again(kind, folder, times=None, half=0):
    """What a child does: write until it is killed, or so many times."""
    os.environ |= {"TQDM_DISABLE": "1", "HALF": str(half)}
    torch.set_num_threads(1)
    sys.stdout = open(os.devnull, "w")
    write, _ = KINDS[kind]
    (folder / "begun").touch()
    while times is None or times > 0:
        write(folder)
        times = times and times - 1


@pytest.fixture(scope="module")
def start():
    # What a fork server imports it finds by this alone (until Python 3.14).
    path = os.pathsep.join([str(ROOT / "tests"), str(ROOT)])
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])

    def start(*arguments):
        child = context.Process(target=again_and_again, args=arguments)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", path)
            child.start()
        return child

    return start


@pytest.fixture
def unpatched(monkeypatch):
    """Writers patch their modules, which in this process is taken back."""
    for module, names in {
        mamlkit.outer: ["CHECKPOINT_SECONDS"],
        omniglot: ["ARCHIVES", "read_archive"],
        render: ["execute", "failed"],
        score: ["score_path"],
        progress: ["somebody_is_there", "progress_path"],
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, getattr(module, name))


def parts(folder):
    return [*folder.glob("*.partial")]


@each_kind
def test_killed_at_any_moment(kind, start, tmp_path, unpatched):
    draw, seen, cut = random.Random(kind), 0, 0
    write, look = KINDS[kind]
    write(tmp_path)
    for _ in range(KILLS):
        child = start(kind, tmp_path)
        while not (tmp_path / "begun").exists():
            assert child.is_alive(), "it did not begin"
            time.sleep(0.001)
        time.sleep(draw.uniform(0, 0.06))
        child.kill()
        child.join()
        assert child.exitcode < 0, "it was at work when it was killed"
        (tmp_path / "begun").unlink()
        cut += len(parts(tmp_path))
        found = look(tmp_path) or 0
        assert found >= seen, "what was there is still there"
        seen = found
    write(tmp_path)
    assert not parts(tmp_path)
    print(f"{kind}: {cut} of {KILLS} kills left a part, all are gone")


def test_only_parts_that_nobody_writes_go(tmp_path):
    path = tmp_path / "file[1].txt"
    gone = multiprocessing.Process()
    gone.start()
    gone.join()
    host, old = platform.node(), time.time() - 4000
    stays = [f"{host}-{os.getppid()}", f"other-{gone.pid}"]
    goes = [f"{host}-{gone.pid}", "other-1"]
    made = [path.with_name(f"{path.name}.{n}.partial") for n in stays + goes]
    for part in made:
        part.touch()
    os.utime(made[-1], (old, old))
    with replacing(path) as file:
        file.write(b"new")
    assert {*parts(tmp_path)} == {*made[:2]}


@pytest.mark.parametrize("kind", ["score", "progress"])
def test_two_kernels_lose_nothing(kind, start, tmp_path):
    children = [start(kind, tmp_path, 20, half) for half in (0, 1)]
    for child in children:
        child.join()
        assert child.exitcode == 0
    _, look = KINDS[kind]
    assert look(tmp_path) == 40


@each_kind
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_a_full_or_locked_disk_is_said_in_one_line(
    kind, code, tmp_path, unpatched, monkeypatch, capsys
):
    write, _ = KINDS[kind]
    write(tmp_path)
    (tmp_path / "run.pt").unlink(missing_ok=True)  # else it is only read
    files = {p: p.read_bytes() for p in tmp_path.iterdir()}

    def full(_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    try:
        write(tmp_path)
        said = capsys.readouterr().out.strip()
    except (ValueError, OSError) as fault:  # what the command prints
        said = str(fault)
    assert os.strerror(code) in said and "\n" not in said
    assert {p: p.read_bytes() for p in tmp_path.iterdir()} == files
