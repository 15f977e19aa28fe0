"""Episodes: few-shot classification tasks cut from a set of images."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from mamlkit import checks
from mamlkit.tasks import Batch, Tasks


@dataclass(frozen=True, eq=False)
class Episodes:
    """N-way K-shot tasks: tell N new classes apart from K examples of each.

    Each task has its own classes, drawn without replacement and labelled
    0..N-1 in random order, so a label means nothing outside its task. With
    `rotations`, each class of a task is turned by a random multiple of 90°,
    all its examples alike (Finn et al. 2017, Sec. 5.2, and their code, which
    also turns the test classes).

    Attributes:
        images: float in [0, 1], shape (classes, examples, channels, height,
            width); NumPy or torch.
        n_way: N, classes in a task.
        rotations: turn classes.

    Raises:
        ValueError: images of another shape or range, or too few classes.
    """

    images: Tensor = field(repr=False)
    n_way: int = 5
    rotations: bool = True

    def __post_init__(self):
        object.__setattr__(self, "images", torch.as_tensor(self.images))
        shape = tuple(self.images.shape)
        if len(shape) != 5 or not self.images.is_floating_point():
            raise ValueError(
                "images must be float of shape (classes, examples, channels, "
                f"height, width), got {self.images.dtype} of shape {shape}"
            )
        if self.rotations and shape[-1] != shape[-2]:
            raise ValueError(
                f"images must be square to be turned, got {shape[-2]} x "
                f"{shape[-1]}: use rotations=False, or put channels first"
            )
        if not 2 <= self.n_way <= shape[0]:
            raise ValueError(
                f"n_way must be 2 to {shape[0]}, the number of classes, got "
                f"{self.n_way}"
            )
        low, high = (value.item() for value in self.images.aminmax())
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"images must lie in [0, 1], got {low:.3g} to {high:.3g}"
            )

    def sample(
        self,
        n_tasks: int,
        *,
        k_shot: int,
        k_query: int,
        generator: torch.Generator,
    ) -> Tasks:
        """Draw tasks whose support and query sets share no image.

        Args:
            n_tasks: number of tasks.
            k_shot: K, support examples of each class.
            k_query: query examples of each class.
            generator: the source of randomness.

        Returns:
            x of shape (n_tasks, n_way * k, channels, height, width), the
            examples of one class after another; y (n_tasks, n_way * k) in
            0..n_way-1.

        Raises:
            ValueError: a count is below 1, or a class has too few examples.
        """
        checks.counts(n_tasks, k_shot, k_query)
        n_classes, n_examples = self.images.shape[:2]
        drawn = k_shot + k_query
        if drawn > n_examples:
            raise ValueError(
                f"k_shot + k_query must be <= {n_examples}, the examples of a "
                f"class, got {k_shot} + {k_query}"
            )

        def choose(count: int, *shape: int) -> Tensor:
            # The places of the largest of many random numbers: a draw
            # without replacement, in random order.
            scores = torch.rand(
                shape, generator=generator, device=generator.device
            )
            return scores.topk(count).indices.to(self.images.device)

        classes = choose(self.n_way, n_tasks, n_classes)
        examples = choose(drawn, n_tasks, self.n_way, n_examples)
        x = self.images[classes.unsqueeze(-1), examples]
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
