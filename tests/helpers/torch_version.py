"""The PyTorch that the tests run with."""

import torch

SINCE_2 = hasattr(torch.device, "__enter__")
"""Whether it is 2.0 or later; the oldest that is promised is 1.13."""
