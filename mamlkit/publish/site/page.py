"""A chapter's notebook, made ready for the site.

Sphinx and myst-nb turn notebooks into pages. What they cannot know is done
here: alt texts travel in outputs, answers open where they are asked for, and
what only a running notebook can use is left out.
"""

import base64
import re
from collections.abc import Callable
from html import escape
from io import BytesIO

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_output
from PIL import Image, ImageOps

from mamlkit.exercises import find_exercise, find_quiz

Inline = Callable[[str], str]  # one line of markdown -> HTML
Files = dict[str, bytes]  # path on the site -> content

_CHECK = re.compile(r"^check\(\s*[\"']([\d.]+)[\"']", re.M)
_QUIZ = re.compile(r"^quiz\(\s*[\"'](\d+)[\"']", re.M)
_ONLY_QUIZ = re.compile(r"quiz\([^()]*\)\s*")
_PICTURES = {"image/png": "png", "image/svg+xml": "svg"}
_NUMBERS = '<table class="numbers">'
CARD = (560, 350)  # dots of a card's picture, two for each of the page


def make_page(nb: NotebookNode, number: str, inline: Inline) -> Files:
    """Turn a chapter into a page, in place.

    Args:
        nb: the chapter with its outputs; changed.
        number: of the chapter, as "03".
        inline: draws what stands within a line.

    Returns:
        the pictures that the page shows.

    Raises:
        ValueError: a picture has no alt text.
    """
    files: Files = {}
    cells, numbers = [], {"Figure": 0, "Table": 0}
    for cell in nb.cells:
        cells.append(cell)
        if cell.cell_type != "code":
            continue
        _fold_parameters(cell)
        kind = _kind(cell)
        if kind:
            numbers[kind] += 1
        named = kind and f"{kind} {int(number)}.{numbers[kind]}"
        _name_fold(cell, named)
        asked = _CHECK.search(cell.source)
        quiz = _QUIZ.search(cell.source)
        if quiz:
            cell.outputs = []
            if _ONLY_QUIZ.fullmatch(cell.source):
                cells.pop()
            cells.append(_markdown(_quiz(quiz[1], inline), f"quiz-{quiz[1]}"))
        else:
            cell.outputs = [
                _page_output(output, files, number, caption)
                for output, caption in zip(
                    cell.outputs, _captions(cell, named)
                )
                if not asked or not _is_verdict(output)
            ]
        if asked:
            name = f"answers-{asked[1].replace('.', '-')}"
            cells.append(_markdown(_exercise(asked[1]), name))
    nb.cells = cells
    return files


def cover(nb: NotebookNode) -> bytes | None:
    """Make the picture of a chapter's card.

    It is that of the cell tagged `cover`, or else the chapter's first: the
    whole of it, as a cut would go through words.

    Args:
        nb: the chapter with its outputs.

    Returns:
        a PNG, or None if the chapter shows no picture.
    """
    found = [
        ("cover" in cell.metadata.get("tags", []), output)
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    if not found:
        return None
    _, output = max(found, key=lambda pair: pair[0])  # the first, if none is
    raw = base64.b64decode(output.data["image/png"])
    picture = Image.open(BytesIO(raw)).convert("RGB")
    card = ImageOps.pad(picture, CARD, color="white")
    small = BytesIO()
    card.quantize(64, dither=0).save(small, "PNG", optimize=True)
    return small.getvalue()


def _fold_parameters(cell: NotebookNode) -> None:
    """Fold what only who runs the notebook can turn."""
    tags = cell.metadata.get("tags", [])
    if "parameters" in tags and "hide-input" not in tags:
        cell.metadata["tags"] = [*tags, "hide-input"]


def _kind(cell: NotebookNode) -> str:
    """Say whether a cell shows a "Figure" or a "Table" by its comment, or "".

    What can be played with has no caption, and so no number.
    """
    comment = re.match(r"# (Figure|Table): ", cell.source)
    shows = {
        "Figure": lambda data: (
            _PICTURES.keys() & data.keys() and "text/html" not in data
        ),
        "Table": lambda data: _NUMBERS in data.get("text/html", ""),
    }
    datas = [output.get("data", {}) for output in cell.outputs]
    found = comment and any(map(shows[comment[1]], datas))
    return comment[1] if found else ""


def _captions(cell: NotebookNode, named: str) -> list[str]:
    """Caption the first thing that a cell shows by number and comment."""
    captions = [""] * len(cell.outputs)
    if named:
        kinds = [*_PICTURES] if named.startswith("Figure") else ["text/html"]
        first = next(
            number
            for number, output in enumerate(cell.outputs)
            if any(kind in output.get("data", {}) for kind in kinds)
        )
        comment = cell.source.split("\n")[0].partition("; claim")[0]
        text = re.match(r"# \w+: (.*\S)", comment)[1]
        text = escape(text[0].upper() + text[1:])
        captions[first] = f"<figcaption><b>{named}.</b> {text}.</figcaption>"
    return captions


def _name_fold(cell: NotebookNode, named: str) -> None:
    """Say on a cell's folded code what it is: best by its own comment."""
    tags = cell.metadata.get("tags", [])
    defined = re.findall(r"^(?:def|class) (\w+)", cell.source, re.M)
    comment = re.match(r"# ?(.*\S)", cell.source)
    if "hide-input" not in tags:
        return
    if re.match("# (Prediction|What turned out) ", cell.source):
        # The widget's own words say more than its code.
        cell.metadata["tags"] = [*tags, "remove-input"]
        cell.metadata["tags"].remove("hide-input")
        return
    if "setup" in tags:
        name = "Set-up"
    elif "parameters" in tags:
        names = re.findall(r"^(\w+) =", cell.source, re.M)
        name = f"Parameters · {', '.join(names)}"
    elif named and comment and comment[1].startswith(("Figure: ", "Table: ")):
        name = f"Code of {named.lower()}"
    elif comment and not comment[1].startswith("copy-me"):
        name = f"Code · {comment[1].replace('`', '')}"
    elif defined:
        name = f"Code: {', '.join(defined)}"
    elif "report_claims(" in cell.source:
        name = "Code of the table"
    elif re.search(r"\bclaim\(", cell.source):
        name = "Code of the claim"
    elif re.search(r"\b(?:show|explore)\(|\bplt\.", cell.source):
        name = "Code of the figure"
    else:
        name = "Code"
    prompts = {"code_prompt_show": name, "code_prompt_hide": name}
    cell.metadata["mystnb"] = prompts


def _markdown(source: str, name: str) -> NotebookNode:
    return new_markdown_cell(source, id=name)


def _is_verdict(output: NotebookNode) -> bool:
    """A card says "not started" where nobody can start."""
    return "exercise" in output.get("metadata", {}).get("mamlkit", {})


def _page_output(
    output: NotebookNode, files: Files, number: str, caption: str
) -> NotebookNode:
    """Make HTML of pictures, and let wide tables scroll."""
    data = output.get("data", {})
    for kind, ending in _PICTURES.items():
        if kind in data and "text/html" not in data:
            meta = output.metadata.get(kind, {})
            if not meta.get("alt"):
                raise ValueError("picture without alt text: use show()")
            content = (
                base64.b64decode(data[kind])
                if ending == "png"
                else data[kind].encode()
            )
            name = f"pictures/{number}-{len(files) + 1}.{ending}"
            files[name] = content
            size = "".join(
                f' {side}="{meta[side]}"'
                for side in ("width", "height")
                if side in meta
            )
            return _html(
                f'<figure class="figure"><a href="{name}"><img src="{name}" '
                f'alt="{escape(meta["alt"])}"{size} loading="lazy"></a>'
                f"{caption}</figure>"
            )
    html = data.get("text/html", "")
    if _NUMBERS in html:
        # Short heads stay on one line.
        html = re.sub(
            r">([^<>]{1,12})</th>",
            lambda head: f">{head[1].replace(' ', '&nbsp;')}</th>",
            html,
        )
        table = scrolls(html, "table of results")
        return _html(f'<figure class="tabled">{caption}{table}</figure>')
    if "<table" in html:
        return _html(scrolls(html, "table of results"))
    return _html(html) if "mamlkit-claim" in html else output


def _html(text: str) -> NotebookNode:
    return new_output("display_data", {"text/html": _tie(text)})


def _tie(html: str) -> str:
    """Let no line end within a number, or between it and its sign or unit."""
    html = re.sub(r"(?<=\d) %", "&nbsp;%", html)
    html = re.sub(r" (±|=) (?=[\d−-])", r"&nbsp;\1&nbsp;", html)
    return re.sub(r"(?<=\de)-(?=\d)", "&#8209;", html)


def scrolls(html: str, label: str) -> str:
    """Put what may be too wide in a frame that scrolls, by keys too."""
    keys = f'tabindex="0" role="group" aria-label="{label}"'
    return f'<div class="scroll" {keys}>{html}</div>'


def _quiz(chapter: str, inline: Inline) -> str:
    """Ask a chapter's questions; each answer opens on its explanation."""
    lines = ['<div class="quiz">']
    for number, question in enumerate(find_quiz(chapter), 1):
        lines.append(
            f'<p class="question"><strong>Question {number}.</strong> '
            f"{inline(question.text)}</p>"
        )
        for place, (option, explanation) in enumerate(question.options):
            right = place == question.right
            mark = "✓ Right." if right else "✗ Not quite."
            kind = "right" if right else "wrong"
            lines.append(
                f'<details class="option"><summary>{inline(option)}</summary>'
                f'<p><strong class="{kind}">{mark}</strong> '
                f"{escape(explanation)}</p></details>"
            )
    return _tie("\n".join([*lines, "</div>"]))


def _exercise(key: str) -> str:
    """Offer an exercise's hints and, unless it is open, its solution."""
    exercise = find_exercise(key)
    lines = [
        '<div class="exercise">',
        f'<p class="task"><strong>Exercise {key}.</strong> Write '
        f"<code>{escape(exercise.name)}</code> in your own copy of this "
        'notebook, <a href="index.html#run-it-yourself">on a computer</a>; '
        "the check there says what is wrong with it.</p>",
    ]
    for number, hint in enumerate(exercise.hints, 1):
        lines.append(
            f"<details><summary>Hint {number}</summary>"
            f"<p>{_tie(escape(hint))}</p></details>"
        )
    if exercise.solution:
        lines += [
            "<details><summary>Solution</summary>",
            "",
            f"```python\n{exercise.solution.strip()}\n```",
            "",
            "</details>",
        ]
    else:
        lines.append(
            '<p class="open">This exercise is open: many answers are right, '
            "and none is given.</p>"
        )
    return "\n".join([*lines, "</div>"])
