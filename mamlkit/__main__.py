"""The command `mamlkit`: run, render and read the course.

Every mistake in its arguments is one line and exit code 2, before anything
runs. Heavy imports wait until a command needs them.
"""

import os
import sys
from argparse import REMAINDER, ArgumentParser, Namespace
from importlib import import_module
from io import TextIOWrapper
from json import JSONDecodeError
from pathlib import Path

from mamlkit import __version__

# What brings a module that is not installed; the others come with the course.
EXTRAS = {
    "gymnasium": "rl",
    "higher": "bench",
    "imageio": "mujoco",
    "mujoco": "mujoco",
}


class _Parser(ArgumentParser):
    def error(self, message: str):
        self.exit(2, f"mamlkit: {message}\n")

    def parse_args(self, args=None, namespace=None):
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            message = f"unrecognized arguments: {' '.join(unknown)}"
            if getattr(known, "command", None) is _lab:
                message += (
                    " (lab opens one chapter; what is for JupyterLab follows "
                    "--, as in mamlkit lab -- --no-browser)"
                )
            if getattr(known, "command", None) is _reproduce:
                message += " (an experiment's options follow its name)"
            self.error(message)
        return known


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: arguments; by default those of the process.

    Returns:
        exit code: 0 when all is well, 1 when a chapter or a claim failed,
        2 for a mistake in the arguments or a package that is missing, 130
        when interrupted, 141 when nobody reads the output any more.
    """
    for stream in (sys.stdout, sys.stderr):
        # A console that cannot write a character shows its number.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    split = argv.index("--") if "--" in argv and argv[0] == "lab" else None
    args = _parser().parse_args(argv[:split])
    args.for_jupyter = [] if split is None else argv[split + 1 :]
    try:
        if args.reads_chapters:
            _in_a_checkout("chapters are not part of it")
        code = args.command(args) or 0
        if sys.stdout:  # there is none where it was closed from the start
            sys.stdout.flush()
        return code
    except (JSONDecodeError, UnicodeError):
        raise  # not what was asked for is wrong, but a file of ours
    except ValueError as fault:
        print(f"mamlkit: {fault}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as missing:
        if not missing.name or missing.name.startswith("mamlkit"):
            raise  # a mistake of ours
        extra = EXTRAS.get(missing.name, "course")
        print(
            f"mamlkit: this needs {missing.name}: "
            f"pip install 'mamlkit[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        # Who read along has seen enough, as `head` has. What is left to write
        # goes nowhere, or Python would complain at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as fault:
        what = fault.strerror or str(fault)
        where = f": {fault.filename}" if fault.filename else ""
        print(f"mamlkit: {what}{where}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mamlkit: interrupted", file=sys.stderr)
        return 130


def _parser() -> ArgumentParser:
    from mamlkit.reproduce import EXPERIMENTS

    parser = _Parser(prog="mamlkit", description="The mamlkit course.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name, command, help_, *, chapters=None):
        sub = commands.add_parser(name, help=help_, description=help_)
        reads_chapters = command in (_run, _lab, _render, _html, _claims)
        sub.set_defaults(command=command, reads_chapters=reads_chapters)
        if chapters:
            sub.add_argument(
                "chapters",
                nargs=chapters,
                metavar="CHAPTER",
                help="its number, name or path",
            )
        return sub

    run = add("run", _run, "execute chapters and report", chapters="*")
    run.add_argument(
        "--scale",
        default="laptop",
        help="ci: seconds a chapter; laptop, the default: a minute or two; "
        "paper: longer",
    )
    run.add_argument("--seed", type=int, default=0, help="0 by default")
    run.add_argument(
        "-p",
        dest="parameters",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="set a parameter that the chapters declare",
    )
    run.add_argument(
        "--out",
        type=Path,
        help="folder for what was executed; by default build/ in the checkout",
    )
    lab = add(
        "lab",
        _lab,
        "open your copy of a chapter; what follows -- goes to JupyterLab, as "
        "in `mamlkit lab -- --no-browser`",
        chapters="?",
    )
    lab.add_argument(
        "--folder",
        type=_folder,
        help="of your copies; by default mamlkit-course in your home folder",
    )
    progress = add("progress", _progress, "show which exercises are done")
    progress.add_argument(
        "--folder", type=_folder, help="of your copies, as for `mamlkit lab`"
    )
    add("doctor", _doctor, "say what a report of a problem needs")
    render = add(
        "render",
        _render,
        "run chapters and store their outputs in notebooks/, over the old",
        chapters="*",
    )
    render.add_argument(
        "--stale",
        action="store_true",
        help="run nothing: list chapters whose helper code changed since, and "
        "which functions; exit code 1 if there are any",
    )
    html = add("html", _html, "write the course as a site to build/html/")
    html.add_argument(
        "--repository",
        metavar="URL",
        help="where readers find the course; by default what pyproject.toml "
        "has as project.urls.Repository",
    )
    add("claims", _claims, "judge all claims with seeds 0 to 4", chapters="*")
    fetch = add("fetch", _fetch, "download and verify a data set")
    fetch.add_argument("name", choices=["omniglot"])
    fetch.add_argument(
        "--from", dest="source", type=Path, help="folder that has the archives"
    )
    reproduce = add("reproduce", _reproduce, "run a paper-scale experiment")
    reproduce.add_argument("name", metavar="NAME", help=", ".join(EXPERIMENTS))
    reproduce.add_argument("rest", nargs=REMAINDER, metavar="...")
    return parser


def _folder(name: str) -> Path:
    # In --folder=~/x the shell leaves ~ alone.
    try:
        return Path(name).expanduser()
    except RuntimeError:  # nobody of that name has a home
        return Path(name)


def _in_a_checkout(why: str) -> None:
    from mamlkit.paths import CHECKOUT

    if not CHECKOUT:
        raise ValueError(
            f"this is an installed package, and {why}: clone the project"
        )


def _run(args: Namespace) -> int:
    from mamlkit.course.chapters import find_chapters
    from mamlkit.publish import report, runner

    chapters = find_chapters(args.chapters)
    outcomes = runner.run(
        chapters,
        scale=args.scale,
        seed=args.seed,
        parameters=runner.parse_parameters(args.parameters),
        out=args.out,
    )
    return int(report.failed(outcomes))


def _lab(args: Namespace) -> int:
    from mamlkit.publish import lab

    names = [args.chapters] if args.chapters else []
    return lab.open_lab(names, args.folder, args.for_jupyter)


def _progress(args: Namespace) -> None:
    from mamlkit.exercises import progress, progress_table
    from mamlkit.paths import NOTEBOOKS
    from mamlkit.publish.lab import FOLDER

    if args.folder and not args.folder.is_dir():
        raise ValueError(f"no such folder: {args.folder}")
    usual = [Path.cwd(), FOLDER, NOTEBOOKS]
    found = progress.find_progress([args.folder] if args.folder else usual)
    print(progress_table(progress.together(found)))
    print("\n".join(f"Remembered in {p}." for p in found) or "Nothing so far.")


def _doctor(_args: Namespace) -> int:
    from mamlkit.publish import doctor

    return int(not doctor.report())


def _render(args: Namespace) -> int:
    from mamlkit.course.chapters import find_chapters
    from mamlkit.publish import render

    chapters = find_chapters(args.chapters)
    if args.stale:
        lines = render.stale(chapters)
        print("\n".join(lines) or "No helper code changed.")
        return int(bool(lines))
    render.render(chapters)
    return 0


def _html(args: Namespace) -> None:
    from mamlkit.course.chapters import find_chapters
    from mamlkit.publish import site

    repository = args.repository or site.repository_address()
    print(site.build(find_chapters(), repository=repository))


def _claims(args: Namespace) -> int:
    from mamlkit.course.chapters import find_chapters
    from mamlkit.publish import verdicts

    return verdicts.judge(find_chapters(args.chapters))


def _fetch(args: Namespace) -> None:
    from mamlkit.datasets import omniglot

    print(omniglot.fetch(args.source))


def _reproduce(args: Namespace) -> None:
    from mamlkit.reproduce import EXPERIMENTS

    if args.name not in EXPERIMENTS:
        known = ", ".join(EXPERIMENTS)
        raise ValueError(f"no experiment {args.name!r}: there are {known}")
    module = import_module(f"mamlkit.reproduce.{args.name}")
    parser = _Parser(
        prog=f"mamlkit reproduce {args.name}",
        description=(module.__doc__ or "").split("\n")[0],
    )
    parser.add_argument("--seed", type=int, default=0)
    module.arguments(parser)
    flags = parser.parse_args(args.rest)
    _in_a_checkout("experiments write to data/ of a checkout")
    module.run(flags)


if __name__ == "__main__":
    sys.exit(main())
