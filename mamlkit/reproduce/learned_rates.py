"""One learned inner rate for each parameter, as the Omniglot runs use it."""

import torch
from torch import Tensor, nn

from mamlkit.inner import LossFn, Params
from mamlkit.objectives import meta_loss
from mamlkit.tasks import Tasks


class LearnedRates(nn.Module):
    """A model together with one learned α for each adapted parameter.

    The rates are trained like weights but not adapted within a task, as in
    MAML++ (Antoniou et al. 2019), with one rate for all inner steps.

    Args:
        model: called as before.
        lr: α at the start.
        shared: names of parameters that stay at θ in the inner steps start
            with one of these.
    """

    def __init__(
        self, model: nn.Module, lr: float, shared: tuple[str, ...] = ()
    ):
        super().__init__()
        self.model = model
        self.adapted = [
            name
            for name, _ in model.named_parameters()
            if not name.startswith(shared)
        ]
        self.rates = nn.ParameterList(torch.tensor(lr) for _ in self.adapted)

    def forward(self, x: Tensor) -> Tensor:
        """Call the model; the rates play no part."""
        return self.model(x)

    def objective(
        self,
        params: Params,
        loss_fn: LossFn,
        tasks: Tasks,
        *,
        lr: float,
        **settings,
    ) -> Tensor:
        """Compute `meta_loss` with the rates in `params` instead of `lr`.

        Nothing is differentiated with respect to the shared parameters in
        the inner steps, which is where the time goes.
        """
        own = {
            f"model.{name}": params[f"model.{name}"] for name in self.adapted
        }
        rates = {name: params[f"rates.{i}"] for i, name in enumerate(own)}

        def loss(adapted, batch):
            return loss_fn({**params, **adapted}, batch)

        return meta_loss(own, loss, tasks, lr=rates, **settings)

    def split(self, params: Params) -> tuple[Params, Params]:
        """Separate θ from its rates, both by the model's own names."""
        weights = {
            name.removeprefix("model."): value.detach()
            for name, value in params.items()
            if name.startswith("model.")
        }
        rates = {name: torch.tensor(0.0) for name in weights}
        for i, name in enumerate(self.adapted):
            rates[name] = params[f"rates.{i}"].detach()
        return weights, rates

    def join(self, weights: Params, rates: Params) -> Params:
        """Put together again what `split` separated."""
        joined = {f"model.{name}": value for name, value in weights.items()}
        for i, name in enumerate(self.adapted):
            joined[f"rates.{i}"] = rates[name]
        return joined
