"""The types that RVC's own loading may read beside tensors, while several threads read."""

import threading

import numpy as np
import pytest
import torch

from LoraModel.host import safe_types


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"),
                    reason="this PyTorch knows no list of types that are allowed beside tensors (since 2.5)")
def test_two_threads_that_read_at_once_do_not_take_the_permission_from_each_other(tmp_path):
    torch.save({"f0": np.int64(1)}, str(tmp_path / "old.pth"))
    failed = []

    def read():
        for _ in range(20):
            try:
                with safe_types.voice_allowed():
                    torch.load(str(tmp_path / "old.pth"), weights_only=True)
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
