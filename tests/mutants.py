"""Mutants of a solution: small changes by rule, most of which are wrong."""

import ast
import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from mamlkit.exercises.exercise import AT_HAND, Exercise
from mamlkit.exercises.trial import arguments, names

TWINS = {
    "mean": "sum",
    "sum": "mean",
    "argmin": "argmax",
    "argmax": "argmin",
    "min": "max",
    "max": "min",
    "ceil": "floor",
    "sigmoid": "tanh",
    "cumsum": "cumprod",
    "abs": "square",
    "reversed": "list",
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}


class Cut:
    """Takes the graph off tensors, and remembers whether there was one."""

    def __init__(self):
        self.found = False

    def __call__(self, value: object) -> object:
        if isinstance(value, Tensor):
            self.found |= value.requires_grad
            return value.detach()
        if isinstance(value, dict):
            return {k: self(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self(v) for v in value]
        if isinstance(value, tuple):
            items = [self(v) for v in value]
            fields = hasattr(value, "_fields")
            return type(value)(*items) if fields else tuple(items)
        return value


class Mutant(NamedTuple):
    """A changed solution.

    Attributes:
        said: what was done to it.
        function: the result.
        cut: if it detaches something, what does it.
    """

    said: str
    function: Callable
    cut: Cut | None = None

    @property
    def is_one(self) -> bool:
        """Whether, after some calls, anything was changed at all."""
        return self.cut is None or self.cut.found


def mutants(exercise: Exercise) -> Iterator[Mutant]:
    """All mutants of a solution, each once."""
    yield from _wrapped(exercise)
    tree = ast.parse(exercise.code.strip())
    seen = {ast.unparse(tree)}
    for said, mutant in _edited(tree):
        source = ast.unparse(ast.fix_missing_locations(mutant))
        if source in seen:
            continue
        seen.add(source)
        cut = Cut()
        space = AT_HAND | (exercise.space or {}) | {"_cut": cut}
        try:
            exec(compile(source, f"<mutant of {exercise.key}>", "exec"), space)
        except SyntaxError:
            continue
        function = space[exercise.name]
        yield Mutant(said, function, cut if "_cut(" in source else None)


def _wrapped(exercise: Exercise) -> Iterator[Mutant]:
    """The whole function with a fault around it."""
    right = exercise.right
    if not exercise.cases:
        return
    first, _ = arguments(exercise, 0)
    yield Mutant(
        "always the result of the first case",
        lambda *args: right(*arguments(exercise, 0)[0]),
    )
    for i, (name, value) in enumerate(zip(names(exercise), first)):

        def fixed(*args, i=i):
            own = arguments(exercise, 0)[0][i]
            return right(*args[:i], own, *args[i + 1 :])

        yield Mutant(f"{name} is always that of the first case", fixed)

        def changing(*args, i=i):
            result = right(*args)
            _change(args[i])
            return result

        if _changeable(value):
            yield Mutant(f"{name} is changed in place", changing)
    cut = Cut()
    yield Mutant("result detached", lambda *args: cut(right(*args)), cut)
    if isinstance(first[0], dict):
        yield from _partly(right)


def _partly(right: Callable) -> Iterator[Mutant]:
    """Only some keys of a dict are treated, the others stay."""
    for which, others in (("first", slice(1, None)), ("last", slice(-1))):

        def partly(*args, others=others):
            result = right(*args)
            kept = {n: args[0][n] for n in list(args[0])[others]}
            if isinstance(result, dict):
                return result | kept
            return type(result)(
                one | kept if isinstance(one, dict) else one for one in result
            )

        yield Mutant(f"{which} key only", partly)


def _changeable(value: object) -> bool:
    floats = isinstance(value, Tensor) and value.numel()
    return bool(floats or (isinstance(value, dict | list) and value))


def _change(value: object) -> None:
    if isinstance(value, Tensor):
        with torch.no_grad():
            value.flatten()
            value.view(-1)[-1] += 1
    elif isinstance(value, list):
        value.reverse() if len(value) > 1 else value.clear()
    else:
        last = list(value)[-1]
        if isinstance(value[last], Tensor):
            value[last] = value[last] + 1
        else:
            del value[last]


def _edited(tree: ast.Module) -> Iterator[tuple[str, ast.Module]]:
    """The code itself, changed in one place."""
    count = sum(1 for _ in ast.walk(tree))
    for at in range(count):
        for number in range(40):
            mutant = copy.deepcopy(tree)
            node = list(ast.walk(mutant))[at]
            done = _edit(mutant, node, number)
            if done is None:
                break
            if done:
                line = getattr(node, "lineno", 0)
                yield f"line {line}: {done}", mutant


def _edit(tree: ast.Module, node: ast.AST, number: int) -> str | None:
    """Make edit `number` at a node; None when there are no more."""
    edits = [*_edits(tree, node)]
    if number >= len(edits):
        return None
    said, act = edits[number]
    act()
    return said


def _edits(tree, node) -> Iterator[tuple[str, Callable[[], None]]]:
    if isinstance(node, ast.Call):
        yield from _call_edits(node)
    if isinstance(node, ast.BinOp):
        swapped = {"left": node.right, "right": node.left}
        if type(node.op) in (ast.Sub, ast.Div, ast.Pow, ast.MatMult,
                             ast.FloorDiv, ast.Mod):  # fmt: skip
            yield _said("swap", node), lambda: vars(node).update(swapped)
        if type(node.op) in OPERATORS:
            op = OPERATORS[type(node.op)]()
            yield (
                _said(type(op).__name__, node),
                lambda: setattr(node, "op", op),
            )
    if isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        op = OPERATORS[type(node.ops[0])]()
        yield (
            _said(type(op).__name__, node),
            lambda: setattr(node, "ops", [op]),
        )
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield _said("no minus", node), lambda: setattr(node, "op", ast.UAdd())
    if isinstance(node, ast.Constant) and not isinstance(node.value, str):
        yield from _number_edits(node)
    if isinstance(node, ast.Attribute) and node.attr in TWINS:
        yield (
            _said(TWINS[node.attr], node),
            lambda: setattr(node, "attr", TWINS[node.attr]),
        )
    if isinstance(node, ast.comprehension | ast.For):
        for said, index in (("first", slice_(None, 1)), ("but the last",
                            slice_(None, -1)), ("twice", None)):  # fmt: skip
            yield (
                _said(said, node.iter),
                lambda index=index: _take(node, index),
            )
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        taken = [arg.arg for arg in tree.body[0].args.args]
        for name in taken if node.id in taken else ():
            if name != node.id:
                yield (
                    f"{name} in place of {node.id}",
                    lambda name=name: setattr(node, "id", name),
                )
    for field in ("body", "orelse"):
        block = getattr(node, field, None)
        if isinstance(block, list) and not isinstance(node, ast.Module):
            yield from _block_edits(block)
    yield from _detach_edits(node)


def slice_(low, high):
    """low:high as an expression."""
    ends = [e if e is None else ast.Constant(e) for e in (low, high)]
    return ast.Slice(*ends)


def _take(node, index) -> None:
    items = ast.Call(ast.Name("list", ast.Load()), [node.iter], [])
    node.iter = (
        ast.Subscript(items, index, ast.Load())
        if index
        else ast.BinOp(items, ast.Mult(), ast.Constant(2))
    )


def _call_edits(node):
    if isinstance(node.func, ast.Name) and node.func.id in TWINS:
        twin = ast.Name(TWINS[node.func.id], ast.Load())
        yield _said(twin.id, node), lambda: setattr(node, "func", twin)
    for i in range(len(node.args)):
        yield (
            _said(f"without argument {i}", node),
            lambda i=i: node.args.pop(i),
        )
    for i in range(len(node.keywords)):
        yield (
            _said(f"without {node.keywords[i].arg}", node),
            lambda i=i: node.keywords.pop(i),
        )
    for i in range(len(node.args) - 1):
        yield (
            _said(f"arguments {i}, {i + 1} swapped", node),
            lambda i=i: node.args.insert(i, node.args.pop(i + 1)),
        )
    for i in range(len(node.keywords) - 1):
        one, other = node.keywords[i : i + 2]
        values = one.value, other.value

        def swap(one=one, other=other, values=values):
            other.value, one.value = values

        yield _said(f"{one.arg}, {other.arg} swapped", node), swap
    if isinstance(node.func, ast.Attribute):

        def bare():
            inner = node.func.value
            vars(node).update(func=ast.Name("_cut", ast.Load()),
                              args=[inner], keywords=[])  # fmt: skip

        yield _said("call dropped", node), bare


def _number_edits(node):
    if isinstance(node.value, bool):
        yield (
            _said("not", node),
            lambda: setattr(node, "value", not node.value),
        )
        return
    if node.value is None or node.value is Ellipsis:
        return
    for value in {node.value + 1, node.value - 1, node.value * 2}:
        if value != node.value:
            yield (
                _said(f"{value}", node),
                lambda v=value: setattr(node, "value", v),
            )


def _block_edits(block):
    for i, statement in enumerate(block):
        if len(block) > 1 and not isinstance(
            statement, ast.Return | ast.FunctionDef
        ):
            yield _said("dropped", statement), lambda i=i: block.pop(i)
    for i in range(len(block) - 1):
        yield (
            _said("swapped with the next", block[i]),
            lambda i=i: block.insert(i, block.pop(i + 1)),
        )


def _detach_edits(node):
    for field, value in ast.iter_fields(node):
        inside_call = isinstance(node, ast.Call) and field == "func"
        items = value if isinstance(value, list) else [value]
        for i, item in enumerate(items):
            kinds = ast.Name | ast.Call | ast.Subscript | ast.BinOp
            loaded = isinstance(getattr(item, "ctx", ast.Load()), ast.Load)
            if not isinstance(item, kinds) or not loaded or inside_call:
                continue
            call = ast.Call(ast.Name("_cut", ast.Load()), [item], [])

            def put(i=i, call=call, field=field, value=value):
                if isinstance(value, list):
                    value[i] = call
                else:
                    setattr(node, field, call)

            yield _said("detached", item), put


def _said(what: str, node: ast.AST) -> str:
    source = " ".join(ast.unparse(node).split())
    return f"{what}: {source}"
