"""`mamlkit doctor`: what a report of a problem needs, and what is wrong."""

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

import mamlkit
from mamlkit.checks import compiler
from mamlkit.paths import BUILD, CACHE, CHECKOUT, DATA

PACKAGES = (
    "torch numpy jupyterlab papermill ipywidgets anywidget matplotlib "
    "seaborn pooch gymnasium"
).split()
BROWSERS = (
    "chromium-headless-shell google-chrome chromium chromium-browser"
).split()


def examine() -> Iterator[tuple[str, str, str]]:
    """Look at what the course depends on.

    Yields:
        (what, what was found, what is wrong with it, or "").
    """
    yield "mamlkit", mamlkit.__version__, ""
    yield "Python", f"{platform.python_version()}, {sys.executable}", ""
    yield "system", platform.platform(), ""
    cores = os.cpu_count()
    threads = torch.get_num_threads()
    yield "cores", f"{cores}, of which torch uses {threads}", ""
    for name in PACKAGES:
        try:
            yield name, version(name), ""
        except PackageNotFoundError:
            yield name, "not installed", ""
    yield "device", _device(), ""
    found = compiler() or "none: compile=True does nothing"
    yield "C++ compiler", found, ""
    browser = _first(BROWSERS)
    yield "browser", browser or "none: its tests are skipped", ""
    place = "a checkout" if CHECKOUT else "an installed package"
    glyphs = "" if (DATA / "glyphs.npz").exists() else "glyphs.npz is missing"
    yield "data", f"{DATA}, {place}", glyphs
    for name, folder in (("cache", CACHE), ("build", BUILD)):
        closest = next(p for p in (folder, *folder.parents) if p.exists())
        closed = "" if os.access(closest, os.W_OK) else "cannot be written"
        yield name, str(folder), closed
    kernel = "" if not find_spec("jupyterlab") or find_spec("ipykernel") else (
        "JupyterLab is here, ipykernel is not: pip install ipykernel"
    )  # fmt: skip
    yield "kernel", "ipykernel" if find_spec("ipykernel") else "none", kernel


def report() -> bool:
    """Print what `examine` found; tell whether all is well."""
    well = True
    for what, found, wrong in examine():
        print(f"{what:14}{found}" + (f"   WRONG: {wrong}" if wrong else ""))
        well = well and not wrong
    return well


def _device() -> str:
    if torch.cuda.is_available():
        return f"cuda, {torch.cuda.get_device_name()}"
    mps = getattr(torch.backends, "mps", None)
    return "mps" if mps and mps.is_available() else "cpu"


def _first(names: list[str]) -> str:
    return next((found for n in names if n and (found := shutil.which(n))), "")
