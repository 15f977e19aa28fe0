"""The site as files: what pages hold, and what a build refuses."""

import ast
import base64
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib import import_module
from types import ModuleType

import nbformat
import pytest
import yaml
from chapters import CHAPTERS, read, tagged
from nbconvert.filters.markdown_mistune import (
    IPythonRenderer,
    MarkdownWithMath,
)
from nbformat.v4 import new_output
from PIL import Image

import mamlkit
import mamlkit.course
import mamlkit.rl
from mamlkit.__main__ import main
from mamlkit.course.chapters import CORE
from mamlkit.exercises import find_exercise, find_quiz
from mamlkit.paths import ROOT
from mamlkit.publish import render, site

pytest.importorskip("sphinx_book_theme", reason="needs mamlkit[site]")

from mamlkit.publish.site import (
    api,
    assemble,
    download,
    extension,
    hero,
    katex,
    links,
    page,
)

REPOSITORY = "https://github.com/somebody/mamlkit"
each_chapter = pytest.mark.parametrize(
    "path", CHAPTERS, ids=[path.stem for path in CHAPTERS]
)


SILENT = ("script", "style", "annotation")


class Page(HTMLParser):
    """A page's tags, and its text, both in order."""

    def __init__(self, html, silent=SILENT):
        super().__init__()
        self.silent, self._silent = silent, 0
        self.tags, self.texts = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._silent += tag in self.silent

    def handle_endtag(self, tag):
        self._silent -= tag in self.silent

    def handle_data(self, text):
        if not self._silent:
            self.texts.append(text)

    def of(self, tag, kind=""):
        return [
            attrs
            for name, attrs in self.tags
            if name == tag
            and kind in attrs.get("class", "").split()
            or name == tag
            and not kind
        ]

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


# The whole site -------------------------------------------------------------


@pytest.fixture(scope="module")
def pages(built_site):
    paths = sorted(built_site.glob("*.html"))
    return {p.name: p.read_text(encoding="utf-8") for p in paths}


@pytest.fixture
def chapter(pages, path):
    return Page(pages[f"{path.stem}.html"])


def test_no_link_dies(built_site):
    assert links.dead(built_site) == []


@each_chapter
def test_a_page_says_with_what_it_was_verified(chapter, path):
    made = read(path).metadata["mamlkit"]
    wanted = f"verified with torch {made['torch']} on "
    assert wanted in chapter.text
    year, _, day = made["date"].split("-")
    after = chapter.text.partition(wanted)[2]
    assert after.startswith(f"{int(day)} ") and f" {year}." in after[:20]


def test_nothing_is_loaded_from_elsewhere(built_site, pages):
    for name, text in pages.items():
        loaded = Page(text)
        sources = [
            attrs.get("src") or attrs.get("href")
            for tag in ("script", "link", "img", "iframe", "source")
            for attrs in loaded.of(tag)
            if attrs.get("rel") not in ("next", "prev", "search", "index")
        ]
        foreign = [s for s in sources if s and re.match(r"\w+:|//", s)]
        assert not foreign, f"{name}: {foreign}"
    for path in built_site.rglob("*.css"):
        urls = re.findall(r"url\([\"']?([^)\"']+)", path.read_text())
        foreign = [u for u in urls if re.match(r"https?:|//", u)]
        assert not foreign, f"{path.name}: {foreign}"


def test_pages_load_little(built_site, pages):
    for name, text in pages.items():
        sources = [attrs.get("src", "") for attrs in Page(text).of("script")]
        scripts = [built_site / s.split("?")[0] for s in sources if s]
        assert sum(path.stat().st_size for path in scripts) < 400_000, name
    assert not [*built_site.rglob("*.map")]


def count_formulas(nb):
    """Count as nbconvert reads markdown, which is not how Sphinx does."""
    found = []

    class Counting(IPythonRenderer):
        def inline_math(self, body):
            found.append(body)
            return ""

        block_math = inline_math

        def latex_environment(self, name, body):
            found.append(body)
            return ""

    for cell in nb.cells:
        if cell.cell_type == "markdown":
            MarkdownWithMath(renderer=Counting(escape=False)).render(
                cell.source
            )
    # Of a line with several, each is drawn by itself.
    return sum(1 + latex.count("\\qquad") for latex in found)


@each_chapter
def test_every_formula_is_drawn(chapter, pages, path):
    # Questions are asked by code, and not in a cell's markdown.
    drawn = len(chapter.of("span", "katex"))
    quiz = find_quiz(path.name[:2])
    asked = sum(
        text.count("$") // 2
        for q in quiz
        for text in (q.text, *(option for option, _ in q.options))
    )
    assert drawn == count_formulas(read(path)) + asked
    # A figure's own formulas stand in its code.
    prose = Page(pages[f"{path.stem}.html"], silent=(*SILENT, "pre")).text
    assert "$" not in prose.replace("$ ", "") and "\\frac" not in prose


@each_chapter
def test_no_paragraph_is_lost(chapter, path):
    shown = plain(chapter.text)
    for cell in read(path).cells:
        if cell.cell_type != "markdown":
            continue
        for paragraph in re.split(
            r"\n\s*\n|\n(?=[-|#])|\n\d+\. ", cell.source
        ):
            # Between formulas, code and links, whose text stands otherwise.
            for part in re.split(
                r"\$+[^$]+\$+|`+[^`]+`+|\]\(\S*\)|[*|\[#]", paragraph
            ):
                words = plain(part).strip("-:123456789. ")
                assert words in shown, words


def plain(text):
    signs = {"’": "'", "‘": "'", "“": '"', "”": '"', "…": "...", "–": "--"}
    for sign, ascii_ in signs.items():
        text = text.replace(sign, ascii_)
    return re.sub(r"\s+", " ", text)


@each_chapter
def test_each_cell_of_a_page_has_a_name_of_its_own(path):
    nb = read(path)
    page.make_page(nb, path.name[:2], str)
    names = [cell.id for cell in nb.cells]
    assert sorted(names) == sorted({*names})


@each_chapter
def test_answers_open_on_the_page(pages, chapter, path):
    text = pages[f"{path.stem}.html"]
    keys = {
        key
        for cell in tagged(read(path), "exercise")
        for key in re.findall(r'^check\("([\d.]+)"', cell.source, re.M)
    }
    assert keys
    hints = sum(len(find_exercise(key).hints) for key in keys)
    assert text.count("<summary>Hint ") == hints
    solved = {key for key in keys if find_exercise(key).solution}
    assert solved
    assert text.count("<summary>Solution</summary>") == len(solved)
    assert text.count('<p class="open">') == len(keys - solved)
    for key in solved:
        (defined,) = [
            node.name
            for node in ast.parse(find_exercise(key).solution).body
            if isinstance(node, ast.FunctionDef)
            and node.name == find_exercise(key).name
        ]
        assert f"def {defined}(" in chapter.text
    questions = find_quiz(path.name[:2])
    assert text.count('<p class="question">') == len(questions)
    assert text.count('<strong class="right">') == len(questions)
    options = sum(len(q.options) for q in questions)
    assert text.count('<details class="option">') == options
    assert "not started" not in chapter.text


@each_chapter
def test_every_picture_says_what_it_shows(built_site, chapter, path):
    pictures = chapter.of("img")
    assert pictures
    for attrs in pictures:
        assert len(attrs["alt"]) > 20
        assert (built_site / attrs["src"]).is_file()
        assert int(attrs["width"]) > int(attrs["height"]) / 4


@each_chapter
def test_both_routes_and_both_neighbours(chapter, path):
    names = [p.stem for p in CHAPTERS]
    listed = [a["href"] for a in chapter.of("a") if a.get("href")]
    for name in names:
        here = name == path.stem
        assert any(h == ("#" if here else f"{name}.html") for h in listed)
    marked = [li for li in chapter.of("li", "core")]
    assert len(marked) == len([n for n in names if n[:2] in CORE])
    at = names.index(path.stem)
    expected = [names[at - 1]] if at else []
    expected += names[at + 1 : at + 2]
    core = [n for n in names if n[:2] in CORE]
    expected += [n for n in core if n < path.stem][-1:]
    expected += [n for n in core if n > path.stem][:1]
    turns = [
        a["href"]
        for a in chapter.of("a")
        if "rel" in a and a["rel"] in ("prev", "next")
    ]
    assert turns == [f"{name}.html" for name in expected]


def test_the_search_knows_chapters_and_reference(built_site):
    text = (built_site / "searchindex.js").read_text()
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip(")"))
    assert {p.stem for p in CHAPTERS} <= {*index["docnames"]}
    assert "climber" in index["terms"] and "meta_loss" in str(index["objects"])


@each_chapter
def test_downloads_are_notebooks_that_run_anywhere(built_site, path):
    copy_ = built_site / "downloads" / path.name
    nb = nbformat.read(copy_, 4)
    nbformat.validate(nb)
    first, *rest = nb.cells
    assert "mamlkit.course" in first.source
    original = read(path)
    assert [c.source for c in rest] == [c.source for c in original.cells]


def test_the_first_page_has_a_card_for_each_chapter(built_site, pages):
    first = Page(pages["index.html"])
    assert len(first.of("li", "card")) == len(CHAPTERS)
    for path in CHAPTERS:
        with Image.open(
            built_site / "pictures" / f"{path.name[:2]}-card.png"
        ) as card:
            assert card.size == page.CARD
    assert first.of("figure", "hero")
    assert first.text.count("core") > len(CORE)


def test_a_wrong_address_leads_on(pages):
    text = pages["404.html"]
    missing = Page(text)
    leads = {a["href"] for a in missing.of("a")}
    assert leads == {"index.html", *(f"{p.stem}.html" for p in CHAPTERS)}
    # It is shown at any depth, from where nothing beside it is found.
    assert not missing.of("link") and not missing.of("img")
    assert not [s for s in missing.of("script") if "src" in s]
    assert "url(" not in text


def test_the_first_page_says_how_to_run_it(pages):
    text = Page(pages["index.html"]).text
    for words in ("needs a computer", "pip install -e", "mamlkit lab"):
        assert words in text.partition("Run it yourself")[2], words


def test_every_public_name_is_in_the_reference(pages):
    for room in api.ROOMS:
        module = import_module(room)
        text = pages[f"reference-{module.__name__}.html"]
        for name in module.__all__:
            assert re.search(rf'id="[\w.-]*\b{name}"', text), name
    text = pages["reference-mamlkit.html"]
    assert "Built in" in text and "PosixPath" not in text


def test_no_path_of_this_machine_is_published(built_site):
    for path in built_site.rglob("*.html"):
        if "_modules" not in path.parts:
            assert str(ROOT) not in path.read_text(), path.name


# A small course -------------------------------------------------------------

TITLE = """# Try a thing

By the end you will have `one`.

About 5 minutes · level: none

Go [on](04_try_more.ipynb#Try-more) or to [the paper](https://arxiv.org).

## A *second* thing

Here $w' = 1 - 2$, and

$$\\sum_{i=1}^n x_i, \\qquad x_i = a - b$$

See [above](#A-second-thing).
"""
ALT = 'A "line" < 1, and what it means for the reader.'
PLAY = (
    '<div class="mamlkit-play" data-play="game" data-state="{&quot;n'
    '&quot;: 1}"><p>A still picture.</p></div>'
)


def png(size=(90, 80)):
    raw = io.BytesIO()
    Image.new("RGB", size, "red").save(raw, "PNG")
    return base64.b64encode(raw.getvalue()).decode()


PICTURE = new_output(
    "display_data",
    {"image/png": png(), "text/plain": ALT},
    metadata={"image/png": {"alt": ALT, "width": 45, "height": 40}},
)

TEXT = new_output("stream", text="a < b\n")


@pytest.fixture
def course(make_chapter, monkeypatch, tmp_path):
    """Two rendered chapters; returns a function that builds the site."""

    def rendered(name, **changes):
        path = make_chapter(name, **changes)
        nb = nbformat.read(path, 4)
        executed = nbformat.from_dict(nb)
        executed.cells[1].outputs = [
            PICTURE,
            new_output("display_data", {"text/html": PLAY}),
            TEXT,
            new_output("display_data", {"text/html": "<table></table>"}),
            new_output("display_data", {"text/markdown": "**Q** $a$"}),
        ]
        for cell, output in ((4, TEXT), (-1, PICTURE)):
            nb.cells[cell].metadata["tags"] = ["hide-output"]
            executed.cells[cell].outputs = [output]
        render.take_outputs(nb, executed)
        nbformat.write(nb, path)
        return path

    def build(title=TITLE, repository=None, **changes):
        more = "# Try more\n\nyou will have more.\n\nAbout 5 minutes"
        paths = [
            rendered("03_try_a_thing", title=title, **changes),
            rendered("04_try_more", title=more),
        ]
        return site.build(paths, tmp_path / "html", repository).parent

    # The reference, and the training of the picture, have tests of their own.
    monkeypatch.setattr(assemble, "REFERENCES", {})
    return build


@pytest.fixture
def quick_hero(monkeypatch):
    monkeypatch.setattr(hero, "ITERATIONS", 4)
    monkeypatch.setattr(hero, "SHOWN", (0, 4))


def test_a_page_shows_what_the_chapter_shows(quick_hero, course):
    folder = course(repository=REPOSITORY)
    text = (folder / "03_try_a_thing.html").read_text()
    shown = Page(text)
    picture, _ = shown.of("img")
    assert picture["alt"] == ALT
    assert (picture["width"], picture["height"]) == ("45", "40")
    # On a small screen a touch opens the file itself.
    assert picture["src"] in [a.get("href") for a in shown.of("a")]
    runs = [
        a for a in shown.of("a") if "#run-it-yourself" in a.get("href", "")
    ]
    assert len(runs) == 2  # beside the download, and in the exercise
    with Image.open(folder / picture["src"]) as image:
        assert image.size == (90, 80)
    assert "a &lt; b" in text and PLAY in text
    assert "Show the output" in shown.text and "Show the figure" in shown.text
    assert '<strong>Q</strong> <span class="katex">' in text
    # A line may end behind an equals sign, but not behind a minus.
    assert len(shown.of("span", "katex-base")) == 2 + (1 + 2) + 1
    assert len(shown.of("span", "katex-display")) == 2
    # The comma stays with the formula before it.
    assert '<span class="after">,</span></span></span></span> and' in text
    assert shown.of("div", "scroll")[0]["tabindex"] == "0"
    assert 'href="04_try_more.html#try-more"' in text
    assert 'href="#a-second-thing"' in text
    assert shown.of("div", "tag_copy-me") and shown.of("div", "exercise")
    assert "Open in Colab" in shown.text and "Open in Binder" in shown.text
    # The play that the first page shows is that of the chapter.
    assert PLAY in (folder / "index.html").read_text()
    assert (folder / ".nojekyll").exists()


def test_a_fault_is_an_error_and_the_old_site_stays(quick_hero, course):
    folder = course()
    before = (folder / "03_try_a_thing.html").read_text()
    assert "Colab" not in before
    for title, fault in (
        (TITLE + "\n\n[x](09_gone.ipynb)", "09_gone"),
        (TITLE + "\n\n[x](#gone)", "gone"),
        ("# A\n\nyou will have it.", "thing: its first .* say how long"),
        (TITLE + "\n\n$\\unknown y$", r"thing: in \$\\unknown y\$: .*Undef"),
    ):
        with pytest.raises(ValueError, match=fault):
            course(title)
        assert (folder / "03_try_a_thing.html").read_text() == before


def test_command_refuses_stale_outputs(
    quick_hero, course, tmp_path, capsys, monkeypatch
):
    course()
    path = tmp_path / "notebooks" / "03_try_a_thing.ipynb"
    nb = nbformat.read(path, 4)
    nb.cells[-1].source += "  # changed"
    nbformat.write(nb, path)
    monkeypatch.setattr("mamlkit.course.chapters.NOTEBOOKS", path.parent)
    assert main(["html"]) == 2
    said = capsys.readouterr().err
    assert "03_try_a_thing: outputs are older than the code" in said


# Parts ----------------------------------------------------------------------


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(site, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"sphinx: pip install 'mamlkit\[si"):
        site.build([], tmp_path)
    with pytest.raises(ValueError, match="must begin with https://"):
        site.build([], tmp_path, "git@github.com:a/b")


def test_the_address_is_one_configured_value(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(site, "ROOT", tmp_path)
    file = tmp_path / "pyproject.toml"
    file.write_text("[project]\n")
    assert site.repository_address() is None
    file.write_text(f'[project.urls]\nRepository = "{REPOSITORY}"\n')
    assert site.repository_address() == REPOSITORY
    asked = []
    monkeypatch.setattr(
        site, "build", lambda chapters, repository: asked.append(repository)
    )
    main(["html"])
    main(["html", "--repository", "https://a.b/c"])
    assert asked == [REPOSITORY, "https://a.b/c"]


def test_a_workflow_publishes_the_site_from_main():
    text = (ROOT / ".github/workflows/pages.yml").read_text()
    flow = yaml.safe_load(text)
    assert flow[True]["push"] == {"branches": ["main"]}  # "on", to YAML
    *_, built, pushed = flow["jobs"]["publish"]["steps"]
    assert built["run"] == '.venv/bin/mamlkit html --repository "$REPOSITORY"'
    assert pushed["working-directory"] == "build/html"
    # The branch from which hosted notebooks are opened.
    branch = download.launchers(REPOSITORY, "03_a")["Colab"].split("/")[-3]
    assert f'REPOSITORY#https://}}" {branch}' in pushed["run"]


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a href="b.html#here">b</a> <a href="https://x.y">x</a> <a name="n">'
        '<a href="#n">n</a> <pre>href="no.html"</pre> <img src="p%20q.png">'
    )
    (tmp_path / "b.html").write_text('<p id="here"><a href="a.html">a</a>')
    (tmp_path / "p q.png").touch()
    assert links.dead(tmp_path) == []
    (tmp_path / "b.html").write_text('<a href="c.html">c</a><a href="#x">x')
    (tmp_path / "p q.png").unlink()
    assert links.dead(tmp_path) == [
        "a.html -> b.html#here",
        "a.html -> p%20q.png",
        "b.html -> c.html",
        "b.html -> #x",
    ]


def test_katex_draws_for_eyes_and_ears_or_says_what_is_wrong():
    with katex.drawing() as draw:
        html = draw(r"\theta' = 1", True)
        assert 'class="katex-display"' in html and "<math" in html
        assert "katex-display" not in draw(r"\theta' = 1", False)
        with pytest.raises(ValueError, match=r"in \$\\no\$: .*\\no"):
            draw(r"\no", False)


def test_a_picture_without_words_is_refused():
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_code_cell("1")]
    nb.cells[0].outputs = [new_output("display_data", {"image/png": png()})]
    with pytest.raises(ValueError, match="without alt text"):
        page.make_page(nb, "03", str)


@pytest.mark.parametrize(
    ("source", "tags", "name"),
    [
        ("import torch", ["setup", "hide-input"], "Set-up"),
        ("def one():\n    pass\n\n\ndef two():\n    pass", ["hide-input"],
         "Code: one, two"),
        ("claim('a', True, 1)", ["hide-input"], "Code of the claim"),
        ("report_claims(SCALE)", ["hide-input"], "Code of the table"),
        ("show(fig, alt='a')", ["hide-input"], "Code of the figure"),
        ('SCALE = "ci"\nSEED = 0  # zero', ["parameters"],
         "Parameters · SCALE, SEED"),
        ("1 + 1", ["hide-input"], "Code"),
        ("# Figure: two waves\nshow(fig)", ["hide-input"],
         "Code · Figure: two waves"),
        ("# What `vmap` does\n1", ["hide-input"], "Code · What vmap does"),
        ("# copy-me\ndef one():\n    pass", ["hide-input"], "Code: one"),
        ("1 + 1", [], None),
    ],
)  # fmt: skip
def test_folded_code_says_what_it_is(source, tags, name):
    nb = nbformat.v4.new_notebook()
    meta = {"tags": tags} if tags else {}
    nb.cells = [nbformat.v4.new_code_cell(source, metadata=meta)]
    page.make_page(nb, "03", str)
    named = nb.cells[0].metadata.get("mystnb", {})
    assert named.get("code_prompt_show") == name


def test_no_line_ends_within_a_number():
    said = "<details class='mamlkit-claim'>3e-11, 2.1 ± 0.3 at α = 0.15, 5 %"
    nb = page_of([("claim('a', True, 1)", {"text/html": said})])
    html = nb.cells[0].outputs[0].data["text/html"]
    for tied in ("3e&#8209;11", "2.1&nbsp;±&nbsp;0.3", "α&nbsp;=&nbsp;0.15"):
        assert tied in html
    assert "5&nbsp;%" in html


def page_of(cells):
    """Make a page of folded cells, each (source, *what it displays)."""
    nb = nbformat.v4.new_notebook()
    about = {"image/png": {"alt": "a"}}
    for source, *datas in cells:
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata["tags"] = ["hide-input"]
        cell.outputs = [
            new_output("display_data", data, metadata=about) for data in datas
        ]
        nb.cells.append(cell)
    page.make_page(nb, "03", str)
    return nb


def test_figures_have_numbers_and_captions():
    sources = (
        "# Figure: two < waves",
        "show(fig)",
        "# Figure: three; claim: all hold",
    )
    nb = page_of((source, {"image/png": png()}) for source in sources)
    htmls = [cell.outputs[0].data["text/html"] for cell in nb.cells]
    captions = [re.findall("<figcaption>(.*)</figcaption>", h) for h in htmls]
    assert captions == [
        ["<b>Figure 3.1.</b> Two &lt; waves."],
        [],
        ["<b>Figure 3.2.</b> Three."],
    ]
    folds = [cell.metadata["mystnb"]["code_prompt_show"] for cell in nb.cells]
    assert folds == [
        "Code of figure 3.1", "Code of the figure", "Code of figure 3.2"
    ]  # fmt: skip


def test_tables_have_numbers_of_their_own_and_captions_above():
    numbers = {"text/html": '<table class="numbers"><tr></tr></table>'}
    other = {"text/html": "<table><tr></tr></table>"}
    nb = page_of([
        ("# Table: errors & rates", numbers),
        ("# Figure: a wave", {"image/png": png()}),
        ("# Table: no numbers", other),
        ("show_table(head, rows)", numbers),
        ("# Table: errors", numbers),
    ])  # fmt: skip
    htmls = [cell.outputs[0].data["text/html"] for cell in nb.cells]
    captions = [re.findall("<figcaption>(.*)</figcaption>", h) for h in htmls]
    assert captions == [
        ["<b>Table 3.1.</b> Errors &amp; rates."],
        ["<b>Figure 3.1.</b> A wave."],
        [],
        [],
        ["<b>Table 3.2.</b> Errors."],
    ]
    assert htmls[0].index("figcaption") < htmls[0].index("<table")
    folds = [cell.metadata["mystnb"]["code_prompt_show"] for cell in nb.cells]
    assert folds == [
        "Code of table 3.1",
        "Code of figure 3.1",
        "Code · Table: no numbers",
        "Code",
        "Code of table 3.2",
    ]


def test_what_is_played_with_has_no_number_and_a_cell_one_caption():
    table = '<table class="numbers"><tr><th>%s</th></tr></table>'
    nb = page_of([
        ("# Figure: a play",
         {"image/png": png(), "text/html": "<div></div>"}),
        ("# Table: twice", {"text/plain": "a"},
         {"text/html": table % "10 steps"},
         {"text/html": table % "one step and then more"}),
        ("# Figure: a wave", {"image/png": png()}),
    ])  # fmt: skip
    htmls = [
        [output.data.get("text/html", "") for output in cell.outputs]
        for cell in nb.cells
    ]
    captions = [re.findall("<b>(.*)</b>", "".join(html)) for html in htmls]
    assert captions == [[], ["Table 3.1."], ["Figure 3.1."]]
    assert "<b>Table 3.1.</b>" in htmls[1][1]
    assert "10&nbsp;steps" in htmls[1][1]
    assert "one step and then more" in htmls[1][2]


@pytest.mark.parametrize("first", ["# Prediction 3a", "# What turned out for"])
def test_code_of_questions_is_left_out(first):
    nb = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(f"{first} 3a\npredict()")
    cell.metadata["tags"] = ["hide-input"]
    nb.cells = [cell]
    page.make_page(nb, "03", str)
    assert nb.cells[0].metadata["tags"] == ["remove-input"]


def test_names_in_tables_may_break_and_others_not():
    name = '<code><span class="pre">rl.roll_out(x)</span></code>'
    text = f"<p>{name}</p><td>a.b {name}</td>"
    found = assemble._CELL.sub(assemble._with_breaks, text)
    broken = name.replace("rl.roll_out(x)", "rl.<wbr>roll_<wbr>out(<wbr>x)")
    assert found == f"<p>{name}</p><td>a.b {broken}</td>"


def test_the_cover_is_the_tagged_picture_or_the_first():
    nb = nbformat.v4.new_notebook()
    for colour in ("red", "blue"):
        raw = io.BytesIO()
        picture = Image.new("RGB", (800, 200), "green")
        for x in (0, 780):
            picture.paste(colour, (x, 0, x + 20, 200))
        picture.save(raw, "PNG")
        data = {"image/png": base64.b64encode(raw.getvalue()).decode()}
        nb.cells.append(nbformat.v4.new_code_cell("1"))
        nb.cells[-1].outputs = [new_output("display_data", data)]

    def colour():
        with Image.open(io.BytesIO(page.cover(nb))) as card:
            card = card.convert("RGB")
        middle = card.height // 2
        ends = {card.getpixel((x, middle)) for x in (2, card.width - 3)}
        (both,) = ends  # nothing is cut off
        return both

    assert colour() == (255, 0, 0)
    nb.cells[1].metadata["tags"] = ["cover"]
    assert colour() == (0, 0, 255)
    assert page.cover(nbformat.v4.new_notebook()) is None


def first_cell(repository):
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_markdown_cell("[on](04_on.ipynb#A) [x](#x)")]
    copied = nbformat.reads(download.hosted(nb, repository), 4)
    assert nb.cells[0].source == "[on](04_on.ipynb#A) [x](#x)"
    return copied.cells


def run(code, where, here=""):
    """Run a cell where nothing is installed but what is in a folder."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         f"import sys\nsys.path.insert(0, {str(where)!r})\n{here}\n{code}"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture
def with_course(tmp_path):
    """A folder in which the course can be imported."""
    (tmp_path / "mamlkit").mkdir()
    for name in ("__init__", "course"):
        (tmp_path / "mamlkit" / f"{name}.py").touch()
    return tmp_path


def test_a_download_leaves_alone_what_is_there(with_course):
    for repository in (REPOSITORY, None):
        first, _ = first_cell(repository)
        assert run(first.source, with_course) == ""


def test_a_download_installs_what_is_missing_and_keeps_torch(tmp_path):
    first, text = first_cell(REPOSITORY)
    there = f"{REPOSITORY}/blob/main/notebooks/04_on.ipynb#A"
    assert text.source == f"[on]({there}) [x](#x)"
    pip = "import subprocess; subprocess.run = lambda command, check: print("
    pip += "command, open(command[command.index('-c') + 1]).read())"
    assert f"mamlkit[course] @ git+{REPOSITORY}'" in run(
        first.source, tmp_path, pip
    )
    (tmp_path / "torch-9.9+host.dist-info").mkdir()
    meta = tmp_path / "torch-9.9+host.dist-info" / "METADATA"
    meta.write_text("Name: torch\nVersion: 9.9+host\n")
    assert "torch==9.9+host" in run(first.source, tmp_path, pip)


def test_a_download_without_an_address_says_what_it_needs(tmp_path):
    first, text = first_cell(None)
    assert "04_on.ipynb" in text.source and "http" not in text.source
    said = run(first.source, tmp_path)
    assert "needs mamlkit: install mamlkit[course]" in said


def test_services_that_open_chapters_are_offered_for_github_alone():
    offered = download.launchers(REPOSITORY, "03_a")
    assert [*offered] == ["Colab", "Binder"]
    copied = "somebody/mamlkit/blob/gh-pages/downloads/03_a.ipynb"
    assert offered["Colab"].endswith(copied)
    assert download.launchers("https://gitlab.com/a/b", "03_a") == {}
    assert download.launchers(None, "03_a") == {}


def module_with(monkeypatch, **names):
    made = ModuleType("mamlkit.made", "What is made.")
    vars(made).update(names)
    made.__all__ = [*names]
    monkeypatch.setitem(sys.modules, "mamlkit.made", made)
    monkeypatch.setitem(api.ROOMS, "mamlkit.made", "Made")
    return made


def test_a_public_name_must_exist_and_be_documented(monkeypatch):
    def silent():
        pass

    silent.__module__ = "mamlkit.made"
    module = module_with(monkeypatch, silent=silent)
    with pytest.raises(ValueError, match="made.silent .* has no docstring"):
        api.reference("mamlkit.made", {})
    silent.__doc__ = "Say it."
    assert "autofunction:: mamlkit.made.silent" in api.reference(
        "mamlkit.made", {}
    )
    module.__all__.append("gone")
    with pytest.raises(ValueError, match="'gone', which does not exist"):
        api.reference("mamlkit.made", {})
    module_with(monkeypatch, LIMIT=object())
    with pytest.raises(ValueError, match="LIMIT is public and not docum"):
        api.reference("mamlkit.made", {})


def test_a_name_that_no_page_shows_fails_the_build(
    quick_hero, course, monkeypatch
):
    only = {"reference-mamlkit.rl": "mamlkit.rl"}
    monkeypatch.setattr(assemble, "REFERENCES", only)
    monkeypatch.setattr(api, "reference", lambda *_: "Nothing\n=======\n")
    first = mamlkit.rl.__all__[0]
    with pytest.raises(ValueError, match=f"reference: mamlkit.rl.{first}, "):
        course()


def test_the_reference_says_which_chapter_builds_a_function():
    built = api.built_by_chapters({p.stem: read(p) for p in CHAPTERS})
    assert built["adapt"].startswith("03_")
    text = api.reference("mamlkit", built)
    after = text.split("autofunction:: mamlkit.adapt\n")[1]
    assert after.strip().startswith("Built in `chapter 03 <03_")


@pytest.mark.parametrize(
    ("plain", "rst"),
    [
        ("x (tasks, *features)", r"x (tasks, \*features)"),
        ("all `nn.Module`s", r"all `nn.Module`\ s"),
        ("`a * b` is |c|", r"`a * b` is \|c\|"),
        (">>> a * b", ">>> a * b"),
        (":param \\*\\*style: of *it", r":param \*\*style: of \*it"),
    ],
)
def test_docstrings_are_read_as_plain_english(plain, rst):
    assert api.in_rst(plain) == rst


def test_anchors_are_those_of_jupyterlab():
    assert extension.anchor("2. Two loops") == "2.-Two-loops"


def test_the_walk_of_the_first_page_is_that_of_chapter_04(monkeypatch):
    """Its own words: θ ends near amplitude 2.8 and phase 1.6."""
    made = hero.picture()
    first, last = made["frames"][0], made["frames"][-1]
    assert first["theta"] == [0.6, 0.1] and last["iteration"] == 400
    assert last["theta"] == pytest.approx([2.8, 1.6], abs=0.2)
    assert last["loss"] < first["loss"] / 3
    assert len(last["ends"]) == hero.N_SHOWN
    # The step on a shown wave, once more by hand: dL/da, dL/db of a mean.
    wave, (a, b) = made["waves"][0], last["theta"]
    torch = hero.torch
    x, y = torch.tensor(wave["x"]), torch.tensor(wave["y"])
    off = 2 * (a * torch.sin(x - b) - y)
    slopes = off * torch.sin(x - b), off * -a * torch.cos(x - b)
    stepped = [
        v - hero.INNER_LR * slope.mean().item()
        for v, slope in zip((a, b), slopes)
    ]
    assert last["ends"][0] == pytest.approx(stepped, abs=0.02)
    true_a, true_b = wave["truth"]
    exact = true_a * torch.sin(x - true_b)
    assert torch.allclose(exact, y, atol=0.05)
    # Outlines of higher levels lie within those of lower ones: less ink.
    assert len(made["hills"]) == hero.HILLS
    assert hero.map_places(-0.5, 4.4) == (0, 0)
