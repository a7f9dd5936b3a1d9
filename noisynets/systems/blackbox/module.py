"""A box as a module: torch holds what is programmed, the box does everything else."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from noisynets.core.errors import BoxFailed, SystemRefused
from noisynets.core.types import Population, Sealed
from noisynets.systems.blackbox.contract import Box, Weights, problems
from noisynets.systems.blackbox.tiles import Distortions


class BoxLayer(nn.Linear):
    """A layer of a box: weights to be programmed, and activities that were measured."""

    def forward(self, input: Tensor, measured: Tensor | None = None) -> Tensor:
        """What entered (R, inputs) and what was measured (R, outputs) → what was measured."""
        if measured is None:
            raise SystemRefused("a layer of a box cannot run on its own: call the whole box")
        return measured


def _box_layer(inputs: int, outputs: int) -> BoxLayer:
    """Make a layer whose weights are drawn as by He et al., the same every time."""
    layer = skip_init(BoxLayer, inputs, outputs)
    generator = torch.Generator().manual_seed(inputs)
    with torch.no_grad():
        layer.weight.normal_(0, (2 / inputs) ** 0.5, generator=generator)
        layer.bias.zero_()
    return layer


class BoxUnits(Population):
    """The units behind a layer of a box: known by what went in and what came out alone."""

    signals = ("activity", "output")

    def forward(self, activity: Tensor, output: Tensor) -> Tensor:
        """Activities (R, n) and outputs (R, n), as measured → the outputs."""
        return output


class MeasuredTensors(NamedTuple):
    """A reading as tensors: what entered each layer, their activities, and the output."""

    inputs: list[Tensor]
    activities: list[Tensor]
    output: Tensor | None


class BlackBox(Sealed):
    """A box as a system: nothing is known of it but its reports.

    Args:
        box: keeps the contract.
        model: what its owner believes it to be: (box_layers) → a module with their weights that
            autograd can follow. It serves the rules that train a model instead (`offline`,
            `aware`, `robust`, `pat`), and no other. None: nobody knows.
        expected: sizes of the distortions that its owner expects; None: the usual ones.

    Attributes:
        trials: so far.
        model_draws: models with distortions that were drawn so far, by `HardwareAware`.

    >>> from noisynets.systems.blackbox import NumpyChip
    >>> system = BlackBox(NumpyChip((4, 8, 3)))
    >>> system(torch.rand(5, 4)).shape, len(list(system.parameters()))
    (torch.Size([5, 3]), 4)
    """

    def __init__(
        self,
        box: Box,
        model: Callable[[list[BoxLayer]], nn.Module] | None = None,
        expected: Distortions | None = None,
    ) -> None:
        super().__init__()
        self.box, self.expected = box, expected
        self.layers = nn.ModuleList(_box_layer(*layer) for layer in box.layers)
        self.units = nn.ModuleList(BoxUnits() for _ in box.layers)
        self.trials = 0
        self.model_draws = 0
        # In a tuple, so that its layers are not registered: they share the weights of box_layers.
        self._model = (None if model is None else model(self.box_layers),)

    @property
    def box_layers(self) -> list[BoxLayer]:
        """The layers."""
        return [layer for layer in self.layers if isinstance(layer, BoxLayer)]

    @property
    def model(self) -> nn.Module | None:
        """What the box is box_model to be."""
        return self._model[0]

    def measure(self, x: Tensor) -> MeasuredTensors:
        """Run rows of inputs (R, ...) through the box: one trial.

        Raises:
            BoxFailed: for a reading that breaks the contract, naming layer, row and what it was.
        """
        if len(self.box_layers) < len(self.layers):
            raise SystemRefused(
                "the layers of a box cannot be wrapped, because the box computes their products: "
                "put the effect into the box"
            )
        rows = x.detach().flatten(1).float().cpu().numpy()
        programmed = [
            Weights(*(p.detach().float().cpu().numpy() for p in (layer.weight, layer.bias)))
            for layer in self.box_layers
        ]
        reading = self.box.run(programmed, rows, self.trials)
        breaches = problems(self.box.layers, len(rows), reading)
        if breaches:
            raise BoxFailed(f"trial {self.trials} of the box: {'; '.join(breaches)}")
        self.trials += 1
        inputs, activities = (
            [torch.from_numpy(getattr(layer, part).copy()).to(x) for layer in reading.layers]
            for part in ("inputs", "activities")
        )
        output = None if reading.output is None else torch.from_numpy(reading.output.copy()).to(x)
        return MeasuredTensors(inputs, activities, output)

    def forward(self, x: Tensor) -> Tensor:
        """Rows of inputs (R, ...) → the box's output (R, outputs)."""
        inputs, activities, output = self.measure(x)
        out = x.detach().flatten(1)
        for i, (layer, entered, activity) in enumerate(
            zip(self.layers, inputs, activities, strict=True)
        ):
            out = self.units[i - 1](out, entered) if i else entered
            out = layer(out, activity)
        return out if output is None else self.units[-1](out, output)

    def get_extra_state(self) -> Tensor:
        """Return the numbers of trials and of distorted models so far, for `state_dict()`."""
        return torch.tensor([self.trials, self.model_draws])

    def set_extra_state(self, state: Tensor) -> None:
        """Go on with the trial after the last, for `load_state_dict()`."""
        self.trials, self.model_draws = map(int, state)
