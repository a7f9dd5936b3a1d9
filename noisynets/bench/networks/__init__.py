"""Agreement of mirrored credit with autograd on networks as people write them.

`NETWORKS` holds them by name; `missing` measures those that a file of results lacks, and `markdown`
makes the table.
"""

from noisynets.bench.networks.convolutional import CONVOLUTIONAL
from noisynets.bench.networks.dense import DENSE
from noisynets.bench.networks.measure import measure
from noisynets.bench.networks.network import Network
from noisynets.bench.networks.patches import PATCHES
from noisynets.bench.networks.residual import RESIDUAL
from noisynets.bench.networks.run import NOISES, missing, results
from noisynets.bench.networks.sequence import SEQUENCE
from noisynets.bench.networks.spiking import SPIKING
from noisynets.bench.networks.table import line, markdown
from noisynets.bench.networks.third_party import THIRD_PARTY
from noisynets.core.registry import Registry

NETWORKS: Registry[Network] = Registry(
    "network",
    (*RESIDUAL, *CONVOLUTIONAL, *PATCHES, *SEQUENCE, *DENSE, *SPIKING, *THIRD_PARTY),
)

__all__ = ["NETWORKS", "NOISES", "Network", "line", "markdown", "measure", "missing", "results"]
