"""One thread for all tests: small tensors gain nothing from more, and busy machines lose a lot."""

import torch

torch.set_num_threads(1)
