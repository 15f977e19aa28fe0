"""The parts of README.md that are made from the project's files.

`python -m mamlkit.readme` writes the map of chapters, the results table and
the picture; a test holds README.md to them.
"""

import base64
import json
import re
from pathlib import Path

import nbformat

from mamlkit.paths import NOTEBOOKS, RESULTS, ROOT

PICTURE = ROOT / "data" / "readme.png"
# The chapter whose picture README shows, and which of its pictures.
PICTURE_FROM = ("04_differentiate_through_learning", -1)

# row label, result file, row name
TABLE = (
    ("Sinusoid, 5-shot error after 1 step", "sinusoid", "mse_5shot_after_1"),
    ("… after 5 steps", "sinusoid", "mse_5shot_after_5"),
    ("… after 10 steps", "sinusoid", "mse_5shot_after_10"),
    (
        "… pretrained on all tasks, after 1 step",
        "sinusoid",
        "pretrained_mse_5shot_after_1",
    ),
    (
        "… pretrained, after 10 steps",
        "sinusoid",
        "pretrained_mse_5shot_after_10",
    ),
    *(
        (f"Omniglot {ways}-way {shots}-shot, accuracy (%)", name, "accuracy")
        for ways in (5, 20)
        for shots in (1, 5)
        for name in (f"omniglot_{ways}way_{shots}shot",)
    ),
    (
        "… 5-way 5-shot, going on with the validation characters too",
        "omniglot_5way_5shot_refit",
        "accuracy",
    ),
    (
        "… 5-way 1-shot, trained for under 15 minutes",
        "omniglot_5way_1shot_short",
        "accuracy",
    ),
    *(
        (f"… 5-way {shots}-shot, no convolutions", name, "accuracy")
        for shots in (1, 5)
        for name in (f"omniglot_mlp_5way_{shots}shot",)
    ),
    *(
        (
            f"{label}, return after {steps} step{'s'[: steps != 1]}",
            "navigation",
            f"{prefix}return_after_{steps}",
        )
        for label, prefix in (("2D navigation", ""), ("… joint training",
                                                       "pretrained_"))
        for steps in (1, 2, 3)
    ),
)  # fmt: skip
# Half-widths of the paper's 95 % intervals, Table 1.
PAPER_INTERVALS = {
    "omniglot_5way_1shot": 0.4,
    "omniglot_5way_5shot": 0.1,
    "omniglot_20way_1shot": 0.3,
    "omniglot_20way_5shot": 0.2,
    "omniglot_mlp_5way_1shot": 1.1,
    "omniglot_mlp_5way_5shot": 0.6,
}


def results_table(folder: Path = RESULTS) -> str:
    """Make the table of published and own numbers that exist."""
    lines = [
        "| experiment | paper | ours | alone | tasks |",
        "|---|---|---|---|---|",
    ]
    for label, experiment, name in TABLE:
        path = folder / f"{experiment}.json"
        if not path.exists():
            continue
        rows = {r["name"]: r for r in json.loads(path.read_text())["rows"]}
        if name not in rows:
            continue
        row = rows[name]
        ours = f"{row['value']:.2f} ± {row['interval']:.2f}"
        paper, alone = str(row["paper"]), ""
        if experiment in PAPER_INTERVALS:
            paper += f" ± {PAPER_INTERVALS[experiment]}"
        if "accuracy_non_transductive" in rows:
            alone = f"{rows['accuracy_non_transductive']['value']:.2f}"
        columns = label, paper, ours, alone, str(row["n"])
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines)


def speed_table(folder: Path = RESULTS) -> str:
    """Make the table of meta-iteration times."""
    path = folder / "speed.json"
    if not path.exists():
        return ""
    lines = ["| meta-iteration | ms | times faster |", "|---|---|---|"]
    for row in json.loads(path.read_text())["rows"]:
        label = row["name"].replace("_", " ")
        times = row["times_faster_than_higher"]
        lines.append(f"| {label} | {row['value']:.1f} | {times:.1f} |")
    return "\n".join(lines)


def chapter_map(folder: Path = NOTEBOOKS, prefix: str = "notebooks/") -> str:
    """Make a table of the chapters that exist.

    Args:
        folder: of the notebooks.
        prefix: of the links, from where the table stands to the notebooks.
    """
    lines = [
        "| chapter | you end up with | builds on | minutes |",
        "|---|---|---|---|",
    ]
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        title, *columns = first_cell(path)
        link = f"[{path.name[:2]} {title}]({prefix}{path.name})"
        lines.append(f"| {' | '.join([link, *columns])} |")
    return "\n".join(lines)


def first_cell(path: Path) -> tuple[str, str, str, str]:
    """Read a chapter's title, promise, what it builds on, and minutes.

    Raises:
        ValueError: it does not say what you will have, or how long it takes.
    """
    first = nbformat.read(path, as_version=4).cells[0].source
    title = re.search(r"^# (.+)", first, re.MULTILINE)[1]
    promise = re.search(r"you will have (.+?)[.\n]", first)
    minutes = re.search(r"About (\d+) minutes", first)
    if not promise:
        raise ValueError(f"{path.name} does not say what you will have")
    if not minutes:
        raise ValueError(f"{path.name} does not say how long it takes")
    # What a check will show is the chapter's business, not the map's.
    text = re.split(r"[,;] (?:and )?a? ?checks? ", promise[1])[0]
    text = text[0].upper() + text[1:]
    needs = re.findall(r"you have followed \[chapter (\d\d)\]", first)
    return title, text, *(needs or [""]), minutes[1]


def fill(text: str) -> str:
    """Put the generated parts between README's markers."""
    parts = {
        "results": results_table(),
        "speed": speed_table(),
        "map": chapter_map(),
    }
    for name, part in parts.items():
        text = re.sub(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)",
            lambda found, part=part: f"{found[1]}{part}\n{found[2]}",
            text,
            flags=re.DOTALL,
        )
    return text


def main() -> None:
    """Rewrite README.md and its picture."""
    readme = ROOT / "README.md"
    readme.write_text(fill(readme.read_text()))
    chapter, which = PICTURE_FROM
    notebook = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4)
    pictures = [
        output.data["image/png"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if pictures:
        PICTURE.write_bytes(base64.b64decode(pictures[which]))


if __name__ == "__main__":
    main()
