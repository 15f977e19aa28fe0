"""Every exercise: solutions pass, mistakes get a message of their own."""

import ast
import contextlib
import functools

import nbformat
import pytest
from chapters import CHAPTERS, code_cells, definitions, tagged

from mamlkit.exercises import (
    check,
    engine,
    find_exercise,
    find_quiz,
    hint,
    solution,
)
from mamlkit.paths import ROOT

NUMBERS = sorted(
    path.stem[2:] for path in (ROOT / "mamlkit/exercises").glob("ch*.py")
)
KEYS = [key for n in NUMBERS for key in engine._chapter(n).EXERCISES]
MISTAKES = [
    pytest.param(key, number, id=f"{key}-{number}")
    for key in KEYS
    for number in range(len(find_exercise(key).mistakes))
]
IMPORTS = ast.Import | ast.ImportFrom
each_exercise = pytest.mark.parametrize("key", KEYS)


@functools.cache
def chapter_code(number):
    """Imports, parameters and definitions of a chapter; nothing runs."""
    (path,) = [p for p in CHAPTERS if int(p.name[:2]) == number]
    nb, parts = nbformat.read(path, 4), []
    for cell in code_cells(nb):
        parts += [
            node
            for node in ast.parse(cell.source).body
            if isinstance(node, IMPORTS | ast.FunctionDef | ast.ClassDef)
            or cell in tagged(nb, "parameters")
        ]
    return [compile(ast.Module([p], []), path.name, "exec") for p in parts]


def names_of_chapter(key):
    """The names a learner has when at the exercise, but for its data."""
    space = {}
    for code in chapter_code(int(key.split(".")[0])):
        # A default value may be data of the chapter, which is not there.
        with contextlib.suppress(NameError):
            exec(code, space)
    return space


@pytest.fixture
def verdict(monkeypatch):
    """Define a function by code, check it, return (verdict, message)."""
    cards = []
    monkeypatch.setattr(
        engine,
        "display",
        lambda data, metadata, raw: cards.append(metadata),
    )

    def judge(key, code):
        space = names_of_chapter(key)
        exec(code, space)
        check(key, space[find_exercise(key).name])
        card = cards[-1]["mamlkit"]
        assert card["exercise"] == key
        return card["verdict"], card["message"]

    return judge


@each_exercise
def test_solution_passes(verdict, key):
    assert verdict(key, find_exercise(key).solution)[0] == "passed"


@each_exercise
def test_untouched_stub_is_not_started(verdict, key):
    name = find_exercise(key).name
    code = f"def {name}(*args, **kwargs):\n    raise NotImplementedError"
    assert verdict(key, code)[0] == "not started"


@pytest.mark.parametrize(("key", "number"), MISTAKES)
def test_mistake_gets_its_own_message(verdict, key, number):
    mistakes = find_exercise(key).mistakes
    code, phrase = mistakes[number]
    judged, message = verdict(key, code)
    assert judged == "wrong" and phrase in message
    others = [other for i, (_, other) in enumerate(mistakes) if i != number]
    assert not [other for other in others if other in message]


@each_exercise
def test_hints_and_solution_print(capsys, key):
    exercise = find_exercise(key)
    assert exercise.hints and exercise.mistakes
    for number, text in enumerate(exercise.hints, 1):
        hint(key, number)
        assert text in capsys.readouterr().out
    solution(key)
    assert exercise.name in definitions(capsys.readouterr().out)


def test_a_crash_is_told_and_not_raised(verdict):
    name = find_exercise(KEYS[0]).name
    judged, message = verdict(KEYS[0], f"def {name}(*args):\n    1 / 0")
    assert judged == "wrong" and "ZeroDivisionError" in message


@pytest.mark.parametrize("key", ["99.1", "3.99", "x", ""])
def test_unknown_exercise_is_an_error(key):
    with pytest.raises(ValueError, match="no exercise"):
        find_exercise(key)


def test_unknown_hint_is_an_error():
    for number in (0, 99):
        with pytest.raises(ValueError, match="has hints 1 to"):
            hint(KEYS[0], number)


@pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])
def test_stubs_are_those_of_the_chapter(path):
    nb, found = nbformat.read(path, 4), []
    for cell in tagged(nb, "exercise"):
        (stub,) = definitions(cell.source).values()
        last = ast.parse(cell.source).body[-1]
        key, answer = last.value.args
        assert last.value.func.id == "check"
        assert answer.id == stub.name == find_exercise(key.value).name
        assert ast.unparse(stub.body[-1]) == "raise NotImplementedError"
        assert ast.get_docstring(stub), "say the shapes in a docstring"
        found.append(key.value)
    number = str(int(path.name[:2]))
    assert found == [*engine._chapter(number).EXERCISES]


@pytest.mark.parametrize("number", NUMBERS)
def test_quiz_has_one_right_answer_and_explains_all(number):
    for question in find_quiz(number):
        assert 0 <= question.right < len(question.options) <= 4
        assert all(answer and why for answer, why in question.options)


def test_first_order_may_be_written_with_autograd_grad(verdict):
    code = """
def first_order_step(params, loss_fn, batch, lr):
    return without_create_graph(params, loss_fn, batch, lr)
"""
    assert verdict("6.1", code)[0] == "passed"


def test_a_detector_that_gives_up_on_an_error_is_not_enough(verdict):
    code = """
def is_second_order(step):
    def after(w):
        return step({"w": w}, lambda p, batch: p["w"] ** 2, None, 0.1)["w"]

    try:
        return abs(grad(after)(torch.tensor(1.0)).item() - 0.8) < 1e-4
    except RuntimeError:
        return False
"""
    judged, message = verdict("6.2", code)
    assert judged == "wrong" and "on copies" in message
