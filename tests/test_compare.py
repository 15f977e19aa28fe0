"""The comparer takes any sound form of a result, and names what it wants."""

import math
from collections import OrderedDict, UserDict
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest
import torch

from mamlkit.exercises import find_exercises
from mamlkit.exercises.compare import Wrong, compare, pairs
from mamlkit.exercises.judge import look_at
from mamlkit.exercises.trial import arguments, unchanged
from mamlkit.tasks import Batch

T = torch.tensor
BATCH = Batch(T([[1.0]]), T([2]))
SAME = [
    (3, 3),
    (3.0, 3),
    (T(3), 3),
    (T([3.0]), 3),
    (T([[3]]), 3.0),
    (np.int64(3), 3),
    (np.float32(0.1), 0.1),
    (np.array([0.25]), 0.25),
    (Fraction(1, 3), 1 / 3),
    (Decimal("0.1"), 0.1),
    (10**30, 1e30),
    (math.inf, math.inf),
    (T(math.inf), math.inf),
    (True, True),
    (np.bool_(False), False),
    (T(True), True),
    (T([True]), True),
    ([1, 2], T([1.0, 2.0])),
    ((T(1.0), 2), T([1.0, 2.0])),
    ([[1, 2], [3, 4]], T([[1.0, 2.0], [3.0, 4.0]])),
    (np.array([1, 2]), T([1.0, 2.0])),
    (T([1.0, 2.0]).double(), T([1.0, 2.0])),
    (T([1, 2]), T([1.0, 2.0])),
    (range(3), T([0, 1, 2])),
    (T([0.5, 1.0]), (0.5, 1.0)),
    ([0.5, T([1.0])], (0.5, 1.0)),
    ((x for x in (0.5, 1.0)), (0.5, 1.0)),
    (map(float, (1, 2)), [1.0, 2.0]),
    (OrderedDict(b=2, a=1), {"a": 1, "b": 2}),
    (UserDict(a=1), {"a": 1}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    ([{"a": T(1.0)}], ({"a": 1.0},)),
    ((BATCH.x, BATCH.y), BATCH),
    (SimpleNamespace(x=BATCH.x, y=BATCH.y), BATCH),
    ([[BATCH.x, BATCH.y]], (BATCH,)),
    ([], []),
    (1.00001, 1.0),
]


def name_form(value):
    """As it prints, without the address that generators and maps print."""
    return repr(value).split(" at 0x")[0]


@pytest.mark.parametrize(("actual", "expected"), SAME, ids=name_form)
def test_sound_forms_are_the_same(actual, expected):
    compare(actual, expected)


DIFFERENT = [
    (None, 3, "the result should be a number, but your function returns"),
    ("3", 3, "should be a number, but is a str"),
    (1j, 1, "should be a number, but is a complex"),
    ([1, 2], 3, "should be a number, but has shape (2,)"),
    (3.001, 3.0, "should be 3, but is 3.001"),
    (1000.5, 1000, "should be 1000, but is 1000.5"),
    (1.0002, 1.0, "should be 1, but is 1.0002"),
    (math.nan, 1.0, "is not finite"),
    (math.inf, 1.0, "is not finite"),
    (1.0, math.inf, "should be inf, but is 1"),
    (1, True, "should be True or False, but is an int"),
    (True, False, "should be False, but is True"),
    (T([1.0]), T([1.0, 2.0]), "should have shape (2,), but has shape (1,)"),
    (T([1.0, 3.0]), T([1.0, 2.0]), "should be [1, 2], but is [1, 3]"),
    (torch.ones(3, 3), torch.eye(3), "result[0, 1] should be 0, but is 1"),
    ("abc", T([1.0, 2.0]), "should be a tensor of shape (2,), but is a str"),
    ([1, [2]], T([1.0, 2.0]), "should be a tensor of shape (2,)"),
    ({"a": 1}, {"b": 1}, "should have the names ['b'], but has ['a']"),
    ({"a": 1, "b": 1}, {"b": 1}, "should have the names ['b']"),
    ([1], {"a": 1}, "should be a dict with the names ['a'], but is a list"),
    ({"a": "x"}, {"a": 1}, "result['a'] should be a number, but is a str"),
    ({"a": T([1.0])}, {"a": T(1.0)}, "result['a'] should be a number"),
    ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "result['a'][1]['b'] shou"),
    ((1, 2, 3), (1, 2), "should be a pair, but is a tuple of 3"),
    ([1], [1, 2], "should be a list of 2, but is a list of 1"),
    ("ab", [1, 2], "should be a list of 2, but is a str"),
    ({1, 2}, [1, 2], "should be a list of 2, but is a set"),
    ((BATCH.x,), BATCH, "should be a Batch(x, y), but is a tuple of 1"),
    ((BATCH.x, T([3])), BATCH, "result.y should be [2], but is [3]"),
]


@pytest.mark.parametrize(("actual", "expected", "said"), DIFFERENT, ids=repr)
def test_a_difference_is_told(actual, expected, said):
    with pytest.raises(Wrong) as fault:
        compare(actual, expected, "With lr = 1")
    assert said in str(fault.value)
    assert str(fault.value).startswith("With lr = 1, ")


def test_lists_of_tensors_keep_their_graph():
    w = torch.tensor(2.0, requires_grad=True)
    ((_, got, _),) = pairs([w, 2 * w], T([2.0, 4.0]))
    (slope,) = torch.autograd.grad(got.sum(), w)
    assert slope == 3


CHANGES = [
    (T([1.0, math.nan]), T([1.0, math.nan]), True),
    (T([1.0]), T([1.0 + 1e-7]), False),
    (T([True]), T([False]), False),
    (T([1]), T([2]), False),
    ({"a": T(1.0)}, {"a": T(2.0)}, False),
    ({"b": 1, "a": 1}, {"a": 1, "b": 1}, False),
    ([T(1.0)], [T(1.0), T(1.0)], False),
    (Batch(T(1.0), T(1.0)), Batch(T(1.0), T(2.0)), False),
    (None, T(1.0), False),
    (1, 1, True),
    (print, print, True),
]


@pytest.mark.parametrize(("one", "other", "same"), CHANGES, ids=repr)
def test_changes_are_seen(one, other, same):
    assert unchanged(one, other) is same


def test_a_module_that_was_trained_has_changed():
    one, other = torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)
    assert not unchanged(one, other)
    other.load_state_dict(one.state_dict())
    assert unchanged(one, other)


def test_cases_are_drawn_alike_each_time():
    for number in range(14):
        for exercise in find_exercises(str(number)):
            for case in range(exercise.cases):
                one, other = (arguments(exercise, case)[0] for _ in "12")
                assert all(map(unchanged, one, other)), exercise.key
                # The solution itself has no fault, on any of them.
                seen = look_at(exercise, exercise.right, case, "value")
                assert seen.fault is None, (exercise.key, seen.fault)
