"""The files that say what to install, and how, agree with one another."""

import inspect
import os
import re
import subprocess
import sys
import tomllib
from itertools import product

import pytest
import yaml
from browser import SCREENSHOTS
from packaging.requirements import Requirement

import mamlkit
import mamlkit.baselines
import mamlkit.rl
import mamlkit.rules
from mamlkit.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
# The only names that differ between PyPI and conda-forge.
CONDA = {"torch": "pytorch"}


def parsed(lines):
    found = [Requirement(line) for line in lines]
    return {r.name: str(r.specifier) for r in found if r.name != "mamlkit"}


def test_conda_environment_has_the_same_names_and_ranges():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    *packages, pip = conda["dependencies"]
    here, *others = pip["pip"]
    assert here == "-e ."
    packages = parsed(packages + others)
    assert packages.pop("python") == PROJECT["requires-python"]
    assert packages.pop("pip") == ""
    extras = [line for key in EXTRAS if key != "bench" for line in EXTRAS[key]]
    expected = parsed(PROJECT["dependencies"] + extras)
    expected = {CONDA.get(name, name): r for name, r in expected.items()}
    assert packages == expected


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    found = {r.name.lower(): r.specifier for r in map(Requirement, lines)}
    assert all(str(s).startswith("==") for s in found.values())
    return found


def wanted():
    """Requirements of the package and its extras."""
    lines = PROJECT["dependencies"] + [r for e in EXTRAS.values() for r in e]
    found = map(Requirement, lines)
    return [r for r in found if r.name != "mamlkit"]


def test_constraints_pin_every_dependency_inside_its_range():
    pinned = pins("constraints.txt")
    assert str(pinned["torch"]) == "==2.13.0"
    for requirement in wanted():
        (pin,) = pinned[requirement.name]
        assert requirement.specifier.contains(pin.version), requirement


def test_the_oldest_leg_has_every_dependency_at_its_lower_bound():
    oldest = pins("constraints-oldest.txt")
    requirements = {r.name: r.specifier for r in wanted()}
    del requirements["higher"]  # which has no range
    lowest = str(requirements.pop("torch")).replace(">=", "==")
    # The last of its releases that only mended something.
    assert str(oldest.pop("torch")).startswith(f"{lowest}.")
    assert {name: str(pin) for name, pin in oldest.items()} == {
        name: str(bound).replace(">=", "==")
        for name, bound in requirements.items()
    }


FLOW = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())


def legs():
    """Of each leg its name, system, Python and pins."""
    matrix = FLOW["jobs"]["test"]["strategy"]["matrix"]
    keys = ("leg", "os", "python", "pins")
    found = [*product(*(matrix[key] for key in keys))]
    more = [[leg.get(key, "") for key in keys] for leg in matrix["include"]]
    return found + [tuple(leg) for leg in more]


def test_workflow_does_what_make_test_does(ready):
    # YAML reads the key "on" as true.
    assert {"push", "pull_request", "schedule"} <= FLOW[True].keys()
    *steps, kept = FLOW["jobs"]["test"]["steps"]
    assert kept["if"] == "always()"
    assert ROOT / kept["with"]["path"] == SCREENSHOTS
    _, _, install, *tests = [step.get("run") for step in steps]
    assert install.split()[-2:] == ["-e", '".[test]"']
    recipe = make("--dry-run", "test", folder=ready).stdout.splitlines()
    recipe = [line.removeprefix(".venv/bin/").strip() for line in recipe]
    in_flow = [line.split("${{")[0].strip() for line in tests]
    assert [line for line in recipe if "make" not in line] == in_flow
    assert "exec make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_workflow_has_the_oldest_the_pinned_and_the_newest():
    by_leg = {leg: [more for more in legs() if more[0] == leg]
              for leg in ("oldest", "pinned", "newest")}  # fmt: skip
    assert sum(map(len, by_leg.values())) == len(legs())
    systems = {system for _, system, _, _ in legs()}
    assert systems == {"ubuntu", "macos", "windows"}
    pythons = [f"3.{minor}" for minor in range(11, 15)]
    assert {python for _, _, python, _ in by_leg["pinned"]} == {*pythons}
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    files = {"oldest": "-c constraints-oldest.txt",
             "pinned": "-c constraints.txt", "newest": ""}  # fmt: skip
    assert all(pins == files[leg] for leg, _, _, pins in legs())
    assert {python for _, _, python, _ in by_leg["oldest"]} == {pythons[0]}
    assert {python for _, _, python, _ in by_leg["newest"]} == {pythons[-1]}
    assert "continue-on-error" not in yaml.dump(FLOW)


def make(*arguments, folder=ROOT):
    if os.name == "nt":
        pytest.skip("Windows has no make")
    return subprocess.run(
        ["make", "-C", folder, *arguments], capture_output=True, text=True
    )


def test_make_help_is_the_default_and_names_every_target():
    text = (ROOT / "Makefile").read_text()
    (line,) = re.findall(r"^\.PHONY: (.+)$", text, re.M)
    said = make().stdout
    assert all(f"make {name}\t" in said for name in line.split())
    assert said == make("help").stdout


@pytest.fixture
def ready(tmp_path):
    """A checkout whose environment is newer than what it was made from."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text())
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()
    return tmp_path


@pytest.mark.parametrize("target", ["run", "test", "lab", "bench"])
def test_make_sets_up_only_when_dependencies_change(ready, target):
    command = {"test": ".venv/bin/pytest", "bench": "reproduce speed"}
    wanted = command.get(target, f".venv/bin/mamlkit {target}")
    dry = make("--dry-run", target, folder=ready).stdout
    assert wanted in dry and "venv .venv" not in dry
    install = "-c .venv/constraints.txt torch==2.13.0 -e '.[test]'"
    for changed in ("pyproject.toml", "constraints.txt", "Makefile"):
        option = f"--what-if={changed}"
        dry = make("--dry-run", option, target, folder=ready).stdout
        order = [dry.index(s) for s in ("-m venv .venv", install, wanted)]
        assert order == sorted(order)


def test_make_can_take_the_newest_of_everything():
    newest = ("CONSTRAINTS=/dev/null", "TORCH=newest")
    dry = make("--dry-run", "--what-if=pyproject.toml", "run", *newest).stdout
    assert "sed '/^torch==/d' /dev/null > .venv-torch-newest/" in dry
    assert "-c .venv-torch-newest/constraints.txt torch -e" in dry


def test_make_tries_another_torch_in_a_folder_of_its_own(ready):
    dry = make("--dry-run", "test", "TORCH=2.4.1", folder=ready).stdout
    assert "-m venv .venv-torch-2.4.1\n" in dry
    assert "sed '/^torch==/d' constraints.txt > .venv-torch-2.4.1/" in dry
    assert "-c .venv-torch-2.4.1/constraints.txt torch==2.4.1 -e" in dry
    assert ".venv/" not in dry and "--ignore-glob='*test_browser_*'" in dry
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert ".venv*/" in ignored


def test_make_says_which_python_it_needs(tmp_path):
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(f"PYTHON={old}", "--what-if=pyproject.toml", ".venv/ready")
    assert done.returncode and "needs Python 3.11 or newer" in done.stdout
    assert not list(tmp_path.glob("*/bin"))


def test_public_names_exist_and_are_documented():
    assert sorted(mamlkit.__all__) == sorted(set(mamlkit.__all__))
    for name in mamlkit.__all__:
        assert getattr(mamlkit, name).__doc__, name


@pytest.mark.parametrize(
    "module", [mamlkit, mamlkit.baselines, mamlkit.rules, mamlkit.rl]
)
def test_public_signatures_say_their_types(module):
    for name in module.__all__:
        thing = getattr(module, name)
        if getattr(thing, "__module__", "typing").startswith("mamlkit"):
            signature = inspect.signature(thing)
            for parameter in signature.parameters.values():
                assert parameter.annotation is not parameter.empty, name
            if not inspect.isclass(thing):
                assert signature.return_annotation is not signature.empty


def test_help_needs_no_heavy_imports():
    code = (
        "import sys; from mamlkit.__main__ import _parser; _parser();"
        "print([m for m in ('papermill', 'nbconvert', 'matplotlib')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr


def test_changelog_and_citation_know_the_version():
    number = mamlkit.__version__
    assert f"\n## {number}" in (ROOT / "CHANGELOG.md").read_text()
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert str(cited["version"]) == number
