"""The files that say what to install, and how, agree with one another."""

import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from browser import SCREENSHOTS
from packaging.requirements import Requirement

import mamlkit
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


def test_constraints_pin_every_dependency_inside_its_range():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {r.name.lower(): r for r in map(Requirement, lines)}
    assert str(pins["torch"].specifier) == "==2.13.0"
    wanted = PROJECT["dependencies"] + [r for e in EXTRAS.values() for r in e]
    for requirement in map(Requirement, wanted):
        if requirement.name != "mamlkit":
            (pin,) = pins[requirement.name].specifier
            assert pin.operator == "=="
            assert requirement.specifier.contains(pin.version)


def test_workflow_calls_make_test_weekly_and_on_every_push():
    text = (ROOT / ".github/workflows/test.yml").read_text()
    # YAML reads the key "on" as true.
    flow = yaml.safe_load(text)
    assert {"push", "pull_request", "schedule"} <= flow[True].keys()
    *_, tests, kept = flow["jobs"]["test"]["steps"]
    assert tests == {"run": "make test"}
    assert kept["if"] == "always()"
    assert ROOT / kept["with"]["path"] == SCREENSHOTS
    weekly = flow["env"]["CONSTRAINTS"]
    assert "'schedule' && '/dev/null' || 'constraints.txt'" in weekly
    assert "exec make test" in (ROOT / ".ci/run").read_text()
    assert os.access(ROOT / ".ci/run", os.X_OK)


def make(*arguments, folder=ROOT):
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
    install = "pip install --quiet -c constraints.txt -e '.[test]'"
    for changed in ("pyproject.toml", "constraints.txt"):
        option = f"--what-if={changed}"
        dry = make("--dry-run", option, target, folder=ready).stdout
        order = [dry.index(s) for s in ("-m venv .venv", install, wanted)]
        assert order == sorted(order)


def test_make_can_take_the_newest_of_everything():
    newest = "CONSTRAINTS=/dev/null"
    dry = make("--dry-run", "--what-if=pyproject.toml", "run", newest).stdout
    assert "pip install --quiet -c /dev/null -e '.[test]'" in dry


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
