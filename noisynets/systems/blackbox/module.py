"""A box as a PyTorch module: the module holds the weights, the box does all computations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from noisynets.core.errors import SystemRefused
from noisynets.core.noise import generator
from noisynets.core.outer import outer
from noisynets.core.pages import Page
from noisynets.core.trial import Population
from noisynets.core.types import Sealed
from noisynets.systems.blackbox.contract import Box, Weights
from noisynets.systems.blackbox.readings import LARGEST, checked_layers, run
from noisynets.systems.blackbox.tiles import Distortions


class BoxLayer(nn.Linear):
    """A layer of a box: it holds the weights to program, and returns the measured activities."""

    def forward(self, input: Tensor, measured: Tensor | None = None) -> Tensor:
        """Return `measured` (R, outputs), which the box computed from the input (R, inputs)."""
        if measured is None:
            raise SystemRefused(
                "a layer of a box cannot run on its own: call the whole box", page=Page.BOXES
            )
        return measured


outer.register(BoxLayer, outer.dispatch(nn.Linear))


def _box_layer(index: int, inputs: int, outputs: int) -> BoxLayer:
    """Make a layer with the initial weights of He et al., the same in every call."""
    layer = skip_init(BoxLayer, inputs, outputs)
    drawn_by = generator(0, f"initial weights of layer {index}")
    with torch.no_grad():
        layer.weight.normal_(0, (2 / inputs) ** 0.5, generator=drawn_by)
        layer.bias.zero_()
    return layer


class BoxUnits(Population):
    """The units behind a layer of a box, of which only inputs and outputs are measured."""

    signals = ("activity", "output")

    def forward(self, activity: Tensor, output: Tensor) -> Tensor:
        """Return `output` (R, n), which the box computed from `activity` (R, n)."""
        return output


class MeasuredTensors(NamedTuple):
    """A reading of a box as tensors.

    Attributes:
        inputs: of every layer, (R, inputs) each.
        activities: of every layer, (R, outputs) each.
        output: (R, outputs); None: the activities of the last layer.
    """

    inputs: list[Tensor]
    activities: list[Tensor]
    output: Tensor | None


class BlackBox(Sealed):
    """Trains a box as a system: only what the box measures is used.

    Args:
        box: hardware or a simulator that follows the contract `Box`.
        model: (box layers) → a differentiable model of the box that shares their weights. Used only
            by the rules that train on a model (`offline`, `aware`, `robust`, `pat`, `pat-ends`).
            None: there is no model.
        expected: sizes of the distortions assumed by `aware`, `robust` and `pat-ends`; None: the
            defaults of `Distortions`.

    Attributes:
        trials: number of trials so far.
        model_draws: number of distorted models drawn so far by `HardwareAware`.

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
        self.box, self.expected, layers = box, expected, checked_layers(box.layers)
        self.layers = nn.ModuleList(_box_layer(i, *layer) for i, layer in enumerate(layers))
        self.units = nn.ModuleList(BoxUnits() for _ in layers)
        self.trials = 0
        self.model_draws = 0
        # In a tuple, so that its layers are not registered: they share the weights of box_layers.
        self._model = (None if model is None else model(self.box_layers),)

    @property
    def box_layers(self) -> list[BoxLayer]:
        """The layers, from the inputs to the output, unless they are wrapped."""
        return [layer for layer in self.layers if isinstance(layer, BoxLayer)]

    @property
    def model(self) -> nn.Module | None:
        """The model of the box; None if there is none."""
        return self._model[0]

    def measure(self, x: Tensor) -> MeasuredTensors:
        """Run the box with inputs (R, ...), one per row, in as many trials as its `rows` make.

        Raises:
            BoxFailed: if the box fails, or a reading breaks the contract; the count of trials is
                then as before.
            SystemRefused: if a layer of the box is wrapped.
        """
        if len(self.box_layers) < len(self.layers):
            raise SystemRefused(
                "the layers of a box cannot be wrapped, because the box computes their products: "
                "put the effect into the box",
                page=Page.BOXES,
            )
        rows = x.detach().flatten(1).float().cpu().numpy()
        programmed = [
            Weights(*(p.detach().float().cpu().numpy() for p in (layer.weight, layer.bias)))
            for layer in self.box_layers
        ]
        largest = torch.finfo(x.dtype).max if x.is_floating_point() else LARGEST
        reading, trials = run(self.box, programmed, rows, self.trials, largest)
        self.trials += trials
        inputs, activities = (
            [torch.from_numpy(getattr(layer, part).copy()).to(x) for layer in reading.layers]
            for part in ("inputs", "activities")
        )
        output = None if reading.output is None else torch.from_numpy(reading.output.copy()).to(x)
        return MeasuredTensors(inputs, activities, output)

    def forward(self, x: Tensor) -> Tensor:
        """Run the box: inputs (R, ...) → its output (R, outputs)."""
        inputs, activities, output = self.measure(x)
        out = x.detach().flatten(1)
        for i, (layer, entered, activity) in enumerate(
            zip(self.layers, inputs, activities, strict=True)
        ):
            out = self.units[i - 1](out, entered) if i else entered
            out = layer(out, activity)
        return out if output is None else self.units[-1](out, output)

    def get_extra_state(self) -> Tensor:
        """Return the counts of trials and of distorted models, for `state_dict()`."""
        return torch.tensor([self.trials, self.model_draws])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the counts, for `load_state_dict()`."""
        self.trials, self.model_draws = map(int, state)
