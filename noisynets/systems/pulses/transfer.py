"""Optimisers that accumulate gradients on second devices, and transfer these column by column."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from noisynets.systems.checks import at_least_one, positive, probability
from noisynets.systems.pulses.accumulating import whole
from noisynets.systems.pulses.layer import Pulsed
from noisynets.systems.pulses.optimiser import BURST, PulseOptimiser, rounded


class TransferOptimiser(PulseOptimiser):
    """Every weight has a second device, A, that gets the gradients; abstract.

    In every step, A ← A − lr g by pulses; then the next ⌈n/sweep⌉ of its n columns are read and
    transferred to C, which holds the weights. Columns are the inputs of a Linear, and the elements
    of a convolution's kernels. A is never reset: steps up and down that differ draw it back to its
    symmetric point, which should be at 0. A and C are in units of W.

    Args:
        system: with pulsed layers.
        lr: learning rate of A.
        transfer: λ, rate of the transfer relative to lr.
        sweep: steps in which every column is transferred once.
        stochastic: counts that are no whole numbers are rounded at random, else to the nearest.
        burst: pulses that one device is given in a step, at most.
        settings: of the subclass.

    Raises:
        InputError: as of `PulseOptimiser`.
    """

    def __init__(
        self,
        system: nn.Module,
        lr: float,
        *,
        transfer: float = 1.0,
        sweep: int = 10,
        stochastic: bool = True,
        burst: int = BURST,
        **settings: Any,
    ) -> None:
        positive(transfer=transfer)
        at_least_one(sweep=sweep)
        super().__init__(
            system,
            lr,
            burst=burst,
            transfer=transfer,
            sweep=sweep,
            stochastic=stochastic,
            **settings,
        )
        for _, layer in self.layers.values():
            if not layer.fast.made:
                layer.fast.make_(torch.zeros_like(layer.weight))

    def write_(
        self, layer: Pulsed, gradient: Tensor, group: dict[str, Any], state: dict[str, Any]
    ) -> None:
        """Give A the gradient, and transfer the next columns."""
        columns = gradient.flatten(1).shape[1]
        read = state.setdefault("read", 0)
        signs = self.signs(read, columns, group, gradient).view_as(gradient[0])
        wanted = gradient * signs * (-group["lr"] / layer.step)
        layer.fast.pulse_(self.counted(wanted, layer, group))
        number = -(-columns // group["sweep"])
        place = (read + torch.arange(number, device=gradient.device)) % columns
        n = torch.zeros_like(gradient).flatten(1)
        values = (layer.scale * layer.fast.read).flatten(1)[:, place]
        c = signs.flatten()[place]
        n[:, place] = self.transferred(values, c, place, layer, group, state)
        layer.pulse_(n.view_as(gradient))
        state["read"] = read + number

    @abstractmethod
    def transferred(
        self,
        values: Tensor,
        signs: Tensor,
        place: Tensor,
        layer: Pulsed,
        group: dict[str, Any],
        state: dict[str, Any],
    ) -> Tensor:
        """Return how many pulses C gets.

        Args:
            values: A in the columns that are read, (n_out, m).
            signs: with which A has been given the gradients, (m,).
            place: numbers of these columns, (m,).
            layer: the layer.
            group: settings.
            state: of this layer.
        """

    def signs(self, read: int, columns: int, group: dict[str, Any], like: Tensor) -> Tensor:
        """Return the signs with which A gets the gradients, (columns,).

        Args:
            read: columns that were read so far.
            columns: number of columns.
            group: settings.
            like: gives dtype and device.
        """
        return like.new_ones(columns)

    def counted(self, wanted: Tensor, layer: Pulsed, group: dict[str, Any]) -> Tensor:
        """Round counts of pulses to whole numbers, and limit them."""
        n = rounded(wanted, layer) if group["stochastic"] else wanted.round()
        return n.clamp_(-group["burst"], group["burst"])


class TikiTaka(TransferOptimiser):
    """A ← A − lr g; in the columns that are read, C ← C + λ lr A: Tiki-Taka.

    Gokmen and Haensch, *Algorithm for training neural networks on resistive device arrays*
    (Frontiers in Neuroscience 14 (2020) 103), with γ = 0: what is read as W is C alone. Both
    changes are written as counts of pulses, rounded at random.

    Args and Raises: as of `TransferOptimiser`.
    """

    def transferred(
        self,
        values: Tensor,
        signs: Tensor,
        place: Tensor,
        layer: Pulsed,
        group: dict[str, Any],
        state: dict[str, Any],
    ) -> Tensor:
        """λ lr A, in pulses."""
        wanted = values * (group["transfer"] * group["lr"] / layer.step)
        return self.counted(wanted, layer, group)


class TTv2(TransferOptimiser):
    """A ← A − lr g; H ← H + λ lr A; n = trunc(H/(θ α Δw)) pulses for C, and H ← H − n θ α Δw.

    H is digital, and changes in the columns that are read: it averages the noise of A before C is
    written. Gokmen, *Enabling training of neural networks on noisy hardware* (Frontiers in
    Artificial Intelligence 4 (2021) 699148), as in aihwkit's `BufferedTransferCompound`.

    Args:
        system: with pulsed layers.
        lr: learning rate of A.
        threshold: θ, in mean steps of C.
        settings: as of `TransferOptimiser`.

    Raises:
        InputError: as of `TransferOptimiser`.
    """

    def __init__(
        self, system: nn.Module, lr: float, *, threshold: float = 1.0, **settings: Any
    ) -> None:
        positive(threshold=threshold)
        super().__init__(system, lr, threshold=threshold, **settings)

    def transferred(
        self,
        values: Tensor,
        signs: Tensor,
        place: Tensor,
        layer: Pulsed,
        group: dict[str, Any],
        state: dict[str, Any],
    ) -> Tensor:
        """Add to H, and write what is due."""
        h = state.setdefault("h", layer.weight.new_zeros(layer.weight.shape)).flatten(1)
        now = h[:, place] + (group["transfer"] * group["lr"]) * signs * values
        n = whole(now / group["threshold"], layer, group["burst"])
        h[:, place] = now - n * (group["threshold"] * layer.step)
        return n


class ChoppedTTv2(TTv2):
    """TTv2 with a chopper c = ±1 per column: A ← A − lr c g, and H ← H + λ lr c A.

    c changes its sign after every `period` reads of its column, so that what A is offset by, a
    symmetric point that is not 0, adds to H with both signs and cancels. Rasch, Carta, Fagbohungbe
    and Gokmen, *Fast offset corrected in-memory training* (arXiv 2303.04721, 2023), with regular
    choppers.

    Args:
        system: with pulsed layers.
        lr: learning rate of A.
        period: reads of a column between two changes of its sign.
        settings: as of `TTv2`.

    Raises:
        InputError: as of `TransferOptimiser`.
    """

    def __init__(self, system: nn.Module, lr: float, *, period: int = 10, **settings: Any) -> None:
        at_least_one(period=period)
        super().__init__(system, lr, period=period, **settings)

    def signs(self, read: int, columns: int, group: dict[str, Any], like: Tensor) -> Tensor:
        """Return (−1)^⌊reads/period⌋ of every column."""
        odd = self.reads(read, columns, like) // group["period"] % 2
        return 1 - 2 * odd.to(like)

    def reads(self, read: int, columns: int, like: Tensor) -> Tensor:
        """Return how often every column was read, when `read` were read one after another."""
        place = torch.arange(columns, device=like.device)
        return (read + columns - 1 - place) // columns


class AGAD(ChoppedTTv2):
    """Chopped TTv2 that subtracts from A its value before the chopper changed: A − P.

    A ← A − lr c g; H ← H + λ lr c (A − P); then M ← (1 − β) M + β A. P and M are digital, and 0 at
    first; when a column is read for the first time after its sign has changed, P ← M. A symmetric
    point of A that is not 0, and what A kept from the last period, are thus subtracted. Rasch et
    al. (arXiv 2303.04721), as in aihwkit's `DynamicTransferCompound`.

    Args:
        system: with pulsed layers.
        lr: learning rate of A.
        forget: β.
        settings: as of `ChoppedTTv2`.

    Raises:
        InputError: as of `TransferOptimiser`.
    """

    def __init__(
        self, system: nn.Module, lr: float, *, forget: float = 0.5, **settings: Any
    ) -> None:
        probability(forget=forget)
        super().__init__(system, lr, forget=forget, **settings)

    def transferred(
        self,
        values: Tensor,
        signs: Tensor,
        place: Tensor,
        layer: Pulsed,
        group: dict[str, Any],
        state: dict[str, Any],
    ) -> Tensor:
        """Transfer A − P, and learn M."""
        past, mean = (
            state.setdefault(name, layer.weight.new_zeros(layer.weight.shape)).flatten(1)
            for name in ("past", "mean")
        )
        reads = self.reads(state["read"], past.shape[1], values)[place]
        changed = (reads % group["period"] == 0) & (reads > 0)
        past[:, place] = torch.where(changed, mean[:, place], past[:, place])
        n = super().transferred(values - past[:, place], signs, place, layer, group, state)
        mean[:, place] = mean[:, place].lerp(values, group["forget"])
        return n
