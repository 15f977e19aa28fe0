import re
import sys
from html.parser import HTMLParser

import nbformat
import pytest
from nbformat.v4 import new_output

from mamlkit.__main__ import main
from mamlkit.course import chapters
from mamlkit.publish import render, site
from mamlkit.publish.site.mathml import mathml

TITLE = """# Try a thing

By the end you will have `one`.

About 5 minutes · level: none

Go [on](04_try_more.ipynb#Try-more) or to [the paper](https://arxiv.org).

## A *second* thing

Here $w' = -1$ and

$$\\sum_{i=1}^n x_i$$

| a | b |
|---|---|
| 1 | 2 |

See [above](#Try-a-thing).
"""
PNG = new_output(
    "display_data",
    {"image/png": "iVBORw0KGgo=", "text/plain": "A line."},
    metadata={"image/png": {"alt": 'A "line" < 1.', "width": 9, "height": 8}},
)
CARD = new_output(
    "display_data", {"text/html": "<b style='color:#00795A'>ok</b>"}
)


@pytest.fixture
def course(make_chapter, monkeypatch, tmp_path):
    """Two rendered chapters; returns a function that builds the site."""

    def rendered(name, **changes):
        path = make_chapter(name, **changes)
        nb = nbformat.read(path, 4)
        executed = nbformat.from_dict(nb)
        executed.cells[1].outputs = [
            PNG,
            CARD,
            new_output("stream", text="a < b\n"),
            new_output(
                "execute_result", {"text/plain": "<7>"}, execution_count=1
            ),
            new_output("display_data", {"text/markdown": "**Q** $a$"}),
        ]
        render.take_outputs(nb, executed)
        nbformat.write(nb, path)
        return path

    def build(title=TITLE, **changes):
        paths = [
            rendered("03_try_a_thing", title=title, **changes),
            rendered("04_try_more", title="# Try more\n\nMore.\n\nLong."),
        ]
        index = site.build(paths, tmp_path / "html")
        return {p.name: p.read_text() for p in index.parent.iterdir()}

    monkeypatch.setattr(chapters, "NOTEBOOKS", tmp_path / "notebooks")
    return build


class Tags(HTMLParser):
    """All start tags of a page as (name, attributes)."""

    def __init__(self, html):
        super().__init__()
        self.found = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def of(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def test_every_page_is_sound(course):
    files = course()
    assert {*files} == {
        "index.html",
        "03_try_a_thing.html",
        "04_try_more.html",
        "style.css",
    }
    for name, text in files.items():
        if name == "style.css":
            continue
        tags = Tags(text)
        assert tags.of("html") == [{"lang": "en"}]
        assert len(tags.of("h1")) == len(tags.of("title")) == 1
        assert tags.of("a")[0] == {"class": "skip", "href": "#main"}
        assert tags.of("main")[0]["id"] == "main"
        assert "width=device-width" in str(tags.of("meta"))
        assert not tags.of("script") and not tags.of("iframe")
        # Nothing is fetched from elsewhere; links may lead there.
        loaded = [t["href"] for t in tags.of("link")]
        loaded += [t["src"] for t in tags.of("img")]
        assert all(u in files or u.startswith("data:") for u in loaded)
        ids = [t["id"] for _, t in tags.found if "id" in t]
        assert len(ids) == len({*ids})
        for link in tags.of("a"):
            page, _, anchor = link["href"].partition("#")
            if page.startswith("https://"):
                continue
            target = files[page] if page else text
            assert not anchor or f'id="{anchor}"' in target


def test_page_shows_what_the_chapter_shows(course):
    text = course()["03_try_a_thing.html"]
    tags = Tags(text)
    (image,) = tags.of("img")
    assert image["alt"] == 'A "line" < 1.'
    assert (image["width"], image["height"]) == ("9", "8")
    assert "<title>Try a thing · mamlkit</title>" in text
    assert "a &lt; b" in text and "&lt;7&gt;" in text
    assert "<strong>Q</strong> <math" in text and "$" not in text
    assert [m["display"] for m in tags.of("math")] == [
        "inline",
        "block",
        "inline",
    ]
    assert re.search(r'<div [^>]*tabindex="0"><table>', text)
    assert re.search(r'<span [^>]*tabindex="0"><math display="bl', text)
    assert '<h2 id="A-second-thing">A <em>second</em> thing</h2>' in text
    assert 'href="04_try_more.html#Try-more"' in text
    assert 'class="cell copy-me"' in text and 'class="k"' in text


def test_pages_lead_back_and_forth_and_the_map_to_all(course):
    files = course()
    first, second = files["03_try_a_thing.html"], files["04_try_more.html"]
    turns = [
        [(a["rel"], a["href"]) for a in Tags(text).of("a") if "rel" in a]
        for text in (first, second)
    ]
    assert turns == [
        [("next", "04_try_more.html")] * 2,
        [("prev", "03_try_a_thing.html")] * 2,
    ]
    chart = files["index.html"]
    assert '<a href="03_try_a_thing.html">Try a thing</a>' in chart
    assert "By the end you will have <code>one</code>." in chart
    assert "About 5 minutes" in chart and "Go <a" not in chart


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in channels
    ]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear))


def contrast(one, other):
    light, dark = sorted(map(luminance, (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_that_of_the_definition():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_every_text_colour_is_readable(course):
    files = course()
    css = files["style.css"]
    shade = re.search(r"--shade: (#\w{6});", css)[1]
    inks = re.findall(r"--(?:ink|soft|link): (#\w{6});", css)
    inks += re.findall(r"[ ;'\"{]color: ?(#\w{6})", css)
    inks += re.findall(r"[ ;'\"]color:(#\w{6})", files["03_try_a_thing.html"])
    assert len(inks) >= 9
    for ink in inks:
        assert min(contrast(ink, "#ffffff"), contrast(ink, shade)) >= 4.5, ink


def test_every_kind_of_code_that_is_highlighted_has_a_colour(course):
    files = course()
    # Plain names, punctuation and operators stay in ink.
    plain = {"n", "nn", "p", "o", "w", "fm"}
    code = re.findall(r'<span class="(\w\w?)">', files["03_try_a_thing.html"])
    known = set(re.findall(r"\.highlight \.(\w+)", files["style.css"]))
    assert {*code} - plain <= known


def test_old_site_is_replaced(course, tmp_path):
    (tmp_path / "html").mkdir()
    (tmp_path / "html" / "old.html").touch()
    assert "old.html" not in course()


def test_fault_is_an_error_and_the_old_site_stays(
    course, tmp_path, monkeypatch
):
    before = course()
    with pytest.raises(ValueError, match="links to 09_gone.html"):
        course("# A\n\n[x](09_gone.ipynb)")
    with pytest.raises(ValueError, match=r"links to \.\./README.md"):
        course("# A\n\n[x](../README.md)")
    with pytest.raises(ValueError, match=r"thing: no MathML for \\unknown in"):
        course(TITLE + "\n\n$\\unknown y$")
    monkeypatch.setitem(sys.modules, "latex2mathml.converter", None)
    with pytest.raises(ValueError, match="pip install"):
        course()
    after = {p.name: p.read_text() for p in (tmp_path / "html").iterdir()}
    assert after == before


def test_command_refuses_stale_outputs(course, tmp_path, capsys):
    course()
    path = tmp_path / "notebooks" / "03_try_a_thing.ipynb"
    nb = nbformat.read(path, 4)
    nb.cells[-1].source += "  # changed"
    nbformat.write(nb, path)
    assert main(["html"]) == 2
    said = capsys.readouterr().err
    assert "03_try_a_thing: outputs are older than the code" in said


@pytest.mark.parametrize(
    ("latex", "expected"),
    [
        ("w'", "<mrow><mi>w</mi><mtext>′</mtext></mrow>"),
        (
            r"\theta_i'",
            "<msub><mi>θ</mi><mi>i</mi></msub><mtext>′</mtext>",
        ),
        ("= -4", '<mo>=</mo><mo form="prefix">−</mo>'),
        ("a - 4", "<mi>a</mi><mo>−</mo>"),
        (r"a \sin x", '<mi>a</mi><mspace width="0.167em" /><mi>sin</mi><ms'),
        (r"\mathrm{d}w", "<mtext>d</mtext>"),
        (r"\sum_i^n x_i", "<munderover><mo>∑</mo><mi>i</mi>"),
        (r"\arg\min_x f", "<munder><mo>min</mo><mi>x</mi>"),
        (r"\begin{aligned} a &= b \end{aligned}", "<mtable"),
    ],
)
def test_mathematics_is_mended(latex, expected):
    assert expected in mathml(latex, "inline")


@pytest.mark.parametrize("latex", [r"\nothing", "a & b", r"\frac{1}{\no}"])
def test_unknown_mathematics_is_refused(latex):
    with pytest.raises(ValueError, match="no MathML for"):
        mathml(latex, "inline")


def test_links_are_those_of_tags_not_of_text():
    page = (
        '<a class="x" href="03.html#top">on</a> <a href="https://a.b">c</a>'
        '<img alt="" src="p.png"><a href="#here">here</a>'
        '<pre>src="<span>{data}</span>" href="gone.html"</pre>'
    )
    assert site.linked_files(page) == ["03.html", "p.png"]
