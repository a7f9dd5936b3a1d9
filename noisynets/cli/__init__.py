"""The command line `noisynets`; it may import every other package.

Exit codes: 1 for disk and pipe errors, 2 for bad input, 3 for a run that diverged.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import tyro

from noisynets.cli.benchmarks import bench
from noisynets.cli.boxes import check_box
from noisynets.cli.datasets import data
from noisynets.cli.diagnosis import diagnose
from noisynets.cli.listing import list_, show
from noisynets.cli.runs import eval_, neurobench, resume, train
from noisynets.core.errors import NoisynetsError
from noisynets.run.allocator import keep_freed


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of `noisynets`."""
    keep_freed()
    try:
        tyro.extras.subcommand_cli_from_dict(
            {
                "train": train,
                "resume": resume,
                "eval": eval_,
                "diagnose": diagnose,
                "show": show,
                "neurobench": neurobench,
                "data": data,
                "bench": bench,
                "check-box": check_box,
                "list": list_,
            },
            prog="noisynets",
            description="Train systems that gradients cannot: two forward passes, no derivatives.",
            args=args,
        )
    except NoisynetsError as error:
        print(f"noisynets: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader has left, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a full disk, say: what was there before is there still
        print(f"noisynets: {error}; then go on with: noisynets resume RUN", file=sys.stderr)
        sys.exit(1)
