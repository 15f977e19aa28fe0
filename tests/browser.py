"""A headless Chromium, driven by Playwright, and what a page complained of."""

import os
import shutil
from contextlib import contextmanager

from playwright.sync_api import Page, expect, sync_playwright

from mamlkit.paths import BUILD

SCREENSHOTS = BUILD / "screenshots"
PICTURES = "PICTURES" in os.environ
# The shell draws the same pages without the window's processes, for a tenth
# to a fifth less of the processor.
NAMES = (
    "chromium-headless-shell",
    "google-chrome",
    "chromium",
    "chromium-browser",
)
# Where macOS and Windows have them.
PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "C:/Program Files/Google/Chrome/Application/chrome.exe",
)
MISSING = (
    "no Chromium or Google Chrome found, which the browser tests drive: "
    "`apt-get install chromium-headless-shell`, "
    "`brew install --cask chromium`, or "
    "google.com/chrome"
)
SECONDS = 60  # that one event may take on a busy machine

expect.set_options(timeout=SECONDS * 1000)


def find_browser() -> str | None:
    """Find an installed browser; nothing is ever downloaded."""
    return next(filter(None, map(shutil.which, NAMES + PATHS)), None)


@contextmanager
def chromium(path: str):
    with sync_playwright() as playwright:
        # Playwright leaves Chromium's sandbox off, which root needs.
        # Without a graphics card, the emulation of one is slower than none.
        browser = playwright.chromium.launch(
            executable_path=path, args=["--disable-gpu"]
        )
        yield browser
        browser.close()


def complaints(page: Page, home: str) -> list[str]:
    """Collect, from now on, what goes wrong in a page.

    Args:
        page: to be watched.
        home: how the address of every request must start.

    Returns:
        a list that grows: errors and warnings of the console, exceptions,
        failed and foreign requests.
    """
    found = []

    def on_console(message):
        if message.type in ("error", "warning"):
            found.append(f"console {message.type}: {message.text}")

    def on_request(request):
        if not request.url.startswith((home, "data:", "blob:")):
            found.append(f"request to {request.url}")

    def on_response(response):
        if response.status >= 400:
            found.append(f"status {response.status}: {response.url}")

    page.on("console", on_console)
    page.on("pageerror", lambda error: found.append(f"exception: {error}"))
    page.on("request", on_request)
    page.on("response", on_response)
    return found


def keep(page: Page, name: str, whole: bool = False) -> None:
    """Store a screenshot of what the page shows, or of the whole page.

    Only where somebody will look at it: pictures take minutes.
    """
    if PICTURES:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        page.screenshot(path=path, full_page=whole)
