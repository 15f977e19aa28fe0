"""The reference: every public name, from its docstring."""

import inspect
import re
import sys
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType

from nbformat import NotebookNode
from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer

ROOMS = {
    "mamlkit": "The algorithm",
    "mamlkit.baselines": "What a meta-learner has to beat",
    "mamlkit.rules": "Inner steps that are not plain gradient descent",
    "mamlkit.rl": "Reinforcement learning",
    "mamlkit.course": "What chapters import",
}


def reference(room: str, built_in: dict[str, str]) -> str:
    """Write a room's page in reStructuredText.

    Args:
        room: the module whose `__all__` is public.
        built_in: names of functions that a chapter builds -> its page and
            cell, as "04_differentiate#cell".

    Raises:
        ValueError: a public name does not exist or has no docstring.
    """
    module = import_module(room)
    title = f"``{room}``: {ROOMS[room][0].lower()}{ROOMS[room][1:]}"
    lines = [title, "=" * len(title), ""]
    lines += [*map(in_rst, inspect.getdoc(module).split("\n")), ""]
    by_home: dict[str, list[str]] = {}
    for name in module.__all__:
        by_home.setdefault(_home(module, name), []).append(name)
    for home in sorted(by_home):
        headline = inspect.getdoc(import_module(home)).split("\n\n")[0]
        lines += [f"``{home}``", "-" * (len(home) + 4), ""]
        lines += [*map(in_rst, headline.split("\n")), ""]
        for name in sorted(by_home[home], key=partial(_place, module)):
            lines += _entry(module, home, name)
            if name in built_in:
                page = built_in[name]
                lines += [
                    f"   Built in `chapter {page[:2]} <{page}>`__.",
                    "",
                ]
    return "\n".join(lines)


def built_by_chapters(notebooks: dict[str, NotebookNode]) -> dict[str, str]:
    """Map each function of a `copy-me` cell to the page that builds it.

    Args:
        notebooks: by file stem.
    """
    found = {}
    for name, nb in notebooks.items():
        for cell in nb.cells:
            if "copy-me" in cell.metadata.get("tags", []):
                defined = re.findall(
                    r"^(?:def|class) (\w+)", cell.source, re.M
                )
                found |= {what: f"{name}.html" for what in defined}
    return found


def in_rst(line: str) -> str:
    """Keep signs of plain English from being read as reStructuredText.

    Docstrings mark code by backticks and nothing else.
    """
    if re.match(r"\s*(>>>|\.\.\.)", line):
        return line
    # Code, and what napoleon wrote, stay as they are.
    parts = re.split(r"(``.*?``|`.*?`|:\w+ [^:]*:)", line)
    for at, part in enumerate(parts[::2]):
        part = re.sub(r"(?<!\\)([*|])", r"\\\1", part)
        # The plural of `code`: markup must end before a letter.
        if at and part[:1].isalnum() and parts[2 * at - 1][0] == "`":
            part = f"\\ {part}"
        parts[2 * at] = part
    return "".join(parts)


def _place(room: ModuleType, name: str) -> tuple[bool, str]:
    """Put a module before its functions, and those by the alphabet.

    From its source, Sphinx leads back to where it first met the module.
    """
    return not inspect.ismodule(getattr(room, name)), name.lower()


def _home(room: ModuleType, name: str) -> str:
    """Find the module that defines a public name."""
    try:
        value = getattr(room, name)
    except AttributeError:
        raise ValueError(
            f"{room.__name__}.__all__ has {name!r}, which does not exist"
        ) from None
    if isinstance(value, ModuleType):
        return value.__name__
    if inspect.isclass(value) or inspect.isroutine(value):
        return value.__module__
    return _home_of_constant(room, name, value)


def _home_of_constant(room: ModuleType, name: str, value: object) -> str:
    """Find where a constant is assigned below a comment that begins #: ."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__name__", "")
        if path.startswith("mamlkit") and vars(module).get(name) is value:
            try:
                docs = ModuleAnalyzer.for_module(path).find_attr_docs()
            except PycodeError:
                continue
            if ("", name) in docs:
                return path
    raise ValueError(
        f"{room.__name__}.{name} is public and not documented: write a "
        "comment that begins with #: above it"
    )


def _entry(room: ModuleType, home: str, name: str) -> list[str]:
    value = getattr(room, name)
    if isinstance(value, ModuleType):
        return [f".. automodule:: {home}", "   :members:", ""]
    documented = inspect.isclass(value) or inspect.isroutine(value)
    if documented and not (value.__doc__ or "").strip():
        raise ValueError(
            f"{room.__name__}.{name} is public and has no docstring"
        )
    if not documented:
        hidden = ["   :no-value:"] if isinstance(value, Path) else []
        return [f".. autodata:: {home}.{name}", *hidden, ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {room.__name__}.{name}", ""]
    methods = [
        key
        for key, member in vars(value).items()
        if inspect.isroutine(member) and key[0] != "_" and member.__doc__
    ]
    lines = [f".. autoclass:: {room.__name__}.{name}"]
    if methods:
        lines.append(f"   :members: {', '.join(methods)}")
    return [*lines, ""]
