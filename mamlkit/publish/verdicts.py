"""Every claim of the chapters with five seeds: `mamlkit claims`."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from mamlkit.course.chapters import (
    VERDICTS,
    code_hash,
    find_chapters,
    read,
)
from mamlkit.paths import BUILD, RESULTS, replacing
from mamlkit.publish import report, runner

SEEDS = range(5)
FILE = RESULTS / "claims.json"


def judge(chapters: Sequence[Path]) -> int:
    """Execute chapters at laptop scale with each seed; store the verdicts.

    What is known of other chapters stays in the file.

    Args:
        chapters: as `find_chapters` returns them.

    Returns:
        1 if a chapter stopped or a claim failed, otherwise 0.
    """
    worst = 0
    for path in chapters:
        outcomes = []
        for seed in SEEDS:
            print(f"{path.stem}, seed {seed} ...", flush=True)
            settings = {"SCALE": "laptop", "SEED": seed}
            out = BUILD / "claims" / f"seed{seed}"
            outcomes.append(runner.execute(path, out, settings))
        store(path, outcomes)
        print(table(outcomes), flush=True)
        worst = max(worst, report.failed(outcomes))
    return int(worst)


def table(outcomes: Sequence[report.Outcome]) -> str:
    """Lay out a chapter's claims, each with what it came to by seed."""
    texts = [c["text"] for o in outcomes for c in o.claims]
    lines = ["", outcomes[0].chapter]
    for text in dict.fromkeys(texts):
        lines.append(f"  {text}")
        for seed, outcome in enumerate(outcomes):
            found = [c for c in outcome.claims if c["text"] == text]
            said = found[0] if found else {"verdict": "not reached"}
            measured = said.get("measured", "")
            lines.append(f"    seed {seed}  {said['verdict']:11}  {measured}")
    return "\n".join(lines)


def store(path: Path, outcomes: Sequence[report.Outcome]) -> None:
    """Write what came of a chapter's claims beside those of the others.

    Kept is how many each seed judged and how, and in words only what did not
    hold.

    Args:
        path: the chapter.
        outcomes: one for each seed from 0.
    """
    known = json.loads(FILE.read_text()) if FILE.exists() else {}
    known[path.stem] = {
        "code": code_hash(read(path)),
        "torch": torch.__version__,
        "by_seed": [
            {v: [c["verdict"] for c in o.claims].count(v) for v in VERDICTS}
            | {"error": o.error}
            for o in outcomes
        ],
        "not_held": [
            [seed, c["verdict"], c["text"], c["measured"]]
            for seed, outcome in enumerate(outcomes)
            for c in outcome.claims
            if c["verdict"] != "held"
        ],
    }
    text = json.dumps(dict(sorted(known.items())), indent=1) + "\n"
    with replacing(FILE) as part:
        part.write(text.encode())


def summary() -> str:
    """Say what came of all claims, and where that is out of date."""
    if not FILE.exists():
        return ""
    known, now = json.loads(FILE.read_text()), {}
    for path in find_chapters():
        now[path.stem] = code_hash(read(path))
    runs = [run for entry in known.values() for run in entry["by_seed"]]
    counts = {v: sum(run[v] for run in runs) for v in VERDICTS}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    text = f"Seeds 0 to {SEEDS[-1]}, chapter by chapter: {said}."
    for told, chapters in (
        ("Not judged yet", [c for c in now if c not in known]),
        (
            "Code changed since",
            [c for c in now if known.get(c, {}).get("code", now[c]) != now[c]],
        ),
    ):
        if chapters:
            text += f" {told}: {', '.join(c[:2] for c in chapters)}."
    return text
