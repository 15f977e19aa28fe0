"""Task families: what they promise, against slow twins."""

import math

import numpy as np
import pytest
import torch

from mamlkit import (
    Batch,
    Episodes,
    Harmonics,
    Sinusoids,
    SinusoidsAndLines,
    TaskArrays,
    Tasks,
    in_chunks,
    map_tasks,
)
from mamlkit.tasks import cut, to_device

FAMILIES = [Sinusoids(), Harmonics(), SinusoidsAndLines()]


def sample(family, n_tasks=6, k_shot=3, k_query=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return family.sample(
        n_tasks, k_shot=k_shot, k_query=k_query, generator=generator
    )


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_shapes_ranges_and_seed(family):
    support, query = sample(family)
    assert support.x.shape == support.y.shape == (6, 3, 1)
    assert query.x.shape == query.y.shape == (6, 4, 1)
    assert (
        support.x.abs().max() <= 5 and not support.x.eq(query.x[:, :3]).any()
    )
    again, other = sample(family), sample(family, seed=1)
    assert torch.equal(support.y, again.support.y)
    assert not torch.equal(support.y, other.support.y)


def test_lines_have_no_oracle():
    with pytest.raises(ValueError, match="without oracle=True"):
        SinusoidsAndLines(Sinusoids(oracle=True))


def test_a_sinusoid_is_amplitude_times_sine_of_x_minus_phase():
    support, query = sample(Sinusoids(oracle=True), n_tasks=50)
    for batch in (support, query):
        x, amplitude, phase = batch.x.unbind(-1)
        expected = amplitude * torch.sin(x - phase)
        torch.testing.assert_close(batch.y[..., 0], expected)
    amplitude, phase = support.x[:, 0, 1], support.x[:, 0, 2]
    assert 0.1 <= amplitude.min() < 0.6 and 4.4 < amplitude.max() <= 5
    assert 0 <= phase.min() < 0.3 and 2.8 < phase.max() <= math.pi
    # One wave a task: support and query share it.
    assert torch.equal(support.x[:, 0, 1:], query.x[:, 0, 1:])


def test_the_oracle_sees_the_same_waves():
    plain, told = sample(Sinusoids()), sample(Sinusoids(oracle=True))
    assert torch.equal(plain.query.y, told.query.y)
    assert torch.equal(plain.query.x, told.query.x[..., :1])


def test_floors_of_the_sinusoids():
    # Predicting 0 costs E[A²]/2; the best guess without knowing the task is
    # E[A] E[sin(x - φ)] = -(2 · 2.55 / π) cos x.
    _, query = sample(Sinusoids(), n_tasks=200_000, k_query=1)
    zero = query.y.square().mean().item()
    blind = (query.y + 2 * 2.55 / math.pi * query.x.cos()).square().mean()
    assert zero == pytest.approx(4.25, abs=0.05)
    assert blind.item() == pytest.approx(3.01, abs=0.05)


def test_harmonics_have_two_frequencies():
    # Any such task is a combination of four functions of x.
    support, _ = sample(Harmonics(), n_tasks=5, k_shot=30)
    x = support.x.double()
    basis = torch.cat([x.sin(), x.cos(), (2 * x).sin(), (2 * x).cos()], -1)
    fit = torch.linalg.lstsq(basis, support.y.double()).solution
    torch.testing.assert_close(
        basis @ fit, support.y.double(), atol=1e-4, rtol=0
    )
    assert (fit.abs() > 0.01).sum() >= 15


def test_half_of_sinusoids_and_lines_are_lines():
    support, _ = sample(SinusoidsAndLines(), n_tasks=400, k_shot=5)
    x, y = support.x.double(), support.y.double()
    basis = torch.cat([x, torch.ones_like(x)], -1)
    fit = basis @ torch.linalg.lstsq(basis, y).solution
    is_line = (fit - y).abs().amax((1, 2)) < 1e-3
    assert 150 < is_line.sum() < 250


@pytest.mark.parametrize("name", ["n_tasks", "k_shot", "k_query"])
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: type(f).__name__)
def test_empty_sets_are_refused(family, name):
    for count in (0, 1.5, True, "4"):
        said = f"{name} must be a whole number >= 1, got {count!r}"
        with pytest.raises(ValueError, match=said):
            sample(family, **{name: count})


@pytest.mark.parametrize("size", [0, -3, None, 2.5])
def test_chunks_have_a_size_and_tasks(size):
    tasks = sample(Sinusoids())
    with pytest.raises(ValueError, match="size must be a whole number >= 1"):
        in_chunks(lambda part: part.support.y, tasks, size)
    with pytest.raises(ValueError, match="there are no tasks to judge"):
        in_chunks(lambda part: part.support.y, cut(tasks, 0, 0))


def test_arrays_give_disjoint_examples_of_one_task():
    # Every example carries its task and its number in that task.
    task, example = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    family = TaskArrays(x=np.stack([task, example], -1), y=task)
    support, query = sample(family, n_tasks=50, k_shot=3, k_query=6)
    assert support.x.shape == (50, 3, 2) and query.x.shape == (50, 6, 2)
    both = torch.cat([support.x, query.x], 1)
    assert (both[..., 0] == both[:, :1, 0]).all()
    assert (both[..., 1].sort(1).values == torch.arange(9)).all()
    assert torch.equal(both[..., 0], torch.cat([support.y, query.y], 1))
    assert len(both[:, 0, 0].unique()) == 7


def test_arrays_that_do_not_fit_are_refused():
    x = torch.zeros(4, 5, 2)
    with pytest.raises(ValueError, match=r"got \(4, 5, 2\) and \(4, 6\)"):
        TaskArrays(x, torch.zeros(4, 6))
    with pytest.raises(ValueError, match=r"group 0 has 5 rows, 3 \+ 4 wanted"):
        sample(TaskArrays(x, torch.zeros(4, 5)))
    with pytest.raises(ValueError, match="task 1 has 5 x and 4 y"):
        TaskArrays([*x], [torch.zeros(n) for n in (5, 4, 5, 5)])
    with pytest.raises(ValueError, match=r"begin with \(tasks, examples\)"):
        TaskArrays(x[0, 0], torch.zeros(2))
    with pytest.raises(ValueError, match="as many tasks, got 4, 3 and 3"):
        TaskArrays(x, torch.zeros(3, 5))
    with pytest.raises(ValueError, match="differ in examples only"):
        TaskArrays([x[0], x[0, :, :1]], torch.zeros(2, 5))


def counted(sizes):
    """x says of each row which task it is of, and its number there."""
    return [
        torch.stack([torch.full((n,), i), torch.arange(n)], 1)
        for i, n in enumerate(sizes)
    ]


@pytest.mark.parametrize("sizes", [(9, 7, 12), (8, 8, 8)])
def test_tasks_of_any_size_give_disjoint_rows_of_one_task(sizes):
    x = counted(sizes)
    family = TaskArrays(x, [rows[:, 0] for rows in x])
    support, query = sample(family, n_tasks=600)
    both = torch.cat([support.x, query.x], 1)
    assert (both[..., 0] == torch.cat([support.y, query.y], 1)).all()
    assert (both[..., 0] == both[:, :1, 0]).all()
    rows = both[..., 1].sort(1).values
    assert (rows[:, 1:] > rows[:, :-1]).all()
    for i, n in enumerate(sizes):
        counts = both[..., 1][both[..., 0] == i].bincount()
        assert len(counts) == n and counts.min() > 0.8 * counts.max()


def test_groups_of_a_table_are_tasks():
    # Rows of one group lie anywhere; frames of pandas are read as arrays.
    group = np.array(["b", "a", "b", "c", "a", "b", "c", "a"])
    row = np.arange(8.0)
    family = TaskArrays.from_groups(row[:, None], 10 * row, group)
    assert family.names == ["b", "a", "c"]
    assert family.sizes.tolist() == [3, 3, 2]
    assert family.x[0].tolist() == [[0.0], [2.0], [5.0]]
    assert family.y[1].tolist() == [10.0, 40.0, 70.0]
    assert family.x[0].dtype == family.y[0].dtype == torch.float32
    with pytest.raises(ValueError, match="'c' has 2 rows, 1 . 2 wanted: ask"):
        sample(family, k_shot=1, k_query=2)


def test_groups_of_two_columns_are_named_by_both():
    family = TaskArrays.from_groups(
        np.zeros((3, 1)), np.zeros(3), np.array([["F", 3], ["F", 4], ["F", 3]])
    )
    assert family.names == ["F/3", "F/4"]
    with pytest.raises(ValueError, match=r"group 'F/3' has 2 rows, 5 \+ 10"):
        sample(family, k_shot=5, k_query=10)


@pytest.mark.parametrize(
    ("x", "y", "groups", "message"),
    [
        (np.zeros(4), np.zeros(3), [0, 0, 1], "got 4 in x and 3 in groups"),
        (np.zeros(3), np.zeros(4), [0, 0, 1], "got 4 in y and 3 in groups"),
        (np.array(["a", "b"]), np.zeros(2), [0, 0], "x must hold numbers al"),
        (np.zeros(2), np.zeros(2), [0.0, math.nan], "row 1 has no group"),
        (np.zeros(2), np.zeros(2), [None, 0], "row 0 has no group"),
        (np.zeros(2), np.zeros(2), ["a", math.nan], "row 1 has no group"),
        (np.zeros(2), np.zeros(2), [("a", 1), (None, 1)], "row 1 has no gro"),
        (np.array([1, math.inf]), np.zeros(2), [3, 4], "task 4 holds numbers"),
        (np.zeros(2), np.array([math.nan, 1]), [3, 4], "task 3 holds numbers"),
    ],
)
def test_tables_that_do_not_fit_are_refused(x, y, groups, message):
    with pytest.raises(ValueError, match=message):
        TaskArrays.from_groups(x, y, groups)


def test_frames_of_pandas_are_taken():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame(
        {"f": [1.0, 2, 3, 4], "k": [1, 2, 3, 4], "y": [2.0, 4, 6, 8],
         "sex": [*"FMFM"], "level": [3, 3, 3, 4]}
    )  # fmt: skip
    features = table[["f", "k"]]
    one = TaskArrays.from_groups(features, table[["y"]], table["sex"])
    assert one.names == ["F", "M"] and one.x[1].tolist() == [[2, 2], [4, 4]]
    two = TaskArrays.from_groups(features, table["y"], table[["sex", "level"]])
    assert two.names == ["F/3", "M/3", "M/4"]
    groups = [g for _, g in table.groupby(["sex", "level"])]
    three = TaskArrays([g[["f"]] for g in groups], [g["y"] for g in groups])
    assert three.sizes.tolist() == [2, 1, 1]
    with pytest.raises(ValueError, match="x must hold numbers alone"):
        TaskArrays.from_groups(table, table["y"], table["sex"])
    for kind in ("string", "category", object):
        sex = table["sex"].astype(kind)
        again = TaskArrays.from_groups(features, table["y"], sex)
        assert again.names == ["F", "M"]
        sex[1] = pandas.NA
        with pytest.raises(ValueError, match="row 1 has no group"):
            TaskArrays.from_groups(features, table["y"], sex)


def test_columns_of_several_kinds_of_numbers_are_taken():
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"f": [0.5, 1.5], "b": [True, False]})
    table["n"] = pandas.array([2.0, 3.0], dtype="Float64")
    family = TaskArrays.from_groups(table, [[0.0], [1.0]], ["a", "a"])
    assert family.x[0].tolist() == [[0.5, 1.0, 2.0], [1.5, 0.0, 3.0]]
    table["n"] = ["2", "3"]  # numbers, but written as text
    with pytest.raises(ValueError, match="x must hold numbers alone"):
        TaskArrays.from_groups(table, [[0.0], [1.0]], ["a", "a"])


@pytest.mark.parametrize("kind", ["uint8", "int8", "int32", "int64"])
def test_labels_of_a_table_are_what_cross_entropy_takes(kind):
    y = np.array([0, 1, 0, 1], dtype=kind)
    family = TaskArrays.from_groups(np.zeros((4, 2)), y, [1, "1", 1, "1"])
    assert family.names == [1, "1"] and family.y.dtype == torch.int64


def test_groups_of_several_columns_are_not_taken_for_one_another():
    pairs = [("a/b", "c"), ("a", "b/c")]
    family = TaskArrays.from_groups(np.zeros(2), np.zeros(2), pairs)
    assert family.names == ["a/b/c", "a/b/c"] and len(family.sizes) == 2


@pytest.mark.parametrize("sizes", [(5, 4), (5, 5)])
def test_several_inputs_are_drawn_alike(sizes):
    ids = counted(sizes)
    for x in ((ids, ids), {"ids": ids, "mask": ids}):
        family = TaskArrays(x, [rows[:, 1] for rows in ids])
        support, _ = sample(family, k_shot=2, k_query=2)
        one, other = support.x.values() if isinstance(x, dict) else support.x
        assert torch.equal(one, other)
        assert torch.equal(one[..., 1], support.y)


def test_each_task_is_drawn_once_to_judge_on():
    family = TaskArrays(
        counted((6, 4, 5)), [torch.zeros(n) for n in (6, 4, 5)]
    )
    support, query = family.sample_each(
        k_shot=1, k_query=3, generator=torch.Generator().manual_seed(0)
    )
    assert support.x[:, 0, 0].tolist() == [0, 1, 2]
    assert query.x.shape == (3, 3, 2)


def test_the_loop_takes_one_task_at_a_time():
    shapes = []

    def fn(support, query):
        shapes.append((support.x.shape, query.x.shape))
        return query.y.sum()

    tasks = Sinusoids().sample(
        2, k_shot=5, k_query=4, generator=torch.Generator()
    )
    actual = map_tasks(fn, tasks, "loop")
    assert shapes == [((5, 1), (4, 1))] * 2
    torch.testing.assert_close(actual, tasks.query.y.sum((1, 2)))


def test_what_lies_elsewhere_is_moved_piece_by_piece():
    support, query = sample(Sinusoids())
    mixed = Tasks(Batch(support.x.to("meta"), support.y), query)
    found = to_device(mixed, torch.device("meta"))
    assert {t.device.type for batch in found for t in batch} == {"meta"}


@pytest.mark.parametrize("family", [
    Sinusoids(), Harmonics(), SinusoidsAndLines(),
    Episodes(torch.rand(6, 4, 3)), TaskArrays([torch.rand(8, 2)] * 3,
                                              [torch.rand(8, 1)] * 3),
])  # fmt: skip
@pytest.mark.parametrize("generator", [0, None])
def test_a_seed_is_no_source_of_randomness(family, generator):
    with pytest.raises(ValueError, match="generator must be one of torch's"):
        family.sample(2, k_shot=1, k_query=1, generator=generator)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([], []),
        (None, None),
        ({}, [torch.zeros(3)]),
        ((), [torch.zeros(3)]),
        ({"a": []}, []),
        (torch.zeros(0, 5, 1), torch.zeros(0, 5, 1)),
    ],
)
def test_arrays_without_tasks_say_so(x, y):
    with pytest.raises(ValueError, match="there are no tasks in x$"):
        TaskArrays(x, y)


def test_an_empty_table_says_so():
    with pytest.raises(ValueError, match="x has no rows"):
        TaskArrays.from_groups(torch.zeros(0, 3), torch.zeros(0, 1), [])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ((0, (2, 1)), r"task 'b' .* \(in x, row 0, column 1\): fill"),
        ((1, (3,)), r"task 'b' .* \(in y, row 1\): fill"),
    ],
)
def test_a_gap_is_told_by_its_place(where, message):
    part, place = where
    arrays = torch.zeros(6, 3), torch.zeros(6)
    arrays[part][place] = float("nan")
    groups = ["a", "a", "b", "b", "c", "c"]
    with pytest.raises(ValueError, match=message):
        TaskArrays.from_groups(*arrays, groups)
    arrays[part][4] = float("inf")
    with pytest.raises(ValueError, match=r"\), and 1 more do: fill the gaps"):
        TaskArrays.from_groups(*arrays, groups)


def test_short_codes_of_categories_are_what_embeddings_take():
    codes, pixels = torch.zeros(4, 1, dtype=torch.int8), torch.zeros(4, 1)
    one = TaskArrays.from_groups(codes, torch.zeros(4, 1), [0, 0, 1, 1])
    two = TaskArrays.from_groups(pixels.byte(), codes, [0, 0, 1, 1])
    assert one.x.dtype == two.y.dtype == torch.long
    assert two.x.dtype == torch.uint8


def test_sparse_tables_and_names_of_columns_are_refused():
    class Sparse(list):
        def toarray(self): ...

    with pytest.raises(ValueError, match=r"x is sparse: x.toarray\(\)"):
        TaskArrays.from_groups(Sparse(), torch.zeros(2, 1), [0, 0])
    with pytest.raises(ValueError, match=r"column itself, table\['g'\]"):
        TaskArrays.from_groups(torch.zeros(2, 1), torch.zeros(2, 1), "g")
