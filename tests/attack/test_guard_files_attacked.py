"""Files that the guarded pages serve and take (`guarded_pages`), asked for by hand and by a page of another site."""
# ruff: noqa: F811  (fixtures, which pytest finds by their names)

import base64
import contextlib
import io
import json
import os
from urllib.parse import quote

import pytest
import requests
import soundfile
from browser import chromium  # noqa: F401  (a fixture)
from guarded_pages import (  # noqa: F401  (fixtures)
    SECRET,
    attacked,
    dependency,
    elsewhere,
    guarded,
    named,
    own,
    page,
    recording,
    unguarded,
)

pytestmark = pytest.mark.attack


# ---------------------------------------------------------------- files

def test_a_file_of_the_machine_cannot_be_named_in_an_event(page, unguarded):
    secret = page.secret
    payloads = [named(secret), named(page.folder / "notes.txt"), named("notes.txt"), named("linked.wav"),
                named("/etc/hostname"),
                {"name": str(secret), "data": "x", "is_file": 1}, {"name": str(secret)},
                {"name": str(secret), "data": ""},
                {"name": str(secret), "data": "/file=x", "is_file": False}, named("http://127.0.0.1:9/x.wav"),
                named(f"file://{secret}"),
                [named(secret)], [[named(secret)]], {"a": {"b": [1, named(secret)]}}, {"is_file": True}, named(["x"]),
                named({"name": "x"}), named(str(secret) + "\0"), named(f"{page.folder}/../{secret.name}")]
    for payload in payloads:
        answer = page.post(body=page.event(payload))
        assert answer.status_code == 400 and "drop the file into its field again" in answer.json()["error"], payload
        assert page.post("/api/predict/", body={**page.event(None), "event_data": payload}).status_code == 400
    said = page.join(named(secret))
    assert not said["success"] and "drop the file into its field again" in said["output"]["error"]
    file = f'{{"name": "/x", "is_file": false, "data": "data:,", "name": {json.dumps(str(secret))}, "is_file": true}}'
    twice = f'{{"data": [{file}], "fn_index": {page.echo}}}'
    assert page.post(data=twice.encode(), headers={"Content-Type": "application/json"}).status_code == 400
    for encoding in ("utf-16", "utf-32-le"):
        data = json.dumps(page.event(named(secret))).encode(encoding)
        assert page.post(data=data, headers={"Content-Type": "application/json; charset=utf-16"}).status_code == 400
    assert unguarded.post(body=unguarded.event(named(unguarded.secret))).status_code == 200  # what the guard is for


def test_no_file_of_the_machine_is_served(page, unguarded):
    own_files = [page.secret, page.folder / "notes.txt", "notes.txt", "linked.wav", page.folder / "linked.wav",
                 "/etc/hostname", "./notes.txt", f"../{page.folder.name}/notes.txt",
                 "http://127.0.0.1:9/", "https://evil.example/", "", "/", ".", "notes.txt\0", "\ud800", "x" * 5000]
    for path in own_files:
        asked = quote(str(path), safe="/:", errors="surrogatepass")
        for start in ("/file=", "/file/", "/proxy=", "//file=", "/./file=", "/%66ile=", "/file%3D"):
            answer = page.get(start + asked)
            assert answer.status_code in (400, 403, 404) and SECRET not in answer.text, start + asked
    assert SECRET in unguarded.get("/file=notes.txt").text and SECRET.encode() in unguarded.get(
        "/file=linked.wav").content


def test_an_upload_is_served_and_used_and_nothing_beside_it(page):
    data = recording()
    [path] = page.upload(data).json()
    assert page.get("/file=" + path).content == data
    assert page.get("/file=" + path, Range="bytes=0-9").status_code in (200, 206)
    assert "sandbox" in page.get("/file=" + path).headers["Content-Security-Policy"]
    assert "drop the file" not in page.post(body=page.event(named(path))).text
    assert page.get("/file=" + os.path.dirname(path)).status_code == 403
    other = os.path.join(os.path.dirname(path), "not-uploaded.wav")
    with open(other, "wb") as file:
        file.write(data)
    assert page.get("/file=" + other).status_code == 403
    os.remove(path)
    os.symlink(str(page.secret), path)  # a link in the place of an upload
    assert page.get("/file=" + path).status_code == 403 and page.post(body=page.event(named(path))).status_code == 400


def test_no_name_of_an_upload_leads_out_of_its_folder(guarded, page):
    """Neither that of a file that is sent, nor of one whose content lies within the event, as Gradio 3.14 sends it."""
    before = {path for path in guarded.folder.parent.rglob("*") if "temporary" not in path.parts}
    names = ["../../../evil.wav", str(guarded.folder / "evil.wav"), "..", "../notes.txt", "a/../../evil.wav",
             "C:\\evil.wav", "..\\..\\evil.wav", "x" * 300 + ".wav", "\u202eevil.wav", "-rf.wav", ".", " "]
    data = "data:audio/wav;base64," + base64.b64encode(recording()).decode()
    for name in names:
        answer = page.upload(recording(), name)
        for path in answer.json() if answer.status_code == 200 else []:
            assert os.path.dirname(os.path.dirname(path)) == os.path.dirname(os.path.dirname(
                page.upload(recording()).json()[0])), name
        event = guarded.event({"name": name, "data": data, "is_file": False})
        answer = guarded.post(body=event)
        assert answer.status_code == 200 or answer.status_code == 400 or name in ("..", "."), (name, answer.text)
    assert {path for path in guarded.folder.parent.rglob("*") if "temporary" not in path.parts} == before
    assert (guarded.folder / "notes.txt").read_text() == SECRET


def test_what_an_event_made_is_served(guarded):
    [path] = guarded.upload(recording()).json()
    for made in (guarded.post(body=guarded.event(named(path))).json()["data"][0],
                 guarded.join(named(path))["output"]["data"][0]):
        audio, rate = soundfile.read(io.BytesIO(guarded.get("/file=" + made["name"]).content))
        assert rate == 16000 and len(audio) == 8000
        assert guarded.post(body=guarded.event(made)).status_code == 200  # an output given back as an input
    # as Gradio 3.14 does
    inline = {"name": "tone.wav", "data": "data:audio/wav;base64," + base64.b64encode(recording()).decode(),
              "is_file": False}
    assert guarded.get("/file=" + guarded.post(body=guarded.event(inline)).json()["data"][0]["name"]).status_code == 200
    files = guarded.upload(recording(), "a.wav").json() + guarded.upload(recording(), "b.wav").json()
    number = dependency(guarded.address + "/", "count")
    assert guarded.post(body=guarded.event([named(file) for file in files],
                                           number)).json()["data"] == ["['a.wav', 'b.wav']"]
    assert guarded.post(body=guarded.event([named(files[0]), named(guarded.secret)], number)).status_code == 400


def test_a_program_uses_the_page_through_gradio_client(guarded, tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    from gradio_client import Client

    (tmp_path / "tone.wav").write_bytes(recording())
    client = Client(guarded.address + "/", output_dir=str(tmp_path / "given"), verbose=False)
    given, said = client.predict(str(tmp_path / "tone.wav"), api_name="/echo")
    assert soundfile.info(given).frames == 8000 and "tone" in said


def test_an_upload_beyond_the_limit_is_refused(page):
    big = b"x" * (3 * 2**20)
    assert page.upload(b"x" * 2**20).status_code == 200
    answer = page.upload(big)
    assert answer.status_code == 413 and "2 MB" in answer.json()["error"]

    def pieces(whole):
        yield from (whole[start:start + 2**16] for start in range(0, len(whole), 2**16))

    head, tail = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.wav"\r\n\r\n', b"\r\n--x--\r\n"
    for path, kind, body in (("/upload", "multipart/form-data; boundary=x", head + big + tail),
                             ("/run/predict", "application/json", big)):
        with contextlib.suppress(requests.ConnectionError):  # the server may close before all is sent
            # without a Content-Length
            assert page.post(path, data=pieces(body), headers={"Content-Type": kind}).status_code == 413
    said = page.join({"name": "a.wav", "is_file": False, "data": "data:," + "x" * len(big)})
    assert said[1] == 1009 if isinstance(said, tuple) else "2 MB" in said["output"]["error"]
    assert page.get("/config").status_code == 200  # and goes on


# ---------------------------------------------------------------- a browser

def test_a_page_of_another_site_reads_nothing(chromium, elsewhere, page, unguarded):  # noqa: F811
    reached = attacked(chromium, elsewhere, unguarded)
    assert "RIFF" in reached[1] and sum(SECRET in told
                                        for told in reached) == 2 and '"success": true' in reached[-2].replace(
                                            ":true", ": true")
    assert reached[-1] == "the sound plays"  # all this where nothing stops it
    said = attacked(chromium, elsewhere, page)
    assert said == ["TypeError: Failed to fetch"] * 5 + ["no queue", "no sound"]


def test_the_page_itself_uploads_plays_and_downloads(chromium, guarded, tmp_path):  # noqa: F811
    tab, wrong = chromium.new_page(), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("response", lambda answer: wrong.append(answer.url) if answer.status >= 400
           and answer.url.startswith(guarded.address) else None)
    (tmp_path / "tone.wav").write_bytes(recording(1.5))
    tab.goto(guarded.address, wait_until="domcontentloaded")
    tab.locator("input[type=file]").first.set_input_files(str(tmp_path / "tone.wav"))
    tab.locator("audio").first.wait_for(state="attached")
    tab.get_by_role("button", name="Go").click()
    tab.wait_for_function("[...document.querySelectorAll('audio')].filter(e => e.src && e.readyState > 0 && e.duration "
                          "> 1.4).length == 2")
    length = tab.evaluate(
        """async () => (await (await fetch([...document.querySelectorAll('audio')].pop().src)).arrayBuffer()).byteLength""")  # noqa: E501
    assert length == len(recording(1.5))
    tab.close()
    assert not wrong
