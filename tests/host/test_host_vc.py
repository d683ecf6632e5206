"""RVC's converter after `patch`: what its unloading leaves, and the index that it would read."""

import pytest
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


@pytest.fixture(scope="module")
def vc(library):
    """RVC's converter of the classic layout, as far as the index is concerned: it says which one it would give to
    faiss."""
    class VC:
        version = "v2"

        def get_vc(self, sid):
            pass

        def vc_single(self, sid, file_index, file_index2="", index_rate=0.5):
            return f"faiss reads {file_index or file_index2}", (None, None)

    patch(VC, library)
    return VC()


@pytest.mark.parametrize("folder, first, second, refused", [
    ("anna", "{path}", "", True), ("anna", "", "{path}", True), ("anna", ' "{path}"\n', "elsewhere", True),
    ("anna", None, "{path}", True),
    # classic takes the second one as it stands
    ("trained_anna", "", "{path}", True), ("a trained voice", None, "{path}", True),
    # the first one becomes a path that is not there, and the second is not asked for
    ("trained_anna", "{path}", "", False), ("anna", " ", "{path}", False), ("anna", "elsewhere", "{path}", False),
])
def test_the_index_that_rvc_would_read_is_checked(vc, tmp_path, folder, first, second, refused):
    path = tmp_path / folder / "added_x.index"
    path.parent.mkdir()
    path.write_bytes(b"IwFl" + bytes(200))
    said, _ = vc.vc_single(0, *(name and name.format(path=path) for name in (first, second)))
    assert said.startswith("faiss reads") is not refused and (not refused or str(path) in said)
    assert vc.vc_single(0, "", str(path), index_rate=0)[0].startswith("faiss reads")


def test_the_first_field_means_the_index_with_vectors(vc, tmp_path):
    (tmp_path / "added_x.index").write_bytes(b"IwFl" + bytes(200))
    assert not vc.vc_single(0, str(tmp_path / "trained_x.index"))[0].startswith("faiss reads")
