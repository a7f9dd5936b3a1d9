"""What a diagnosis measured."""

from __future__ import annotations

from dataclasses import dataclass

from noisynets.diagnose.ladder import Rung
from noisynets.diagnose.rates import Trial
from noisynets.run.settings import Config


@dataclass(frozen=True)
class NodeMeasures:
    """Of one node; None where there is nothing to measure.

    Attributes:
        name: path of the node in the system.
        snr: signal to noise of the gradient of its weights, ‖E ĝ‖²/E‖ĝ − E ĝ‖², over noise alone.
        cosine: mean cosine of single estimates with the gradient of autograd.
        share: of E[δL²] that credit·ε of this node explains.
        share_error: standard error of that.
        slope: of δL (what other nodes explain taken out) on credit·ε: 1 where credit is right.
        slope_error: standard error of that.
        sigma: root mean square of ε, what entered at the node, in units of its activity.
        relative_sigma: σ over the spread of the activity over samples.
        learnt: R² of δa explained by the learnt map of the node from its inputs' differences.
        ridge: R² by least squares on many pairs: the best that a map can do in this noise.
        pairs: rows that the node's map has learnt from for each of its inputs, so far.
        dead: share of its units whose output does not depend on the sample.
    """

    name: str
    snr: float | None = None
    cosine: float | None = None
    share: float | None = None
    share_error: float | None = None
    slope: float | None = None
    slope_error: float | None = None
    sigma: float | None = None
    relative_sigma: float | None = None
    learnt: float | None = None
    ridge: float | None = None
    pairs: float | None = None
    dead: float | None = None


@dataclass(frozen=True)
class Measures:
    """Of a system under its rule.

    Attributes:
        config: of the run.
        steps: of training before it was measured.
        nodes: in the order of the system.
        loss: mean, in the reference pass.
        dloss: root mean square of δL per sample.
        rounding: ε·|L|, what rounding of the loss alone may add to δL, over `dloss`.
        explained: share of E[δL²] that credit·ε of all nodes explains.
        explained_error: standard error of that.
        surrogate: the gradient that cosines are taken with is a surrogate one.
        rungs: loss differences against σ; empty where nothing is injected.
        reads_dloss: whether loss differences enter the credit, at once or by teaching it.
        trials: short runs; empty where none were made.
        diverged: whether the run has diverged.
    """

    config: Config
    steps: int
    nodes: tuple[NodeMeasures, ...]
    loss: float
    dloss: float | None = None
    rounding: float | None = None
    explained: float | None = None
    explained_error: float | None = None
    surrogate: bool = False
    reads_dloss: bool = True
    rungs: tuple[Rung, ...] = ()
    trials: tuple[Trial, ...] = ()
    diverged: bool = False
