import time

import pytest
import torch
from torch.func import grad_and_value
from torch.nn import functional as F

from mamlkit import CNN, Episodes, functional_loss, meta_loss

TURNED = {"rotations": True}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    """Pixel (0, 0) tells the class, (0, 1) the example, (1, 0) is marked."""
    images = torch.zeros(30, 20, 1, 4, 4)
    images[..., 0, 0] = (torch.arange(30) + 1).view(30, 1, 1) / 100
    images[..., 0, 1] = (torch.arange(20) + 1).view(1, 20, 1) / 100
    images[..., 1, 0] = 1.0
    return images


def classes_and_examples(batch):
    x = (100 * batch.x[:, :, 0, 0, :2]).round().int() - 1
    return x[..., 0], x[..., 1]


def test_shapes_and_labels(images):
    support, query = Episodes(images, n_way=3).sample(
        6, k_shot=2, k_query=4, generator=rng()
    )
    assert support.x.shape == (6, 6, 1, 4, 4)
    assert query.x.shape == (6, 12, 1, 4, 4)
    assert support.y.tolist() == [[0, 0, 1, 1, 2, 2]] * 6
    assert query.y[5].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_classes_are_drawn_without_replacement_and_labels_agree(images):
    tasks = Episodes(images, n_way=30, rotations=False).sample(
        20, k_shot=1, k_query=3, generator=rng()
    )
    support, _ = classes_and_examples(tasks.support)
    query, _ = classes_and_examples(tasks.query)
    for one, many in zip(support, query):
        assert sorted(one.tolist()) == list(range(30))
        assert many.view(30, 3).eq(one[:, None]).all()


def test_support_and_query_share_no_image(images):
    tasks = Episodes(images, n_way=5, rotations=False).sample(
        50, k_shot=8, k_query=12, generator=rng()
    )
    _, support = classes_and_examples(tasks.support)
    _, query = classes_and_examples(tasks.query)
    drawn = torch.cat([support.view(50, 5, 8), query.view(50, 5, 12)], -1)
    assert (drawn.sort().values == torch.arange(20)).all()


def test_every_class_and_example_is_as_likely_as_any_other(images):
    tasks = Episodes(images, n_way=5, rotations=False).sample(
        4_000, k_shot=1, k_query=1, generator=rng()
    )
    classes, examples = classes_and_examples(tasks.query)
    for drawn, count in ((classes, 30), (examples, 20)):
        counts = drawn.flatten().bincount(minlength=count)
        expected = 20_000 / count
        # Five standard deviations of a binomial count.
        assert (counts - expected).abs().max() < 5 * expected**0.5
    # The order within a task is random too: no label prefers a class.
    firsts = classes[:, 0].bincount(minlength=30)
    assert (firsts - 4_000 / 30).abs().max() < 5 * (4_000 / 30) ** 0.5


def quarter_turns(x):
    """Find how far each image was turned, from where its mark went."""
    corners = torch.stack(
        [x[..., 1, 0], x[..., -1, 1], x[..., -2, -1], x[..., 0, -2]], -1
    )
    assert (corners == 1).sum(-1).eq(1).all()
    return (corners == 1).int().argmax(-1)


def test_a_class_is_turned_as_a_whole_and_each_turn_is_as_likely(images):
    tasks = Episodes(images, n_way=5, rotations=True).sample(
        1_000, k_shot=2, k_query=3, generator=rng()
    )
    support = quarter_turns(tasks.support.x[:, :, 0]).view(1_000, 5, 2)
    query = quarter_turns(tasks.query.x[:, :, 0]).view(1_000, 5, 3)
    turns = torch.cat([support, query], -1)
    assert (turns == turns[..., :1]).all()
    counts = turns[..., 0].flatten().bincount(minlength=4)
    assert (counts - 1_250).abs().max() < 5 * (5_000 * 3 / 16) ** 0.5
    # Classes of one task turn independently: all five alike in 1 of 256.
    alike = (turns[..., 0] == turns[:, :1, 0]).all(1).float().mean()
    assert alike < 0.02


def test_nothing_is_turned_that_was_not_asked_for(images):
    tasks = Episodes(images, n_way=5).sample(
        50, k_shot=1, k_query=1, generator=rng()
    )
    assert (tasks.support.x[:, :, 0, 1, 0] == 1).all()


def test_the_same_seed_draws_the_same_tasks_and_images_stay(images):
    before = images.clone()
    family = Episodes(images)
    first, again, other = (
        family.sample(4, k_shot=1, k_query=1, generator=rng(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first.support.x, again.support.x)
    assert torch.equal(first.query.x, again.query.x)
    assert not torch.equal(first.support.x, other.support.x)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda x: (255 * x).byte(), {}, "class 0 holds bytes.* images / 255"),
        (
            lambda x: x / 0,
            {},
            r"class 0 .* finite \(in row 0\), and 29 more do",
        ),
        (
            lambda x: [
                [i[..., :n] for i, n in zip(c, (3, 4))] for c in x.numpy()
            ],
            {},
            r"several shapes, .*\(1, 4, 4\)\]: make them alike",
        ),
        (lambda x: x[..., :3], TURNED, r"square.* 4, 3.: use rotations=False"),
        (lambda x: x[:, :, 0], TURNED, r"\(channels, size, size\).* got"),
        (lambda x: x[0, 0, 0, 0], {}, r"begin with \(tasks, examples\)"),
        (lambda x: [*x[:4], x[0, :, 0]], {}, "must differ in examples only"),
        (lambda x: [(t, t) for t in x], {}, "got a tuple.* TaskArrays' x"),
        (lambda x: [], {}, "there are no classes in images"),
        (lambda x: {}, {}, "there are no classes in images"),
        (lambda x: None, {}, "there are no classes in images"),
        (lambda x: x, {"n_way": 31}, "n_way must be 2 to 30.* got 31"),
        (lambda x: x, {"n_way": 1}, "n_way must be 2 to 30"),
        (lambda x: x, {"n_way": None}, "n_way must be a whole.* got None"),
        (lambda x: x, {"n_way": 2.5}, "n_way must be a whole.* got 2.5"),
    ],
)
def test_bad_images_are_refused(images, change, settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        Episodes(change(images), **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            (1, 15, 6),
            r"class 0 has 20 examples, 15 \+ 6 wanted \(and 29 more: too",
        ),
        ((0, 1, 1), "n_tasks must be a whole number >= 1, got 0"),
        ((1, 0, 1), "k_shot must be a whole number >= 1, got 0"),
        ((1, 1, 0), "k_query must be a whole number >= 1, got 0"),
        ((1, 1.5, 1), "k_shot must be a whole number >= 1, got 1.5"),
    ],
)
def test_bad_counts_are_refused(images, counts, message):
    n_tasks, k_shot, k_query = counts
    with pytest.raises(ValueError, match=message):
        Episodes(images).sample(
            n_tasks, k_shot=k_shot, k_query=k_query, generator=rng()
        )


def test_images_that_are_not_square_pass_without_rotations(images):
    tasks = Episodes(images[..., :3], rotations=False).sample(
        2, k_shot=1, k_query=1, generator=rng()
    )
    assert tasks.query.x.shape == (2, 5, 1, 4, 3)


def test_features_in_any_range_and_words_are_as_good_as_images():
    for examples in (
        100 * torch.randn(6, 4, 64),
        torch.arange(72).view(6, 4, 3),
    ):
        support, query = Episodes(examples, n_way=3).sample(
            5, k_shot=1, k_query=2, generator=rng()
        )
        assert support.x.shape == (5, 3, *examples.shape[2:])
        assert query.x.dtype == examples.dtype


def test_classes_of_unequal_size_give_all_their_examples():
    sizes = {"cat": 3, "dog": 7, "owl": 4}
    # Every example says which class it is of, and its number there.
    classes = {
        name: torch.stack([torch.full((n,), i), torch.arange(n)], 1)
        for i, (name, n) in enumerate(sizes.items())
    }
    family = Episodes(classes, n_way=2)
    support, query = family.sample(900, k_shot=1, k_query=2, generator=rng())
    both = torch.cat(
        [support.x.view(900, 2, 1, 2), query.x.view(900, 2, 2, 2)], 2
    )
    assert (both[..., 0] == both[:, :, :1, 0]).all()
    places = both[..., 1].sort(-1).values
    assert (places[..., 1:] > places[..., :-1]).all()
    for i, n in enumerate(sizes.values()):
        drawn = both[..., 1][both[..., 0] == i]
        counts = drawn.bincount()
        assert len(counts) == n
        expected = len(drawn) / n
        assert (counts - expected).abs().max() < 5 * expected**0.5
    with pytest.raises(ValueError, match="class 'cat' has 3 examples, 2 . 2"):
        family.sample(1, k_shot=2, k_query=2, generator=rng())


def test_a_list_of_one_size_draws_what_the_array_draws(images):
    one, other = (
        Episodes(given, n_way=3, rotations=True).sample(
            4, k_shot=1, k_query=2, generator=rng()
        )
        for given in (images, [*images])
    )
    assert torch.equal(one.query.x, other.query.x)


def test_sampling_costs_little_beside_learning():
    # 32 tasks take under 2 % of their meta-iteration on a quiet machine; a
    # busy one disturbs both, so the best of several is held to 5 %.
    images = torch.rand(1100, 1, 1, 28, 28, generator=rng())
    family = Episodes(images.expand(-1, 20, -1, -1, -1))
    model = CNN()
    params = {k: v.detach() for k, v in model.named_parameters()}
    loss_fn = functional_loss(model, F.cross_entropy)
    step = grad_and_value(meta_loss)

    def best(fn, times):
        seconds = []
        for _ in range(times):
            start = time.perf_counter()
            fn()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    generator = rng()

    def sample():
        return family.sample(32, k_shot=1, k_query=1, generator=generator)

    tasks = sample()
    drawing = best(sample, 20)
    learning = best(lambda: step(params, loss_fn, tasks, lr=0.4), 2)
    assert drawing < 0.05 * learning, (drawing, learning)


def test_arrays_of_numpy_will_do():
    array = torch.rand(6, 4, 1, 5, 5).numpy()
    episodes = Episodes(array, n_way=3)
    assert torch.equal(episodes.images, torch.as_tensor(array))
    assert repr(episodes) == "Episodes(n_way=3, rotations=False)"


def test_labels_are_no_number_of_ways():
    labels = torch.randint(0, 4, (40,))
    with pytest.raises(ValueError, match=r"by class, without labels: \{c: x"):
        Episodes(torch.randn(40, 3), labels)
