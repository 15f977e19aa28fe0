"""Episodes: few-shot classification tasks cut from examples of classes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mamlkit import checks
from mamlkit.arrays import Groups, draw_rows, gathered, picked, sizes
from mamlkit.tasks import Batch, Tasks


@dataclass(frozen=True, eq=False)
class Episodes:
    """N-way K-shot tasks: tell N new classes apart from K examples of each.

    Each task has its own classes, drawn without replacement and labelled
    0..N-1 in random order, so a label means nothing outside its task. With
    `rotations`, each class of a task is turned by a random multiple of 90°,
    all its examples alike (Finn et al. 2017, Sec. 5.2, and their code, which
    also turns the test classes): right for characters, wrong for most photos.

    Attributes:
        images: images or other examples, shape (classes, examples,
            *features), NumPy or torch; a list with an array (examples,
            *features) for each class, of any number of examples; or a dict
            of such arrays by the name of the class. In any range.
        n_way: N, classes in a task.
        rotations: turn classes of images (classes, examples, channels,
            height, width).
        names: of the classes; 0, 1, ... without a dict.
        sizes: examples of each class, shape (classes,).

    Raises:
        ValueError: examples that cannot be used, or too few classes.
    """

    images: Groups = field(repr=False)
    n_way: int = 5
    rotations: bool = False
    names: list = field(init=False, repr=False)
    sizes: Tensor = field(init=False, repr=False)

    def __post_init__(self):
        images, names = self.images, None
        if getattr(self.n_way, "shape", ()):
            raise ValueError(
                "Episodes takes examples by class, without labels: "
                "{c: x[y == c] for c in y.unique().tolist()}"
            )
        if isinstance(images, Mapping):
            names, images = [*images], [*images.values()]
        images = gathered("images", images, "classes")
        names = names or [*range(len(images))]
        object.__setattr__(self, "images", images)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "sizes", sizes(images))
        checks.whole(0, n_way=self.n_way)
        if not 2 <= self.n_way <= len(images):
            raise ValueError(
                f"n_way must be 2 to {len(images)}, the number of classes, "
                f"got {self.n_way}"
            )
        checks.examples(names, images)
        shape = tuple(images[0].shape[1:])
        if self.rotations and (len(shape) != 3 or shape[-1] != shape[-2]):
            raise ValueError(
                "images must be square, (channels, size, size), to be turned, "
                f"got {shape}: use rotations=False, or put channels first"
            )

    def sample(
        self,
        n_tasks: int,
        *,
        k_shot: int,
        k_query: int,
        generator: torch.Generator,
    ) -> Tasks:
        """Draw tasks whose support and query sets share no example.

        Args:
            n_tasks: number of tasks.
            k_shot: K, support examples of each class.
            k_query: query examples of each class.
            generator: the source of randomness.

        Returns:
            x of shape (n_tasks, n_way * k, *features), the examples of one
            class after another; y (n_tasks, n_way * k) in 0..n_way-1.

        Raises:
            ValueError: a count is below 1, or a class has too few examples.
        """
        checks.counts(n_tasks, k_shot, k_query)
        checks.source(generator)
        checks.enough(
            "class", "examples", self.names, self.sizes, k_shot, k_query
        )
        every = torch.tensor([len(self.names)])
        one = torch.zeros(n_tasks, dtype=torch.long)
        classes = draw_rows(every, one, self.n_way, generator)
        examples = draw_rows(self.sizes, classes, k_shot + k_query, generator)
        x = picked(self.images, classes, examples)
        if self.rotations:
            turns = torch.randint(
                4,
                classes.shape,
                generator=generator,
                device=generator.device,
            ).to(x.device)
            for quarter in (1, 2, 3):
                chosen = turns == quarter
                x[chosen] = x[chosen].rot90(quarter, (-2, -1))
        labels = torch.arange(self.n_way, device=x.device)

        def batch(part: Tensor) -> Batch:
            y = labels.repeat_interleave(part.shape[2])
            return Batch(part.flatten(1, 2), y.repeat(n_tasks, 1))

        return Tasks(batch(x[:, :, :k_shot]), batch(x[:, :, k_shot:]))
