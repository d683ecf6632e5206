"""RVC's own realtime class with our voices: an adapter where a `.pth` is given, changes between two blocks, no block
half in a voice."""

import os
import shutil
import subprocess
import sys
import threading
import types
from pathlib import Path

import pytest
import torch
from voice_data import BASE, make_adapter

from LoraModel import rvc_lora_voices
from LoraModel.host import realtime as host_realtime
from LoraModel.host.patch import in_use
from LoraModel.inference import VoiceLoader
from LoraModel.inference.patched import patch, voice_of
from LoraModel.lora.voice_pitch import VoicePitch
from LoraModel.messages import UserError
from LoraModel.models import load_base
from LoraModel.models.voice_file import small_model
from LoraModel.realtime import rvc_class

ROOT = Path(__file__).resolve().parents[2]
CHECKOUTS = [path for path in os.environ.get("RVC_HOSTS", "").split(os.pathsep) if path]


@pytest.fixture
def checkout(tmp_path, library, monkeypatch):
    """A folder with a base where a checkout has it, and a module with a realtime class of the shape of RVC's,
    patched."""
    folder = tmp_path / "assets/pretrained_v2"
    folder.mkdir(parents=True)
    shutil.copy(str(BASE), str(folder / "f0G16k.pth"))
    shutil.copy(str(BASE.parent / "config.json"), str(folder / "config.json"))
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType("rtrvc")

    def get_synthesizer(path, device="cpu"):
        if not path.endswith(".pth"):
            raise KeyError("weight")
        contents = torch.load(path, weights_only=True)
        network = library.build_synthesizer(contents["config"], "v2", True)
        network.load_state_dict(contents["weight"], strict=False)
        network.float().eval().remove_weight_norm()
        del network.enc_q
        return network, contents

    class RVC:
        """RVC's habits: what fails in the making is printed, and `net_g` is None or missing."""

        def __init__(self, key, formant, pth_path, index_path, index_rate, config=None, last_rvc=None):
            try:
                self.net_g = None
                self.net_g, contents = module.get_synthesizer(pth_path, "cpu")
                self.tgt_sr, self.if_f0, self.version = contents["config"][-1], contents.get("f0",
                                                                                             1), contents["version"]
                self.speakers = contents["weight"]["emb_g.weight"].shape[0]
            except Exception:
                self.failed = True

        def infer(self, skip=0, during=None):
            """during: called in the middle of the block."""
            torch.manual_seed(0)
            with torch.no_grad():
                pitch = torch.full((1, 40), 100), torch.full((1, 40), 200.0)
                mean, log_scale, mask = self.net_g.enc_p(torch.randn(1, 40, 768), pitch[0], torch.tensor([40]))
                if during:
                    during()
                g = self.net_g.emb_g(torch.tensor([0])).unsqueeze(-1)
                return self.net_g.dec(self.net_g.flow(mean, mask, g=g, reverse=True), pitch[1], g=g)[0, 0]

    module.RVC, module.get_synthesizer = RVC, get_synthesizer
    patch(host=library)
    monkeypatch.setattr(rvc_class, "_hosts", [library])
    host_realtime.patch_realtime(module, rvc_class._network, rvc_class._description, rvc_class._made, rvc_class._block)
    return module


@pytest.fixture
def make(checkout):
    return lambda path: checkout.RVC(0, 0, str(path), "", 0)


def test_an_adapter_is_taken_where_a_voice_is_and_its_base_is_found_by_hash(make, adapters, tmp_path):
    rvc = make(adapters[0])
    assert (rvc.tgt_sr, rvc.if_f0, rvc.version, rvc.speakers) == (16000, 1, "v2", rvc.net_g.emb_g.num_embeddings)
    sound = rvc.infer()
    assert [(one.adapter.name, one.strength) for one in rvc_lora_voices(rvc).applied] == [("one", 1.0)]
    plain = make(tmp_path / "assets/pretrained_v2/f0G16k.pth")
    assert not torch.allclose(plain.infer(), sound, atol=1e-3)
    plain.net_g.set_adapters([(adapters[0], 1.0)])
    assert torch.equal(plain.infer(), sound)


def test_a_voice_of_rvcs_own_is_read_by_rvc_and_takes_adapters_too(make, tmp_path, library):
    base = load_base(BASE, library, config_json=BASE.parent / "config.json")
    torch.save(small_model(base.network, base.info, "t"), str(tmp_path / "v.pth"))
    rvc = make(tmp_path / "v.pth")
    before = rvc.infer()
    adapter = make_adapter(tmp_path / "v.safetensors", library, 1)
    rvc_lora_voices(rvc).use({adapter: 0.5}).result()
    changed = rvc.infer()
    rvc_lora_voices(rvc).use({}).result()
    assert torch.equal(rvc.infer(), before) and not torch.allclose(changed, before, atol=1e-4)


def test_what_cannot_be_taken_is_said_and_not_swallowed(make, tmp_path, library):
    other = make_adapter(tmp_path / "other.safetensors", library, 1, base_hash="0" * 64, base_name="f0G48k")
    with pytest.raises(UserError, match="f0G48k"):
        make(other)
    (tmp_path / "broken.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="broken"):
        make(tmp_path / "broken.safetensors")
    failed = make(tmp_path / "none.pth")  # RVC's own to say
    assert failed.failed and failed.net_g is None
    with pytest.raises(UserError, match="no network"):
        rvc_lora_voices(failed)


def test_a_change_during_a_block_waits_for_its_end(make, adapters):
    rvc = make(adapters[0])
    first = rvc.infer()
    voices = rvc_lora_voices(rvc)
    done = []

    def during():
        voices.use({adapters[1]: 1.0}).result(60)
        thread = threading.Thread(target=lambda: (rvc.net_g.set_adapters([(adapters[1], 0.5)]), done.append(True)))
        thread.start()
        thread.join(0.2)
        during.thread = thread
        assert not done

    assert torch.equal(rvc.infer(0, during), first)
    during.thread.join(60)
    assert done
    voices.use({adapters[1]: 1.0}).result(60)
    second = rvc.infer()
    assert [one.adapter.name for one in voices.applied] == ["two"] and not torch.equal(first, second)


def test_changes_by_every_door_at_once_end(make, adapters):
    """`use`, `set_adapters` and blocks from several threads: no two wait for each other for ever."""
    rvc = make(adapters[0])
    voices, failed = rvc_lora_voices(rvc), []

    def go(work):
        try:
            for index in range(15):
                work(index)
        except BaseException as error:
            failed.append(error)

    works = [lambda _: rvc.infer(), lambda _: rvc.infer(), lambda i: voices.use({adapters[i % 2]: 1.0}).result(60),
             lambda i: rvc.net_g.set_adapters([(adapters[i % 2], 0.5)]), lambda i: rvc.net_g.unload_adapters()]
    threads = [threading.Thread(target=go, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not failed and not any(thread.is_alive() for thread in threads)
    with in_use.change():
        pass


HOST = '''
import os, sys
import torch
root, project, base, adapter, other, plain, recording = sys.argv[1:]
sys.argv = sys.argv[:1]
os.chdir(root)
sys.path[:0] = [root]
sys.path.append(project)
os.environ["RVC_CUDA_GRAPH"] = "0"
if __name__ == "__main__":  # the classic module starts a process
    import importlib, inspect, soundfile
    from LoraModel import RealtimeVoice, rvc_lora_voices
    from LoraModel.host import find_host
    from LoraModel.host.realtime import make_realtime, realtime_module, takes_frames
    from LoraModel.realtime.rvc_class import patch_realtime_class
    host = find_host(root)
    module = realtime_module(host)
    unpatched = module.RVC.infer
    import configs.config
    config = configs.config.Config()
    from LoraModel.host.safe_types import hubert_allowed
    with hubert_allowed():
        theirs = make_realtime(module, config, plain)  # RVC as it is, with a voice of its own
    patch_realtime_class(host)
    ours = make_realtime(module, config, plain)
    named = make_realtime(module, config, adapter)
    assert named.tgt_sr == ours.tgt_sr == 16000, (named.tgt_sr, ours.tgt_sr)
    sound = torch.from_numpy(soundfile.read(recording, dtype="float32")[0][:9600])
    def block(rvc, infer=None):
        torch.manual_seed(0)
        infer = infer or module.RVC.infer
        with torch.no_grad():
            if takes_frames(module):
                rvc.cache_pitch.zero_(); rvc.cache_pitchf.zero_()
                return infer(rvc, sound, 1600, 20, 15, "pm").clone()
            # tag 2.2.231006: its window keeps the pitch and gives the rate
            import numpy
            cache = numpy.zeros(61, dtype="int32"), numpy.zeros(61, dtype="float32")
            return infer(rvc, sound.unsqueeze(0), sound.numpy(), 1600, numpy.array([0.5]), *cache, "pm").clone()
    assert torch.equal(block(theirs, unpatched), block(ours)), "a class without an adapter gives what RVC gives"
    before = block(ours)
    voices = rvc_lora_voices(ours)
    voices.use({adapter: 1.0}).result()
    changed = block(ours)
    assert voices.held < 0.02, voices.held
    assert torch.allclose(changed, block(named), atol=2e-3), (changed - block(named)).abs().max()  # RVC's own file is fp16
    assert not torch.allclose(changed, before, atol=1e-2)
    voices.use({adapter: 0.5, other: 0.5}).result()
    assert not torch.allclose(block(ours), changed, atol=1e-3)
    voices.use({}).result()
    assert torch.equal(block(ours), before)
    if takes_frames(module):
        with RealtimeVoice(base, host=host, block=0.1, context=0.3) as live:
            heard = [live.process(sound[k * 1600:k * 1600 + 1600].numpy()) for k in range(3)]
            live.use({adapter: 1.0}).result()
            heard.append(live.process(sound[4800:6400].numpy()))
            assert all(abs(one).max() > 0 for one in heard[1:]) and live.applied[0].strength == 1.0
    print("HOST OK")
'''  # noqa: E501


def link_large(source, target):
    if os.path.getsize(source) > 10**6:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


@pytest.mark.host
@pytest.mark.skipif(not CHECKOUTS, reason="RVC_HOSTS names no checkout")
@pytest.mark.parametrize("root", CHECKOUTS, ids=[Path(path).name for path in CHECKOUTS])
def test_the_realtime_class_of_a_checkout(root, tmp_path, library):
    from voice_data import SOURCE

    from LoraModel.inference.audio import read_audio, write_audio

    place = tmp_path / "rvc"
    shutil.copytree(root, str(place), copy_function=link_large, ignore=lambda folder, names: [
        name for name in names if name in (".git", "LoraModel")])
    folder = place / "assets/pretrained_v2"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(str(BASE), str(folder / "f0G16k.pth"))
    shutil.copy(str(BASE.parent / "config.json"), str(folder / "config.json"))
    base = load_base(BASE, library, config_json=BASE.parent / "config.json")
    plain = tmp_path / "plain.pth"
    torch.save(small_model(base.network, base.info, "t"), str(plain))
    adapters = [make_adapter(tmp_path / f"{name}.safetensors", library, seed) for seed,
                name in enumerate(("one", "two"))]
    recording = write_audio(tmp_path / "in.wav", read_audio(SOURCE, 16000)[:16000], 16000)
    script = tmp_path / "host.py"
    script.write_text(HOST, encoding="utf-8")
    given = [place, ROOT, folder / "f0G16k.pth", *adapters, plain, recording]
    done = subprocess.run([sys.executable, str(script), *map(str, given)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True,
                          encoding="utf-8", timeout=900, check=False, env={**os.environ, "RVC_LORA_LANG": "en"})
    assert "HOST OK" in done.stdout, done.stdout[-3000:]


def log_scale(network):
    """That of the text encoder, for features of any kind."""
    torch.manual_seed(1)
    with torch.no_grad():
        return network.enc_p(torch.randn(1, 40, 768), torch.full((1, 40), 100), torch.tensor([40]))[1]


def test_a_merged_voice_that_rvc_read_tells_its_noise_and_its_pitch(checkout, make, tmp_path, library):
    """RVC's realtime class and the WebUI's converter make the network; what the file says beside its tensors stays."""
    class VC:
        net_g = None

        def get_vc(self, sid):
            self.net_g, self.cpt = read(sid)

        def vc_single(self):
            pass

    read = checkout.get_synthesizer.__wrapped__  # as it is before the patch
    voice = VoiceLoader(BASE, library)
    plain = log_scale(voice.network)
    voice.set_adapters([], noise=0.45)
    pitch = VoicePitch(110.0, 90.0, 130.0)
    torch.save({**voice.as_model(), "voice_pitch": pitch.to_text()}, str(tmp_path / "calm.pth"))
    patch(VC, library)
    vc = VC()
    vc.get_vc(str(tmp_path / "calm.pth"))
    for network in (make(tmp_path / "calm.pth").net_g, vc.net_g):
        assert float((log_scale(network) - plain).exp().mean()) == pytest.approx(0.45, abs=2e-3)
        network.set_adapters([], noise=1.0)
        assert float((log_scale(network) - plain).exp().mean()) == pytest.approx(1, abs=2e-3)
        assert voice_of(network, library).info.noise == 0.45 and voice_of(network, library).info.pitch == pitch
