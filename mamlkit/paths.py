"""Where the course keeps its files: the checkout that mamlkit lies in."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
DATA = ROOT / "data"
RESULTS = DATA / "results"
CHECKPOINTS = DATA / "checkpoints"
CACHE = DATA / "cache"
BUILD = ROOT / "build"
