"""Input checks: one line that says what is wrong and what to do.

They look at shapes and Python numbers, and at a tensor's values only where
no transform follows it: `if tensor:` would fail under `vmap`. Learned rates
may turn negative.
"""

import inspect
import math
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from numbers import Integral, Real
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.instancenorm import _InstanceNorm

from mamlkit import inputs, rules
from mamlkit.rates import PER_STEP, learned

PARALLEL = nn.DataParallel | nn.parallel.DistributedDataParallel
_TAKES_FEATURES = nn.Linear | nn.Flatten | _ConvNd
_POINTWISE = {
    nn.Linear, nn.Sequential, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU,
    nn.Tanh, nn.Sigmoid, nn.Softplus, nn.Dropout,
}  # fmt: skip
OF_ONE = "a single task needs an axis of its own, x[None]"
ONE_LESS = "take y's last axis away, y[..., 0]"
_TAKES_NUMBERS = nn.Embedding | nn.EmbeddingBag


def scalar(loss: Tensor) -> Tensor:
    """Return a loss, if it is one."""
    if not isinstance(loss, Tensor) or loss.shape != ():
        got = getattr(loss, "shape", type(loss).__name__)
        got = tuple(got) if not isinstance(got, str) else got
        advice = "take the mean over examples"
        if isinstance(loss, Real):
            advice = "leave .item() or float() out"
        raise ValueError(
            f"the criterion must return a scalar tensor, got {got}: {advice}"
        )
    return loss


def criterion(criterion: Callable) -> Callable[[Any, Tensor], Tensor]:
    """Let a criterion refuse what it would only broadcast or choke on.

    Returns:
        the criterion, which raises ValueError when it returns no scalar, when
        the shapes of outputs and y broadcast to pairs that are not the
        examples, or when it cannot take the outputs.
    """
    known: set[tuple] = set()
    if isinstance(criterion, type):
        name = criterion.__name__
        raise ValueError(f"criterion is a class: pass {name}(), an instance")
    if not callable(criterion):
        raise ValueError(
            "criterion must be a function of outputs and y, as F.mse_loss, "
            f"got {criterion!r}"
        )

    def judged(outputs, y):
        shapes = getattr(outputs, "shape", None), y.shape
        if shapes[0] is None:
            return scalar(_choose(criterion, outputs, y))
        alike = shapes[0] == shapes[1] or shapes in known
        if not alike and not torch.compiler.is_compiling():
            _aligned(criterion, outputs, y)
            known.add(shapes)
        try:
            return scalar(criterion(outputs, y))
        # vmap's own kernels assert what others raise.
        except (IndexError, RuntimeError, AssertionError) as error:
            _within(outputs, y, error)
            raise

    return judged


def _choose(criterion: Callable, outputs, y: Tensor) -> Tensor:
    """Apply a criterion to outputs that are no tensor."""
    try:
        return criterion(outputs, y)
    except (TypeError, AttributeError) as error:
        kind = type(outputs).__name__
        part = "out[0]" if isinstance(outputs, tuple | list) else "out.logits"
        part = 'out["logits"]' if isinstance(outputs, dict) else part
        raise ValueError(
            f"the model returns a {kind}, which the criterion cannot take "
            f"({error}): let it choose, as in criterion=lambda out, y: "
            f"F.mse_loss({part}, y)"
        ) from None


def _aligned(criterion: Callable, outputs: Tensor, y: Tensor) -> None:
    """Refuse a criterion that would broadcast outputs against y.

    Of shapes (n, 1) and (n,), broadcasting makes n times n pairs, and it no
    longer matters which example gave which output. It does to a criterion
    that makes the shapes alike by itself.
    """
    of, to = tuple(outputs.shape), tuple(y.shape)
    if len(of) == len(to):
        return  # the examples' axis is the same one
    # Nothing of this belongs to vmap or grad, draws, or is said twice.
    with (
        torch._C._DisableFuncTorch(),
        torch.no_grad(),
        torch.random.fork_rng(devices=[]),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        a, b = _stand_in(outputs, 0.755), _stand_in(y, 0.570)
        more = (*to, *(1,) * (len(of) - len(to)))
        less = (*of, *(1,) * (len(to) - len(of)))
        try:
            found = criterion(a, b)
            in_other_order = criterion(a.roll(1, 0), b)
            alike = criterion(a.view(less), b.view(more))
            fine = found.isclose(alike) or not found.isclose(in_other_order)
        except Exception:  # not a criterion of numbers: its own business
            return
    if not fine:
        advice = "make them alike"
        if of == (*to, 1):
            advice = "give y a last axis, y[..., None] or table[['y']]"
        elif to == (*of, 1):
            advice = ONE_LESS
        raise ValueError(f"the model gives {of}, y is {to}: {advice}")


def _within(outputs: Tensor, y: Tensor, error: Exception) -> None:
    """Say what of the labels, or of the criterion, does not suit."""
    if "item()" in str(error) or "data pointer" in str(error):
        raise ValueError(
            "the criterion has an `if` on a tensor or leaves torch, by "
            ".item(), float() or NumPy, which vmap cannot: torch.where and "
            'tensors can, or use over_tasks="loop"'
        ) from error
    of, to = tuple(outputs.shape), tuple(y.shape)
    kind = str(y.dtype).removeprefix("torch.")
    if to == (*of[:-1], 1) != of:
        whole = ".long()" if y.is_floating_point() else ""
        raise ValueError(
            f"the model gives {of}, y is {to}: {ONE_LESS}{whole}"
        ) from error
    if to == of and not y.is_floating_point():
        raise ValueError(
            f"y is {kind}, as labels are, and the model gives numbers: "
            "y.float()"
        ) from error
    # Short labels will do, but not for every kernel.
    unfit = y.is_floating_point() or "bounds" not in str(error)
    if outputs.dim() == y.dim() + 1 and y.dtype != torch.long and unfit:
        raise ValueError(
            f"labels are {kind}, and must be int64: y.long()"
        ) from error
    if outputs.dim() != y.dim() + 1 or "bounds" not in str(error):
        return
    logits = outputs.shape[min(1, y.dim())]
    low, high = (int(label) for label in inputs.bare(y).aminmax())
    if high >= logits or low < 0:
        end = f"up to {high}" if high >= logits else f"down to {low}"
        raise ValueError(
            f"the model gives {logits} logits, labels go {end}"
        ) from error


def _stand_in(like: Tensor, step: float) -> Tensor:
    """Numbers between 0 and 1, all different; whole ones are 0 or 1."""
    count = torch.arange(like.shape.numel(), device=like.device)
    values = count * step % 1 if like.is_floating_point() else count % 2
    return values.to(like.dtype).view(like.shape)


def steps_and_lr(params: dict, lr, steps: int) -> None:
    """Refuse inner steps that cannot be taken."""
    whole(0, steps=steps)
    if not isinstance(params, dict):
        raise ValueError(
            "params must be a dict, name -> tensor, as history.params or "
            f"dict(model.named_parameters()), got {type(params).__name__}"
        )
    frozen(params)
    if isinstance(lr, PER_STEP) and len(lr) != steps:
        raise ValueError(
            f"lr has {len(lr)} rates, one a step, and steps is {steps}"
        )
    for rate in lr if isinstance(lr, PER_STEP) else [lr]:
        names = rate if isinstance(rate, dict) else params
        missing, unknown = params.keys() - names, names.keys() - params.keys()
        if missing or unknown:
            raise ValueError(
                "lr must have a tensor for every parameter: missing "
                f"{sorted(missing)}, unknown {sorted(unknown)}"
            )
    rates("lr", lr)


def rates(name: str, lr: Any, learned: bool = True, depth: int = 0) -> None:
    """Refuse rates that lead nowhere.

    Args:
        name: what to call `lr`.
        lr: as in `adapt`.
        learned: tensors may have been learned, and so be negative.
        depth: 0 may be a list or dict, 1, in a list, a dict, 2 a rate alone.
    """
    if isinstance(lr, dict) and depth < 2:
        for key, rate in lr.items():
            rates(f"{name}[{key!r}]", rate, learned, 2)
    elif isinstance(lr, PER_STEP) and depth < 1:
        for step, rate in enumerate(lr):
            rates(f"{name}[{step}]", rate, learned, 1)
    elif isinstance(lr, Tensor):
        # Those that are being learned, or mapped over, are not looked at.
        if not lr.requires_grad and not _wrapped(lr):
            got = f", got {lr:g}" if lr.dim() == 0 else ""
            if _has_gaps(lr):
                raise ValueError(f"{name} must be finite{got}")
            if not learned and lr.dim() == 0 and lr < 0:
                raise ValueError(
                    f"{name} must be >= 0{got}: a rate that was learned goes "
                    "on with requires_grad_()"
                )
    elif not isinstance(lr, Real):
        listed = (
            "a number, a tensor, a dict of tensors or a list, one a step",
            "a number, a tensor or a dict of these",
            "a number or a tensor",
        )[depth]
        raise ValueError(f"{name} must be {listed}, got {lr!r}")
    elif not 0 <= float(lr) < math.inf:
        raise ValueError(f"{name} must be finite and >= 0, got {lr}")


def _wrapped(t: Tensor) -> bool:
    """Tell whether the numbers in a tensor cannot be looked at."""
    if torch.compiler.is_compiling():
        return True
    return torch._C._functorch.is_functorch_wrapped_tensor(t)


def whole(least: int, **counts: Any) -> None:
    """Refuse counts that are not whole, or too small."""
    for name, count in counts.items():
        fine = isinstance(count, Integral) and not isinstance(count, bool)
        if not fine or count < least:
            raise ValueError(
                f"{name} must be a whole number >= {least}, got {count!r}"
            )


def counts(n_tasks: int, k_shot: int, k_query: int) -> None:
    """Refuse a sample without tasks or examples."""
    whole(1, n_tasks=n_tasks, k_shot=k_shot, k_query=k_query)


def chunks(tasks: Any, size: int) -> None:
    """Refuse to judge no tasks at all."""
    whole(1, size=size)
    if not len(tasks.support.y):
        raise ValueError("there are no tasks to judge")


def source(generator) -> None:
    """Refuse a seed, or nothing, in place of a source of randomness."""
    if not isinstance(generator, Generator):
        raise ValueError(
            "generator must be one of torch's, as "
            f"torch.Generator().manual_seed(0), got {generator!r}"
        )


def rule(rule: Callable | None) -> None:
    """Refuse what only makes a rule for the inner steps."""
    for maker in (rules.adam, rules.momentum):
        if rule is maker:
            name = maker.__name__
            raise ValueError(f"{name} makes a rule: pass {name}(), called")


def tensor(values) -> None:
    """Refuse numbers that are in no tensor."""
    if not isinstance(values, Tensor):
        raise ValueError(
            "values must be a tensor, (tasks, ...): torch.as_tensor makes one "
            f"of a {type(values).__name__}"
        )
    if not values.dim() or not values.is_floating_point():
        kind = f"of shape {tuple(values.shape)} and {values.dtype}"
        raise ValueError(
            f"values must be fractions, (tasks, ...), before any mean: got "
            f"one {kind}; of answers, right.float()"
        )


def enough(
    kind: str, rows: str, names: Sequence, sizes: Tensor, k_shot: int,
    k_query: int,
) -> None:  # fmt: skip
    """Refuse groups with fewer examples than are to be drawn of each."""
    few = [i for i, n in enumerate(sizes.tolist()) if n < k_shot + k_query]
    if few:
        more = f" (and {len(few) - 1} more: too few)" if few[1:] else ""
        raise ValueError(
            f"{kind} {names[few[0]]!r} has {sizes[few[0]]} {rows}, {k_shot} "
            f"+ {k_query} wanted{more}: ask for fewer, or leave it out"
        )


def examples(names: Sequence, groups: Sequence[Tensor] | Tensor) -> None:
    """Refuse examples of classes that no model can take."""
    for name, group in zip(names, groups):
        if group.dtype == torch.uint8:
            raise ValueError(
                f"class {name!r} holds bytes, which models do not take: make "
                "them float, images / 255"
            )
    finite("class", names, groups)


def finite(
    kind: str, names: Sequence, groups: Sequence[Tensor] | Tensor, of: str = ""
) -> None:
    """Refuse gaps, and say where the first is and how many more have any."""
    gaps = [i for i, group in enumerate(groups) if _has_gaps(group)]
    if gaps:
        first = groups[gaps[0]]
        row, *column = (~first.isfinite()).nonzero()[0].tolist()
        place = f"{of}row {row}"
        place += f", column {column[0]}" if first.dim() == 2 else ""
        more = f", and {len(gaps) - 1} more do" if gaps[1:] else ""
        raise ValueError(
            f"{kind} {names[gaps[0]]!r} holds numbers that are not finite (in "
            f"{place}){more}: fill the gaps, or leave these rows out"
        )


def _has_gaps(values: Tensor) -> bool:
    if values.is_meta or not values.numel():
        return False
    if values.is_complex():
        values = torch.view_as_real(values)
    # NaN is both the least and the greatest of numbers that have one.
    return not torch.stack(values.aminmax()).isfinite().all()


def frozen(params: dict) -> None:
    """Refuse to move the frozen parameters of a model that has others."""
    # Plain tensors need not require grad, so only Parameters are judged; and
    # a model may be frozen as a whole, as for evaluation.
    own = {k: p for k, p in params.items() if type(p) is nn.Parameter}
    if len({p.requires_grad for p in own.values()}) < 2:
        return
    for name, p in own.items():
        if not p.requires_grad:
            raise ValueError(
                f"{name!r} is frozen (requires_grad=False) and would be "
                "moved: leave it out, {k: p for k, p in "
                "model.named_parameters() if p.requires_grad}, or detach it"
            )


def fixed(lr: Any) -> None:
    """Refuse rates that are to be learned."""
    if learned(lr):
        raise ValueError(
            "Reptile cannot learn rates, as the distance it lowers is "
            "least where nothing moves: detach them"
        )


class Needs(NamedTuple):
    """What a model needs, and cannot take; looked up once by `needs`.

    Attributes:
        dims: that the x of one task must have.
        refused: why the model cannot be used at all, or "".
        running: norms whose running statistics move while they train.
        fused: norms whose weights vmap cannot follow, by a weight's name.
        parameters: their names.
        names: of all its tensors, every one under each of its names.
    """

    dims: int
    refused: str
    running: dict[str, nn.Module]
    fused: dict[str, str]
    parameters: list[str]
    names: frozenset[str]


def needs(model: nn.Module) -> Needs:
    """Look up what a model needs."""
    kinds = {*map(type, model.modules())}
    takes_features = any(issubclass(kind, _TAKES_FEATURES) for kind in kinds)
    takes_numbers = any(issubclass(kind, _TAKES_NUMBERS) for kind in kinds)
    refused, running, fused = "", {}, {}
    for name, module in model.named_modules():
        kind = f"{type(module).__name__} {name!r}"
        is_norm = isinstance(module, _BatchNorm | _InstanceNorm)
        if is_norm and module.track_running_stats:
            running[kind] = module
        if is_norm or isinstance(module, nn.LayerNorm):
            if getattr(module, "weight", None) is not None:
                fused[f"{name}.weight".removeprefix(".")] = kind
        # PyTorch's two forms are a parametrisation and a hook, both private.
        hooks = map(type, (module, *module._forward_pre_hooks.values()))
        if any(k.__name__.endswith("WeightNorm") for k in hooks):
            refused = (
                f"{kind} has weight_norm, whose second-order gradients "
                "PyTorch gets wrong: write v * (g / v.norm(dim=1, "
                "keepdim=True)) in a module of your own"
            )
        if isinstance(module, _TAKES_NUMBERS) and module.max_norm is not None:
            refused = (
                f"{kind} has max_norm, with which every call changes the "
                "weights: build it without"
            )
    dims = 2 if takes_features and not takes_numbers else 1
    names = frozenset(
        f"{name}.{leaf}".removeprefix(".")
        for name, module in model.named_modules(remove_duplicate=False)
        for held in (module._parameters, module._buffers, vars(module))
        for leaf, tensor in held.items()
        if isinstance(tensor, Tensor)
    )
    parameters = [name for name, _ in model.named_parameters()]
    return Needs(dims, refused, running, fused, parameters, names)


def call(needs: Needs, params: dict[str, Tensor], x: Any) -> None:
    """Refuse a call of a model that would go wrong without a word.

    Args:
        needs: of the model.
        params: what it is called with.
        x: inputs of one task, batched by vmap or not; one tensor or several.

    Raises:
        ValueError: saying what to use instead.
    """
    if needs.refused:
        raise ValueError(needs.refused)
    fit(needs, params)
    for kind, norm in needs.running.items():
        # In eval mode they are read, not written, and so leak nothing.
        if norm.training:
            raise ValueError(
                f"{kind} keeps running statistics, which leak from task to "
                "task: build it with track_running_stats=False, affine=False, "
                "use mamlkit.BatchNorm (as norm_layer= of a resnet), or leave "
                "a pretrained one as it is, frozen and in eval()"
            )
    one = inputs.first(x)
    if needs.fused and batched(one):
        vmapped(needs, params)
    if one.dim() == 1 < needs.dims and one is x and len(one) > 1:
        raise ValueError(
            f"x is {tuple(one.shape)} for one task: a single feature needs an "
            "axis, x[..., None] or table[['x']], and a single task x[None]"
        )
    if one.dim() < (needs.dims if one is x else 1):
        raise ValueError(
            "x must have shape (tasks, examples, *features), and that of one "
            f"task (examples, *features), got {tuple(one.shape)} for one "
            f"task: {OF_ONE}"
        )


def fit(needs: Needs, params: dict[str, Tensor]) -> None:
    """Refuse parameters of another model; some of them may be left out."""
    # PyTorch would leave a name aside that the model does not have.
    if torch.compiler.is_compiling() or params.keys() <= needs.names:
        return
    unknown = [name for name in params if name not in needs.names]
    missing = [name for name in needs.parameters if name not in params]
    said = f"it has no {_a_few(unknown)}"
    said += f"; missing {_a_few(missing)}" if missing else ""
    raise ValueError(f"parameters do not fit the model: {said}")


def _a_few(names: list) -> str:
    return ", ".join([*map(repr, names[:3]), *["…"] * (len(names) > 3)])


def kinds(params: dict[str, Tensor], x: Any, error: RuntimeError) -> None:
    """Say in plain words that x is of another type than the model.

    Whether a model can take whole numbers is known only once it has failed.

    Args:
        params: what the model was called with.
        x: its input, or several.
        error: what PyTorch said.

    Raises:
        ValueError: this is why it failed.
    """
    dtype = next((p.dtype for p in params.values()), None)
    if "type" in str(error) and isinstance(x, Tensor) and x.dtype != dtype:
        raise ValueError(_unlike(x, dtype)) from error


def _unlike(x: Tensor, dtype: torch.dtype | None) -> str:
    return (
        f"x is {x.dtype} and the model {dtype}: make them alike, as with "
        f"torch.as_tensor(x, dtype={dtype})"
    )


def vmapped(needs: Needs, params: dict[str, Tensor]) -> None:
    """Refuse to batch a model whose gradients vmap gets wrong."""
    for name, kind in needs.fused.items():
        if name in params:
            raise ValueError(
                f"{kind} has weights, whose second-order gradients vmap gets "
                'wrong: use over_tasks="loop", or a norm without weights '
                "followed by your own scale and shift (mamlkit.BatchNorm)"
            )


def batched(x: Tensor) -> bool:
    """Tell whether `vmap` is mapping over `x`."""
    # The compiler cannot look inside; `meta_train` has asked before.
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.is_batchedtensor(x)


def training(
    model: nn.Module,
    criterion: Callable,
    generator: Generator,
    meta_lr: float,
) -> None:
    """Refuse what `meta_train` could only stumble over later."""
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a module, as MLP(), got {model!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("the model has no parameter that requires grad")
    if isinstance(model, PARALLEL):
        raise ValueError(
            "pass the module itself, model.module: meta_train shares the "
            "tasks among processes by itself"
        )
    if "_orig_mod" in model._modules:
        raise ValueError(
            "the model went through torch.compile, which renames its "
            "parameters: pass the module itself, and compile=True"
        )
    if isinstance(criterion, nn.Module):
        for name, p in criterion.named_parameters():
            if p.requires_grad:
                raise ValueError(
                    f"the criterion's {name!r} requires grad, but is not "
                    "learned: make it a part of the model, or freeze it"
                )
    source(generator)
    if not isinstance(meta_lr, Real):
        raise ValueError(f"meta_lr must be a Python number, got {meta_lr!r}")
    if not 0 <= meta_lr < math.inf:
        raise ValueError(f"meta_lr must be finite and >= 0, got {meta_lr}")


def factor(found: Any, iteration: int) -> float:
    """Return what a schedule gave, if it is a finite number."""
    if not isinstance(found, Real) or not math.isfinite(found):
        raise ValueError(
            f"schedule must map an iteration to a finite number, got {found} "
            f"for {iteration}: cosine(iterations) makes such a schedule"
        )
    return float(found)


def begins(params: dict[str, Tensor]) -> None:
    """Refuse to begin from weights or rates that are not finite."""
    for name, p in params.items():
        if _has_gaps(p):
            raise ValueError(
                f"{name!r} holds numbers that are not finite before any step: "
                "build or load it anew"
            )


def numbers(n_tasks, iterations, steps, tasks_at_once, patience) -> None:
    """Refuse counts that are not whole, or too small."""
    whole(1, n_tasks=n_tasks)
    whole(0, iterations=iterations, steps=steps)
    if tasks_at_once is not None:
        whole(1, tasks_at_once=tasks_at_once)
    if patience is not None:
        whole(1, patience=patience)


def choices(
    objective: Callable, keep: str, validate, patience, clip, optimizer,
    callback, schedule,
) -> None:  # fmt: skip
    """Refuse choices that contradict each other, or do nothing."""
    called = {"validate": validate, "callback": callback, "schedule": schedule}
    called = {k: given for k, given in called.items() if given is not None}
    for name, given in ({"objective": objective} | called).items():
        if not callable(given):
            raise ValueError(f"{name} must be a function, got {given!r}")
    if keep not in ("last", "best"):
        raise ValueError(f'keep must be "last" or "best", got {keep!r}')
    if validate is None and (keep == "best" or patience is not None):
        raise ValueError('keep="best" and patience need validate')
    if clip is not None and not 0 < clip:
        raise ValueError(f"clip must be > 0, got {clip}")
    if optimizer is not None and not callable(optimizer):
        raise ValueError(
            "optimizer must be a class or function, as torch.optim.SGD or "
            "partial(torch.optim.SGD, momentum=0.9), called with parameters "
            f"and lr=meta_lr; got a finished {type(optimizer).__name__}"
        )
    if isinstance(objective, partial):
        for name, value in objective.keywords.items():
            for t in inputs.tensors(value):
                if isinstance(t, Tensor) and t.requires_grad:
                    raise ValueError(
                        f"the objective's {name} requires grad, but is not "
                        "learned: detach it, pass rates as inner_lr, or make "
                        "it a parameter of the model"
                    )


def sampler(sample_tasks, n_tasks: int, generator: Generator) -> None:
    """Refuse what cannot be called as a sampler."""
    wanted = (
        "sample_tasks must be a function, called as sample_tasks(n_tasks, "
        "generator=generator)"
    )
    if not callable(sample_tasks):
        kind = type(sample_tasks).__name__
        instead = (
            "partial(tasks.sample, k_shot=…, k_query=…) of TaskArrays, which "
            "TaskArrays.from_groups(x, y, groups) makes of your examples"
        )
        if hasattr(sample_tasks, "sample"):
            instead = "partial(….sample, k_shot=…, k_query=…) makes one"
        raise ValueError(f"{wanted}, got a {kind}: {instead}")
    try:
        signature = inspect.signature(sample_tasks)
    except (TypeError, ValueError):  # some that are not written in Python
        return
    try:
        signature.bind(n_tasks, generator=generator)
    except TypeError as error:
        raise ValueError(
            f"{wanted}, but {error}: partial(….sample, k_shot=…, k_query=…) "
            "makes one"
        ) from None


def judged(value: Any) -> float:
    """Return what `validate` gave, if it is one number."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"validate must return one number, got a {type(value).__name__}: "
            "a mean over tasks, as curve[:, -1].mean()"
        ) from None


def idle(names: set[str]) -> None:
    """Warn of what is trained and does not move."""
    listed = ", ".join(sorted(names))
    warnings.warn(
        f"no gradient has reached {listed}: what lies under no_grad or "
        "detach, or plays no part, is not trained",
        stacklevel=3,
    )


def sample(tasks: Any, model: nn.Module) -> Any:
    """Return what a sampler returned, if it is Tasks for this model."""
    # A copy of Tasks, made in a notebook, is as good as ours.
    held: dict[str, Any] = {}
    for part in ("support", "query"):
        batch = getattr(tasks, part, None)
        if not hasattr(batch, "x") or not hasattr(batch, "y"):
            _no_tasks(tasks, part, batch)
        xs = inputs.named(batch.x, f"{part}.x") or {f"{part}.x": batch.x}
        found = xs | {f"{part}.y": batch.y}
        for name, t in found.items():
            if not isinstance(t, Tensor):
                _no_tasks(tasks, name, t)
        held |= found
    own = [t.dtype for t in chain(model.parameters(), model.buffers())]
    for name, t in held.items():
        if ".x" in name and t.is_floating_point() and t.dtype not in own:
            raise ValueError(_unlike(t, own[0]))
    return tasks


def _no_tasks(tasks: Any, name: str, found: Any) -> NoReturn:
    """Say which part of Tasks is not what it should be."""
    got = type(tasks).__name__
    if hasattr(tasks, "support"):
        empty = isinstance(found, tuple | list | dict) and not found
        kind = "empty" if empty else f"of type {type(found).__name__}"
        got += f", whose {name} is {kind}"
    raise ValueError(
        "sample_tasks must return Tasks(support, query), each a Batch of x, "
        "one tensor or several in a tuple or dict, and y, one tensor; got "
        f"{got}"
    )


def one_task(support: Any) -> None:
    """Refuse what is not one task's examples; arrays are welcome."""
    x, y = getattr(support, "x", None), getattr(support, "y", None)
    if x is None or y is None:
        kind = type(support).__name__
        raise ValueError(
            f"support must be a Batch(x, y) of one task, got a {kind}"
        )
    if isinstance(x, list) and not all(
        getattr(t, "shape", ())[:1] == (len(y),) for t in x
    ):
        raise ValueError(
            "support.x is a list, which is taken for several inputs: make x "
            "an array, np.asarray(x)"
        )
    sizes = {k: len(t) for k, t in (inputs.named(x, "x") | {"y": y}).items()}
    _as_many("support", sizes)


def beside(support_x: Tensor, x: Tensor) -> None:
    """Refuse what cannot be laid beside a support set, one by one."""
    for name, found in (("support_x", support_x), ("x", x)):
        if not isinstance(found, Tensor):
            raise ValueError(f"{name} must be a tensor: torch.as_tensor")
    if x.shape[1:] != support_x.shape[1:]:
        raise ValueError(
            f"x is {tuple(x.shape)}, and no examples as those of support_x, "
            f"{tuple(support_x.shape)}: one alone is x[None]"
        )


def arrived(params: dict, start: dict, support: Any, steps: int) -> None:
    """Refuse weights that are not finite, and say where that comes from."""
    if not any(_has_gaps(p) for p in params.values()):
        return
    begins(start)
    held = inputs.named(support.x, "x") | {"y": support.y}
    finite("support's", [*held], [*held.values()])
    raise FloatingPointError(
        f"weights that are not finite after {steps} steps: lower lr, or take "
        "fewer steps"
    )


def _as_many(part: str, sizes: dict[str, int], advice: str = "") -> None:
    """Refuse examples that are not pairs of x and y."""
    if len({*sizes.values()}) > 1 or 0 in sizes.values():
        raise ValueError(
            f"{part} needs as many x as y, and one at least: it has "
            + " and ".join(f"{n} {name}" for name, n in sizes.items())
            + advice
        )


def not_stacked(model: nn.Module, support: Any) -> None:
    """Refuse a stack of tasks, which some models would take for one.

    A model that maps each last axis by itself takes a stack without a word.
    Refusing costs nothing: over x.flatten(0, 1) its mean loss is the same.
    """
    x, y = support
    if any(not isinstance(t, Tensor) or t.dim() < 3 for t in (x, y)):
        return
    if all(type(module) in _POINTWISE for module in model.modules()):
        raise ValueError(
            f"support.x has shape {tuple(x.shape)}, and that of one task is "
            "(examples, *features): of a stack, take one task's x and y, as "
            "x[0]; of more examples, x.flatten(0, 1)"
        )


def tasks(tasks, over_tasks: str) -> None:
    """Refuse tasks that are not stacked, or not paired with targets."""
    if over_tasks not in ("vmap", "loop"):
        raise ValueError(f'over_tasks must be "vmap" or "loop": {over_tasks}')
    given = {
        part: inputs.named(x, "x") | {"y": y}
        for part, (x, y) in zip(("support", "query"), tasks)
    }
    counts = {
        f"{part}.{name}": len(t) if t.dim() else 0
        for part, tensors in given.items()
        for name, t in tensors.items()
    }
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(
            "support and query need one leading axis, the tasks, of one "
            f"length; got {counts}"
        )
    for part, tensors in given.items():
        sizes = {name: len(t[0]) for name, t in tensors.items() if t.dim() > 1}
        single = all(t.dim() == 2 for t in tensors.values())
        _as_many(part, sizes, f": {OF_ONE}" if single else "")


def adapted(params: dict, adapted) -> None:
    """Refuse names that are not those of parameters."""
    unknown = [name for name in adapted if name not in params]
    if unknown or not adapted or isinstance(adapted, str):
        raise ValueError(
            f"adapted must name parameters of {list(params)}, got {adapted!r}"
        )


def solver(strength: float, cg_steps: int) -> None:
    """Refuse settings with which iMAML has no solution."""
    if isinstance(strength, int | float) and not 0 < strength < math.inf:
        raise ValueError(f"strength must be finite and > 0, got {strength}")
    whole(0, cg_steps=cg_steps)


def step_weights(weights, lr, steps: int) -> None:
    """Refuse weights or rates that are not one for each step."""
    whole(0, steps=steps)
    rates = len(lr) if isinstance(lr, PER_STEP) else steps
    if steps < 1 or len(weights) != steps or rates != steps:
        raise ValueError(
            f"steps must be >= 1, with a weight for each step: {steps} "
            f"steps, {len(weights)} weights, {rates} rates"
        )


def compiler() -> str | None:
    """Find the C++ compiler that PyTorch takes on this system."""
    names = ("cl",) if os.name == "nt" else ("g++", "clang++")
    names = (os.environ.get("CXX"), *names)
    return next(filter(None, (shutil.which(n) for n in names if n)), None)


def compiler_found() -> bool:
    """Look for a C++ compiler; warn where there is none."""
    if compiler():
        return True
    warnings.warn(
        "compile=True needs a C++ compiler and none was found: training "
        "uncompiled",
        stacklevel=4,
    )
    return False


def labels(logits: Tensor, y: Tensor) -> None:
    """Refuse what is no logits, and labels that are not one an example."""
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"an accuracy needs logits, and the model returns "
            f"{type(logits).__name__}: wrap it in a module that returns its "
            "logits, or write the metric, (params, batch) -> scalar"
        )
    if logits.shape[:-1] != y.shape or logits.shape[-1] < 2:
        raise ValueError(
            "accuracy needs logits of shape (examples, n_way >= 2) and labels "
            f"(examples,), got {tuple(logits.shape)} and {tuple(y.shape)}"
        )


def diverged(what: str, iteration: int, tasks=None, early=False) -> str:
    """Say what is not finite, and what to do about it.

    Args:
        what: is not finite.
        iteration: where.
        tasks: of this iteration.
        early: it is not finite before any step, inner or outer.
    """
    parts = [t for x, y in tasks or () for t in (*inputs.tensors(x), y)]
    what = f"{what} at iteration {iteration}"
    if not all(t.isfinite().all() for t in parts):
        return f"{what}: its tasks hold numbers that are not finite"
    if early:
        return (
            f"{what} before any inner step: look for a log, root or division "
            "of 0 in the criterion and in forward(), and at frozen weights"
        )
    return (
        f"{what}: lower inner_lr or meta_lr. From a checkpoint, if there is "
        "one, other rates go on with model.load_state_dict(load_checkpoint("
        'path)["params"], strict=False), under another file name'
    )
