"""examples/serve.py: POST /convert in a voice by its name, batches, a bounded queue, and errors in words."""

import io
import shutil
import socket
import threading
from concurrent.futures import Future

import numpy as np
import pytest
import soundfile
from voice_data import BASE, SOURCE

from LoraModel import VoiceBatch
from LoraModel.examples import serve
from LoraModel.inference.audio import read_audio
from LoraModel.messages import UserError, cli
from LoraModel.realtime.batcher import Batcher, Busy
from LoraModel.webui.guard import Addresses

testclient = pytest.importorskip("fastapi.testclient")


@pytest.fixture(scope="module")
def batch(library):
    return VoiceBatch(BASE, host=library)


@pytest.fixture(scope="module")
def served(batch, adapters, tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    for path in adapters:
        shutil.copy(str(path), str(folder))
    (folder / "broken.safetensors").write_bytes(b"x" * 50)
    batcher = Batcher(batch, wait=0.2)
    app = serve.make_app(batcher, folder, 16000, Addresses.local())
    yield testclient.TestClient(app, base_url="http://127.0.0.1:7897"), batcher, folder
    batcher.close()


@pytest.fixture(scope="module")
def wave():
    file = io.BytesIO()
    soundfile.write(file, read_audio(SOURCE, 16000)[:8000], 16000, format="WAV")
    return file.getvalue()


def heard(answer):
    assert answer.status_code == 200, answer.text
    return soundfile.read(io.BytesIO(answer.content), dtype="float32")


def test_a_recording_comes_back_in_the_voice(served, batch, wave):
    client, _, folder = served
    assert client.get("/voices").json() == {"voices": ["broken", "one", "two"]}
    sound, rate = heard(client.post("/convert?voice=one&strength=0.5&transpose=2", content=wave))
    given = soundfile.read(io.BytesIO(wave), dtype="float32")[0]
    expected = batch.convert([given], [{folder / "one.safetensors": 0.5}], [2.0])[0]
    assert rate == 16000 and len(sound) == 8000
    np.testing.assert_allclose(sound, np.clip(expected, -1, 1), atol=1 / 16000)


def test_what_arrives_together_is_one_batch_and_a_bad_one_harms_no_other(served, wave):
    client, batcher, _ = served
    before, answers = len(batcher.sizes), {}

    def ask(name):
        answers[name] = client.post(f"/convert?voice={name}", content=wave)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("one", "two", "broken")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not np.array_equal(heard(answers["one"])[0], heard(answers["two"])[0])
    assert answers["broken"].status_code == 400 and "broken" in answers["broken"].json()["error"]
    assert "/tmp" not in answers["broken"].text  # nor any path of the server's
    assert max(batcher.sizes[before:]) >= 2


@pytest.mark.parametrize("query, body, status, said", [
    ("voice=eve", None, 404, "GET /voices"), ("", None, 404, "no voice"), ("voice=../one", None, 404, "no voice"),
    ("voice=one&strength=9", None, 400, "strength"), ("voice=one&transpose=x", None, 400, "number"),
    ("voice=one", b"no sound", 400, "the request"), ("voice=one", b"", 400, "the request")])
def test_what_cannot_be_converted_is_said(served, wave, query, body, status, said):
    answer = served[0].post(f"/convert?{query}", content=wave if body is None else body)
    assert answer.status_code == status and said in answer.json()["error"] and "/tmp" not in answer.text


@pytest.mark.parametrize("headers", [
    {"Host": "evil.example"}, {"Host": "evil.example:7897"}, {"Host": "127.0.0.1:80"}, {"Host": ""},
    {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:8000"},
    {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}])
def test_other_sites_are_answered_nothing(served, wave, headers):
    for answer in (served[0].get("/voices", headers=headers),
                   served[0].post("/convert?voice=one", content=wave, headers=headers)):
        assert answer.status_code == 403 and "one" not in answer.json().get("voices", []) and answer.json()["error"]
    own = {"Origin": "http://127.0.0.1:7897", "Sec-Fetch-Site": "same-origin"}
    assert served[0].get("/voices", headers=own).status_code == 200
    assert served[0].get("/docs", headers=own).status_code == 404  # FastAPI's page loads scripts of other machines


def test_too_much_is_refused(served, wave, monkeypatch):
    monkeypatch.setattr(serve, "LARGEST", 1000)
    assert served[0].post("/convert?voice=one", content=wave).status_code == 413
    monkeypatch.undo()
    monkeypatch.setattr(serve, "LONGEST", 0.1)
    assert served[0].post("/convert?voice=one", content=wave).status_code == 400


def test_the_queue_is_bounded():
    class Slow:
        def __init__(self):
            self.go, self.begun = threading.Event(), threading.Event()

        def convert(self, sounds, *_):
            self.begun.set()
            self.go.wait(60)
            return sounds

    slow = Slow()
    batcher = Batcher(slow, most=1, wait=0, waiting=2)
    first = batcher.ask(np.zeros(1), {})
    assert slow.begun.wait(60)
    more = [batcher.ask(np.full(1, value), {}) for value in (1, 2)]
    with pytest.raises(Busy, match="try again"):
        batcher.ask(np.zeros(1), {})
    slow.go.set()
    assert [one.result(60)[0] for one in (first, *more)] == [0, 1, 2] and isinstance(first, Future)
    batcher.close()


def test_the_command_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="--voices"):
        serve.main(["--base_model", str(BASE), "--voices", str(tmp_path / "none")])


def test_hours_in_a_small_file_take_no_memory(served, monkeypatch):
    """Silence of three hours is a FLAC file of a few hundred KB: it is refused before it is decoded whole."""
    blocks, file = [], io.BytesIO()
    soundfile.write(file, np.zeros(3 * 3600 * 1000, np.int16), 1000, format="FLAC")
    real = soundfile.SoundFile.read
    monkeypatch.setattr(soundfile.SoundFile, "read", lambda self, *args, **more: blocks.append(1) or real(self, *args,
                                                                                                          **more))
    answer = served[0].post("/convert?voice=one", content=file.getvalue())
    assert answer.status_code == 400 and "longer than 60 s" in answer.json()["error"] and len(blocks) < 3


def test_faults_of_the_server_are_said_and_tell_no_path(served, wave, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/secret/tmp/x")

    for name in ("_encoded", "_decoded"):
        with monkeypatch.context() as patched:
            patched.setattr(serve, name, full)
            answer = served[0].post("/convert?voice=one", content=wave)
            assert answer.status_code == 503 and "secret" not in answer.text and "full" in answer.json()["error"]


def test_names_that_no_answer_can_hold_are_no_voices(served):
    client, _, folder = served
    odd = folder / "odd\udcff\n.safetensors"
    odd.write_bytes(b"x")
    try:
        assert client.get("/voices").json() == {"voices": ["broken", "one", "two"]}
    finally:
        odd.unlink()


def test_an_address_that_cannot_be_had_is_one_line(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for more in (["--port", port], ["--host", "no.such.host.invalid"], ["--host", "a" * 300]):
            assert cli(serve.main, ["--base_model", "none.pth", "--voices", str(tmp_path), *more]) == 2
            said = capsys.readouterr().err
            assert "cannot listen on" in said and len(said.splitlines()) == 1
