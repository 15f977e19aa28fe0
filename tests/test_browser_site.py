"""The site of the committed chapters, opened from a folder, offline."""

import json
import re
import shutil

import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import complaints, keep
from chapters import CHAPTERS
from nbformat.v4 import new_code_cell, new_notebook, new_output
from plays import CALLS, script_of, shown
from playwright.sync_api import expect

pytest.importorskip("sphinx_book_theme", reason="needs mamlkit[site]")

from mamlkit.publish.site.api import ROOMS
from mamlkit.publish.site.page import make_page

WIDE = {"width": 1440, "height": 950}
PHONE = {"width": 390, "height": 844}
NAMES = [
    "index",
    "search",
    *(path.stem for path in CHAPTERS),
    *(f"reference-{room}" for room in ROOMS),
]
each_mode = pytest.mark.parametrize("mode", ["light", "dark"])
UNFOLD = "document.querySelectorAll('details').forEach(d => d.open = true)"
REACHED = """[...document.querySelectorAll("article pre")].every(
    pre => pre.scrollWidth <= pre.clientWidth || pre.tabIndex === 0)"""
# A token's colour is that of its kind: one of each kind of place is enough,
# or a page has twice as many elements.
TOKENS = """
const seen = new Set();
for (const token of document.querySelectorAll(".highlight pre span")) {
    const place = token.closest(".cell_input, .cell_output, .exercise");
    const kind = `${token.className} in ${place?.className}`;
    if (seen.has(kind)) token.replaceWith(...token.childNodes);
    seen.add(kind);
}
document.querySelectorAll("pre").forEach(pre => pre.normalize());
"""
# axe compares each text with its ground, which takes it most of its time. Of
# texts that look alike on like grounds, in both modes, it is left one.
LOOKS = """
const grounds = new Map([[null, ""]]);
function ground(element) {
    if (!grounds.has(element)) {
        const its = getComputedStyle(element);
        const own = [its.backgroundColor, its.backgroundImage, its.opacity];
        const clear = own.join() === "rgba(0, 0, 0, 0),none,1";
        const below = ground(element.parentElement);
        grounds.set(element, clear ? below : `${own} on ${below}`);
    }
    return grounds.get(element);
}
window.texts ??= [...document.querySelectorAll("body, body *")]
    .filter(element => !element.closest("script, style, .katex"))
    .flatMap(element => [...element.childNodes])
    .filter(node => node.nodeType === Node.TEXT_NODE && node.data.trim())
    .map(node => ({ node, text: node.data, look: "" }));
for (const text of window.texts) {
    const its = getComputedStyle(text.node.parentElement);
    text.look += [its.color, its.fontSize, its.fontWeight, its.textShadow,
                  its.visibility, ground(text.node.parentElement)];
}
"""
THIN = """
const seen = new Set();
for (const { node, look } of window.texts) {
    if (seen.has(look)) node.data = "";
    seen.add(look);
}
"""
RESTORE = """
for (const { node, text } of window.texts) node.data = text;
delete window.texts;
"""
# A lone sign, such as a minus, is no text to axe; of text in a drawing it
# does not know the ground.
UNDECIDED = ("nonBmp", "shortTextContent", "imgNode")
# Formulas are many small parts upon one another, in the colour of the text.
TEXT = {"exclude": [[".katex"]]}
AXE = {"preload": False, "resultTypes": ["violations", "incomplete"]}


@pytest.fixture(scope="module")
def page(browser, built_site):
    """A page that cannot reach any network, for who wants no motion."""
    context = browser.new_context(
        offline=True, viewport=WIDE, reduced_motion="reduce"
    )
    page = context.new_page()
    page.complaints = complaints(page, built_site.as_uri())
    yield page
    context.close()


@pytest.fixture(scope="module", params=NAMES)
def opened(page, built_site, request):
    """Each page in turn, opened once for all tests of it."""
    return opened_in(page, built_site, request.param)


def opened_in(page, folder, name, mode="light"):
    page.complaints.clear()
    page.set_viewport_size(WIDE)
    page.goto((folder / f"{name}.html").as_uri())
    turn_to(page, mode)
    return page


def turn_to(page, mode):
    """Light or dark, as the reader's system says."""
    page.emulate_media(color_scheme=mode)
    expect(page.locator(f"html[data-theme={mode}]")).to_have_count(1)


def short(page):
    return page.url.split("/")[-1].removesuffix(".html")


def test_nothing_is_missing_and_plays_are_mounted(opened):
    waiting = opened.locator(".mamlkit-play:not([data-mounted])")
    expect(waiting).to_have_count(0)
    assert not opened.complaints, opened.complaints


def test_a_browser_that_stores_nothing_shows_plays_and_routes(
    browser, built_site
):
    context = browser.new_context(offline=True, viewport=WIDE)
    context.add_init_script(
        """Object.defineProperty(window, "localStorage",
        { get() { throw new DOMException("closed", "SecurityError"); } })"""
    )
    page = context.new_page()
    page.goto((built_site / f"{CHAPTERS[4].stem}.html").as_uri())
    expect(page.locator(".mamlkit-play[data-mounted]").first).to_be_visible()
    expect(page.locator("html[data-route=whole]")).to_have_count(1)
    page.locator("button[data-route=core]").click()
    expect(page.locator("html[data-route=core]")).to_have_count(1)
    context.close()


def contrasts(page):
    """What axe finds, and what it cannot decide, of colours in both modes."""
    for mode in ("dark", "light"):
        turn_to(page, mode)
        page.evaluate(LOOKS)
    page.evaluate(THIN)
    only, found, unsure = {"runOnly": ["color-contrast"]}, [], []
    for mode in ("light", "dark"):
        turn_to(page, mode)
        response = Axe().run(page, TEXT, AXE | only).response
        for kind, nodes in (("violations", found), ("incomplete", unsure)):
            for rule in response[kind]:
                nodes += [(mode, node) for node in rule["nodes"]]
    page.evaluate(RESTORE)
    return found, unsure


def test_accessible_and_readable(opened):
    """axe-core, whose rules include a contrast of 4.5:1."""
    opened.set_viewport_size(WIDE)
    # What is folded must be readable, too.
    opened.evaluate(UNFOLD)
    opened.evaluate(TOKENS)
    # The theme looks a third of a second later at what scrolls.
    opened.wait_for_function(REACHED)
    rest = {"rules": {"color-contrast": {"enabled": False}}}
    serious = [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in Axe().run(opened, TEXT, AXE | rest).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
    assert not serious, "\n".join(serious)
    found, unsure = contrasts(opened)
    assert not found, [(mode, node["html"][:200]) for mode, node in found]
    # What axe could not decide is no pass either.
    unsure = [
        (mode, node["html"][:200])
        for mode, node in unsure
        # Of a play, which draws on its own map, its tests ask.
        if isinstance(node["target"][0], str)
        and node["any"][0]["data"]["messageKey"] not in UNDECIDED
        # Formulas reach into the lines of text around them.
        and not opened.locator(node["target"][0]).locator(".katex").count()
    ]
    assert not unsure, unsure


@each_mode
def test_axe_sees_what_cannot_be_read(page, built_site, mode):
    opened = opened_in(page, built_site, "index")
    rule = f"html[data-theme={mode}] .promise p {{ color: #777 !important }}"
    ground = f"html[data-theme={mode}] .promise {{ background: #666 }}"
    opened.add_style_tag(content=rule + ground)
    assert {seen for seen, _ in contrasts(opened)[0]} == {mode}


def test_formulas_and_pictures_are_drawn(opened):
    drawn = opened.evaluate(
        """async () => {
        await document.fonts.ready;
        for (const i of document.images) i.loading = "eager";
        await Promise.all([...document.images].map(i => i.decode()));
        document.querySelectorAll("details").forEach(d => d.open = true);
        return [...document.querySelectorAll(".katex-html")].map(m => {
            const { width, height } = m.getBoundingClientRect();
            return [width, height, m.textContent]; }); }"""
    )
    small = [m for w, h, m in drawn if w < 4 or h < 8]
    assert not small, small
    # In KaTeX's own letters, which lie beside the page.
    if drawn:
        assert opened.evaluate('document.fonts.check("20px KaTeX_Math")')
    letters = opened.evaluate(
        "document.fonts.load(\"18px 'Source Serif 4'\").then(f => f.length)"
    )
    assert letters


def test_fits_a_phone(opened):
    opened.evaluate(UNFOLD)
    opened.set_viewport_size(PHONE)
    width = opened.evaluate("document.scrollingElement.scrollWidth")
    wide = opened.evaluate(
        """[...document.querySelectorAll("article *")]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1
            && !e.closest(".scroll, pre, .formula, svg, .katex, "
                + ".pst-scrollable-table-container"))
        .map(e => e.outerHTML.slice(0, 150))"""
    )
    assert width <= PHONE["width"], f"{width} px wide: {wide[:5]}"
    assert not wide, wide[:5]
    # Python scrolls in its frame, and what it printed is wrapped, but for
    # columns.
    wrapped = opened.evaluate(
        """[...document.querySelectorAll("article pre")]
        .filter(e => getComputedStyle(e).whiteSpace !==
                (e.closest(".cell_output") && !e.matches(".columns")
                    ? "pre-wrap" : "pre")
            || !/auto|scroll/.test(getComputedStyle(e).overflowX))
        .map(e => e.outerHTML.slice(0, 150))"""
    )
    assert not wrapped, wrapped[:3]
    bare = opened.evaluate(
        """[...document.querySelectorAll("article section > ul > li")]
        .filter(e => getComputedStyle(e).listStyleType === "none"
            || e.getBoundingClientRect().left < 20)
        .map(e => e.outerHTML.slice(0, 150))"""
    )
    assert not bare, bare[:3]
    # The theme sees to it a moment after the width has changed.
    opened.wait_for_function(
        """[...document.querySelectorAll("article pre")].every(
        e => e.tabIndex === 0 || e.scrollWidth <= e.clientWidth)"""
    )
    rules = {"type": "rule", "values": ["scrollable-region-focusable"]}
    found = Axe().run(opened, options={"preload": False, "runOnly": rules})
    assert not found.response["violations"], found.generate_report()


@each_mode
@pytest.mark.parametrize("name", ["index", *(NAMES[i] for i in (2, 6, 8, 12))])
def test_screenshots_are_kept(page, built_site, name, mode):
    opened = opened_in(page, built_site, name, mode)
    for width in (1440, 800, 390):
        opened.set_viewport_size({"width": width, "height": 950})
        keep(opened, f"site_{name[:2]}_{width}_{mode}")


def test_prose_is_neither_wide_nor_narrow(page, built_site):
    """About 65 to 75 letters in a line, as the lines on the page have."""
    opened = opened_in(page, built_site, CHAPTERS[4].stem)
    letters = opened.evaluate(
        """[...document.querySelectorAll("article section > p")].flatMap(p => {
        if (p.children.length) return [];
        const lines = {}, range = document.createRange();
        for (let i = 0; i < p.firstChild.length; i++) {
            range.setStart(p.firstChild, i); range.setEnd(p.firstChild, i + 1);
            const top = Math.round(range.getBoundingClientRect().top);
            lines[top] = (lines[top] ?? 0) + 1;
        }
        return Object.values(lines).slice(0, -1); })"""
    )
    mean = sum(letters) / len(letters)
    assert 62 <= mean <= 78, mean


def test_a_route_leads_through_its_chapters(page, built_site):
    opened = opened_in(page, built_site, CHAPTERS[0].stem)
    # All of the short route; of the whole one, as far as they differ.
    for route, total, far in (("whole", len(CHAPTERS), 3), ("core", 7, 7)):
        opened.goto((built_site / f"{CHAPTERS[0].stem}.html").as_uri())
        opened.locator(f"button[data-route={route}]").click()
        listed = opened.locator(".routes ol li:visible")
        expect(listed).to_have_count(total)
        # A browser stores the choice in its own time.
        opened.wait_for_timeout(500)
        seen = [short(opened)]
        while len(seen) < far:
            with opened.expect_navigation(wait_until="load"):
                opened.locator("a[rel=next]:visible").click()
            seen.append(short(opened))
            # The choice lasts from page to page.
            pressed = opened.locator(f"button[data-route={route}]")
            expect(pressed).to_have_attribute("aria-pressed", "true")
        assert opened.locator("a[rel=next]:visible").count() == (far < total)
        with opened.expect_navigation(wait_until="load"):
            opened.locator("a[rel=prev]:visible").click()
        assert short(opened) == seen[-2]
    opened.locator("button[data-route=whole]").click()


def test_a_route_chosen_elsewhere_arrives(page, built_site):
    """As does one that is still being stored when the next page opens."""
    first = opened_in(page, built_site, CHAPTERS[0].stem)
    second = first.context.new_page()
    second.goto((built_site / f"{CHAPTERS[1].stem}.html").as_uri())
    for route in ("core", "whole"):
        first.locator(f"button[data-route={route}]").click()
        pressed = second.locator(f"button[data-route={route}]")
        expect(pressed).to_have_attribute("aria-pressed", "true")
    second.close()


def test_words_are_found_from_a_folder(page, built_site):
    opened = opened_in(page, built_site, "search")
    opened.goto((built_site / "search.html").as_uri() + "?q=climbers")
    found = opened.locator("#search-results li a").first
    expect(found).to_have_attribute("href", re.compile("^04_"))
    expect(found).to_have_attribute("href", re.compile("#:~:text=climbers$"))
    assert not opened.complaints, opened.complaints


def test_code_is_copied_and_folds_open_by_keys(page, built_site):
    opened = opened_in(page, built_site, CHAPTERS[3].stem)
    buttons = opened.locator("article button.copybtn")
    assert buttons.count() >= opened.locator("article .cell_input pre").count()
    fold = opened.locator(".exercise details").first
    fold.locator("summary").focus()
    opened.keyboard.press("Enter")
    expect(fold.locator("p")).to_be_visible()


def test_light_and_dark_are_chosen_and_kept(page, built_site):
    opened = opened_in(page, built_site, "index")
    for mode in ("dark", "light"):
        opened.locator(".theme-switch-button:visible").click()
        opened.locator(f".theme-change-button[data-mode={mode}]").click()
        expect(opened.locator(f"html[data-theme={mode}]")).to_have_count(1)
        opened.reload()
        expect(opened.locator(f"html[data-theme={mode}]")).to_have_count(1)
    opened.evaluate("localStorage.clear()")


def test_keys_reach_code_that_a_fold_hides(page, built_site):
    opened = opened_in(page, built_site, CHAPTERS[3].stem)
    opened.set_viewport_size(PHONE)
    opened.reload()
    fold = opened.locator("details.above-input").first
    code = fold.locator("pre")
    # As in browsers that lay out nothing in a shut fold, once the theme rests.
    opened.wait_for_timeout(600)
    code.evaluate("e => { e.tabIndex = -1; }")
    fold.locator("summary").click()
    assert code.evaluate("e => e.scrollWidth > e.clientWidth")
    expect(code).to_have_attribute("tabindex", "0")


def test_paper_is_light_and_shows_what_came_out(page, built_site):
    opened = opened_in(page, built_site, CHAPTERS[3].stem, "dark")
    shut = opened.locator("details.below-input:not([open])")
    assert shut.count()
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    expect(opened.locator("html[data-theme=light]")).to_have_count(1)
    expect(shut).to_have_count(0)
    opened.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(opened.locator("html[data-theme=dark]")).to_have_count(1)


def test_the_first_page_leads_to_the_search(page, built_site):
    opened = opened_in(page, built_site, "index")
    opened.locator(".calls").get_by_role("button", name="Search").click()
    expect(opened.locator("#pst-search-dialog input:visible")).to_be_focused()
    opened.keyboard.press("Escape")


def test_excerpts_of_the_search_are_text(page, built_site):
    opened = opened_in(page, built_site, CHAPTERS[4].stem)
    excerpt = opened.evaluate(
        """Search.makeSearchSummary(
        document.documentElement.outerHTML, ["differentiate"], "")
        .textContent"""
    )
    assert excerpt.startswith("Differentiate through learning")
    heading = opened.locator("article section section[id]").first
    place = f"#{heading.get_attribute('id')}"
    words = opened.evaluate(
        """place => Search.htmlToText(
        document.documentElement.outerHTML, place)""",
        place,
    )
    assert words.startswith(heading.locator("h2").inner_text().rstrip("#"))


# On a phone ------------------------------------------------------------------


@pytest.fixture(scope="module")
def phone(browser, built_site):
    """A page that is touched, and over which nothing hovers."""
    context = browser.new_context(
        offline=True,
        viewport=PHONE,
        has_touch=True,
        is_mobile=True,
        reduced_motion="reduce",
    )
    page = context.new_page()
    page.complaints = complaints(page, built_site.as_uri())
    page.goto((built_site / f"{CHAPTERS[5].stem}.html").as_uri())
    assert page.evaluate("matchMedia('(hover: none)').matches")
    yield page
    context.close()


def touched_in(phone, folder, name):
    phone.complaints.clear()
    phone.set_viewport_size(PHONE)
    phone.goto((folder / f"{name}.html").as_uri())
    return phone


@pytest.mark.parametrize("name", ["index", "search", NAMES[7], NAMES[-1]])
def test_menus_open_and_close_by_touch(phone, built_site, name):
    opened = touched_in(phone, built_site, name)
    for which, beside in (("primary", (380, 600)), ("secondary", (10, 600))):
        button = opened.locator(f".{which}-toggle:visible")
        drawer = opened.locator(f"#pst-{which}-sidebar-modal")
        if which == "secondary" and not drawer.count():
            expect(button).to_have_count(0)  # it would open nothing
            continue
        expect(drawer).to_be_hidden()
        button.tap()
        expect(drawer).to_be_visible()
        expect(opened.locator(".tooltip:visible")).to_have_count(0)
        opened.touchscreen.tap(*beside)
        expect(drawer).to_be_hidden()
    assert not opened.complaints, opened.complaints


def test_menus_lead_to_chapters_and_to_places(phone, built_site):
    opened = touched_in(phone, built_site, CHAPTERS[5].stem)
    opened.locator(".secondary-toggle:visible").tap()
    drawer = opened.locator("#pst-secondary-sidebar-modal")
    place = drawer.locator("a").nth(1)
    wanted = place.get_attribute("href")
    place.tap()
    expect(drawer).to_be_hidden()
    expect(opened).to_have_url(re.compile(re.escape(wanted) + "$"))
    opened.locator(".primary-toggle:visible").tap()
    drawer = opened.locator("#pst-primary-sidebar-modal")
    drawer.locator(f"a[href='{CHAPTERS[7].name[:-6]}.html']").tap()
    expect(opened).to_have_url(re.compile(CHAPTERS[7].stem))


@pytest.mark.parametrize("name", ["index", NAMES[2], NAMES[7], NAMES[10]])
def test_fingers_hit_what_they_mean(phone, built_site, name):
    opened = touched_in(phone, built_site, name)
    opened.evaluate(UNFOLD)
    opened.locator(".theme-switch-button:visible").tap()
    small = opened.evaluate(
        """[...document.querySelectorAll("summary, button, input, "
            + ".chapter-numbers a, .turn a, .above-title a, .calls a")]
        .filter(e => !e.closest(".mamlkit-play"))
        .map(e => [e.getBoundingClientRect(), e.outerHTML.slice(0, 120)])
        .filter(([{ width, height }]) => width && height < 44)
        .map(([{ width, height }, html]) => `${width}x${height}: ${html}`)"""
    )
    assert not small, "\n".join(small)
    bars = opened.evaluate(
        """[...document.querySelectorAll("button.copybtn")]
        .filter(e => getComputedStyle(e).opacity !== "1").length"""
    )
    assert bars == 0


def test_a_picture_opens_larger_on_a_phone(phone, built_site):
    opened = touched_in(phone, built_site, CHAPTERS[4].stem)
    # A play folds the picture beside it, which has no caption.
    picture = opened.locator("article .figure:has(figcaption) a:visible")
    picture.first.tap()
    box = opened.get_by_role("dialog", name="Larger picture")
    assert box.locator("img").bounding_box()["width"] == 2 * PHONE["width"]
    assert box.locator("img").get_attribute("alt")
    box.get_by_role("button", name="Close").tap()
    expect(box).to_have_count(0)
    assert not opened.complaints, opened.complaints


def test_printed_columns_are_not_torn(phone, built_site):
    opened = touched_in(phone, built_site, CHAPTERS[4].stem)
    table = opened.locator(".cell_output pre", has_text="by hand factors")
    lines = len(table.text_content().strip().splitlines())
    height = table.evaluate("e => parseFloat(getComputedStyle(e).lineHeight)")
    assert table.bounding_box()["height"] < (lines + 1.5) * height


def test_your_own_score_stands_beneath_the_others(phone, built_site):
    opened = touched_in(phone, built_site, CHAPTERS[0].stem)
    games = {"games": [{"right": [True] * 7 + [False] * 3, "seconds": [1]}]}
    kept = "games => localStorage.setItem('mamlkit-score', games)"
    opened.evaluate(kept, json.dumps(games))
    caption = opened.locator("figcaption", has_text="Your score")
    caption.scroll_into_view_if_needed()
    expect(caption).to_contain_text("You: 7 of 10.")
    opened.evaluate("localStorage.clear()")
    opened.reload()
    caption.scroll_into_view_if_needed()
    expect(caption.locator("output")).to_have_text("")


def test_the_menu_of_themes_shuts_after_a_choice(phone, built_site):
    opened = touched_in(phone, built_site, "index")
    choice = opened.locator(".theme-change-button[data-mode=dark]")
    opened.locator(".theme-switch-button:visible").tap()
    choice.tap()
    expect(choice).to_be_hidden()
    opened.evaluate("localStorage.clear()")


def test_printed_lines_wrap_and_units_stay(phone, built_site):
    opened = touched_in(phone, built_site, CHAPTERS[13].stem)
    opened.evaluate(UNFOLD)
    # Lines of columns would lose their columns, so these scroll.
    outputs = opened.locator("article .cell_output pre:not(.columns)")
    assert outputs.count()
    wide = "all => all.filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert outputs.evaluate_all(wide) == 0
    told = opened.locator("article :not(:is(pre, code, script)) > p, td")
    assert not re.search(r"\d %", "".join(told.all_inner_texts()))


def test_the_core_route_is_offered_where_it_turns_off(phone, built_site):
    opened = touched_in(phone, built_site, CHAPTERS[0].stem)
    opened.evaluate("localStorage.clear()")
    opened.reload()
    opened.locator(".turn a[data-route]:visible").tap()
    expect(opened).to_have_url(re.compile(CHAPTERS[3].stem))
    expect(opened.locator("html[data-route=core]")).to_have_count(1)
    opened.evaluate("localStorage.clear()")


def test_what_goes_on_fades_at_that_edge(phone, built_site):
    opened = touched_in(phone, built_site, CHAPTERS[4].stem)
    opened.evaluate(UNFOLD)
    right = """[...document.querySelectorAll("article :is(pre, .formula)")]
        .every(e => e.matches(".goes-on.right")
            === (e.scrollWidth > e.clientWidth + 1))"""
    opened.wait_for_function(right)
    fades = "e => getComputedStyle(e).maskImage"
    wide = opened.locator("article pre.goes-on").first.element_handle()
    assert "gradient" in wide.evaluate(fades)
    wide.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
    opened.wait_for_function("e => e.matches('.left:not(.right)')", arg=wide)
    wide.evaluate("e => { e.scrollLeft = 0; }")
    opened.set_viewport_size({"width": 1440, "height": 900})
    opened.wait_for_function(right)
    fits = opened.locator("article pre:not(.goes-on)").first
    assert fits.evaluate(fades) == "none"


@each_mode
def test_a_wrong_address_can_be_read(page, built_site, mode):
    page.emulate_media(color_scheme=mode)
    page.complaints.clear()
    page.set_viewport_size(PHONE)
    page.goto((built_site / "404.html").as_uri())
    expect(page.locator(f"html[data-theme={mode}]")).to_have_count(1)
    found = Axe().run(page, options=AXE).response["violations"]
    assert not found, [rule["id"] for rule in found]
    assert page.evaluate("document.scrollingElement.scrollWidth") <= 390
    assert not page.complaints, page.complaints


def test_a_wrong_address_leads_home_from_any_depth(browser, built_site):
    """As a host serves the site, from a folder of its own."""
    context = browser.new_context()
    page = context.new_page()
    home = "http://course.test/some/where/"

    def answer(route):
        name = route.request.url.removeprefix(home)
        path = built_site / name
        if route.request.url.startswith(home) and path.is_file():
            route.fulfill(path=path)
        else:
            route.fulfill(path=built_site / "404.html", status=404)

    context.route("**/*", answer)
    for depth in ("gone.html", "a/b/gone.html"):
        page.goto(home + depth)
        link = page.get_by_role("link", name="Its first page")
        page.wait_for_function(
            "home => document.links[0].href === home", arg=f"{home}index.html"
        )
        assert link.evaluate("e => e.href") == f"{home}index.html"
        link.click()
        expect(page).to_have_url(f"{home}index.html")
    context.close()


def place_of_theta(page):
    theta = page.locator(".hero .theta")
    return [float(theta.get_attribute(side)) for side in ("cx", "cy")]


def test_the_walk_stands_still_unless_asked(page, built_site):
    opened = opened_in(page, built_site, "index")
    end = place_of_theta(opened)
    opened.wait_for_timeout(300)
    assert place_of_theta(opened) == end
    slider = opened.get_by_role("slider", name="meta-iteration")
    slider.focus()
    opened.keyboard.press("Home")
    assert place_of_theta(opened) != end
    expect(opened.locator(".hero output")).to_have_text("0")
    start = float(opened.locator(".hero .loss").inner_text())
    opened.keyboard.press("End")
    assert float(opened.locator(".hero .loss").inner_text()) < start / 3
    opened.get_by_role("button", name="Play the walk").click()
    opened.wait_for_timeout(300)
    opened.get_by_role("button", name="Pause the walk").click()
    halfway = place_of_theta(opened)
    assert halfway != end
    opened.wait_for_timeout(200)
    assert place_of_theta(opened) == halfway


def test_the_walk_begins_where_motion_is_welcome(browser, built_site):
    context = browser.new_context(
        viewport=WIDE, offline=True, reduced_motion="no-preference"
    )
    page = context.new_page()
    page.goto((built_site / "index.html").as_uri())
    early = place_of_theta(page)
    page.wait_for_timeout(500)
    assert place_of_theta(page) != early
    context.close()


def test_everything_can_be_read_without_a_script(browser, built_site):
    context = browser.new_context(java_script_enabled=False, viewport=WIDE)
    page = context.new_page()
    page.goto((built_site / f"{CHAPTERS[4].stem}.html").as_uri())
    assert page.locator(".routes ol li:visible").count() == len(CHAPTERS)
    assert page.locator(".route-choice:visible").count() == 0
    assert page.locator("a[rel=next]:visible").count() == 1
    page.goto((built_site / "index.html").as_uri())
    assert page.locator(".hero .walk").get_attribute("d").count(",") > 50
    context.close()


STAGE = "export const shout = (text) => `${text}!`;\n"
PLAY = """
import { shout } from "./stage.js";
function render({ model, el }) {
  el.replaceChildren();
  const button = el.appendChild(document.createElement("button"));
  const tell = () => { button.textContent = shout(model.get("n")); };
  model.on("change:n", tell);
  button.onclick = () => { model.set("n", model.get("n") + 1);
    model.save_changes(); };
  tell();
}
export default { render };
"""


@pytest.fixture
def page_with(page, built_site, tmp_path):
    """A function that opens a chapter after adding HTML to its first cell."""
    folder = tmp_path / "site"
    shutil.copytree(
        built_site, folder, ignore=shutil.ignore_patterns("*.ipynb")
    )
    chapter = folder / f"{CHAPTERS[3].stem}.html"
    text, cell = chapter.read_text(), '<div class="cell '

    def open_with(html, files):
        for name, content in files.items():
            (folder / name).write_bytes(content)
        chapter.write_text(text.replace(cell, f"{html}{cell}", 1))
        page.complaints.clear()
        page.set_viewport_size(WIDE)
        page.goto(chapter.as_uri())
        return page

    return open_with


def test_a_play_is_mounted_from_a_folder(page_with):
    """Scripts travel as text: a browser loads no module from a folder."""
    scripts = json.dumps({"stage.js": STAGE, "toy.js": PLAY})
    held = f"window.mamlkitPlays = {scripts};".encode()
    opened = page_with(
        '<div class="mamlkit-play" data-play="toy" '
        'data-state="{&quot;n&quot;: 1}"><p>A still picture.</p></div>',
        {"plays/plays.js": held},
    )
    button = opened.locator(".mamlkit-play[data-play=toy] button")
    expect(button).to_have_text("1!")
    button.click()
    expect(button).to_have_text("2!")


def test_what_the_plays_store_lives_on_a_page(page_with):
    nb = new_notebook()
    for call in CALLS.values():
        cell = new_code_cell("")
        cell.outputs = [
            new_output("display_data", data, metadata=meta)
            for data, meta in shown(call)
        ]
        nb.cells.append(cell)
    files = make_page(nb, "03", str)
    # As myst-nb lays them out.
    html = "".join(
        '<div class="cell"><div class="cell_output">'
        + "".join(
            f'<div class="output text_html">{output.data["text/html"]}</div>'
            for output in cell.outputs
        )
        + "</div></div>"
        for cell in nb.cells
    )
    opened = page_with(html, files)
    for name in {script_of(name) for name in CALLS}:
        play = opened.locator(f".mamlkit-play[data-play={name}]")
        expect(play.locator("button").first).to_be_visible()
        # Its picture waits beneath it.
        still = opened.locator(
            f".output:has([data-play={name}]) + details.still"
        ).first
        expect(still.locator("img")).to_be_hidden()
        still.locator("summary").click()
        expect(still.locator("img")).to_be_visible()
    # This folder is not the one that the page was told of.
    wrong = [w for w in opened.complaints if "request to file:" not in w]
    assert not wrong, wrong
