"""Results of a diagnosis: `Measures` of a system and `NodeMeasures` of each of its nodes."""

from __future__ import annotations

from dataclasses import dataclass

from noisynets.diagnose.ladder import Rung
from noisynets.diagnose.rates import Trial
from noisynets.run.settings import Config


@dataclass(frozen=True)
class NodeMeasures:
    """Measures of one node; None for a measure that is not defined for it.

    Attributes:
        name: path of the node in the system.
        snr: signal-to-noise ratio of its weights' gradient, ‖E ĝ‖²/E‖ĝ − E ĝ‖², with the
            expectation over the noise for a fixed batch.
        cosine: mean cosine between single estimates and the gradient by autograd.
        share: fraction of E[δL²] explained by credit·ε of this node.
        share_error: standard error of `share`.
        slope: slope of δL, less the predictions of the other nodes, on credit·ε; 1 if the credit
            is exact.
        slope_error: standard error of `slope`.
        sigma: root mean square of the noise ε at the node, in units of its activity.
        relative_sigma: `sigma` over the standard deviation of the activity over samples.
        learnt: R² of δa predicted from δx by the node's learnt map.
        ridge: R² of least squares on many pairs: the upper limit for a map at this noise.
        pairs: number of rows from which the node's map has learnt, per input of the layer.
        dead: fraction of its units whose output does not depend on the sample.
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
    """Measures of a system under its rule.

    Attributes:
        config: settings of the run.
        steps: number of training steps before the measurement.
        nodes: measures of the nodes, in the order of the system.
        loss: mean loss in the reference pass.
        dloss: root mean square over samples of δL.
        rounding: machine epsilon times |L|, the rounding error of a loss, over `dloss`.
        explained: fraction of E[δL²] explained by credit·ε of all nodes together.
        explained_error: standard error of `explained`.
        surrogate: True if cosines are taken with a surrogate gradient.
        rungs: loss differences against σ; empty if nothing is injected.
        reads_dloss: True if credit depends on loss differences, directly or through learning.
        trials: short runs at three learning rates; empty if none were made.
        diverged: True if the run has diverged.
        notes: what the estimator has warned of.
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
    notes: tuple[str, ...] = ()
