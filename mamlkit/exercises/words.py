"""What a message says of a case, and of an error in the learner's code."""

import inspect
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

from mamlkit.exercises.compare import Wrong

LONGEST = 300  # characters of all arguments together

# Parts of errors that learners meet, and what to say instead.
REMEDIES = (
    (
        "does not require grad",
        "what you differentiate does not require grad. Use torch.func.grad, "
        "which needs none",
    ),
    (
        "functorch transform",
        "requires_grad_ within torch.func. Use torch.func.grad, which needs "
        "none of it",
    ),
    (
        "non-leaf",
        "an optimiser's steps cannot be differentiated. Use torch.func.grad",
    ),
)


def about(thing: object) -> str:
    """What the first line of a docstring says, as part of a sentence."""
    line = (thing.__doc__ or "").strip().split("\n")[0].rstrip(".")
    return line[:1].lower() + line[1:]


def told(names: Sequence[str], args: Sequence) -> str:
    """Write a case's arguments as the beginning of a sentence."""
    parts = [describe(name, arg) for name, arg in zip(names, args)]
    text = ", ".join(filter(None, parts))
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit(", ", 1)[0] + ", ..."
    return f"With {text}" if text else ""


def describe(name: str, value: object) -> str:
    """Write an argument small, or "" for what has no small form."""
    if isinstance(value, bool | int | str):
        return f"{name} = {value}"
    if isinstance(value, float):
        return f"{name} = {value:.4g}"
    if isinstance(value, Tensor):
        if value.numel() > 6 or 0 in value.shape:
            return f"{name} of shape {tuple(value.shape)}"
        return f"{name} = {_listed(value.tolist())}"
    fields = getattr(value, "_fields", ())
    if isinstance(value, dict) or fields:
        items = value.items() if not fields else zip(fields, value)
        lead = f"{name}." if fields else ""
        parts = [describe(f"{lead}{key}", item) for key, item in items]
        inner = ", ".join(filter(None, parts))
        return inner if fields or not inner else f"{name} {{{inner}}}"
    if isinstance(value, list | tuple):
        return f"{len(value)} {name}"
    if not inspect.isfunction(value) and not inspect.isclass(value):
        return ""
    return f"{name}: {about(value)}" if 0 < len(about(value)) < 80 else ""


def _listed(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_listed, value))}]"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


@contextmanager
def their_errors(
    fn: Callable,
    case: str = "",
    remedies: Sequence[tuple[str, str]] = (),
    *,
    lead: str = "It",
) -> Iterator[None]:
    """Turn an error in the learner's code into `Wrong`, with their line.

    Args:
        fn: the learner's function.
        case: on what it was called, "With lr = 0.1".
        remedies: (part of an error's text, what to say instead).
        lead: how the message begins, up to "raised".

    Raises:
        NotImplementedError: `fn` is still the stub.
    """
    try:
        yield
    except Wrong:
        raise
    except Exception as error:
        # PyTorch raises it, too, and then says something.
        if isinstance(error, NotImplementedError) and not str(error):
            raise
        text = str(error).strip().split("\n")[0]
        for part, instead in remedies or REMEDIES:
            if part in str(error):
                text = instead
                break
        said = f"{lead} raised {type(error).__name__}: {text.rstrip('.')}"
        said += _their_line(error, fn)
        raise Wrong(f"{said}. {case}." if case else f"{said}.") from error


def _their_line(error: Exception, fn: Callable) -> str:
    """The last line of the learner's own code that the error went through."""
    space = getattr(fn, "__globals__", None)
    walk = traceback.walk_tb(error.__traceback__)
    own = [
        at for at, (frame, _) in enumerate(walk) if frame.f_globals is space
    ]
    if not own:
        return ""
    line = traceback.extract_tb(error.__traceback__)[own[-1]]
    source = f", `{line.line}`" if line.line else ""
    return f" (your line {line.lineno}{source})"
