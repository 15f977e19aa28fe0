"""Tasks that you already have: arrays, lists of arrays, or rows in groups.

Here and in `episodes.py` a *group* is what examples are drawn from without
replacement: the rows of a task, or the examples of a class. Groups may be of
unequal size; they are one tensor where they are of one, else a list.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mamlkit import checks, inputs
from mamlkit.tasks import Batch, Tasks

Groups = Tensor | list[Tensor]
SHORT = (torch.uint8, torch.int8, torch.int16, torch.int32)


class TaskArrays:
    """Tasks that you already have, as arrays; `from_groups` cuts a table.

    Args:
        x: shape (tasks, examples, *features), NumPy or torch; or a list with
            an array (examples, *features) for each task, of any number of
            examples. Several inputs of a model are a tuple or dict of these.
        y: shape (tasks, examples, *targets), or a list, likewise.
        names: of the tasks, in their order; by default 0, 1, ...

    Attributes:
        x: as given, as torch tensors.
        y: likewise.
        sizes: examples of each task, shape (tasks,).
        names: of the tasks.

    Raises:
        ValueError: x and y differ in tasks or examples, or hold numbers that
            are not finite.
    """

    def __init__(self, x: Any, y: Any, names: Sequence | None = None):
        empty = isinstance(x, tuple | Mapping) and not x
        self.x = _each(partial(gathered, "x"), None if empty else x)
        self.y = gathered("y", y)
        self.sizes = sizes(self.y)
        self.names = [*range(len(self.sizes))] if names is None else [*names]
        for part in _parts(self.x):
            _paired(part, self.y, self.names)
        for of, whole in (("x, ", self.x), ("y, ", self.y)):
            for part in _parts(whole):
                checks.finite("task", self.names, part, of)

    @classmethod
    def from_groups(cls, x: Any, y: Any, groups: Any) -> "TaskArrays":
        """Make a task of the rows of each group, as of a table.

        Args:
            x: shape (rows, *features): pandas, NumPy or torch; or a tuple or
                dict of these. Fractions get torch's default type, which is
                that of models.
            y: shape (rows, *targets); one number a row, for a model that
                returns one, is `table[["y"]]`, of shape (rows, 1). Labels of
                classes are whole numbers, of shape (rows,); of names,
                `pd.factorize(table["kind"])[0]`.
            groups: for each row, the name of its group; of several columns,
                the names are joined, as "F/3".

        Raises:
            ValueError: there are no rows, their numbers differ, a row has no
                group, or not all are numbers.
        """
        rows = grouped(groups)
        count = sum(map(len, rows.values()))

        def cut(name: str, values: Any) -> list[Tensor]:
            values = numbers(name, values)
            if not len(values):
                raise ValueError(f"{name} has no rows")
            if len(values) != count:
                raise ValueError(
                    f"x, y and groups must have as many rows, got "
                    f"{len(values)} in {name} and {count} in groups"
                )
            if values.is_floating_point():
                values = values.to(torch.get_default_dtype())
            elif values.dtype in (SHORT if name == "y" else SHORT[1:]):
                # As cross-entropy and embeddings want; bytes may be pictures.
                values = values.long()
            return [values[of] for of in rows.values()]

        names = [
            "/".join(map(str, label)) if isinstance(label, tuple) else label
            for label in rows
        ]
        return cls(_each(partial(cut, "x"), x), cut("y", y), names=names)

    def sample(
        self,
        n_tasks: int,
        *,
        k_shot: int,
        k_query: int,
        generator: torch.Generator,
    ) -> Tasks:
        """Draw tasks, with replacement, and different examples of each.

        Returns:
            x of shape (n_tasks, k, *features), y likewise.

        Raises:
            ValueError: a count is below 1, or a task has fewer than
                `k_shot + k_query` examples.
        """
        checks.counts(n_tasks, k_shot, k_query)
        checks.source(generator)
        which = torch.randint(
            len(self.sizes), (n_tasks,), generator=generator,
            device=generator.device,
        )  # fmt: skip
        return self._draw(which, k_shot, k_query, generator)

    def sample_each(
        self, *, k_shot: int, k_query: int, generator: torch.Generator
    ) -> Tasks:
        """Draw every task once, in the order of `names`: to judge on.

        An interval over these covers other tasks; many draws from a few
        tasks have to be told apart by `mean_interval(..., groups=)`.

        Returns:
            x of shape (tasks, k, *features), y likewise.

        Raises:
            ValueError: as in `sample`.
        """
        checks.counts(len(self.sizes), k_shot, k_query)
        checks.source(generator)
        every = torch.arange(len(self.sizes), device=generator.device)
        return self._draw(every, k_shot, k_query, generator)

    def _draw(
        self,
        which: Tensor,
        k_shot: int,
        k_query: int,
        generator: torch.Generator,
    ) -> Tasks:
        checks.enough("group", "rows", self.names, self.sizes, k_shot, k_query)
        rows = draw_rows(self.sizes, which, k_shot + k_query, generator)

        def part(first: int, last: int | None) -> Batch:
            chosen = rows[:, first:last]
            x = _each(lambda groups: picked(groups, which, chosen), self.x)
            return Batch(x, picked(self.y, which, chosen))

        return Tasks(part(0, k_shot), part(k_shot, None))


def numbers(name: str, values: Any) -> Tensor:
    """Make a tensor of what NumPy can read; refuse what is not numbers."""
    if isinstance(values, Tensor):
        return values
    if hasattr(values, "toarray"):
        raise ValueError(f"{name} is sparse: {name}.toarray()")
    try:
        array = np.asarray(values)
    except ValueError:
        shapes = {np.shape(value) for value in values}
        raise ValueError(
            f"{name} has examples of several shapes, {sorted(shapes)}: make "
            "them alike, as pictures of one size"
        ) from None
    # In a table of several kinds of numbers, pandas calls all of them objects.
    if array.dtype.kind == "O" and {*_kinds(values)} <= {*"biuf"}:
        array = values.to_numpy(dtype=float)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold numbers alone, got {array.dtype}: leave other "
            "columns out, or encode them"
        )
    # What pandas hands out may be read only, which torch warns of.
    return torch.as_tensor(array if array.flags.writeable else array.copy())


def _kinds(table: Any) -> list[str]:
    """List the kinds of a table's columns, as NumPy letters; "O" for none."""
    found: Any = getattr(table, "dtypes", None)
    dtypes = found if hasattr(found, "__iter__") else [found]
    return [getattr(dtype, "kind", "O") for dtype in dtypes]


def gathered(name: str, arrays: Any, of: str = "tasks") -> Groups:
    """Make one tensor of groups of one size, and a list of others."""
    listed = isinstance(arrays, list | tuple)
    shape = (len(arrays),) if listed else getattr(arrays, "shape", ())
    if arrays is None or shape[:1] == (0,):
        raise ValueError(f"there are no {of} in {name}")
    ragged = isinstance(arrays, np.ndarray) and arrays.dtype.kind == "O"
    if not listed and not ragged:
        whole = numbers(name, arrays)
        if whole.dim() < 2:
            raise ValueError(
                f"{name} must begin with (tasks, examples), got "
                f"{tuple(whole.shape)}: from_groups takes rows and their "
                "groups"
            )
        return whole
    if any(isinstance(array, tuple) for array in arrays):
        raise ValueError(
            f"{name} must be one array for each group, got a tuple of them: "
            "several inputs are a tuple or dict of TaskArrays' x"
        )
    groups = [numbers(name, array) for array in arrays]
    shapes = {group.shape[1:] for group in groups if group.dim()}
    if len(shapes) != 1 or not all(group.dim() for group in groups):
        raise ValueError(
            f"the arrays in {name} must differ in examples only, got shapes "
            f"{sorted({tuple(group.shape) for group in groups})}"
        )
    one_size = len({len(group) for group in groups}) == 1
    return torch.stack(groups) if one_size else groups


def grouped(groups: Any) -> dict[Any, list[int]]:
    """List the rows of each group, in the order in which they appear."""
    if isinstance(groups, str):
        raise ValueError(
            f"groups must be the column itself, table[{groups!r}]"
        )
    if isinstance(groups, Tensor):
        groups = groups.tolist()
    # As objects, so that 1 and "1", or a gap and "nan", stay what they are.
    labels = np.asarray(groups, dtype=object)
    several = labels.ndim == 2
    rows: dict[Any, list[int]] = {}
    for row, label in enumerate(labels.tolist()):
        if any(map(_missing, label if several else [label])):
            raise ValueError(f"row {row} has no group: leave it out")
        rows.setdefault(tuple(label) if several else label, []).append(row)
    return rows


def _missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except TypeError:  # of pandas.NA, whether it is itself has no answer
        return True


def sizes(groups: Groups) -> Tensor:
    """Count the examples of each group, shape (groups,)."""
    return torch.tensor([len(group) for group in groups])


def draw_rows(
    sizes: Tensor, which: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Draw different examples of each group, in random order.

    Args:
        sizes: of all groups.
        which: groups, of any shape.
        count: how many of each; no group may have fewer.
        generator: the source of randomness.

    Returns:
        shape (*shape of `which`, count), on the generator's device.
    """
    # The places of the largest of many random numbers.
    most, device = int(sizes.max()), generator.device
    scores = torch.rand(*which.shape, most, generator=generator, device=device)
    if sizes.min() < most:
        end = sizes.to(device)[which].unsqueeze(-1)
        scores[torch.arange(most, device=device) >= end] = -1
    return scores.topk(count).indices


def picked(groups: Groups, which: Tensor, rows: Tensor) -> Tensor:
    """Take the examples `rows` of the groups `which`, wherever they are.

    Args:
        groups: of one size or not.
        which: shape (...).
        rows: shape (..., count).

    Returns:
        shape (..., count, *features).
    """
    if isinstance(groups, Tensor):
        on = groups.device
        return groups[which.unsqueeze(-1).to(on), rows.to(on)]
    each = zip(which.flatten().tolist(), rows.flatten(0, -2))
    found = torch.stack([groups[g][r.to(groups[g].device)] for g, r in each])
    return found.view(*rows.shape, *found.shape[2:])


def _each(fn: Any, x: Any) -> Any:
    """Apply `fn` to x or to several inputs; a list is of tasks here."""
    several = isinstance(x, tuple | Mapping)
    return inputs.each(fn, x) if several else fn(x)


def _parts(x: Any) -> list:
    return inputs.tensors(x) if isinstance(x, tuple | Mapping) else [x]


def _paired(x: Groups, y: Groups, names: list) -> None:
    """Refuse x and y that do not belong together."""
    if len(x) != len(y) or len(names) != len(y):
        raise ValueError(
            f"x, y and names must have as many tasks, got {len(x)}, {len(y)} "
            f"and {len(names)}"
        )
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        if x.shape[:2] != y.shape[:2]:
            raise ValueError(
                "x and y must both begin with (tasks, examples), got "
                f"{tuple(x.shape)} and {tuple(y.shape)}"
            )
    for name, of_x, of_y in zip(names, x, y):
        if len(of_x) != len(of_y):
            raise ValueError(
                f"task {name!r} has {len(of_x)} x and {len(of_y)} y"
            )
