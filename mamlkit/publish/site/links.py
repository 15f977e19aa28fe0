"""Links of the site: each leads to a file, and to a place in it."""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """Collect what a page links to, loads, and can be linked to."""

    def __init__(self, html: str):
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        named = dict(attrs)
        self.anchors |= {named[k] for k in ("id", "name") if named.get(k)}
        self.targets += [named[k] for k in ("href", "src") if named.get(k)]


def dead(folder: Path) -> list[str]:
    """List the links of a site that lead nowhere within it.

    Args:
        folder: of the site; all pages in it are read.

    Returns:
        "page -> target" for each file or anchor that does not exist, and for
        each file that a page would load from elsewhere.
    """
    pages = {
        path: _Page(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob("*.html"))
    }
    found = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                continue
            there = path
            if parts.path:
                there = (path.parent / unquote(parts.path)).resolve()
            anchor = unquote(parts.fragment)
            alive = there.is_file()
            if alive and anchor and there in pages:
                alive = anchor in pages[there].anchors
            if not alive:
                found.append(f"{path.relative_to(folder)} -> {target}")
    return found
