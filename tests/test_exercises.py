"""Every exercise: solutions pass, mistakes get a message of their own."""

import ast
import contextlib
import functools

import nbformat
import pytest
import torch
from chapters import CHAPTERS, code_cells, definitions, tagged

from mamlkit.exercises import (
    check,
    engine,
    find_exercise,
    find_exercises,
    find_quiz,
    hint,
    progress,
    solution,
)
from mamlkit.exercises.compare import compare
from mamlkit.exercises.exercise import ask
from mamlkit.exercises.trial import right_result, unchanged
from mamlkit.paths import ROOT

NUMBERS = sorted(
    path.stem[2:] for path in (ROOT / "mamlkit/exercises").glob("ch*.py")
)
KEYS = [exercise.key for n in NUMBERS for exercise in find_exercises(n)]
OPEN = [key for key in KEYS if not find_exercise(key).solution]
MISTAKES = [
    pytest.param(key, number, id=f"{key}-{number}")
    for key in KEYS
    for number in range(len(find_exercise(key).mistakes))
]
IMPORTS = ast.Import | ast.ImportFrom
# What another name of something imported is made of.
PLAIN = {ast.Tuple, ast.Attribute, ast.Name, ast.Load}
each_exercise = pytest.mark.parametrize("key", KEYS)


@functools.cache
def chapter_code(number):
    """Imports, parameters and definitions of a chapter; no call runs."""
    (path,) = [p for p in CHAPTERS if int(p.name[:2]) == number]
    nb, parts = nbformat.read(path, 4), []
    for cell in code_cells(nb):
        parts += [
            node
            for node in ast.parse(cell.source).body
            if isinstance(node, IMPORTS | ast.FunctionDef | ast.ClassDef)
            or cell in tagged(nb, "parameters")
            or isinstance(node, ast.Assign)
            and {*map(type, ast.walk(node.value))} <= PLAIN
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
        progress,
        "show_bundle",
        lambda bundle, metadata: cards.append(metadata),
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
    judged, message = verdict(key, find_exercise(key).code)
    assert judged == "passed", message


@each_exercise
def test_untouched_stub_is_not_started(verdict, key):
    name = find_exercise(key).name
    code = f"def {name}(*args, **kwargs):\n    raise NotImplementedError"
    assert verdict(key, code)[0] == "not started"


@pytest.mark.parametrize(("key", "number"), MISTAKES)
def test_mistake_gets_its_own_message(verdict, key, number):
    exercise = find_exercise(key)
    phrases = [phrase for *_, phrase in exercise.mistakes]
    judged, message = verdict(key, exercise.mistaken(number))
    assert judged == "wrong" and phrases[number] in message, message
    # One that several mistakes share must not be in another's message.
    others = {*phrases} - {phrases[number]}
    assert not [other for other in others if other in message]


@each_exercise
def test_solution_is_what_was_worked_out_by_hand(key):
    exercise = find_exercise(key)
    if exercise.by_hand:
        compare(right_result(exercise, 0), exercise.by_hand())
    assert bool(exercise.first) == bool(exercise.by_hand and exercise.told)
    assert exercise.draw or exercise.prove, "random instances decide"


@each_exercise
def test_hints_and_solution_print(capsys, monkeypatch, key):
    monkeypatch.setattr(engine, "_hinted", set())
    monkeypatch.setattr(engine, "_passed", set())
    monkeypatch.setattr(engine, "_tries", engine.Counter())
    exercise = find_exercise(key)
    solution(key)
    said = capsys.readouterr().out
    assert "hint(" in said and "def " not in said
    for number, text in enumerate(exercise.hints, 1):
        hint(key, number)
        assert text in capsys.readouterr().out
    solution(key)
    said = capsys.readouterr().out
    if key in OPEN:
        assert "many answers are right" in said
    else:
        assert exercise.name in definitions(said)


def test_what_is_half_written_and_wrong_is_wrong(verdict):
    answer = (
        "def my_adapt(params, loss_fn, support, lr, steps):\n"
        "    if steps > 2:\n        raise NotImplementedError\n"
        "    return params"
    )
    assert verdict("3.4", answer)[0] == "wrong"


def test_an_argument_of_another_type_is_told():
    changed = torch.ones(2, dtype=torch.float64), torch.ones(2)
    assert not unchanged(*changed)


def test_a_number_is_as_good_a_name(capsys, monkeypatch):
    monkeypatch.setattr(engine, "_hinted", set())
    monkeypatch.setattr(engine, "_passed", set())
    monkeypatch.setattr(engine, "_tries", engine.Counter())
    hint(3.1)
    solution("3.1")
    assert "hint(" not in capsys.readouterr().out
    monkeypatch.setattr(engine, "_hinted", set())
    hint("3.1")
    solution(3.1)
    assert "hint(" not in capsys.readouterr().out


def test_two_tries_are_as_good_as_a_hint(verdict, capsys, monkeypatch):
    monkeypatch.setattr(engine, "_passed", set())
    monkeypatch.setattr(engine, "_tries", engine.Counter())
    for _ in range(2):
        solution("0.1")
        assert "def lucky" not in capsys.readouterr().out
        verdict("0.1", "def lucky(n_way, n_rounds):\n    return 2")
    capsys.readouterr()
    solution("0.1")
    assert "def lucky" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["99.1", "3.99", "x", ""])
def test_unknown_exercise_is_an_error(key):
    with pytest.raises(ValueError, match="no exercise"):
        find_exercise(key)


def test_a_key_may_be_typed_as_a_number():
    assert find_exercise(3.1) is find_exercise("3.1")


def test_unknown_hint_is_an_error():
    for number in (0, 99):
        with pytest.raises(ValueError, match="has hints 1 to"):
            hint(KEYS[0], number)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_chapter_marks_one_exercise_and_ends_with_an_open_one(number):
    exercises = find_exercises(number)
    assert sum(exercise.the_one for exercise in exercises) == 1
    assert exercises[-1].key in OPEN and exercises[-1].example
    for exercise in exercises:
        assert exercise.level in (1, 2, 3) and 0 < exercise.minutes <= 30
        assert exercise.hints and exercise.mistakes
        assert exercise.key.split(".")[0] == str(int(number))


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
        right = find_exercise(key.value).right
        assert ast.unparse(stub.args) == ast.unparse(_arguments(right))
        found.append(key.value)
    number = str(int(path.name[:2]))
    assert found == [e.key for e in find_exercises(number)]


def _arguments(function):
    exercise = next(
        find_exercise(key)
        for key in KEYS
        if find_exercise(key).right is function
    )
    (tree,) = definitions(exercise.code).values()
    return tree.args


@pytest.mark.parametrize("path", CHAPTERS, ids=[p.stem for p in CHAPTERS])
def test_each_exercise_says_how_hard_it_is(path):
    text = "\n".join(
        cell.source
        for cell in nbformat.read(path, 4).cells
        if cell.cell_type == "markdown"
    )
    for exercise in find_exercises(path.name[:2]):
        heading = f"### Exercise {exercise.key}: "
        _, found, after = text.partition(heading)
        assert found, f"no heading that begins with {heading!r}"
        line = after.split("\n")[2]
        dots = "●" * exercise.level + "○" * (3 - exercise.level)
        wanted = f"{dots} · about {exercise.minutes} minutes"
        wanted += " · the one to do" * exercise.the_one
        wanted += " · open" * (exercise.key in OPEN)
        assert line == f"*{wanted}*", exercise.key


@pytest.mark.parametrize("number", NUMBERS)
def test_quiz_has_one_right_answer_and_explains_all(number):
    for question in find_quiz(number):
        assert 0 <= question.right < len(question.options) <= 4
        assert all(answer and why for answer, why in question.options)


def test_right_answers_stand_anywhere():
    by_chapter = [[q.right for q in find_quiz(n)] for n in NUMBERS]
    assert all(len({*places}) > 1 for places in by_chapter)
    places = [place for places in by_chapter for place in places]
    counts = [places.count(place) for place in range(3)]
    assert min(counts) > len(places) / 5, counts


def test_a_question_always_looks_the_same():
    one, other = (
        ask("Why?", ("So.", "Yes."), ("Not.", "No."), ("Nor.", "No."))
        for _ in range(2)
    )
    assert one == other and one.options[one.right] == ("So.", "Yes.")


# What is said about answers that do not even run.


def test_a_crash_shows_the_line_of_the_learner(verdict, tmp_path):
    code = "def lucky(n_way, n_rounds):\n    x = 1\n    return x / 0\n"
    judged, message = verdict("0.1", code)
    assert judged == "wrong"
    assert "ZeroDivisionError" in message and "your line 3" in message
    assert "For 2 rounds of 5 answers" in message
    file = tmp_path / "cell.py"
    file.write_text(code)
    space = {}
    exec(compile(code, str(file), "exec"), space)
    with pytest.raises(engine.Wrong, match="`return x / 0`"):
        find_exercise("0.1").check(space["lucky"])


def test_a_crash_within_a_library_shows_the_line_that_called(verdict):
    code = """
def nearest(examples, query):
    return torch.cat([examples, query]).sum()
"""
    _, message = verdict("0.2", code)
    assert "RuntimeError" in message and "your line 3" in message


def test_not_implemented_by_torch_is_not_a_stub(verdict):
    code = """
def nearest(examples, query):
    return torch.nn.Module()(examples)
"""
    judged, message = verdict("0.2", code)
    assert judged == "wrong" and "NotImplementedError" in message


@pytest.mark.parametrize("answer", [3, None, "x", torch.tensor(1.0)])
def test_a_result_in_place_of_the_function(answer):
    with pytest.raises(engine.Wrong, match="the function itself"):
        find_exercise("0.1").check(answer)


def test_functions_of_any_kind_are_taken():
    class Whatever:
        def __call__(self, n_way, n_rounds):
            return n_way**-n_rounds

    exercise = find_exercise("0.1")
    exercise.check(Whatever())
    exercise.check(functools.partial(lambda a, n, r: n**-r, None))


FORBIDDEN = [
    "    return meta_loss(params, loss_fn, tasks, lr=lr, steps=steps)",
    "    import mamlkit\n    return mamlkit.meta_loss(params, loss_fn, tasks, "
    "lr=lr, steps=steps)",
    "    from mamlkit import objectives as o\n    return o.meta_loss(params, "
    "loss_fn, tasks, lr=lr, steps=steps)",
    "    return ALIAS(params, loss_fn, tasks, lr=lr, steps=steps)",
    "    return PARTIAL(params, loss_fn, tasks, steps=steps, lr=lr)",
    "    return kept[0](params, loss_fn, tasks, lr=lr, steps=steps)",
    "    from mamlkit import multi_step_loss\n    return multi_step_loss("
    "params, loss_fn, tasks, lr=lr, steps=steps, weights=[0] * (steps - 1) + "
    "[1])",
]


@pytest.mark.parametrize("body", FORBIDDEN)
def test_a_forbidden_call_is_caught_under_any_name(verdict, body):
    code = f"""
from functools import partial
from mamlkit import meta_loss as ALIAS
PARTIAL, kept = partial(ALIAS, over_tasks="loop"), [ALIAS]
def my_meta_loss(params, loss_fn, tasks, lr, steps):
{body}
"""
    judged, message = verdict("4.1", code)
    assert judged == "wrong" and "You call m" in message


def test_a_helper_of_ones_own_may_have_any_name(verdict):
    code = find_exercise("4.5").code.replace("total", "meta_loss")
    assert verdict("4.5", code)[0] == "passed"


def test_a_score_of_one_hand_alone_is_no_number():
    score = find_exercise("0.3").right(torch.randn(4, 1, 2))
    assert score.isnan()
