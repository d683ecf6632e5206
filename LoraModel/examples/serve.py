"""Convert over HTTP: one base in memory, a voice for each request, requests that arrive together in one batch.

    python LoraModel/examples/serve.py --base_model f0G40k.pth --voices assets/lora
    curl --data-binary @in.wav "http://127.0.0.1:7897/convert?voice=anna&strength=0.8" -o out.wav

GET /voices lists the voices; POST /convert takes a recording (wav, flac, ogg or mp3) and gives a wav, or
{"error": "..."}. Pages of other sites are answered nothing, nor is a name that is none of this machine's
(RVC_LORA_HOSTS=name adds one). Needs FastAPI and uvicorn, which RVC's WebUI has. Without a checkout's HuBERT its
features are the demo's stand-in: meant for the demo's base, and as a pattern.
"""

from __future__ import annotations

# Import it by its proper name, so that Ctrl-C while PyTorch loads is one line, too
if __name__ == "__main__":
    import pathlib
    import sys

    if not __package__:  # run as a script
        sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])
    from LoraModel.commands import start

    sys.exit(start("LoraModel.examples.serve"))

import argparse
import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional

from LoraModel import commands
from LoraModel.faults import describe_fault
from LoraModel.inference.audio import read_audio, write_audio
from LoraModel.inference.convert import INPUT_RATE
from LoraModel.inference.marking import mark_of
from LoraModel.inference.strength import check_strength
from LoraModel.messages import UserError, tr
from LoraModel.names import shown
from LoraModel.paths import printable
from LoraModel.places import near_words
from LoraModel.realtime import VoiceBatch
from LoraModel.realtime.batcher import Batcher, Busy
from LoraModel.webui.guard import Addresses, hosts_named
from LoraModel.webui.guard.addresses import of_another_site

LARGEST = 20 * 2**20
"""Bytes of a request."""
LONGEST = 60
"""Seconds of a recording."""


def voices_in(folder: Path) -> Dict[str, Path]:
    """The voices that may be asked for: adapters of one folder by their names. No name leads out of it."""
    files = sorted(folder.glob("*.safetensors"))
    return {path.stem: path for path in files if path.is_file() and not path.name.startswith(".")
            and printable(path.stem) == path.stem}


def make_app(batcher: Batcher, folder: Path, rate: int, addresses: Addresses) -> Any:
    """The FastAPI application. rate: of the base in Hz. addresses: which Host headers are answered."""
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, Response

    app = FastAPI(title="RVC-LoRA", docs_url=None, redoc_url=None)  # those pages load scripts of other machines

    def refuse(status: int, error: Exception) -> Any:
        text = str(error).replace(str(folder), "voices")  # where it lies is nobody's business
        return JSONResponse({"error": printable(text)}, status_code=status)

    @app.middleware("http")
    async def for_whom(request: Any, following: Any) -> Any:
        given = {name: request.headers.getlist(name) for name in request.headers}
        host = given["host"][0] if len(given.get("host", [])) == 1 else ""
        if not addresses.answers(host, (request.scope.get("server") or (None, None))[1]):
            return refuse(403, UserError("this server does not answer under the address {host}: set RVC_LORA_HOSTS to "
                                         "a name that is meant to reach it", host=shown(host)))
        if of_another_site(given, host):
            return refuse(403, UserError("another site's page asked for this: it is given none of it"))
        return await following(request)

    @app.get("/voices")
    def voices() -> Any:
        return {"voices": list(voices_in(folder))}

    async def convert(request: Any) -> Any:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > LARGEST:
                limit = LARGEST >> 20
                return refuse(413, UserError("the recording is larger than {limit} MB", limit=limit))
        given = request.query_params
        name = given.get("voice", "")
        path = voices_in(folder).get(name)
        if path is None:
            return refuse(404, UserError("there is no voice {name}: GET /voices lists them", name=shown(name)))
        try:
            strength = check_strength(commands.parse_number(given.get("strength", "1"), 0, 10))
            transpose = commands.parse_number(given.get("transpose", "0"), -48, 48)
            sound = await asyncio.get_running_loop().run_in_executor(None, _decoded, bytes(body))
            made = await asyncio.wrap_future(batcher.ask(sound, {path: strength}, transpose))
            wave = await asyncio.get_running_loop().run_in_executor(None, _encoded, made, rate, name)
        except Busy as error:
            return refuse(503, error)
        except Exception as error:
            fault = describe_fault(error)
            if fault is None:
                raise
            if fault is error:
                return refuse(400, fault)
            print(printable(str(fault)), file=sys.stderr)
            return refuse(503, UserError("the server's memory or disk is full, or its files cannot be read: try again "
                                         "later, or tell who runs it"))
        return Response(wave, media_type="audio/wav")

    convert.__annotations__["request"] = Request  # FastAPI reads it; the name is known in here only
    app.post("/convert")(convert)
    return app


def _decoded(body: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.wav"  # what it is, its content says
        path.write_bytes(body)
        try:
            return read_audio(path, INPUT_RATE, longest=LONGEST)
        except UserError as error:
            raise UserError("{problem}", problem=str(error).replace(str(path), tr("the request"))) from None


def _encoded(sound: Any, rate: int, voice: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_audio(Path(folder) / "out.wav", sound, rate, mark_of(voice)).read_bytes()


def check_port(host: str, port: int) -> None:
    """
    Raises:
        UserError: there is no such address here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                                flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            if os.name == "posix":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise UserError("cannot listen on {host}, port {port} ({reason}): choose another --port or --host",
                        host=shown(host), port=port, reason=getattr(error, "strerror", None) or error) from None


def main(argv: Optional[list] = None) -> int:
    p = commands.Parser(prog="serve.py", description=tr("Convert over HTTP, a voice for each request."))
    p.add_argument("--base_model", type=commands.path, required=True, help=tr("the base (.pth)"))
    p.add_argument("--voices", type=commands.path, required=True,
                   help=tr("the folder of adapters"))
    p.add_argument("--device", type=commands.device, default="auto", help="auto, cpu, cuda …")
    p.add_argument("--host", default="127.0.0.1", help=tr("the address to listen on (127.0.0.1: this computer alone)"))
    p.add_argument("--port", type=commands.whole(1, 65535), default=7897)
    p.add_argument("--most", type=commands.whole(1, 64), default=8,
                   help=tr("requests of a batch (8)"))
    args: argparse.Namespace = p.parse_args(argv)
    try:
        import uvicorn
    except ImportError as error:
        raise UserError("this example needs FastAPI and uvicorn ({error}): python -m pip install fastapi uvicorn",
                        error=error) from None
    folder = Path(args.voices).absolute()
    if not folder.is_dir():
        raise UserError("there is no folder {folder}{near}: give --voices the folder of the adapters", folder=folder,
                        near=near_words(folder))
    check_port(args.host, args.port)
    batch = VoiceBatch(args.base_model, args.device)
    batcher = Batcher(batch, args.most)
    print(tr("http://{host}:{port}/voices: {count} voices; Ctrl-C ends", host=args.host, port=args.port,
             count=len(voices_in(folder))))
    here = args.host in ("localhost", "::1") or args.host.startswith("127.")
    addresses = Addresses.local(args.host) if here else Addresses.open((args.host, *hosts_named()))
    app = make_app(batcher, folder, batch.voice.info.sample_rate, addresses)
    uvicorn.run(app, host=args.host, port=args.port, log_level="warning")
    batcher.close()
    return 0
