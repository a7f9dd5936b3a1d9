"""What all tests share: one thread, and a tiny task beside the real ones.

Small tensors gain nothing from more threads, and busy machines lose a lot.
"""

import pytest
import tiny
import torch

from noisynets.tasks.data import TASKS

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _tiny_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "tiny", tiny.TASK)
