"""The package stands alone: from a wheel, without the course's packages."""

import os
import re
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import venv
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement

from mamlkit.datasets import omniglot
from mamlkit.paths import CACHE, DATA, ROOT

CORE = ("torch", "numpy", "tqdm", "pillow")
# Import names of what only the extras bring.
COURSE = (
    "matplotlib", "seaborn", "IPython", "nbformat", "jupyterlab",
    "ipywidgets", "anywidget", "papermill", "pooch", "gymnasium",
    "mujoco",
    "latex2mathml", "pytest",
)  # fmt: skip


def build(source, folder, *targets):
    """Build distributions of what lies in `source`, by hatchling."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder, *targets],
        cwd=source,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the sdist."""
    folder = build(ROOT, tmp_path_factory.mktemp("built"))
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


def required(names):
    """Distributions that `names` need, and they themselves."""
    found, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            needs = map(Requirement, metadata.requires(name) or [])
            waiting += [
                r.name
                for r in needs
                if not r.marker or r.marker.evaluate({"extra": ""})
            ]
    return found


@pytest.fixture(scope="module")
def alone(built, tmp_path_factory):
    """A folder with a venv that has the wheel and what it needs, no more."""
    folder = tmp_path_factory.mktemp("alone")
    venv.create(folder / "venv", with_pip=False)
    base = dict.fromkeys(("base", "platbase"), str(folder / "venv"))
    packages = Path(sysconfig.get_path("purelib", "venv", base))
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
         "--target", packages, built[0]],
        check=True,
    )  # fmt: skip
    for name in required(CORE):
        here = metadata.distribution(name)
        for top in {file.parts[0] for file in here.files or []} - {".."}:
            if not (packages / top).exists():
                (packages / top).symlink_to(here.locate_file(top))
    return folder


def run(folder, code):
    """Run code in the venv, as a process of its own, in its folder."""
    scripts = "Scripts" if os.name == "nt" else "bin"
    return subprocess.run(
        [folder / "venv" / scripts / "python", "-W", "error", "-c", code],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )


def ask(folder, code):
    """What the code prints."""
    done = run(folder, code)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


WORK = """
import os

import torch
from torch.nn import functional as F

import mamlkit as mk
from mamlkit.paths import CHECKPOINTS
from mamlkit.reproduce import read_result

generator = torch.Generator().manual_seed(0)
images = mk.load_glyphs("val"), mk.load_faces("val")
for pictures in images:
    model = mk.CNN(5, width=4)
    tasks = mk.Episodes(pictures, rotations=True)
    mk.meta_train(
        model,
        lambda n, generator: tasks.sample(
            n, k_shot=1, k_query=1, generator=generator
        ),
        criterion=F.cross_entropy, inner_lr=0.1, meta_lr=1e-3, n_tasks=2,
        iterations=2, generator=generator, checkpoint="training.pt",
    )
    support = tasks.sample(1, k_shot=1, k_query=1, generator=generator)[0]
    support = mk.Batch(support.x[0], support.y[0])
    loss_fn = mk.functional_loss(model, F.cross_entropy)
    params = {k: p.detach() for k, p in model.named_parameters()}
    adapted = mk.adapt(params, loss_fn, support, lr=0.1)
    mk.save_checkpoint("adapted.pt", {"params": adapted})
    again = mk.load_checkpoint("adapted.pt")["params"]
    assert all(torch.equal(again[k], adapted[k]) for k in adapted)
    assert mk.load_checkpoint("training.pt")["iteration"] == 2
    os.remove("training.pt")
shipped = mk.load_checkpoint(CHECKPOINTS / "omniglot_5way_1shot.pt")
mk.CNN(5).load_state_dict(shipped["params"])
assert read_result("sinusoid")["rows"]["mse_5shot_after_1"]["value"] < 0.67
print(mk.__version__, mk.__file__)
"""


def test_it_trains_adapts_saves_and_loads_outside_the_checkout(alone):
    version, file = ask(alone, WORK).split(" ", 1)
    text = (ROOT / "mamlkit/__init__.py").read_text(encoding="utf-8")
    assert f'__version__ = "{version}"' in text
    assert Path(file).is_relative_to(alone)


def test_code_of_readme_runs(alone):
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    said = ask(alone, block + "\nprint(prediction.shape)")
    assert said.endswith("(5, 1)")


ASK = """
import sys
from importlib.util import find_spec

print(*map(find_spec, {course}), sep="|")
for module in (
    "mamlkit.course", "mamlkit.rl.gymnasium_env", "mamlkit.rl.cheetah"
):
    try:
        __import__(module)
    except ModuleNotFoundError as missing:
        print(missing)
"""
COMMANDS = """
import sys
from mamlkit.__main__ import main

for words in {}:
    print(">", words, file=sys.stderr)
    assert main(words.split()) == 2
"""


def said(stderr):
    """By command, the lines that it printed."""
    parts = re.split(r"^> (.+)\n", stderr, flags=re.M)[1:]
    return {k: v.splitlines() for k, v in zip(parts[::2], parts[1::2])}


def test_what_needs_an_extra_says_which_in_one_line(alone):
    words = ("fetch omniglot",)
    done = run(alone, ASK.format(course=COURSE) + COMMANDS.format(words))
    assert done.returncode == 0, done.stderr
    specs, course, rl, body = done.stdout.splitlines()
    assert {*specs.split("|")} == {"None"}, "the course is there"
    assert re.fullmatch(
        r"the course needs \w+: pip install 'mamlkit\[course\]'", course
    )
    assert rl == "NavigationEnv needs gymnasium: pip install 'mamlkit[rl]'"
    wanted = "the half-cheetah needs mujoco: pip install 'mamlkit[mujoco]'"
    assert body == wanted
    lines = said(done.stderr)
    assert lines.keys() == {*words}
    for (line,) in lines.values():
        assert re.search("needs .+: pip install 'mamlkit.course.'", line)


def test_a_command_that_needs_a_checkout_says_so_in_one_line(alone):
    # Without the course's packages, which would not help, and with them, but
    # mamlkit from the wheel.
    words = ("run", "lab", "render 04", "html", "claims", "reproduce sinusoid")
    done = run(alone, COMMANDS.format(words))
    assert done.returncode == 0, done.stderr
    assert said(done.stderr).keys() == {*words}
    for (line,) in said(done.stderr).values():
        assert "installed package" in line and "clone the project" in line
    (place,) = alone.glob("venv/**/site-packages")
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS.format(words)],
        cwd=alone,
        env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert said(done.stderr).keys() == {*words}
    for (line,) in said(done.stderr).values():
        assert "installed package" in line and "clone the project" in line


def test_downloads_go_to_the_users_cache(monkeypatch, tmp_path):
    def cache():
        return runpy.run_path(str(ROOT / "mamlkit/paths.py"))["CACHE"]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "mamlkit"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert cache() == tmp_path / ".cache" / "mamlkit"
    for function in (omniglot.fetch, omniglot.load_omniglot):
        assert function.__kwdefaults__["cache"] == CACHE


def test_wheel_has_the_data_and_the_mark_of_types(built):
    names = {*ZipFile(built[0]).namelist()}
    files = [f for f in DATA.rglob("*") if f.is_file()]
    carried = {f.relative_to(DATA).as_posix() for f in files if shipped(f)}
    assert {f"mamlkit/data/{name}" for name in carried} <= names
    assert {
        "mamlkit/py.typed",
        "mamlkit/publish/site/templates/front.md.j2",
    } <= names
    own = ("mamlkit/", f"mamlkit-{metadata_version(built[0])}.dist-info/")
    assert all(name.startswith(own) for name in names)
    assert "glyphs.npz" in carried and "readme.png" not in carried


def shipped(file):
    return file.name != "readme.png" and "cache" not in file.parts


def metadata_version(wheel):
    return wheel.name.split("-")[1]


def test_sdist_is_whole(built, tmp_path):
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.glob("mamlkit-*")
    for name in ("notebooks", "tests", "data/readme.png", "Makefile"):
        assert (folder / name).exists()
    again = build(folder, tmp_path / "again", "-t", "wheel")
    (again,) = again.glob("*.whl")
    names = [[*map(tuple, contents(path))] for path in (wheel, again)]
    assert names[0] == names[1]


def contents(wheel):
    return sorted((i.filename, i.CRC) for i in ZipFile(wheel).infolist())
