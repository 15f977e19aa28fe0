"""The parts of README.md and data/README.md made from the project's files.

`make readme` writes the map of chapters, the tables of
results and the picture; a test holds both files to them.
"""

import base64
import json
import re
from pathlib import Path

from mamlkit.course.chapters import chapter_map, find_chapters, read
from mamlkit.paths import RESULTS, ROOT
from mamlkit.publish import verdicts

FILES = (ROOT / "README.md", ROOT / "data" / "README.md")
PICTURE = ROOT / "data" / "readme.png"
# The picture that README shows: its chapter, and how its cell begins.
PICTURE_FROM = ("04_differentiate_through_learning", "# The play, and ")

# row label, result file, row name
TABLE = (
    ("Sinusoid, 5-shot error after 1 step", "sinusoid", "mse_5shot_after_1"),
    ("Sinusoid, after 5 steps", "sinusoid", "mse_5shot_after_5"),
    ("Sinusoid, after 10 steps", "sinusoid", "mse_5shot_after_10"),
    *(
        (
            f"… of five trainings, after {steps} step{'s'[: steps != 1]}",
            "in_context",
            f"maml_mse_5shot_after_{steps}",
        )
        for steps in (1, 5, 10)
    ),
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
        (f"Omniglot {ways}-way {shots}-shot, learned α (%)", name, "accuracy")
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
        (f"… {ways}-way {shots}-shot, {label}", name, "accuracy")
        for method, label in (
            ("fixed", "MAML with one fixed α"),
            ("fomaml", "FOMAML"),
            ("reptile", "Reptile"),
            ("imaml", "iMAML"),
            ("anil", "ANIL"),
        )
        for ways in (5, 20)
        for shots in (1, 5)
        for name in (f"omniglot_{method}_{ways}way_{shots}shot",)
    ),
    *(
        (
            f"{label}, return after {steps} step{'s'[: steps != 1]}",
            "navigation",
            f"{prefix}return_after_{steps}",
        )
        for label, prefix in (
            ("2D navigation", ""),
            ("2D navigation, joint training", "pretrained_"),
        )
        for steps in (1, 2, 3)
    ),
    *(
        (f"{label}, return after {steps} step{'s'[: steps != 1]}", "cheetah",
         f"{prefix}return_after_{steps}")
        for label, prefix in (
            ("Half-cheetah", ""),
            ("Half-cheetah, joint training", "pretrained_"),
        )
        for steps in (1, 3)
    ),
)  # fmt: skip
# What README shows of it: for each table of the paper MAML, and a rival.
SHORT = (
    ("sinusoid", "mse_5shot_after_1"),
    ("sinusoid", "mse_5shot_after_10"),
    ("in_context", "maml_mse_5shot_after_1"),
    ("in_context", "maml_mse_5shot_after_10"),
    ("omniglot_5way_1shot", "accuracy"),
    ("omniglot_5way_5shot", "accuracy"),
    ("omniglot_20way_1shot", "accuracy"),
    ("omniglot_20way_5shot", "accuracy"),
    ("omniglot_fixed_5way_1shot", "accuracy"),
    ("omniglot_fixed_5way_5shot", "accuracy"),
    ("omniglot_fixed_20way_1shot", "accuracy"),
    ("omniglot_fixed_20way_5shot", "accuracy"),
    ("navigation", "return_after_1"),
    ("navigation", "return_after_3"),
    ("navigation", "pretrained_return_after_3"),
    ("cheetah", "return_after_1"),
)
# Half-widths of the papers' 95 % intervals: Finn et al., Table 1; Nichol et
# al., Table 1; Rajeswaran et al., Table 2; Raghu et al., Table 2.
PAPER_INTERVALS = {
    "omniglot_fixed_5way_1shot": 0.4,
    "omniglot_fixed_5way_5shot": 0.1,
    "omniglot_fixed_20way_1shot": 0.3,
    "omniglot_fixed_20way_5shot": 0.2,
    "omniglot_fomaml_5way_1shot": 0.5,
    "omniglot_fomaml_20way_1shot": 0.5,
    "omniglot_imaml_5way_1shot": 0.4,
    "omniglot_imaml_20way_1shot": 0.4,
    "omniglot_anil_20way_1shot": 0.5,
    "omniglot_5way_1shot": 0.4,
    "omniglot_5way_5shot": 0.1,
    "omniglot_20way_1shot": 0.3,
    "omniglot_20way_5shot": 0.2,
    "omniglot_mlp_5way_1shot": 1.1,
    "omniglot_mlp_5way_5shot": 0.6,
}


def floor_of(experiment: str, name: str, folder: Path) -> str:
    """Say what an untrained network reaches with its own best rate.

    The row is in the same file, or in one of the same ways and shots; of
    several, the one that was judged on most tasks.
    """
    ways = re.search(r"(mlp_)?(\d+way_\dshot)", experiment)
    rest = re.sub("^(pretrained|maml)_", "", name)
    places = [
        (experiment, f"untrained_{rest}"),
        (experiment, f"random_{rest}"),
    ]
    if ways:
        like = f"{ways[1] or ''}{ways[2]}"
        # All of one network; ANIL's adapts its head alone.
        places += [
            (f"omniglot_{method}_{like}", "untrained_accuracy")
            for method in ("untrained", "fixed", "fomaml")
        ]
    floors = []
    for file, row in places:
        path = folder / f"{file}.json"
        if path.exists():
            rows = json.loads(path.read_text())["rows"]
            floors += [found for found in rows if found["name"] == row]
        if floors and file == experiment:
            break
    if not floors:
        return ""
    return f"{max(floors, key=lambda found: found['n'])['value']:.2f}"


def results_table(folder: Path = RESULTS, *, short: bool = False) -> str:
    """Make the table of published and own numbers that exist.

    Args:
        folder: of the results.
        short: only the rows of `SHORT`.
    """
    lines = [
        "| experiment | paper | ours | untrained | alone | tasks |",
        "|---|---|---|---|---|---|",
    ]
    for label, experiment, name in TABLE:
        path = folder / f"{experiment}.json"
        if not path.exists() or short and (experiment, name) not in SHORT:
            continue
        rows = {r["name"]: r for r in json.loads(path.read_text())["rows"]}
        if name not in rows:
            continue
        row = rows[name]
        digits = 2 if row["interval"] >= 0.005 else 3
        ours = f"{row['value']:.{digits}f} ± {row['interval']:.{digits}f}"
        paper, alone = "" if row["paper"] is None else str(row["paper"]), ""
        if experiment in PAPER_INTERVALS:
            paper += f" ± {PAPER_INTERVALS[experiment]}"
        if "accuracy_non_transductive" in rows:
            alone = f"{rows['accuracy_non_transductive']['value']:.2f}"
        # An interval over trainings counts those, and tasks if both.
        count = f"{row['n']}{' trainings' * ('seeds' in row)}"
        if "seeds" in row and "tasks" in row:
            count += f" × {row['tasks']}"
        if "trainings" in row:
            count = f"{row['trainings']} trainings × {row['n']}"
        floor = floor_of(experiment, name, folder)
        columns = label, paper, ours, floor, alone, count
        lines.append(f"| {' | '.join(columns)} |")
    return "\n".join(lines).replace("| -", "| −")  # not a hyphen


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


def picture() -> tuple[str, bytes]:
    """Find README's picture in its chapter: alternative text and PNG.

    Raises:
        ValueError: the chapter does not show it.
    """
    chapter, begins = PICTURE_FROM
    for cell in read(*find_chapters([chapter])).cells:
        for output in cell.get("outputs", []):
            png = output.get("data", {}).get("image/png")
            if png and cell.source.startswith(begins):
                alt = output.metadata["image/png"]["alt"]
                return alt, base64.b64decode(png)
    raise ValueError(f"{chapter} has no picture under {begins!r}")


def fill(text: str) -> str:
    """Put the generated parts between a file's markers."""
    parts = {
        "results": results_table(short=True),
        "all results": results_table(),
        "speed": speed_table(),
        "claims": verdicts.summary(),
        "map": chapter_map(),
        "picture": f"![{picture()[0]}](data/{PICTURE.name})",
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
    """Rewrite both files and the picture."""
    for path in FILES:
        text = fill(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")
    PICTURE.write_bytes(picture()[1])


if __name__ == "__main__":
    main()
