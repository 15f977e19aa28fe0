"""The site of the committed chapters, opened from a folder, offline."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import complaints, keep
from chapters import CHAPTERS

from mamlkit.publish import site

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
NAMES = ["index", *(path.stem for path in CHAPTERS)]
each_page = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return site.build(CHAPTERS, tmp_path_factory.mktemp("site")).parent


@pytest.fixture(scope="module")
def page(browser, folder):
    """A page that cannot reach any network."""
    context = browser.new_context(offline=True, viewport=WIDE)
    page = context.new_page()
    page.complaints = complaints(page, folder.as_uri())
    yield page
    context.close()


@pytest.fixture
def opened(page, folder, name):
    page.complaints.clear()
    page.set_viewport_size(WIDE)
    page.goto((folder / f"{name}.html").as_uri())
    return page


@each_page
def test_accessible_and_readable(opened):
    """axe-core, whose rules include a contrast of 4.5:1."""
    assert not opened.complaints, opened.complaints
    found = Axe().run(opened, options={"preload": False}).response
    serious = [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in found["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert not serious, "\n".join(serious)
    passed = {rule["id"] for rule in found["passes"]}
    assert "color-contrast" in passed
    # What axe could not decide is no pass either.
    unsure = [
        node["html"][:200]
        for rule in found["incomplete"]
        if rule["id"] == "color-contrast"
        for node in rule["nodes"]
        # A lone sign, such as a minus, is no text to axe.
        if node["any"][0]["data"]["messageKey"]
        not in ("nonBmp", "shortTextContent")
    ]
    assert not unsure, unsure


@each_page
def test_pictures_are_there_and_described(opened):
    pictures = opened.evaluate(
        "[...document.images].map(i => [i.alt.trim(), i.naturalWidth])"
    )
    assert all(alt and width for alt, width in pictures), pictures
    assert pictures or opened.url.endswith("index.html")


@each_page
def test_mathematics_is_drawn_by_the_browser(opened):
    sizes = opened.evaluate(
        """[...document.querySelectorAll("math")].map(m => {
        const { width, height } = m.getBoundingClientRect();
        return [width, height, m.outerHTML.slice(0, 200)]; })"""
    )
    small = [m for w, h, m in sizes if w < 4 or h < 4]
    assert not small, small
    text = opened.locator("main").inner_text()
    assert "$$" not in text and "\\frac" not in text


@each_page
def test_fits_a_phone(opened):
    opened.set_viewport_size(PHONE)
    keep(opened, f"site_{opened.url.split('/')[-1][:2]}_390", whole=True)
    wide = opened.evaluate(
        """[...document.querySelectorAll("body *")]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1
            && !e.parentElement.closest(".scroll, pre, math, .skip, p, li"))
        .map(e => e.outerHTML.slice(0, 150))"""
    )
    width = opened.evaluate("document.scrollingElement.scrollWidth")
    assert width <= PHONE["width"], f"{width} px wide: {wide[:5]}"
    rules = {"type": "rule", "values": ["scrollable-region-focusable"]}
    found = Axe().run(opened, options={"preload": False, "runOnly": rules})
    assert not found.response["violations"], found.generate_report()
    opened.set_viewport_size(WIDE)
    keep(opened, f"site_{opened.url.split('/')[-1][:2]}_1280", whole=True)


def test_map_next_and_previous_lead_through_the_course(page, folder):
    page.goto((folder / "index.html").as_uri())
    titles = page.locator("main li h2 a")
    assert titles.count() == len(CHAPTERS)
    titles.first.click()
    for number, path in enumerate(CHAPTERS):
        assert page.url.endswith(f"{path.stem}.html")
        if number + 1 < len(CHAPTERS):
            page.locator("a[rel=next]").last.click()
    for path in reversed(CHAPTERS[:-1]):
        page.locator("a[rel=prev]").first.click()
        assert page.url.endswith(f"{path.stem}.html")
    page.get_by_role("link", name="All chapters").first.click()
    assert page.url.endswith("index.html")


def test_links_within_a_page_lead_to_what_they_name(page, folder):
    for name in NAMES:
        page.goto((folder / f"{name}.html").as_uri())
        gone = page.evaluate(
            """[...document.querySelectorAll("a[href^='#']")]
            .map(a => decodeURIComponent(a.hash.slice(1)))
            .filter(id => !document.getElementById(id))"""
        )
        assert not gone, f"{name}: {gone}"
