"""Pages that are up for the tests of the guard, and what a stranger asks of them.

Two pages are served on loopback: `python run.py app`'s own, and a small one guarded as RVC's is, with a recording in
and a recording out. The same small page without the guard, beside it, shows that each attack works where nothing stops
it.
"""

import asyncio
import concurrent.futures
import http.server
import io
import json
import socket
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
import soundfile
import websockets
import websockets.exceptions
from serving import ROOT, free_port, served

SECRET = "the-users-private-words"
PAGE = '''import argparse
import os
import sys

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr

from LoraModel.webui.guard import guard_rvc

options = argparse.ArgumentParser()
options.add_argument("--port", type=int)
options.add_argument("--noautoopen", action="store_true")
given = options.parse_args()


def page(port, **more):
    with gr.Blocks(analytics_enabled=False) as app:
        sound, files = gr.Audio(type="filepath", label="in"), gr.File(file_count="multiple", label="files")
        again, said = gr.Audio(label="out"), gr.Textbox(label="said")
        gr.Button("Go").click(lambda path: (path, path), [sound], [again, said], api_name="echo")
        gr.Button("Count").click(lambda paths: str([os.path.basename(path.name) for path in paths or []]), [files], [said], api_name="count",
                                 queue=False)
        gr.Button("Half").click(lambda value: str(value / 2), [gr.Number(label="number", value=3)], [said], api_name="half")
    return app.queue(concurrency_count=4).launch(server_name="127.0.0.1", server_port=port, quiet=True, **more)


os.environ["RVC_LORA_GUARD"] = "0"
assert not guard_rvc()
page(int(os.environ["UNGUARDED"]), prevent_thread_lock=True)
del os.environ["RVC_LORA_GUARD"]
assert guard_rvc()
page(given.port)
'''  # noqa: E501


def recording(seconds=0.5):
    """A WAV file's bytes: a tone."""
    out = io.BytesIO()
    soundfile.write(out, (0.3 * np.sin(np.arange(int(16000 * seconds)) * 0.1)).astype(np.float32), 16000, format="WAV")
    return out.getvalue()


class Served:
    """A page that is up, in a working folder that holds a private file's link."""

    def __init__(self, address, folder, secret, echo):
        self.address, self.folder, self.secret, self.echo = address.rstrip("/"), folder, secret, echo
        self.port = urlsplit(address).port

    def get(self, path, **headers):
        return requests.get(self.address + path, headers=headers, timeout=60, allow_redirects=False)

    def post(self, path="/run/predict", body=None, **named):
        headers = named.pop("headers", {})
        if body is not None:
            named["data"] = json.dumps(body)
            headers = {"Content-Type": "application/json", **headers}
        return requests.post(self.address + path, headers=headers, timeout=60, **named)

    def event(self, file, number=None):
        return {"data": [file], "fn_index": self.echo if number is None else number, "session_hash": "abc"}

    def upload(self, data, name="tone.wav", **headers):
        return requests.post(self.address + "/upload", files=[("files", (name, data))], headers=headers, timeout=60)

    def join(self, file, origin=None, host=None, number=None):
        """What the queue says last of an event with `file`; (None, code) where it closes first.

        Raises:
            websockets.exceptions.InvalidHandshake: it is refused before the first message.
        """
        # in a thread: Playwright runs a loop in this one
        with concurrent.futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._join(file, origin, host, number)).result(120)

    async def _join(self, file, origin, host, number):
        event = self.event(file, number)
        fresh = socket.create_connection(("127.0.0.1", self.port))
        fresh.setblocking(False)
        address = f"ws://{host or f'127.0.0.1:{self.port}'}/queue/join"
        async with websockets.connect(address, sock=fresh, origin=origin) as queue:
            try:
                while True:
                    said = json.loads(await asyncio.wait_for(queue.recv(), 60))
                    if said["msg"] == "send_hash":
                        await queue.send(json.dumps({key: event[key] for key in ("session_hash", "fn_index")}))
                    elif said["msg"] == "send_data":
                        await queue.send(json.dumps(event))
                    elif said["msg"] == "process_completed":
                        return said
            except websockets.exceptions.ConnectionClosed as closed:
                return None, closed.rcvd and closed.rcvd.code


def dependency(address, name):
    config = requests.get(address + "config", timeout=60).json()
    return next(number for number, entry in enumerate(config["dependencies"]) if entry["api_name"] == name)


def put_secret(folder):
    """A private file outside the page's folder, and a link to it in there."""
    folder.mkdir()
    secret = folder.parent / f"private of {folder.name}.wav"
    secret.write_bytes(recording() + SECRET.encode())
    (folder / "linked.wav").symlink_to(secret)
    (folder / "notes.txt").write_text(SECRET)
    return secret


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A small page with RVC's guard; in the same process, at the address `beside`, the same page without it."""
    folder = tmp_path_factory.mktemp("guarded") / "page"
    secret = put_secret(folder)
    (folder / "page.py").write_text(PAGE)
    temporary, beside = folder.parent / "temporary", free_port()
    temporary.mkdir()
    settings = {"UNGUARDED": str(beside), "RVC_LORA_HOSTS": "my-proxy.example", "RVC_LORA_UPLOAD_MB": "2",
                "RVC_LORA_LANG": "en"}
    with served(["page.py"], folder, folder.parent / "page.log", TMPDIR=str(temporary), **settings) as address:
        page = Served(address, folder, secret, dependency(address, "echo"))
        page.beside = f"http://127.0.0.1:{beside}/"
        yield page


@pytest.fixture(scope="module")
def unguarded(guarded):
    return Served(guarded.beside, guarded.folder, guarded.secret, dependency(guarded.beside, "echo"))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """`python run.py app`'s page."""
    folder = tmp_path_factory.mktemp("own") / "page"
    secret = put_secret(folder)
    with served([str(ROOT / "LoraModel/webui/app.py"), "--data_dir", str(folder / "data")], folder,
                folder.parent / "app.log", RVC_LORA_LANG="en", RVC_LORA_UPLOAD_MB="2") as address:
        yield Served(address, folder, secret, dependency(address, "infer_convert"))


@pytest.fixture(scope="module", params=["own", "guarded"])
def page(request):
    return request.getfixturevalue(request.param)


def named(path):
    return {"name": str(path), "data": None, "is_file": True}


# A page of another site, in a browser

ATTACK = """async ({address, secret, number}) => {
    const said = [], body = JSON.stringify({data: [{name: secret, data: null, is_file: true}], fn_index: number, session_hash: 'e'});
    const send = async (options) => {
        try {
            const answer = await fetch(address + '/run/predict', {method: 'POST', ...options});
            const made = await answer.json();
            said.push(JSON.stringify(made));
            said.push(await (await fetch(address + '/file=' + made.data[0].name)).text());
        } catch (error) { said.push(String(error)); }
    };
    await send({body: new Blob([body])});
    await send({body, headers: {'Content-Type': 'text/plain'}});
    await send({body, headers: {'Content-Type': 'application/json'}});
    for (const path of ['notes.txt', 'linked.wav'])
        try { said.push(await (await fetch(address + '/file=' + path)).text()); } catch (error) { said.push(String(error)); }
    said.push(await new Promise((done) => {
        const queue = new WebSocket(address.replace('http', 'ws') + '/queue/join');
        queue.onerror = () => done('no queue');
        queue.onmessage = (message) => {
            const told = JSON.parse(message.data).msg;
            if (told == 'send_hash') queue.send(JSON.stringify({fn_index: number, session_hash: 'e'}));
            if (told == 'send_data') queue.send(body);
            if (told == 'process_completed') done(message.data);
        };
    }));
    said.push(await new Promise((done) => {
        const sound = document.createElement('audio');
        sound.onerror = () => done('no sound');
        sound.onloadedmetadata = () => done('the sound plays');
        sound.src = address + '/file=linked.wav';
    }));
    return said;
}"""  # noqa: E501


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The address of another site."""
    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>another site</title>")

        def log_message(self, *told):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_port}/"
        server.shutdown()


def attacked(browser, elsewhere, page):
    tab = browser.new_page()
    tab.goto(elsewhere)
    said = tab.evaluate(ATTACK, {"address": page.address, "secret": str(page.secret), "number": page.echo})
    tab.close()
    return said
