"""Models: ordinary `nn.Module`s, small and free of state between tasks.

Normalisation uses the statistics of the batch at hand, and its weights are
added after a plain normalisation. Both have a reason. Running statistics
would leak from one task into the next; and under `vmap` PyTorch 2.13 gets
second-order gradients through a fused norm that has weights wrong, most of
all those of the layer before it (pytorch/functorch#534), while a norm
without weights is exact.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Wave(nn.Module):
    """The two-parameter model a sin(x - b): small enough to draw.

    Args:
        amplitude: a at the start.
        phase: b at the start, in radians.
    """

    def __init__(self, amplitude: float = 1.0, phase: float = 0.0):
        super().__init__()
        self.amplitude = nn.Parameter(torch.tensor(amplitude))
        self.phase = nn.Parameter(torch.tensor(phase))

    def forward(self, x: Tensor) -> Tensor:
        """Map x to y, of any one shape."""
        return self.amplitude * torch.sin(x - self.phase)


class BatchNorm(nn.Module):
    """Batch normalisation with a learned shift, over the batch it sees.

    No scale and no running statistics, as in the original MAML code: the
    prediction for one example depends on the others in its batch, which is
    called *transductive* when they are query examples. Their code adds 1e-3
    to the variance, and its inner steps leave the shift alone; here the shift
    is a parameter like the others, and adapted like them.
    """

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x of shape (batch, width, ...) and shift it."""
        x = F.batch_norm(x, None, None, training=True, eps=self.eps)
        return x + self.shift.view(-1, *[1] * (x.dim() - 2))


class Linear(nn.Linear):
    """PyTorch's layer, with the bias in an addition of its own.

    The fused form costs `vmap` one more product in each direction: 3 % of a
    meta-iteration on sinusoids.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        x = F.linear(input, self.weight)
        return x if self.bias is None else x + self.bias


class MLP(nn.Sequential):
    """A fully connected ReLU network; the input is flattened.

    The defaults are the sinusoid network of Finn et al. 2017, Sec. 5.1.

    Args:
        in_features: size of one flattened input.
        hidden: widths of the hidden layers.
        out_features: size of one output.
        norm: put a `BatchNorm` before each ReLU.
    """

    def __init__(
        self,
        in_features: int = 1,
        hidden: tuple[int, ...] = (40, 40),
        out_features: int = 1,
        *,
        norm: bool = False,
    ):
        layers: list[nn.Module] = [nn.Flatten()]
        for width in hidden:
            # A bias before a batch norm would be subtracted again.
            layers.append(Linear(in_features, width, bias=not norm))
            layers += [BatchNorm(width)] if norm else []
            layers.append(nn.ReLU())
            in_features = width
        super().__init__(*layers, Linear(in_features, out_features))


class CNN(nn.Module):
    """The convolutional classifier of Finn et al. 2017, App. A.1.

    Four 3 x 3 convolutions of stride 2, each with `BatchNorm` and ReLU, the
    mean over what is left of the image, and a linear head. Close to the
    authors' network, not identical: theirs pads at one side where 28, 14 and 4
    are halved (TensorFlow's SAME), has convolution biases, which its batch
    norm subtracts again, and starts from other weights; its norm differs as
    `BatchNorm` says.

    Args:
        n_way: number of classes.
        in_channels: channels of the image.
        width: channels of each convolution.
    """

    def __init__(self, n_way: int = 5, in_channels: int = 1, width: int = 64):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [
                nn.Conv2d(in_channels, width, 3, 2, padding=1, bias=False),
                BatchNorm(width),
                nn.ReLU(),
            ]
            in_channels = width
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, n_way)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, channels, 28, 28) to logits (batch, n_way)."""
        return self.head(self.body(x).mean(dim=(-2, -1)))
