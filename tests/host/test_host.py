"""Finding RVC, importing it without its side effects, and the four networks in every real checkout of RVC_HOSTS."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from LoraModel.host import Host, find_host, layout
from LoraModel.host.layout import quiet_import
from LoraModel.host.layouts import CHECKOUTS as CHECKOUT_LAYOUTS
from LoraModel.messages import UserError

ROOT = Path(__file__).resolve().parents[2]
CHECKOUTS = [path for path in os.environ.get("RVC_HOSTS", "").split(os.pathsep) if path]
MARKERS = {layout.name: layout.marker for layout in CHECKOUT_LAYOUTS}


def checkout(folder, name):
    """A folder that looks like a checkout of that layout."""
    path = folder / MARKERS[name]
    path.parent.mkdir(parents=True)
    path.write_text("")
    return folder


@pytest.mark.parametrize("name", sorted(MARKERS))
def test_named_by_argument_or_environment(tmp_path, monkeypatch, name):
    root = checkout(tmp_path / "RVC", name)
    host = find_host(root)
    assert (host.name, host.root, host.is_checkout) == (name, root.resolve(),
                                                        True) and host.describe() == f"{name}, {root.resolve()}"
    assert find_host(str(root)) == host
    monkeypatch.setenv("RVC_ROOT", str(root))
    assert find_host() == host
    other = checkout(tmp_path / "other", "classic")
    assert find_host(other).root == other.resolve()  # the argument goes before the environment
    monkeypatch.chdir(tmp_path)
    assert find_host("RVC") == host


@pytest.mark.parametrize("name", sorted(MARKERS))
def test_the_folder_above(tmp_path, monkeypatch, name):
    root = checkout(tmp_path / "RVC", name)
    monkeypatch.setattr(layout, "__file__", str(root / "LoraModel" / "host" / "layout.py"))
    assert find_host() == Host(name, root.resolve())


def test_the_library_where_there_is_no_checkout():
    host = find_host()
    assert (host.name, host.root, host.is_checkout) == ("library", None, False) and "library" in host.describe()


def test_wrong_folders_are_refused(tmp_path, monkeypatch):
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="is no RVC checkout .*give --rvc_root the folder that holds infer-web.py "
                           "or webui.py"):
            find_host(wrong)
    monkeypatch.setenv("RVC_ROOT", str(tmp_path))
    with pytest.raises(UserError, match="is no RVC checkout"):
        find_host()


def test_no_rvc_at_all(no_library):
    with pytest.raises(UserError, match="no RVC was found: put LoraModel/ into an RVC checkout"):
        no_library()


def test_resolve(tmp_path, monkeypatch):
    root = checkout(tmp_path / "RVC", "classic")
    (tmp_path / "here.pth").write_text("")
    monkeypatch.chdir(tmp_path)
    host = find_host(root)
    assert host.resolve("here.pth") == tmp_path / "here.pth"
    assert host.resolve("logs/voice") == root.resolve() / "logs" / "voice"
    assert host.resolve(tmp_path / "x") == tmp_path / "x"
    assert Host("library").resolve("logs/voice") == tmp_path / "logs" / "voice"


def test_quiet_import_puts_logging_and_argv_back(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train_lora.py", "--epochs", "3"])
    logger = logging.getLogger()
    level, handlers, extra = logger.level, list(logger.handlers), logging.NullHandler()
    with pytest.raises(RuntimeError):
        with quiet_import():
            assert sys.argv == ["train_lora.py"]
            logger.setLevel(logging.DEBUG if level != logging.DEBUG else logging.INFO)
            logger.addHandler(extra)
            sys.argv = ["changed"]
            raise RuntimeError
    assert sys.argv == ["train_lora.py", "--epochs", "3"] and logger.level == level and logger.handlers == handlers


def run(code, *arguments):
    """Run Python code in a fresh process with the project on its path; the last line it prints is JSON."""
    environment = {key: value for key, value in os.environ.items() if key not in ("RVC_ROOT", "PYTHONPATH")}
    environment.update(PYTHONPATH=str(ROOT), RVC_LORA_LANG="en", OMP_NUM_THREADS="1")
    result = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True,
                            text=True, timeout=500)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads(result.stdout.strip().splitlines()[-1])


IMPORTS = """
import json, logging, sys
from LoraModel.host import find_host
sys.argv = ["x", "--port", "7"]
before = logging.getLogger().level, list(logging.getLogger().handlers)
host = find_host(ROOT)
for key in ("models", "data_utils", "mel", "losses", "commons"):
    host.module(key)
after = logging.getLogger().level, list(logging.getLogger().handlers)
print(json.dumps([host.name, before == after, sys.argv]))
"""


def test_importing_the_library_leaves_the_process_as_it_was():
    assert run("ROOT = None\n" + IMPORTS) == ["library", True, ["x", "--port", "7"]]


def test_a_host_that_cannot_be_imported_says_what_is_missing(tmp_path):
    root = checkout(tmp_path / "RVC", "classic")
    (root / MARKERS["classic"]).write_text("import a_package_that_nobody_has\n")
    code = """
import json, sys
from LoraModel.host import find_host
from LoraModel.messages import UserError
try:
    find_host(sys.argv[1]).module("models")
except UserError as error:
    print(json.dumps(str(error)))
"""
    message = run(code, root)
    assert ("cannot import infer.lib.infer_pack.models" in message and "a_package_that_nobody_has" in message
            and "Install" in message)


def test_two_checkouts_in_one_process_are_refused(tmp_path):
    code = """
import json, sys
from LoraModel.host import find_host
from LoraModel.messages import UserError
find_host(sys.argv[1]).module("models")
try:
    find_host(sys.argv[2]).module("models")
except UserError as error:
    print(json.dumps(str(error)))
"""
    message = run(code, checkout(tmp_path / "one", "classic"), checkout(tmp_path / "two", "classic"))
    assert "one process can serve one RVC checkout" in message and str(tmp_path / "two") in message


def test_library_configurations(library):
    found = {(version, contents["data"]["sampling_rate"]) for version, contents in library.configs()}
    assert found == {(version, rate) for version in ("v1", "v2") for rate in (32000, 40000, 48000)}
    assert library.config_for("v2", 48000)["model"]["upsample_rates"] == [12, 10, 2, 2]
    assert library.config_for("v2", 44100) is None


def test_collate_pads(library):
    items = [(torch.rand(1025, n), torch.rand(1, n * 400), torch.rand(n, 768), torch.tensor([0])) for n in (3, 5)]
    batch = library.collate(f0=False)(items)
    assert batch[0].shape == (2, 5, 768) and sorted(batch[1].tolist()) == [3, 5]


# Real checkouts.

NETWORKS = """
import hashlib, json, sys, torch
from LoraModel.host import find_host
from LoraModel.lora import LoRAConfig, extract, inject, merge
from LoraModel.models.model_utils import config_list
from LoraModel.models.synthesizer_lora import infer

host, found = find_host(sys.argv[1] or None), {}
for version in ("v1", "v2"):
    for f0 in (True, False):
        torch.manual_seed(1)
        network = host.build_synthesizer(config_list(host.config_for(version, 40000)), version, f0).float().eval().requires_grad_(False)
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                if name.startswith("flow") and ".post." in name:
                    parameter.normal_(0, 0.02)

        def run():
            torch.manual_seed(2)
            phone, lengths, sid = torch.randn(1, 6, 256 if version == "v1" else 768), torch.tensor([6]), torch.tensor([0])
            pitch = (torch.full((1, 6), 100), torch.full((1, 6), 220.0)) if f0 else (None, None)
            return infer(network, phone, lengths, pitch[0], pitch[1], sid)

        keys, state, plain = list(network.state_dict()), {k: v.clone() for k, v in network.state_dict().items()}, run()
        injection = inject(network, LoRAConfig.from_preset("balanced"))
        checks = {"fresh": torch.equal(run(), plain), "keys": list(network.state_dict()) == keys, "layers": len(injection.names)}
        with torch.no_grad():
            for parameter in injection.parameters():
                parameter.normal_(0, 0.05)
        hooked = run()
        merge(network)
        checks["changes"] = not torch.allclose(hooked, plain, rtol=1e-2)
        checks["merged"] = torch.allclose(run(), hooked, rtol=1e-3, atol=1e-4 * float(hooked.abs().max()))
        extract(network)
        checks["restored"] = torch.equal(run(), plain) and all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
        shapes = sorted((k, list(v.shape)) for k, v in state.items())
        checks["names"] = hashlib.sha256(json.dumps(shapes).encode()).hexdigest()
        checks["samples"] = plain.shape[-1]
        found[f"{version} {f0}"] = checks
print(json.dumps(found))
"""  # noqa: E501


@pytest.fixture(scope="module")
def library_networks():
    return run(NETWORKS, "")


@pytest.mark.host
@pytest.mark.skipif(not CHECKOUTS, reason="RVC_HOSTS names no RVC checkout")
@pytest.mark.parametrize("root", CHECKOUTS or [""])
class TestCheckout:
    def test_networks_take_lora_and_give_it_back(self, root, library_networks):
        found = run(NETWORKS, root)
        for key, checks in found.items():
            assert all(checks[name] for name in ("fresh", "keys", "changes", "merged", "restored")), (key, checks)
        assert found == library_networks  # the same parameters, shapes and samples as in every other layout

    def test_importing_leaves_the_process_as_it_was(self, root):
        name, same, argv = run(f"ROOT = {root!r}\n" + IMPORTS)
        assert name in ("classic", "2026") and same and argv == ["x", "--port", "7"]

    def test_configurations_are_the_librarys(self, root, library):
        def plain(host):
            return [(version, contents["model"], contents["data"]) for version, contents in host.configs()]

        assert plain(find_host(root)) == plain(library)


def test_a_layout_is_whole():
    """What a checkout needs of a layout is there; no two layouts share a marker or a script."""
    for one in CHECKOUT_LAYOUTS:
        assert {"models", "commons", "data_utils", "mel", "losses", "pipeline", "vc", "vc_utils",
                "audio"} == set(one.modules)
        assert {"slice", "f0", "features", "train"} <= set(one.scripts)
        assert one.webui_script and one.hubert and one.hubert_reader and one.realtime and one.realtime_network
        assert one.f0_training and one.f0_conversion
    for name in ("marker", "webui_script", "realtime_window"):
        assert len({getattr(one, name) for one in CHECKOUT_LAYOUTS}) == len(CHECKOUT_LAYOUTS)


def test_the_layouts_need_no_pytorch():
    code = "import sys, LoraModel.host.layouts; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
