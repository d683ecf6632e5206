"""RVC's own page in real checkouts, with the plugin in: another site and a stranger's requests get nothing, and RVC's
own uploads, downloads and audio players go on working.

Marked `host`: runs on copies of the checkouts of RVC_HOSTS, with the Python that runs them.
"""
# ruff: noqa: F811  (fixtures, which pytest finds by their names)

import json
import shutil
from pathlib import Path

import pytest
import soundfile
import standin_hosts
from browser import Visitor, chromium  # noqa: F401  (a fixture)
from checkouts import copy_of, each_checkout, install
from guarded_pages import SECRET, Served, attacked, dependency, elsewhere, named, put_secret  # noqa: F401  (a fixture)
from serving import end_runs, served

pytestmark = [pytest.mark.attack, pytest.mark.host]
ROOT = Path(__file__).resolve().parents[2]
RECORDINGS = ROOT / "LoraModel" / "demo" / "recordings"
NOT_SERVED = ["configs/config.py", "notes.txt", "linked.wav", "assets/pretrained_v2/f0G40k.pth", "/etc/hostname",
              "../notes.txt", "LoraModel/messages.py"]


@each_checkout
def test_rvcs_own_page_behind_the_guard(checkout, chromium, elsewhere, tmp_path):
    folder = tmp_path / "rvc"
    host = copy_of(Path(checkout).resolve(), folder)
    stranger = tmp_path / "private"
    secret = put_secret(stranger)  # a file outside, with a link to it and a note beside it
    for name in ("notes.txt", "linked.wav"):
        shutil.copy(str(stranger / name), str(folder / name), follow_symlinks=False)
    install(folder)
    log, script = tmp_path / "page.log", standin_hosts.SCRIPT[host.name]
    try:
        with served([script], folder, log, PYTHONPATH="", RVC_LORA_LANG="en", LC_ALL="en_US.UTF-8") as address:
            page = Served(address, folder, secret, dependency(address, "infer_convert"))
            requests_of_a_stranger(page)
            assert attacked(chromium, elsewhere, page) == ["TypeError: Failed to fetch"] * 5 + ["no queue", "no sound"]
            rvcs_own_way(chromium, page, tmp_path)
    finally:
        end_runs(folder, True)
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:])


def requests_of_a_stranger(page):
    assert page.get("/").status_code == 200 and page.get("/config").status_code == 200
    assert page.get("/config", Host="evil.example").status_code == 403
    assert page.get("/config", Origin="http://evil.example").status_code == 403
    assert not [key for key in page.get("/config").headers if key.lower().startswith("access-control-")]
    for path in [*NOT_SERVED, str(page.secret), str(page.folder / "notes.txt")]:
        for start in ("/file=", "/file/"):
            answer = page.get(start + path)
            assert answer.status_code in (403, 404) and SECRET not in answer.text, path
    for path in (page.secret, "notes.txt", "linked.wav"):
        answer = page.post(body=page.event(named(path)))
        assert answer.status_code == 400 and "drop the file into its field again" in answer.json()["error"]
        said = page.join(named(path))
        assert not said["success"] and "drop the file into its field again" in said["output"]["error"]
    loads = dependency(page.address + "/", "lora_load")  # ours face the network as RVC's do
    body = json.dumps({"data": ["", "", 1], "fn_index": loads})
    assert page.post(headers={"Content-Type": "text/plain"}, data=body).status_code == 415


def rvcs_own_way(browser, page, tmp_path):
    """A recording by hand or by upload is converted, played and downloaded; files that are uploaded are converted as a
    batch."""
    speech = tmp_path / "speech.wav"
    audio, rate = soundfile.read(str(RECORDINGS / "source" / "01.flac"))
    soundfile.write(str(speech), audio[:2 * rate], rate)
    user, refused = Visitor(browser, page.address + "/", False, 240), []
    user.page.on("response", lambda answer: refused.append((answer.status, answer.url))
                 if answer.status >= 400 and answer.url.startswith(page.address) else None)
    user.tab("Model Inference", "模型推理")
    user.page.get_by_text("RVC-LoRA: ").locator("visible=true").first.click()  # one row, until it is unfolded
    user.choose("Base model", "底模", "pretrained_v2/f0G40k.pth")
    user.says("Loaded", "当前加载", "pretrained_v2/f0G40k.pth")
    typed = user.page.locator("textarea[placeholder*=audio_example]").locator("visible=true")
    if typed.count():  # RVC 2.2: the path of a recording
        typed.first.fill(str(speech))
    else:
        user.page.locator("input[type=file]").first.set_input_files(str(speech))
    user.page.locator("label:visible", has_text="pm").locator("input[type=radio]").first.click()
    user.page.wait_for_timeout(3000)
    sound, at = user.convert()  # what the player plays, fetched as its download is
    assert len(sound) > at and abs(sound).max() > 0

    user.tab("Batch Inference", "批量推理")
    output = tmp_path / "converted"
    user.fill("Specify output folder:", "指定输出文件夹", output)
    user.page.locator("label:visible", has_text="pm").locator("input[type=radio]").first.click()
    fields = [field for field in user.page.locator("input[type=file][multiple]").all()
              if field.evaluate("e => e.parentElement.offsetParent !== null")]  # itself it is never shown
    fields[0].set_input_files([str(speech)])
    user.page.locator("text=speech").locator("visible=true").first.wait_for()
    user.page.wait_for_timeout(2000)
    user.click("Convert", "转换")
    files = user.until(lambda: sorted(output.glob("*.wav")), bool)
    user.page.wait_for_timeout(2000)
    assert len(files) == 1 and abs(soundfile.read(str(files[0]))[0]).max() > 0
    assert [error for error in user.wrong if "googleapis" not in error] == [] and refused == []
    user.page.close()
