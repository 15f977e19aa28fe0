"""README's and USING's code for one's own project, as it is written there.

Three jobs: a table in groups, own images with an own network, and a head on
a frozen encoder.
"""

import inspect
import os
import re
import subprocess
import sys

import pytest

import mamlkit.baselines
import mamlkit.rules
from mamlkit import adaptation_curve, adapted_model, anil_loss, meta_train
from mamlkit.paths import ROOT

README, USING = (
    (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "USING.md")
)
SECTION = README.split("## mamlkit in your project")[1].split("\n## ")[0]
WRITTEN = SECTION + USING
JOBS = dict(
    zip(
        ("table", "images", "head", "keep"),
        re.findall(r"```python\n(.*?)```", WRITTEN, re.DOTALL),
        strict=True,
    )
)
BEFORE = {"keep": JOBS["table"]}
# What each must reach, in its own words.
REACHED = {
    "table": """
assert curve[:, -1].mean() < 0.5 * ridge(tasks).mean()
assert ridge(tasks).mean() < support_mean(tasks).mean()
assert prediction.shape == (5, 1)
""",
    "images": """
before, _, after, _ = curve.mean(0)
assert before < 0.3 and after > before + 0.2
assert nearest_centroid(tasks).mean() > after
""",
    "keep": """
assert fitted(new.x).shape == new.y.shape
""",
    "head": """
assert curve[:, 0].mean() < 0.3 and curve[:, -1].mean() > 0.5
assert nearest_centroid(tasks).mean() > curve[:, -1].mean()
""",
}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_takes_under_40_lines_and_does_it(name, tmp_path):
    lines = [line for line in JOBS[name].splitlines() if line.strip()]
    assert len(lines) < 40 and max(map(len, lines)) <= 79
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            BEFORE.get(name, "") + JOBS[name] + REACHED[name],
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_what_the_text_names_exists():
    for name in re.findall(r"\bmk\.(\w+)", WRITTEN):
        assert hasattr(mamlkit, name), name
    assert mamlkit.rules.adam and mamlkit.baselines
    known = {"norm_layer", "track_running_stats", "strict"}
    for function in (meta_train, adaptation_curve, adapted_model, anil_loss):
        known |= {*inspect.signature(function).parameters}
    for name in re.findall(r"`[^`\n]*?(\w+)=", WRITTEN):
        assert name in known, name
