"""`python run.py app`: the LoRA Train tab and the inference panel without an RVC checkout, on the demo's base, in a
page of its own.

The same code as inside RVC, given a small stand-in for RVC's script: a voice list, a converter with the demo's
stand-in for HuBERT, Convert. Everything it writes lies in app_data/, which has the folders of a checkout. It listens
on this machine alone, unless --host says otherwise, answers no other site's pages (`guard/`), and loads nothing from
anywhere else.
"""

from __future__ import annotations

if __package__ in (None, ""):
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import argparse
import errno
import os
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

for _name in ("GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):  # read when gradio is imported
    os.environ[_name] = "False" if _name.startswith("GRADIO") else "1"
warnings.filterwarnings("ignore", message="pkg_resources is deprecated")  # Gradio's own, of no use to who reads it

import gradio as gr  # noqa: E402
import numpy as np  # noqa: E402

from LoraModel import entries  # noqa: E402
from LoraModel.commands import Parser  # noqa: E402
from LoraModel.files import atomic_file  # noqa: E402
from LoraModel.host import Host, find_host  # noqa: E402
from LoraModel.inference.audio import read_audio  # noqa: E402
from LoraModel.inference.convert import INPUT_RATE, ConvertOptions, convert  # noqa: E402
from LoraModel.inference.model_loader import VoiceLoader  # noqa: E402
from LoraModel.inference.patched import give_voice, patch, voice_of  # noqa: E402
from LoraModel.inference.stand_in import coarse_pitch, content_features, pitch  # noqa: E402
from LoraModel.messages import Text, UserError, cli, closest, tr, wanted_language  # noqa: E402
from LoraModel.models.catalog import Catalog  # noqa: E402
from LoraModel.names import shown  # noqa: E402
from LoraModel.webui import app_demo, hooks  # noqa: E402
from LoraModel.webui.app_language import LanguageSwitch, use_kept  # noqa: E402
from LoraModel.webui.guard import Addresses, guard_pages, hosts_named, upload_limit  # noqa: E402
from LoraModel.webui.help_texts import Help  # noqa: E402
from LoraModel.webui.recording import Recording  # noqa: E402
from LoraModel.webui.text import error_text  # noqa: E402

DEMO = Path(__file__).resolve().parents[1] / "demo"
PORT = 7865
POLICY = ("default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
          "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: "
          "blob: ws:; "
          "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'")
"""The browser asks nobody but this page's server; Gradio's own page would load fonts and a script from elsewhere."""
FONTS = ["system-ui", "Segoe UI", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "sans-serif"]


class Words:
    """RVC's `i18n`, as far as the panel and the tab need it: the Chinese words stand for themselves."""

    def __init__(self) -> None:
        self.language = closest(wanted_language())

    def __call__(self, key: str) -> str:
        return key


class VC:
    """What RVC's converter offers to the panel: the attributes that it sets, `get_vc` for full voices, `vc_single`.

    Args:
        host: the library layout. weights: folder of full voices.
    """

    def __init__(self, host: Host, weights: Path):
        self.config = SimpleNamespace(device="cpu", is_half=False)
        self.host, self.weights = host, weights
        self.catalog = Catalog(weights.parents[1], weights)
        self.net_g = self.cpt = self.tgt_sr = self.if_f0 = self.version = self.n_spk = None
        self.pipeline = self.hubert_model = None

    def get_vc(self, sid: Any, *protects: Any) -> Tuple[Any, ...]:
        """Load a full voice of assets/weights, or unload with "": updates of speaker, the protects and the indices, as
        RVC's."""
        if not sid:
            self.net_g = self.cpt = self.tgt_sr = self.if_f0 = self.version = self.n_spk = None
            return (gr.update(visible=False), *(gr.update() for _ in protects),
                    *(gr.update(value="") for _ in protects))
        from LoraModel.models import load_base

        name = entries.text(sid, Text("the voice"))
        if name not in self.catalog.full_voices():
            raise UserError("there is no voice {name} in {weights_name}/: refresh the list and choose one",
                            name=shown(name), weights_name=self.weights.name)
        base = load_base(self.weights / name, self.host)
        info = base.info
        self.net_g = base.network.eval()
        give_voice(self.net_g, VoiceLoader(base, self.host))
        self.tgt_sr, self.if_f0, self.version, self.n_spk = info.sample_rate, int(info.f0), info.version, info.speakers
        self.cpt = {"config": list(info.config), "f0": int(info.f0), "version": info.version, "info": info.name}
        return (gr.update(visible=True, maximum=info.speakers - 1, value=0),
                *(gr.update(value=value) for value in protects), *(gr.update(value="") for _ in protects))

    def vc_single(self, speaker: Any, recording: Any, transpose: Any, index: Any, index_rate: Any,
                  protect: Any) -> Tuple[str, Any]:
        """Convert a recording -> (what to tell, (sample rate in Hz, (samples,) int16))."""
        try:
            if self.net_g is None:
                raise UserError("no voice is loaded: choose a base and an adapter, or a voice, above")
            if not recording:
                raise UserError("there is no recording: drop one into the field beside it, or record one")
            voice = voice_of(self.net_g, self.host)
            options = ConvertOptions(
                entries.number(transpose or 0, Text("the transposition"), -48, 48), self._index(index),
                entries.number(index_rate, Text("the share of the index"), 0, 1),
                entries.number(protect, Text("the protection of voiceless consonants"), 0, 0.5),
                speaker=entries.whole(speaker or 0, Text("the speaker"), 0, voice.info.speakers - 1))
            audio = convert(voice, read_audio(entries.text(recording, Text("the recording")), INPUT_RATE), options,
                            content_features, pitch, coarse_pitch)
        except Exception as error:  # whatever it is, the page says it
            if not isinstance(error, UserError):
                traceback.print_exc()
            return _without_folder(error_text(error, tr), recording), None
        return tr("Success."), (voice.info.sample_rate, (np.clip(audio, -1, 1) * 32767).astype(np.int16))

    def _index(self, index: Any) -> Optional[Path]:
        """The index that the list names; a page may name no other file."""
        name = entries.text(index, Text("the index"))
        if name and name not in self.catalog.indexes():
            raise UserError("there is no index {name} in logs/: refresh the list and choose one", name=shown(name))
        return Path(name) if name else None


def data_folders(root: Path) -> None:
    """The folders of a checkout in `root`, with the demo's base among the pretrained ones."""
    for name in ("logs", "assets/lora", "assets/weights", "assets/pretrained_v2"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("f0G16k.pth", "config.json"):
        target, source = root / "assets/pretrained_v2" / name, DEMO / "base" / name
        if not target.is_file() or target.stat().st_size != source.stat().st_size:
            with open(str(source), "rb") as stream, atomic_file(target) as copy:
                shutil.copyfileobj(stream, copy)


def _without_folder(text: str, recording: Any) -> str:
    """A message without the folder that an upload was put into: it means nothing to who uploaded it."""
    folder = os.path.dirname(recording) if isinstance(recording, str) else ""
    return text.replace(folder + os.sep, "") if folder else text


def _as_recording(path: Any) -> Any:
    """What the microphone has recorded becomes the recording to convert; what is no file changes nothing."""
    try:
        there = isinstance(path, str) and Path(path).is_file()
    except (OSError, ValueError):  # a path of thousands of characters, or with half a character in it
        there = False
    return gr.update(value=path) if there else gr.update()


def build(root: Path, kept: Optional[Dict[str, Any]] = None, switch: Optional[LanguageSwitch] = None) -> Any:
    """The page (`gr.Blocks`) over the folder `root`.

    Args:
        kept: what an earlier page of this process left: its converter, what is loaded and what goes on.
        switch: changes the language; None where the page has no switch.
    """
    kept = {} if kept is None else kept
    data_folders(root)
    os.environ["weight_root"], os.environ["index_root"] = str(root / "assets/weights"), str(root / "logs")
    host = find_host()
    namespace: Dict[str, Any] = {
        "gr": gr, "VC": VC, "i18n": Words(), "rvc_lora_host": host, "rvc_lora_root": str(root),
        "rvc_lora_unfolded": True, "rvc_lora_kept": kept,
        "rvc_lora_defaults": {"name": "demo-voice", "recordings": str(DEMO / "recordings" / "target")},
    }
    patch(VC, host)  # as hooks.setup does it in a checkout
    vc = namespace["vc"] = kept.setdefault("vc", VC(host, root / "assets/weights"))
    with gr.Blocks(title="RVC-LoRA", analytics_enabled=False,
                   theme=gr.themes.Default(font=FONTS, font_mono=["Consolas", "monospace"])) as app:
        gr.Markdown("## RVC-LoRA\n" + tr("Without an RVC checkout: a small base and a stand-in for HuBERT, for trying "
                                         "things out. Install it into RVC for real voices.")
                    + app_demo.first_words(vc.catalog, tr))
        if switch is not None:
            switch.components()
        with gr.Tabs():
            with gr.TabItem(tr("Model Inference")):
                _inference(namespace, vc, root)
            hooks.train_tab(namespace)
    return app


def _inference(namespace: Dict[str, Any], vc: VC, root: Path) -> None:
    """What RVC's inference tab has, with the names that its script gives it."""
    def voices() -> List[str]:
        return vc.catalog.full_voices()

    def indices() -> List[str]:
        return ["", *vc.catalog.indexes()]

    info = Help(tr)
    with gr.Row():
        sid = gr.Dropdown(**info("voice", tr("Inferencing voice:")), choices=voices())
        with gr.Column():
            refresh = gr.Button(tr("Refresh voice list"), variant="primary")
            clean = gr.Button(tr("Unload voice"), variant="primary")
        speaker = gr.Slider(minimum=0, maximum=2333, step=1, value=0, visible=False, interactive=True,
                            **info("speaker", tr("Select Speaker/Singer ID:")))
    namespace.update(sid0=sid, refresh_button=refresh, clean_button=clean, spk_item=speaker)
    hooks.inference_panel(namespace)
    app_demo.components(root, tr)
    with gr.Row():
        with gr.Column():
            recording = Recording(label=tr("Recording to convert"), type="filepath")
            microphone = Recording(label=tr("Or record here"), source="microphone", type="filepath")
            microphone.change(_as_recording, [microphone], [recording], queue=False)
            gr.Examples([[str(path)] for path in sorted((DEMO / "recordings/source").glob("*.flac"))], [recording],
                        label=tr("Examples"))
        with gr.Column():
            transpose = gr.Number(**info("transpose", tr("Transpose (semitones; 12 is an octave)")), value=0)
            index = gr.Dropdown(**info("index", tr("Index of the voice's features")), choices=indices(), value="",
                                interactive=True)
            rate = gr.Slider(minimum=0, maximum=1, **info("index_rate", tr("Share of the index")), value=0.5,
                             interactive=True)
            protect = gr.Slider(minimum=0, maximum=0.5, step=0.01, value=0.33, interactive=True, **info("protect", tr(
                "Protect voiceless consonants (0.5: off)")))
    info.fold()
    go = gr.Button(tr("Convert"), variant="primary")
    with gr.Row():
        output = gr.Textbox(label=tr("Output information"), interactive=False)
        result = gr.Audio(label=tr("Export audio"), interactive=False)
    namespace.update(but0=go, vc_output1=output, vc_output2=result, file_index1=index, protect0=protect,
                     vc_transform0=transpose)
    refresh.click(lambda: [gr.update(choices=voices()), gr.update(choices=indices())], [], [sid, index],
                  api_name="infer_refresh", queue=False)  # see the panel: the queue drops events of a busy machine
    clean.click(lambda: gr.update(value=""), [], [sid], api_name="infer_clean", queue=False)
    sid.change(vc.get_vc, [sid, protect], [speaker, protect, index], api_name="infer_change_voice", queue=False)
    go.click(vc.vc_single, [speaker, recording, transpose, index, rate, protect], [output, result],
             api_name="infer_convert", queue=False)


def free_port(first: int, host: str = "127.0.0.1") -> int:
    """The first port from `first` on that nobody listens on at the address `host`.

    Raises:
        UserError: a hundred are taken, or `host` is no address of this machine.
    """
    for port in range(first, min(first + 100, 65536)):
        try:
            family, kind, _, _, address = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM,
                                                             flags=socket.AI_PASSIVE)[0]
            with socket.socket(family, kind) as probe:
                if os.name != "nt":
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                return port
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                continue
            raise UserError("--host {host!r} is no address of this machine ({strerror}): give one that it has, or "
                            "0.0.0.0 for all of them", host=host[:100], strerror=error.strerror) from error
        except UnicodeError as error:  # a name too long to look up
            raise UserError("--host {host!r} is no host name", host=host[:100]) from error
    raise UserError("ports {first} to {first_2} are taken: name another with --port", first=first, first_2=first + 99)


def addresses_for(host: str) -> Addresses:
    """Under which names the page answers that listens at `host`; where others reach it, what that opens is printed."""
    if host in ("localhost", "::1", "[::1]") or host.startswith("127."):
        return Addresses.local(host)
    print(tr("--host {host}: every machine that reaches this one can now open the page: train, convert, and read what "
             "the page shows and makes. There is no password. Pages of other sites are still refused.", host=host),
          file=sys.stderr, flush=True)
    return Addresses.open((host, *hosts_named()))


def keep_local(app: Any) -> None:
    """Let the served page ask nothing of other machines: the tags that would are taken out, and the browser is told
    so."""
    from starlette.responses import Response

    async def local(request: Any, following: Callable[[Any], Awaitable[Any]]) -> Any:
        response = await following(request)
        if response.headers.get("content-type", "").startswith("text/html"):
            body = b"".join([chunk async for chunk in response.body_iterator])
            body = re.sub(rb"<(script|link)\b[^>]*(?:src|href)=\"https?://[^>]*>(?:\s*</script>)?", b"", body)
            headers = {key: value for key, value in response.headers.items() if key.lower() != "content-length"}
            response = Response(body, response.status_code, headers)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    app.middleware("http")(local)


def parser() -> argparse.ArgumentParser:
    p = Parser(prog="app", description=tr("The web page, on the demo's base."))
    p.add_argument("--port", type=int, default=PORT, help=tr("the next free one is taken where it is used"))
    p.add_argument("--host", default="127.0.0.1", help=tr("the address to listen on; any other than 127.0.0.1 opens "
                                                          "the page, with its recordings and voices, to every machine "
                                                          "that reaches this one"))
    p.add_argument("--noautoopen", action="store_true", help=tr("do not open the browser"))
    p.add_argument("--data_dir", default="app_data", help=tr("the folder for voices, experiments and results"))
    return p


def main(argv: Optional[List[str]] = None) -> int:
    options = parser().parse_args(argv)
    if not 1 <= options.port <= 65535:
        raise UserError("--port must be between 1 and 65535")
    os.environ.pop("RVC_ROOT", None)
    use_kept(Path(options.data_dir).resolve())
    root = Path(options.data_dir).resolve()
    free_port(options.port, options.host)  # a wrong --host is reported before anything is made
    guard_pages(addresses_for(options.host), upload_limit(), before=keep_local)
    # the user's alone, where Gradio's own is everybody's
    uploads = os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="rvc-lora-")
    kept: Dict[str, Any] = {}
    switch = LanguageSwitch(root, lambda: build(root, kept, switch))
    app = switch.served = build(root, kept, switch)
    app_demo.load_voice(kept["voices"])
    port = free_port(options.port, options.host)
    address = app.queue(concurrency_count=16).launch(
        server_name=f"[{options.host.strip('[]')}]" if ":" in options.host else options.host, server_port=port,
        quiet=True, prevent_thread_lock=True, show_error=True, share=False)[1]
    print(tr("RVC-LoRA is at {address} (Ctrl-C ends the page; a training continues)", address=address), flush=True)
    if not options.noautoopen:
        import webbrowser

        webbrowser.open(address)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    try:
        while not ended.wait(0.5):
            pass
    except KeyboardInterrupt:
        pass
    closing = threading.Thread(target=app.close, daemon=True)
    closing.start()
    closing.join(3)  # a page that is open would keep the server waiting
    shutil.rmtree(uploads, ignore_errors=True)
    return 0


if __name__ == "__main__":
    exit_code = cli(main)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # the server's threads would wait for open pages
