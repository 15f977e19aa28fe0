"""A model is called with other parameters, and stays what it was."""

import copy
import re
import warnings
from collections import deque
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import grad
from torch.nn import functional as F
from torch.nn.utils import parametrizations, spectral_norm

from mamlkit import (
    Batch,
    Tasks,
    adapt,
    adaptation_curve,
    calling,
    functional_accuracy,
    functional_loss,
    gradient_of,
    imaml_loss,
    in_chunks,
    in_parts,
    meta_loss,
    meta_train,
    multi_step_loss,
    one_by_one,
    reptile_loss,
)


def tasks(n_tasks=4, generator=None, features=3, ways=2):
    """Tasks of random vectors, with class numbers or numbers as targets."""
    draw = partial(torch.randn, generator=generator)
    batches = []
    for k in (5, 6):
        y = torch.arange(k).remainder(ways).repeat(n_tasks, 1)
        batches.append(Batch(draw(n_tasks, k, features), y))
    return Tasks(*batches)


def of(model):
    return {k: p.detach().clone() for k, p in model.named_parameters()}


def state(model):
    """Everything that a model is: objects under their names, and numbers."""
    named = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    return {name: (id(t), type(t), t.detach().clone()) for name, t in named}


def assert_unchanged(model, before):
    after = state(model)
    assert after.keys() == before.keys()
    for name, (place, kind, value) in before.items():
        assert after[name][:2] == (place, kind), name
        assert torch.equal(after[name][2], value), name
    copy.deepcopy(model)


# --- modules and weights with more than one name


class Nest(nn.Module):
    """One block under three names, two of them deep, and a tied weight."""

    def __init__(self):
        super().__init__()
        block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.body = nn.ModuleDict({"a": block, "b": nn.Sequential(block)})
        self.again, self.head = block, nn.Linear(4, 4)
        self.head.weight = block[0].weight
        self.door, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.body["b"](self.body["a"](self.door(x)))
        return self.out(self.head(self.again(x)))


def one_module_twice():
    shared = nn.Linear(4, 4)
    return nn.Sequential(
        nn.Linear(3, 4), shared, nn.Tanh(), shared, nn.Linear(4, 2)
    )


def one_weight_twice():
    model = nn.Sequential(
        nn.Linear(3, 4), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4),
        nn.Linear(4, 2),
    )  # fmt: skip
    model[3].weight = model[1].weight
    return model


SHARING = [one_module_twice, one_weight_twice, Nest]


def make(kind):
    torch.manual_seed(0)
    return kind()


@pytest.mark.parametrize("kind", SHARING, ids=lambda kind: kind.__name__)
def test_a_tensor_with_several_names_is_replaced_in_every_place(kind):
    model, (support, _) = make(kind), tasks()
    batch = Batch(support.x[0], support.y[0])
    loss_fn = functional_loss(model, F.cross_entropy)
    doubled = {name: 2 * p for name, p in of(model).items()}
    found, slope = loss_fn(doubled, batch), grad(loss_fn)(doubled, batch)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2)
    expected = F.cross_entropy(model(batch.x), batch.y)
    torch.testing.assert_close(found, expected)
    expected.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(slope[name], p.grad)


@pytest.mark.parametrize("way", ["vmap", "loop"])
@pytest.mark.parametrize("kind", SHARING, ids=lambda kind: kind.__name__)
def test_no_call_changes_a_model_that_shares(kind, way):
    model, some = make(kind), tasks()
    before = state(model)
    params = dict(model.named_parameters())
    loss_fn = functional_loss(model, F.cross_entropy)
    accuracy = functional_accuracy(model)
    support, query = (Batch(b.x[0], b.y[0]) for b in some)
    adapted = adapt(params, loss_fn, support, lr=0.5, steps=2)
    assert not any(torch.equal(adapted[name], params[name]) for name in params)
    meta_loss(params, loss_fn, some, lr=0.1, over_tasks=way)
    adaptation_curve(
        params, loss_fn, accuracy, some, lr=0.1, steps=2, over_tasks=way
    )
    one_by_one(model, params, support.x, query.x)
    assert_unchanged(model, before)


@pytest.mark.parametrize("way", ["vmap", "loop"])
@pytest.mark.parametrize("kind", SHARING, ids=lambda kind: kind.__name__)
def test_a_model_that_shares_is_trained_as_its_unrolled_twin(kind, way):
    model = make(kind)
    start, places = of(model), [id(p) for p in model.parameters()]
    history = meta_train(
        model, tasks, criterion=F.cross_entropy, inner_lr=0.1, meta_lr=1e-2,
        n_tasks=4, iterations=3, over_tasks=way,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    assert [id(p) for p in model.parameters()] == places
    for name, p in model.named_parameters():
        assert isinstance(p, nn.Parameter)
        assert torch.equal(p, history.params[name])
        assert not torch.equal(p, start[name])
    copy.deepcopy(model)


def test_a_tensor_may_be_given_by_any_of_its_names_but_not_by_two():
    model, (support, _) = make(one_module_twice), tasks()
    batch = Batch(support.x[0], support.y[0])
    loss_fn = functional_loss(model, F.cross_entropy)
    weight = torch.randn(4, 4)
    by_first, by_second, by_both = (
        loss_fn(dict.fromkeys(names, weight), batch)
        for names in (["1.weight"], ["3.weight"], ["1.weight", "3.weight"])
    )
    assert torch.equal(by_first, by_second) and torch.equal(by_first, by_both)
    with pytest.raises(ValueError, match="'3.weight' and '1.weight' are one"):
        loss_fn({"1.weight": weight, "3.weight": 2 * weight}, batch)


# --- state that a forward pass writes


class Remembers(nn.Module):
    """Writes into a buffer; `how` decides in which way."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(3, 2), how
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("hidden", torch.zeros(3), persistent=False)

    def forward(self, x):
        if self.training:
            self.how(self, x.detach().mean(0))
        return self.layer(x + self.seen + self.hidden)


def replaces(self, mean):
    self.seen = 0.9 * self.seen + 0.1 * mean


def adds(self, mean):
    self.seen.add_(0.1)


def copies(self, mean):
    self.hidden.copy_(mean)


def by_data(self, mean):
    self.seen.data.copy_(mean)


def with_spectral(norm):
    return nn.Sequential(norm(nn.Linear(3, 4)), nn.Linear(4, 2))


WRITERS = {
    "spectral parametrisation": lambda: with_spectral(
        parametrizations.spectral_norm
    ),
    "spectral hook": lambda: with_spectral(spectral_norm),
} | {
    how.__name__: partial(Remembers, how)
    for how in (replaces, adds, copies, by_data)
}
USES = {
    "loss": lambda m, t, one: functional_loss(m, F.cross_entropy)(of(m), one),
    "accuracy": lambda m, t, one: functional_accuracy(m)(of(m), one),
    "adapt": lambda m, t, one: adapt(
        of(m), functional_loss(m, F.cross_entropy), one, lr=0.1
    ),
    "one by one": lambda m, t, one: one_by_one(m, of(m), one.x, one.x),
}
for way in ("vmap", "loop"):
    USES |= {
        f"meta_loss {way}": lambda m, t, one, way=way: meta_loss(
            of(m), functional_loss(m, F.cross_entropy), t, lr=0.1,
            over_tasks=way,
        ),
        f"imaml_loss {way}": lambda m, t, one, way=way: imaml_loss(
            of(m), functional_loss(m, F.cross_entropy), t, strength=1.0,
            lr=0.1, steps=1, over_tasks=way,
        ),
        f"adaptation_curve {way}": lambda m, t, one, way=way: (
            adaptation_curve(
                of(m), functional_loss(m, F.cross_entropy),
                functional_accuracy(m), t, lr=0.1, steps=1, over_tasks=way,
            )
        ),
        f"meta_train {way}": lambda m, t, one, way=way: meta_train(
            m, tasks, criterion=F.cross_entropy, inner_lr=0.1, meta_lr=0.1,
            n_tasks=2, iterations=1, over_tasks=way,
            generator=torch.Generator().manual_seed(0),
        ),
    }  # fmt: skip


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("writer", WRITERS)
def test_what_a_forward_pass_writes_is_said_and_undone(writer, use):
    torch.manual_seed(0)
    model, some = WRITERS[writer](), tasks()
    one = Batch(some.support.x[0], some.support.y[0])
    before = state(model)
    said = "the model's forward pass changes"
    # Writing over all tasks at once is what vmap itself refuses.
    no = f"{said}|vmap: inplace arithmetic|aten::div.out"
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            found = USES[use](model, some, one)
        except (ValueError, RuntimeError) as refused:
            assert re.search(no, str(refused))
        else:
            assert any(said in str(w.message) for w in heard)
            assert not use.startswith("meta_train")
            same(found, USES[use](model, some, one))
    assert_unchanged(model, before)


def same(found, again):
    for a, b in zip(as_list(found), as_list(again)):
        assert torch.equal(a, b)


def as_list(found):
    return [*found.values()] if isinstance(found, dict) else [found]


@pytest.mark.parametrize("writer", WRITERS)
def test_in_eval_mode_where_it_only_reads_it_is_accepted(writer):
    torch.manual_seed(0)
    model, some = WRITERS[writer]().eval(), tasks()
    before = state(model)
    USES["meta_loss loop"](model, some, None)
    assert_unchanged(model, before)


def test_what_the_owner_writes_between_calls_is_kept():
    model, some = Remembers(adds).eval(), tasks()
    one = Batch(some.support.x[0], some.support.y[0])
    loss_fn = functional_loss(model, F.cross_entropy)
    first = loss_fn(of(model), one)
    model.load_state_dict(model.state_dict() | {"seen": torch.ones(3)})
    assert loss_fn(of(model), one) != first
    model.seen = torch.full((3,), 2.0)
    loss_fn(of(model), one)
    assert (model.seen == 2).all()
    model.train()
    with pytest.warns(calling.Undone, match="changes its buffer 'seen'"):
        loss_fn(of(model), one)
    assert (model.seen == 2).all()


def test_weights_that_every_call_renormalises_are_refused():
    model = nn.Sequential(nn.Embedding(5, 3, max_norm=0.1), nn.Linear(3, 2))
    before = state(model)
    one = Batch(torch.arange(4), torch.tensor([0, 1, 0, 1]))
    loss_fn = functional_loss(model, F.cross_entropy)
    with pytest.raises(ValueError, match="Embedding '0' has max_norm"):
        adapt(dict(model.named_parameters()), loss_fn, one, lr=0.1)
    assert_unchanged(model, before)


def test_buffers_made_in_inference_mode_and_nan_are_left_in_peace():
    model = Remembers(adds).eval()
    with torch.inference_mode():
        model.seen = torch.zeros(3)
    model.hidden[0] = float("nan")
    loss_fn = functional_loss(model, F.cross_entropy)
    some = tasks()
    loss_fn(of(model), Batch(some.support.x[0], some.support.y[0]))


def test_embeddings_of_plain_numbers_have_no_features():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2))
    one = Batch(torch.arange(4), torch.tensor([0, 1, 0, 1]))
    assert functional_loss(model, F.cross_entropy)(of(model), one) > 0


class Listens(nn.Module):
    """Leaves tensors and a count in itself, as attributes."""

    def __init__(self, how):
        super().__init__()
        self.layer, self.how = nn.Linear(3, 2), how
        self.last, self.hidden = None, torch.zeros(3)

    def forward(self, x):
        self.how(self, x)
        return self.layer(x + self.hidden)


def notes(self, x):
    self.last, self.calls = self.layer(x), 1


def carries_over(self, x):
    self.hidden = 0.5 * self.hidden + x.mean(0)


def writes_over(self, x):
    self.hidden += 1


@pytest.mark.parametrize("how", [notes, carries_over])
@pytest.mark.parametrize("use", USES)
def test_attributes_are_as_they_were(how, use):
    torch.manual_seed(0)
    model, some = Listens(how), tasks()
    one = Batch(some.support.x[0], some.support.y[0])
    hidden = model.hidden
    first = functional_loss(model, F.cross_entropy)(of(model), one)
    USES[use](model, some, one)
    assert model.last is None and not hasattr(model, "calls")
    assert model.hidden is hidden and not hidden.any()
    if not use.startswith("meta_train"):
        again = functional_loss(model, F.cross_entropy)(of(model), one)
        assert torch.equal(first, again)


def remembers(self, x):
    self.memory.append(x.mean(0))
    self.hidden = torch.stack([*self.memory]).sum(0)


@pytest.mark.parametrize("use", USES)
def test_what_lists_hold_is_as_it_was(use):
    torch.manual_seed(0)
    model, some = Listens(remembers), tasks()
    model.memory, model.by_name, model.order = [], {"a": 1}, deque([2])
    one = Batch(some.support.x[0], some.support.y[0])
    first = functional_loss(model, F.cross_entropy)(of(model), one)
    USES[use](model, some, one)
    assert model.memory == [] and model.by_name == {"a": 1}
    assert model.order == deque([2])
    if not use.startswith("meta_train"):
        again = functional_loss(model, F.cross_entropy)(of(model), one)
        assert torch.equal(first, again)


class Odd(dict):
    def update(self, *args):
        raise RuntimeError("no update")


def test_containers_that_nobody_touches_and_odd_ones_stay():
    def learns(self, x):
        self.words["new"] = 0  # too long to be copied at each call

    model, some = Listens(learns), tasks()
    words = {str(i): i for i in range(2_000)}
    model.odd, model.words, model.list = Odd(a=1), words, [torch.ones(2)]
    one = Batch(some.support.x[0], some.support.y[0])
    loss_fn = functional_loss(model, F.cross_entropy)
    assert loss_fn(of(model), one).isfinite()
    assert model.odd == {"a": 1} and len(words) == 2_001
    assert len(model.list) == 1


def test_a_list_that_its_owner_exchanges_is_put_back_too():
    model, some = Listens(remembers), tasks()
    model.memory = []
    one = Batch(some.support.x[0], some.support.y[0])
    loss_fn = functional_loss(model, F.cross_entropy)
    model.memory = mine = []
    for _ in range(3):
        loss_fn(of(model), one)
    assert model.memory is mine and not mine


def test_attributes_of_numpy_are_no_obstacle():
    def draws(self, x):
        self.order = np.random.permutation(3)

    model, some = Listens(draws), tasks()
    model.order = np.arange(3)
    one = Batch(some.support.x[0], some.support.y[0])
    assert functional_loss(model, F.cross_entropy)(of(model), one).isfinite()
    assert np.array_equal(model.order, np.arange(3))


@pytest.mark.parametrize("use", USES)
def test_an_attribute_that_is_written_into_is_put_back_too(use):
    model, some = Listens(writes_over), tasks()
    one = Batch(some.support.x[0], some.support.y[0])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            USES[use](model, some, one)
        except ValueError as refused:
            heard.append(refused)
    assert "the model's forward pass changes" in str(heard[0])
    assert not model.hidden.any()


# --- several inputs


class Masked(nn.Module):
    """Ids and a mask, by position or by name."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(10, 8), nn.Linear(8, 2)

    def forward(self, ids, mask):
        weighed = self.embedding(ids) * mask.unsqueeze(-1)
        return self.head(weighed.mean(1))


def together(model):
    """The same model with both inputs in one tensor."""

    class Together(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x[..., 0].long(), x[..., 1])

    return Together()


def masked(form, n_tasks=4, generator=None):
    generator = generator or torch.Generator().manual_seed(0)
    batches = []
    for k in (5, 3):
        ids = torch.randint(10, (n_tasks, k, 6), generator=generator)
        mask = torch.rand((n_tasks, k, 6), generator=generator)
        y = torch.randint(2, (n_tasks, k), generator=generator)
        x = {
            "tuple": (ids, mask),
            "list": [ids, mask],
            "dict": {"mask": mask, "ids": ids},
            "one": torch.stack([ids.float(), mask], -1),
        }[form]
        batches.append(Batch(x, y))
    return Tasks(*batches)


def on_masked(form, run, **options):
    torch.manual_seed(0)
    model = Masked()
    model = together(model) if form == "one" else model
    params = {f"{k.removeprefix('model.')}": k for k in of(model)}
    found = run(model, masked(form), **options)
    if isinstance(found, dict):
        return {short: found[name] for short, name in params.items()}
    return found


OBJECTIVES = [
    meta_loss,
    reptile_loss,
    partial(imaml_loss, strength=1.0),
    partial(multi_step_loss, weights=[0.5, 0.5]),
]


@pytest.mark.parametrize("form", ["tuple", "list", "dict"])
@pytest.mark.parametrize("way", ["vmap", "loop"])
@pytest.mark.parametrize("size", [None, 3])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_several_inputs_give_the_gradient_of_one(form, way, size, objective):
    def run(model, some):
        follow = partial(objective, lr=0.1, steps=2, over_tasks=way)
        gradient = gradient_of(follow)
        gradient = in_parts(gradient, size) if size else gradient
        loss_fn = functional_loss(model, F.cross_entropy)
        return gradient(of(model), loss_fn, some)[0]

    several, one = on_masked(form, run), on_masked("one", run)
    assert several.keys() == one.keys()
    for name in one:
        torch.testing.assert_close(several[name], one[name])


@pytest.mark.parametrize("form", ["tuple", "list", "dict"])
@pytest.mark.parametrize("way", ["vmap", "loop"])
def test_several_inputs_are_judged_and_trained_as_one(form, way):
    def judge(model, some):
        loss_fn = functional_loss(model, F.cross_entropy)
        curve = partial(
            adaptation_curve, of(model), loss_fn, functional_accuracy(model),
            lr=0.5, steps=2, over_tasks=way,
        )  # fmt: skip
        return in_chunks(curve, some, 3)

    def train(model, some):
        return meta_train(
            model, lambda n_tasks, generator: some,
            criterion=F.cross_entropy, inner_lr=0.1, meta_lr=0.1, n_tasks=4,
            iterations=3, over_tasks=way, tasks_at_once=3,
            generator=torch.Generator().manual_seed(0),
        ).loss  # fmt: skip

    for run in (judge, train):
        torch.testing.assert_close(on_masked(form, run), on_masked("one", run))


def test_several_inputs_that_do_not_fit_are_named():
    (ids, mask), y = masked("tuple").support
    loss_fn = functional_loss(Masked(), F.cross_entropy)
    for wrong, said in (
        ((ids, mask[:3]), r"'support.x\[1\]': 3"),
        ((ids, mask[:, :2]), r"5 x\[0\] and 2 x\[1\] and 5 y"),
    ):
        both = Tasks(Batch(wrong, y), Batch(wrong, y))
        with pytest.raises(ValueError, match=said):
            meta_loss(of(Masked()), loss_fn, both, lr=0.1)


def test_parameters_of_another_model_are_refused():
    model = nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))
    other, t = nn.Linear(3, 2), tasks()
    one = Batch(t.query.x[0], t.query.y[0])
    loss_fn = functional_loss(model, F.cross_entropy)
    accuracy = functional_accuracy(model)
    said = (
        "parameters do not fit the model: it has no 'weight', 'bias'; missing "
        "'0.weight', '0.bias', '2.weight', …"
    )
    curve = {"lr": 0.1, "steps": 2}
    for call in (
        lambda: adaptation_curve(of(other), loss_fn, loss_fn, t, **curve),
        lambda: adaptation_curve(of(other), loss_fn, accuracy, t, **curve),
        lambda: accuracy(of(other), one),
        lambda: one_by_one(model, of(other), one.x, one.x),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            call()
    with pytest.raises(ValueError, match="it has no 'w'$"):
        loss_fn(of(model) | {"w": torch.zeros(1)}, one)


def test_part_of_the_parameters_buffers_and_second_names_are_fine():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = self.a
            self.register_buffer("scale", torch.ones(3))
            self.plain = torch.zeros(3)

        def forward(self, x):
            return self.b(x) * self.scale + self.plain

    one = Batch(torch.randn(5, 3), torch.arange(5) % 3)
    loss_fn, seen = functional_loss(Tied(), F.cross_entropy), set()
    for name in ("a.bias", "b.bias", "scale", "plain"):
        part = {name: torch.tensor([0.3, -0.9, 2.0])}
        seen.add(loss_fn(part, one).item())
    assert len(seen) == 3, "each is used, and both names are one bias"


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_x_of_another_type_and_labels_without_logits(over_tasks):
    model = nn.Linear(3, 2)
    loss_fn, way = functional_loss(model, F.cross_entropy), over_tasks
    settings = {"lr": 0.1, "steps": 1, "over_tasks": way}

    def judged(t):
        adaptation_curve(of(model), loss_fn, loss_fn, t, **settings)

    def with_x(change):
        return Tasks(*(Batch(change(x), y) for x, y in tasks()))

    def with_y(change):
        return Tasks(*(Batch(x, change(y)) for x, y in tasks()))

    for change, kind in (
        (Tensor.long, "int64"),
        (lambda x: x > 0, "bool"),
        (Tensor.double, "float64"),
    ):
        said = f"x is torch.{kind} and the model torch.float32: make them alik"
        with pytest.raises(ValueError, match=said):
            judged(with_x(change))
    said = "the model gives 2 logits, labels go up to 4"
    with pytest.raises(ValueError, match=said):
        judged(with_y(lambda y: y * 4))
    with pytest.raises(ValueError, match="labels go down to -1"):
        judged(with_y(lambda y: y - 1))


def test_labels_that_are_no_whole_numbers_say_so():
    loss_fn = functional_loss(nn.Linear(3, 2), nn.CrossEntropyLoss())
    params = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    batch = Batch(torch.zeros(4, 3), torch.zeros(4))
    with pytest.raises(ValueError, match=r"labels are float32.*y\.long\(\)"):
        loss_fn(params, batch)
    with pytest.raises(ValueError, match=r"labels are float32.*y\.long\(\)"):
        grad(loss_fn)(params, batch)


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
@pytest.mark.parametrize("use", [nn.CrossEntropyLoss(), F.nll_loss])
def test_labels_with_a_last_axis_say_so(use, over_tasks):
    model = nn.Linear(3, 2)
    apart = Tasks(*(Batch(x, y[..., None]) for x, y in tasks()))
    said = r"gives \(5, 2\), y is \(5, 1\): take y's last axis away, y\[..., 0"
    with pytest.raises(ValueError, match=said):
        meta_loss(
            of(model), functional_loss(model, use), apart, lr=0.1,
            over_tasks=over_tasks,
        )  # fmt: skip


@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_a_criterion_that_returns_a_number_is_blamed_and_not_the_model(
    over_tasks,
):
    model = nn.Linear(3, 2)

    def number(outputs, y):
        return F.cross_entropy(outputs, y).item()

    with pytest.raises(ValueError, match=r"criterion .*\.item\(\)"):
        meta_train(
            model, tasks, criterion=number, inner_lr=0.1, meta_lr=0.1,
            n_tasks=4, iterations=1, over_tasks=over_tasks,
            generator=torch.Generator(),
        )  # fmt: skip


@pytest.mark.parametrize("criterion", [None, "mse"])
def test_what_is_no_criterion_is_refused_at_once(criterion):
    with pytest.raises(ValueError, match="criterion must be a function"):
        functional_loss(nn.Linear(3, 2), criterion)


def test_meta_train_says_that_x_holds_whole_numbers():
    whole = Tasks(*(Batch(x.long(), y) for x, y in tasks()))
    with pytest.raises(ValueError, match="x is torch.int64 and the model"):
        meta_train(
            nn.Linear(3, 2), lambda n, generator: whole, inner_lr=0.1,
            criterion=F.cross_entropy, meta_lr=0.1, n_tasks=4, iterations=1,
            generator=torch.Generator(),
        )  # fmt: skip


def test_whole_numbers_stay_fine_where_the_model_takes_them():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(9, 3), nn.Flatten(), nn.Linear(6, 2))
    loss_fn = functional_loss(model, F.cross_entropy)
    t = Tasks(*(Batch(x[..., :2].long().abs(), y) for x, y in tasks()))
    curve = adaptation_curve(of(model), loss_fn, loss_fn, t, lr=0.1, steps=1)
    assert (curve[:, 1] < curve[:, 0]).any()


def test_judging_notes_the_loop_at_what_vmap_cannot_batch():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 2, batch_first=True)

        def forward(self, x):
            return self.rnn(x.unsqueeze(1))[0][:, -1]

    model = Recurrent()
    loss_fn = functional_loss(model, F.cross_entropy)
    call = partial(
        adaptation_curve, of(model), loss_fn, loss_fn, tasks(), lr=0.1, steps=1
    )
    with pytest.raises(RuntimeError) as caught:
        call()
    assert caught.value.__notes__ == [calling.LOOP]
    assert call(over_tasks="loop").shape == (4, 2)


# --- gradients of one task ---------------------------------------------------


def curved(params, batch):
    """Knows one parameter, or none of it, by another way as well."""
    return (params["a"] ** 3 * batch).sum() + (
        params["b"] - CENTRE
    ).sin().sum()


CENTRE = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
PLACES = {
    "apart": {"a": torch.tensor([1.0, 2.0]).double(), "b": CENTRE + 1},
    "the loss knows it": {"a": CENTRE, "b": CENTRE},
    "not used": {"a": CENTRE, "b": CENTRE * 2, "c": CENTRE * 3},
}


@pytest.mark.parametrize("kind", PLACES)
def test_autograd_and_the_transform_give_one_gradient(kind):
    params = {k: p.detach().clone() for k, p in PLACES[kind].items()}
    params = {k: p.requires_grad_() for k, p in params.items()}
    if kind == "the loss knows it":
        params = {"a": CENTRE, "b": CENTRE}
    batch = torch.tensor([2.0, -1.0]).double()
    ours, theirs = (f(curved)(params, batch) for f in (calling.grad, grad))
    assert [*ours] == [*theirs] == [*params]
    leaves = [*params.values(), CENTRE]
    for name in params:
        assert torch.equal(ours[name], theirs[name])
        for leaf in leaves:
            one, other = (slopes(g[name], leaf) for g in (ours, theirs))
            assert torch.equal(one, other)


def slopes(of, leaf):
    if not of.requires_grad:
        return torch.zeros_like(leaf)
    options = {"retain_graph": True, "materialize_grads": True}
    return torch.autograd.grad(of.sum(), leaf, **options)[0]


@pytest.mark.parametrize("where", ["vmap", "grad", "no_grad", "detached"])
def test_autograd_is_left_alone_inside_a_transform(where):
    params = {
        k: p.detach().requires_grad_() for k, p in PLACES["apart"].items()
    }
    batches = torch.arange(6.0).double().view(3, 2)

    def both(at, batch):
        return [f(curved)(at, batch)["a"] for f in (calling.grad, grad)]

    if where == "vmap":
        ours, theirs = torch.func.vmap(partial(both, params))(batches)
    elif where == "grad":
        ours, theirs = (
            grad(lambda p, f=f: f(curved)(p, batches[1])["a"].sum())(params)[
                "a"
            ]
            for f in (calling.grad, grad)
        )
    elif where == "no_grad":
        with torch.no_grad():
            ours, theirs = both(params, batches[1])
        assert not ours.requires_grad
    else:
        ours, theirs = both(
            {k: p.detach() for k, p in params.items()}, batches[1]
        )
    assert torch.equal(ours, theirs) and ours.any()


def test_a_loss_that_knows_no_parameter_has_gradients_of_zero():
    params = {"a": torch.ones(2, requires_grad=True)}
    found = calling.grad(lambda params, batch: batch.sum())(
        params, torch.ones(3)
    )
    assert not found["a"].any()


class WritesIntoX(nn.Linear):
    def forward(self, x):
        x.sub_(0.5)
        return super().forward(x)


@pytest.mark.parametrize("steps", [0, 1])
@pytest.mark.parametrize("over_tasks", ["vmap", "loop"])
def test_a_forward_pass_that_writes_into_x_is_refused(over_tasks, steps):
    model = WritesIntoX(3, 2)
    params = {k: p.detach() for k, p in model.named_parameters()}
    loss_fn = functional_loss(model, F.cross_entropy)
    some = tasks(2, generator=torch.Generator())
    with pytest.raises((ValueError, RuntimeError), match="into x|vmap"):
        adaptation_curve(params, loss_fn, loss_fn, some, lr=0.1, steps=steps)
    with pytest.raises(ValueError, match="writes into x"):
        meta_train(
            model, tasks, criterion=F.cross_entropy, inner_lr=0.1, meta_lr=0.1,
            n_tasks=4, iterations=1, over_tasks=over_tasks, steps=steps,
            generator=torch.Generator(),
        )  # fmt: skip


@pytest.mark.parametrize("kind", [torch.int32, torch.int16, torch.bool])
def test_labels_of_another_type_are_named(kind):
    model = nn.Linear(3, 2)
    batch = Batch(torch.randn(5, 3), torch.tensor([0, 1, 0, 1, 1]).to(kind))
    said = str(kind).removeprefix("torch.")
    with pytest.raises(ValueError, match=f"labels are {said}, and must be"):
        functional_loss(model, F.cross_entropy)(of(model), batch)


def test_whole_numbers_for_a_loss_of_fractions_are_named():
    model = nn.Linear(3, 1)
    batch = Batch(torch.randn(5, 3), torch.randint(0, 2, (5, 1)))
    loss_fn = functional_loss(model, F.binary_cross_entropy_with_logits)
    with pytest.raises(ValueError, match=r"y is int64.* y.float\(\)"):
        loss_fn(of(model), batch)
