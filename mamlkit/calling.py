"""A model called with parameters of one's choice, and left as it was.

PyTorch's `functional_call` swaps the parameters in and out. Three things are
added to it: a module or weight that has two names gets the new tensor in every
place and its own back; several inputs become arguments; and what a forward
pass leaves in the model, which would carry one task over into the next, is
taken out again, with a warning where it was written over something.
"""

import warnings
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, func, nn

from mamlkit import checks, inputs

KNOWN = ("torch.nn.modules.", "mamlkit.models")
LOOP = (
    "mamlkit: vmap cannot batch this: take one after the other, which "
    'over_tasks="loop" does with tasks.'
)
# Whose contents are put back, if there are no more than so many.
CONTAINERS = (list, dict, set, deque, OrderedDict, defaultdict)
LONG = 1_000
WRITES = "would mutate a captured Tensor"  # in PyTorch's own refusal


class Undone(UserWarning):
    """A forward pass changed the model, which was put back."""


class Places(NamedTuple):
    """Where a model keeps its tensors; looked up once by `places`.

    Attributes:
        names: of a tensor with several names, each with all its places.
        buffers: the dict that holds each tensor which is no parameter, and
            its name there.
        attributes: of modules that may set some in their forward pass.
        kept: what buffers held when last looked at: tensor, version, copy.
    """

    names: dict[str, tuple[str, ...]]
    buffers: dict[str, tuple[dict, str]]
    attributes: list[dict]
    kept: dict[str, tuple[Tensor, int, Tensor]]


def places(model: nn.Module) -> Places:
    """Look up where a model keeps its tensors."""
    slots: dict[int, dict[tuple[int, str], str]] = {}
    names: dict[int, list[str]] = {}
    for name, module, leaf, tensor in _members(model):
        # A module under two names is one place: the first name will do.
        slot = id(module), leaf
        slots.setdefault(id(tensor), {}).setdefault(slot, name)
        names.setdefault(id(tensor), []).append(name)
    several = {
        name: tuple(slots[tensor].values())
        for tensor, found in names.items()
        if len(found) > 1
        for name in found
    }
    buffers, attributes = {}, []
    for prefix, module in model.named_modules():
        plain = vars(module)
        for held in (module._buffers, plain):
            for leaf, tensor in held.items():
                if isinstance(tensor, Tensor):
                    buffers[f"{prefix}.{leaf}".removeprefix(".")] = held, leaf
        if _may_set_attributes(module):
            attributes.append(plain)
    return Places(several, buffers, attributes, {})


def functional_call(
    model: nn.Module,
    params: dict[str, Tensor],
    args: tuple,
    *,
    places: Places,
) -> Any:
    """Call `model` with `params` in the place of its own.

    Args:
        model: any module; not modified.
        params: name -> tensor; what is not named keeps its own value.
        args: (x,), where x is a tensor, or several in a tuple or dict.
        places: of this model.

    Returns:
        what the model returns.

    Raises:
        ValueError: params has two tensors for one, x is of another type than
            the model, or the forward pass writes into x, or changes a buffer
            in a way that cannot be undone.
    """
    if places.names:
        params = _in_every_place(params, places.names)
    positional, named = inputs.arguments(args[0])
    if torch.compiler.is_compiling():
        return func.functional_call(
            model, params, positional, named, tie_weights=False
        )
    new, before = _keep(places), _plain(places)
    given = [
        (t, _version(t)) for t in map(inputs.bare, inputs.tensors(args[0]))
    ]
    try:
        outputs = func.functional_call(
            model, params, positional, named, tie_weights=False
        )
    except RuntimeError as error:
        if WRITES in str(error):
            raise ValueError(_says("something that it keeps")) from None
        checks.kinds(params, args[0], error)
        advise_loop(error)
        raise
    finally:
        changed = _put_back(places, before, new)
    if any(version != _version(t) for t, version in given):
        raise ValueError(
            "the model's forward pass writes into x, and the next call would "
            "get other numbers: write x = x - m for x -= m or x.sub_(m), and "
            "no inplace=True on x"
        )
    for name in changed:
        warnings.warn(_says(f"its buffer {name!r}"), Undone, stacklevel=3)
    return outputs


def grad(loss_fn: Callable[..., Tensor]) -> Callable[..., dict[str, Tensor]]:
    """`torch.func.grad`, in two thirds of its time where autograd will do.

    So it is in a loop over tasks, where no transform is at work.

    Args:
        loss_fn: `(params, batch)` -> scalar.

    Returns:
        (params, batch) -> gradients by name, differentiable in `params`.
    """

    def gradient(params, batch):
        if not _autograd_will_do(params):
            return func.grad(loss_fn)(params, batch)
        # As views, they are not what else the loss may know them as.
        own = {name: p.view_as(p) for name, p in params.items()}
        loss = loss_fn(own, batch)
        if not loss.requires_grad:
            return {name: torch.zeros_like(p) for name, p in own.items()}
        slopes = torch.autograd.grad(
            loss,
            [*own.values()],
            create_graph=True,
            materialize_grads=True,  # zeros for what the loss does not use
        )
        return dict(zip(own, slopes))

    return gradient


def _autograd_will_do(params: dict[str, Tensor]) -> bool:
    return (
        not torch.compiler.is_compiling()
        and torch._C._functorch.peek_interpreter_stack() is None
        and torch.is_grad_enabled()
        and {p.requires_grad for p in params.values()} == {True}
    )


def advise_loop(error: RuntimeError) -> None:
    """Note at an error of vmap that there is a loop, once."""
    says = str(error).startswith(("vmap", "Batching rule not implemented"))
    if says and LOOP not in getattr(error, "__notes__", ()):
        error.add_note(LOOP)


def _may_set_attributes(module: nn.Module) -> bool:
    # PyTorch's modules and ours set none, unless a hook does.
    where = getattr(module.forward, "__module__", None) or ""
    hooks = module._forward_pre_hooks or module._forward_hooks
    return bool(hooks) or not where.startswith(KNOWN)


@contextmanager
def unchanged(model: nn.Module) -> Generator[None, None, None]:
    """Refuse what changes the model, and undo it; so with what reads it.

    Raises:
        ValueError: something was changed, by `functional_call` or any other,
            or a gradient reached the model's own weights.
    """
    own = {k: p for k, p in model.named_parameters() if p.requires_grad}
    slopes = {name: p.grad for name, p in own.items()}
    kept = places(model)
    new, before = _keep(kept), _plain(kept)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Undone)
            for p in own.values():
                p.grad = None
            yield
            read = [name for name, p in own.items() if p.grad is not None]
    except Undone as undone:
        raise ValueError(str(undone)) from None
    finally:
        changed = _put_back(kept, before, new)
        for name, slope in slopes.items():
            own[name].grad = slope
    if changed:
        raise ValueError(_says(f"its buffer {changed[0]!r}"))
    if read:
        raise ValueError(
            f"the criterion or objective reads the model's own {read[0]!r}, "
            "which stays as it is: copies are trained. Return a penalty from "
            "forward(), or use an optimizer with weight_decay"
        )


def _says(what: str) -> str:
    return (
        f"the model's forward pass changes {what}, which would leak from task "
        "to task and is put back: keep it fixed, as eval() does for many "
        "modules"
    )


def _members(
    model: nn.Module,
) -> Iterator[tuple[str, nn.Module, str, Tensor]]:
    """Go through tensors under all their names, with where they lie."""
    for prefix, module in model.named_modules(remove_duplicate=False):
        for leaf, tensor in chain(
            module._parameters.items(), module._buffers.items()
        ):
            if tensor is not None:
                name = f"{prefix}.{leaf}".removeprefix(".")
                yield name, module, leaf, tensor


def _in_every_place(
    params: dict[str, Tensor], names: dict[str, tuple[str, ...]]
) -> dict[str, Tensor]:
    spread: dict[str, Tensor] = {}
    for name, value in params.items():
        for place in names.get(name, (name,)):
            if spread.setdefault(place, value) is not value:
                raise ValueError(
                    f"{name!r} and {place!r} are one tensor of the model, and "
                    "params has two for them: hand over one"
                )
    return spread


def _keep(places: Places) -> bool:
    """Note what the buffers hold; say whether it is for the first time."""
    new = not places.kept
    for name, (held, leaf) in places.buffers.items():
        buffer = held.get(leaf)
        was, version, _ = places.kept.get(name, (None, 0, None))
        if not isinstance(buffer, Tensor):
            places.kept.pop(name, None)
        elif was is not buffer or version != _version(buffer):
            # Inside vmap and grad, a copy would belong to them.
            with torch._C._DisableFuncTorch(), torch.no_grad():
                now = buffer.clone()
            places.kept[name] = buffer, _version(buffer), now
    return new


def _plain(places: Places) -> tuple[list[dict], list[tuple[Any, Any]]]:
    """Copy the attributes that are no tensors, and what containers hold.

    A container is taken one level deep. Long ones are vocabularies.
    """
    attributes = [plain.copy() for plain in places.attributes]
    held = [
        (value, value.copy())
        for plain in attributes
        for name, value in plain.items()
        if type(value) in CONTAINERS
        and len(value) <= LONG
        and not name.startswith("_")  # PyTorch's own
    ]
    return attributes, held


def _put_back(
    places: Places, before: tuple[list[dict], list], by_value: bool
) -> list[str]:
    """Undo what a forward pass did, and name what it wrote over.

    Args:
        places: of the model.
        before: what `_plain` returned.
        by_value: compare numbers too, as writing to `.data` counts nowhere.
    """
    changed = []
    attributes, contents = before
    for plain, was in zip(places.attributes, attributes):
        if not _alike(plain, was):
            plain.clear()
            plain.update(was)
    for held, was in contents:
        if not _same_things(held, was):
            held.clear()
            (held.update if hasattr(held, "update") else held.extend)(was)
    for name, (buffer, version, was) in places.kept.items():
        held, leaf = places.buffers[name]
        if held.get(leaf) is not buffer:
            held[leaf] = buffer
            changed.append(name)
        with torch._C._DisableFuncTorch(), torch.no_grad():
            if version != _version(buffer) or (
                by_value and not _same(buffer, was)
            ):
                buffer.copy_(was)
                places.kept[name] = buffer, _version(buffer), was
                changed.append(name)
    return changed


def _alike(plain: dict, was: dict) -> bool:
    try:
        return plain == was  # which asks first whether they are the same
    # Whether tensors or arrays are equal has no one answer.
    except (RuntimeError, ValueError):
        return False


def _same_things(held: Any, was: Any) -> bool:
    """Tell whether a container holds what its copy does, and not an equal."""
    pairs = [(held, was)]
    if isinstance(held, dict):
        pairs.append((held.values(), was.values()))
    return len(held) == len(was) and all(
        a is b for one, other in pairs for a, b in zip(one, other)
    )


def _version(buffer: Tensor) -> int:
    # What was made in inference mode is not counted, and cannot be changed.
    return 0 if buffer.is_inference() else buffer._version


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())
