"""RVC's converter after `patch`: what its unloading leaves, and the index that it would read."""

import torch

from LoraModel.host.patch import BASE as OURS
from LoraModel.inference.patched import patch


def test_what_rvcs_unloading_deletes_is_none_again(library):
    class VC:
        def __init__(self):
            self.net_g = self.cpt = None

        def get_vc(self, sid):
            if sid:
                self.before = vars(self).get("net_g", "missing")  # RVC 2026 reads it before it loads the next voice
                self.net_g, self.cpt = torch.nn.Linear(1, 1), {}
            else:
                del self.net_g, self.cpt

        def vc_single(self):
            return "Success."

    earlier, vc = VC(), VC()
    earlier.get_vc("anna.pth")
    earlier.get_vc("")
    setattr(earlier, OURS, torch.nn.Linear(1, 1))
    patch(VC, library)
    earlier.get_vc("lisa.pth")  # unloaded before the patch came: nothing was put back
    assert earlier.before == "missing" and isinstance(earlier.net_g, torch.nn.Linear)
    vc.get_vc("anna.pth")
    vc.get_vc("")
    assert vars(vc) == {"net_g": None, "cpt": None, "before": None, OURS: None}
    vc.get_vc("lisa.pth")
    assert vc.before is None and isinstance(vc.net_g, torch.nn.Linear)
