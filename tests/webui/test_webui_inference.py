"""The inference panel in a page: under Gradio by itself, and in the WebUI of both stand-in hosts, called as scripts
call it."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import standin_hosts
import torch
from panel_data import BASE_NAME, LIBRARY, NOTHING, REFUSED, Converter, furnish, needs_gradio, panel
from torch_version import SINCE_2
from voice_data import BASE, make_adapter

from LoraModel.inference import VoiceLoader
from LoraModel.inference.audio import read_audio
from LoraModel.inference.transpose import pitch_of_recording
from LoraModel.install import webui_script
from LoraModel.lora.adapter_file import edit_metadata

ROOT = Path(__file__).resolve().parents[2]
SPEECH = BASE.parents[1] / "recordings" / "source" / "01.flac"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("panel")
    furnish(root)
    hertz = pitch_of_recording(read_audio(SPEECH, 16000)).median / 2
    pitch = json.dumps({"median": hertz, "low": 0.8 * hertz, "high": 1.2 * hertz})
    make_adapter(root / "assets/lora/pitched.safetensors", LIBRARY, 7, name="pitched", pitch=pitch)
    return root


@needs_gradio
def test_every_event_answers_for_all_its_outputs(files):
    made, names = panel(files)
    events = {event["api_name"]: event for event in names["app"].config["dependencies"] if event["api_name"]}
    assert {"lora_load", "lora_unload", "lora_refresh", "lora_merge"} <= set(events)
    # it drops events
    assert [event["targets"] for event in names["app"].config["dependencies"] if event["queue"] is not False] == []
    shown = len(events["lora_load"]["outputs"])
    for answer in (made.load(BASE_NAME, "lora/anna.safetensors", 1),
                   made.load(BASE_NAME, "lora/damaged.safetensors", 1), made.load("", "", 1),
                   made.settle(BASE_NAME, "lora/anna.safetensors", 0.5), made.settle("", "", 1), made.take_off(),
                   made.release(), made.release()):
        assert len(answer) == shown == 20
    assert len(made.lists()) == len(events["lora_refresh"]["outputs"]) and len(made.merge_into("")) == len(
        events["lora_merge"]["outputs"])
    assert len(made.rvc_chose("lisa.pth")) == len(made.rvc_chose("")) == 5 and len(made.page_opened()) == 14


@needs_gradio
def test_a_recording_is_shifted_to_the_loaded_voice_unless_a_number_is_given(files):
    """The tick stands right after RVC's own number, and RVC's conversion asks it."""
    import gradio as gr

    from LoraModel.webui.panel import inference_panel

    names = {"vc": Converter(), "i18n": SimpleNamespace(language="en_US"), "rvc_lora_host": LIBRARY,
             "rvc_lora_root": files}
    with gr.Blocks() as app:
        names["sid0"] = gr.Dropdown(choices=[])
        inference_panel.build(names)
        with gr.Row() as row:
            names["vc_transform0"], after = gr.Number(value=0), gr.Button()
        inference_panel.attach(names)
    made = names[inference_panel.PANEL]
    inside = [child for block in row.children for child in (getattr(block, "children", None) or [block])]
    assert inside == [names["vc_transform0"], *made.pitch.ticks, after] and len(made.page_opened()) == 15
    assert len([event for event in app.config["dependencies"] if event["queue"] is not False]) == 0
    choose = made.voices.vc.rvc_lora_transpose
    made.voices.release()
    assert choose(str(SPEECH), 0) == (0, "")  # no voice of ours
    made.load(BASE_NAME, "", 1)
    assert choose(str(SPEECH), 0) == (0, "")  # nor the base alone
    made.load(BASE_NAME, "lora/pitched.safetensors", 1)
    semitones, said = choose(f'"{SPEECH}"', 0)
    assert semitones == -12 and re.search(r"transpose -12: the recording speaks at \d+ Hz, the voice at", said)
    assert choose(str(SPEECH), 3) == (3, "") and choose("/no/such/file.wav", 0) == (0, "")
    made.pitch.change(False)
    assert choose(str(SPEECH), 0) == (0, "") and made.pitch.opened() == [False]
    made.pitch.change(True)
    made.load(BASE_NAME, "lora/anna.safetensors", 1)  # of an earlier version: it does not tell its pitch
    assert choose(str(SPEECH), 0)[0] == 0 and "nothing is transposed" in choose(str(SPEECH), 0)[1]
    made.voices.release()


@needs_gradio
def test_a_trained_voice_is_tried_at_once(files):
    made, _ = panel(files)
    answer = made.try_voice("anna", 0.7)
    assert made.voices.state[:3] == (BASE_NAME, "lora/anna.safetensors", 0.7) and answer[0].endswith("0.7")
    assert made.try_voice("anna", 0.7)[:2] == [NOTHING, NOTHING]  # it is loaded
    for wrong in ("nobody", "../anna", "", None):
        assert made.try_voice(wrong, 1)[0].startswith("Error: ")
    made.voices.release()


@needs_gradio
def test_errors_stand_in_the_page_in_its_language_and_say_what_is_still_loaded(files):
    for language, error, still in (("en_US", "Error: ", "Still loaded: lora/anna.safetensors"),
                                   ("zh_CN", "错误：", "仍为：lora/anna.safetensors")):
        made, _ = panel(files, language)
        made.load(BASE_NAME, "lora/anna.safetensors", 1)
        details = made._details("lora/anna.safetensors")
        for action in (made.load, made.choose_adapter):
            refused = "lora/other.safetensors" if action == made.load else "lora/homeless.safetensors"
            answer = action(BASE_NAME, refused, 1)
            # The list, the details and what Convert uses agree again.
            assert answer[0].startswith(error) and still in answer[0] and answer[1] == details
            assert [change.get("value") for change in answer[2:4]] == [BASE_NAME, "lora/anna.safetensors"]
            assert set(map(str, made.settle(BASE_NAME, refused, 1))) == {str(NOTHING)}  # it is not tried again
            # The page sets its lists back, which is an event: the message stays.
            assert made.choose_adapter(BASE_NAME, "lora/anna.safetensors", 1)[:-1] == [NOTHING] * 19
            assert made.settle(BASE_NAME, "lora/anna.safetensors", 1) == [NOTHING] * 20
        # what was chosen meanwhile is loaded
        assert made.settle(BASE_NAME, "lora/anna.safetensors", 0.5)[0].endswith("0.5")
        made.release()
        answer = made.load(BASE_NAME, "lora/other.safetensors", 1)  # nothing was loaded: nothing is shown as chosen
        assert answer[0].startswith(error) and [change.get("value")
                                                for change in answer[2:4]] == ["",
                                                                               made.none] and made.voices.state is None


@needs_gradio
def test_an_adapter_brings_its_own_base_and_a_base_takes_other_adapters_off(files):
    made, _ = panel(files)
    made.choose_adapter(BASE_NAME, "lora/anna.safetensors", 1)
    assert made.voices.state[:2] == (BASE_NAME, "lora/anna.safetensors")
    answer = made.choose_adapter(BASE_NAME, "lora/other.safetensors", 0.8)
    assert made.voices.state[:3] == ("weights/other.pth", "lora/other.safetensors", 0.8), answer[:2]
    assert [change.get("value") for change in answer[2:4]] == ["weights/other.pth",
                                                               "lora/other.safetensors"] and "Base: other" in answer[1]
    assert made.choose_adapter("weights/other.pth", "lora/fast.safetensors", 1)[2]["value"] == "weights/fast.pth"
    answer = made.choose_base(BASE_NAME, "lora/fast.safetensors", 1)
    assert made.voices.state[:2] == (BASE_NAME,
                                     "") and "lora/fast.safetensors was removed" in answer[0] and answer[3][
                                         "value"] == made.none
    made.choose_base(BASE_NAME, "lora/anna.safetensors", 1)  # as settle calls it: both fit
    assert made.voices.state[:2] == (BASE_NAME, "lora/anna.safetensors")
    # By settle, where the page dropped the event itself.
    made.settle(BASE_NAME, "lora/other.safetensors", 1)
    assert made.voices.state[:2] == ("weights/other.pth", "lora/other.safetensors")
    made.settle(BASE_NAME, "lora/other.safetensors", 1)
    assert made.voices.state[:2] == (BASE_NAME, "")


@needs_gradio
def test_a_choice_that_the_page_dropped_is_seen_to_and_then_all_is_at_rest(files):
    made, names = panel(files)
    made.load(BASE_NAME, "", 1)
    for base, adapter, strength in ((BASE_NAME, "lora/anna.safetensors", 0.45), (BASE_NAME, made.none, 1),
                                    ("", "lora/anna.safetensors", 1)):
        answer = made.settle(base, adapter, strength)
        base = answer[2].get("value", base)  # what the page shows then
        assert made.voices.state[:3] == (base, made._adapter(adapter), strength)
        assert isinstance(answer[-1], str) and made.settle(base, adapter, strength) == [NOTHING] * 20
    # Two answers are never the same text, or the page would see no change: also where nothing was changed.
    assert made.load(BASE_NAME, "lora/anna.safetensors", 1)[-1] != made.load(BASE_NAME, "lora/anna.safetensors", 1)[-1]
    assert made.choose_adapter(BASE_NAME, "lora/anna.safetensors",
                               1)[-1] != made.choose_adapter(BASE_NAME, "lora/anna.safetensors", 1)[-1]
    # The answer of "take off" came after a new choice and emptied the list: the answer of that choice shows it again.
    made.take_off()
    assert [change.get("value") for change in made.choose_adapter(BASE_NAME, "lora/anna.safetensors",
                                                                  1)[2:4]] == [BASE_NAME, "lora/anna.safetensors"]
    # RVC's list emptied the choice while it was being loaded: the page shows again what is loaded, but not while RVC
    # loads a voice.
    assert made.settle("", made.none, 1)[2:4] == [{**NOTHING, "value": BASE_NAME},
                                                  {**NOTHING, "value": "lora/anna.safetensors"}]
    assert made.settle("", made.none, 1, "lisa.pth") == [NOTHING] * 20


@needs_gradio
def test_the_strength_acts_on_what_is_loaded(files):
    made, names = panel(files)
    made.load(BASE_NAME, "lora/anna.safetensors", 1)
    made.change_strength(BASE_NAME, "lora/anna.safetensors", 1.2)
    assert made.voices.state.strength == 1.2
    assert "is not between" in made.change_strength(BASE_NAME, "lora/anna.safetensors", 9)[0]
    assert made.change_strength(BASE_NAME, "lora/mine/bert.safetensors",
                                0.3)[0] == NOTHING and made.voices.state.strength == 1.2


@needs_gradio
def test_rvcs_speaker_follows_the_adapter_and_goes_back(files):
    made, _ = panel(files)
    assert made.load(BASE_NAME, "lora/anna.safetensors", 1)[5] == {"visible": True, "maximum": 16, "value": 3,
                                                                   "__type__": "update"}
    # the user may have set another
    assert made.load(BASE_NAME, "lora/anna.safetensors", 0.5)[5] == {"__type__": "update"}
    assert made.rvc_chose("lisa.pth")[4] == {"value": 0, "__type__": "update"}
    assert made.rvc_chose("lisa.pth")[4] == {"__type__": "update"}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module", params=["classic", "2026"])
def page(request, tmp_path_factory):
    """A stand-in host with RVC-LoRA installed, its WebUI running -> (gradio_client's client, the host's folder)."""
    pytest.importorskip("gradio_client", reason="gradio_client is not installed here; run.py's .venv has it")
    pytest.importorskip("gradio", reason="gradio is not installed here; run.py's .venv has it")
    from gradio_client import Client

    host = standin_hosts.make(request.param, tmp_path_factory.mktemp("我的 RVC") / request.param)
    furnish(host)
    converter = host / f"{standin_hosts._VC[request.param][0]}.py"  # the same noise in every conversion
    text, before = converter.read_text(encoding="utf-8"), "        with torch.no_grad"
    assert before in text
    converter.write_text(text.replace(before, "        torch.manual_seed(0)\n" + before), encoding="utf-8")
    (host / "LoraModel").symlink_to(ROOT / "LoraModel", target_is_directory=True)
    script = host / standin_hosts.SCRIPT[request.param]
    script.write_bytes(webui_script.with_lines(script.read_bytes(), script.name))
    port, log = free_port(), host / "page.log"
    environment = {**os.environ, "STANDIN_LANGUAGE": "en_US", "OMP_NUM_THREADS": "1",
                   "GRADIO_ANALYTICS_ENABLED": "False"}
    environment.pop("weight_root", None)
    with open(str(log), "wb") as stream:
        process = subprocess.Popen([sys.executable, script.name, "--port", str(port), "--noautoopen"], cwd=str(host),
                                   env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        for _ in range(1200):
            with socket.socket() as caller:
                if process.poll() is not None or caller.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.25)
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        yield Client(f"http://127.0.0.1:{port}", verbose=False), host
    finally:
        process.kill()
        process.wait(30)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("speech") / "in.wav"
    audio, rate = soundfile.read(str(SPEECH), stop=16000)
    soundfile.write(str(path), audio, rate)
    return str(path)


def as_before(sound, other):
    """Whether two conversions are the same. In this server RVC's networks were imported by RVC, so that PyTorch 1.13
    rounds their compiled function differently from its second call on: a step of 16 bits at the most."""
    return abs(sound.astype(int) - other).max() <= (0 if SINCE_2 else 1)


def test_through_gradio_with_rvcs_own_convert_button(page, recording):
    client, host = page

    def convert():
        info, sound = client.predict(0, recording, 0, "", 0.33, api_name="/infer_convert")
        assert info.splitlines()[0] == "Success."  # below it: that this adapter does not tell its pitch
        return soundfile.read(sound, dtype="int16")[0]

    def load(*given):
        return client.predict(*given, api_name="/lora_load")[0]

    assert client.predict(api_name="/lora_refresh")[1]["choices"][1] == "lora/anna.safetensors"
    assert load(BASE_NAME, "", 1) == f"{BASE_NAME}, the base alone"
    plain = convert()
    assert load(BASE_NAME, "lora/anna.safetensors", 1) == f"lora/anna.safetensors\non {BASE_NAME}\nstrength 1"
    anna = convert()
    assert len(anna) == len(plain) > 8000 and abs(anna.astype(int) - plain).max() > 100
    load(BASE_NAME, "lora/anna.safetensors", 0.5)
    assert abs(convert().astype(int) - anna).max() > 50
    for base, adapter, _en, _zh in REFUSED:
        said = load(base, adapter, 1)
        assert said.startswith("Error: ") and "Still loaded: lora/anna.safetensors" in said
    load(BASE_NAME, "lora/anna.safetensors", 1)
    assert as_before(convert(), anna)
    assert client.predict("../up", api_name="/lora_merge")[0].startswith("Error: ")
    merged = client.predict("anna", api_name="/lora_merge")
    # trained on row 3, and the voice is in row 0 of the merged file too, which RVC converts with: no speaker is to be
    # set
    assert merged[0].startswith("Wrote anna.pth") and "peaker" not in merged[0] and "anna.pth" in merged[2]["choices"]
    assert "anna.pth" in client.predict(api_name="/infer_refresh")["choices"]
    assert client.predict(api_name="/lora_unload")[0] == f"{BASE_NAME}, the base alone"
    assert as_before(convert(), plain)
    # what the page sends when the panel empties RVC's list
    client.predict("", 0.33, 0.33, api_name="/infer_change_voice")
    assert as_before(convert(), plain)
    client.predict("anna.pth", 0.33, 0.33, api_name="/infer_change_voice")
    assert abs(convert().astype(int) - anna).max() < 300  # RVC's own loading of the merged file, in fp16
    assert not client.predict(api_name="/lora_unload")[0].startswith("Error")
    # RVC's own unloading deletes the network: its list and the panel load the next one all the same
    for choose in (lambda: client.predict("anna.pth", 0.33, 0.33, api_name="/infer_change_voice"),
                   lambda: load(BASE_NAME, "lora/anna.safetensors", 1)):
        client.predict("", 0.33, 0.33, api_name="/infer_change_voice")
        choose()
        assert abs(convert().astype(int) - anna).max() < 300
    assert as_before(convert(), anna)
    assert (host / "assets/weights/anna.pth").is_file()


@needs_gradio
def test_up_to_four_voices_blend_and_a_saved_blend_brings_its_rows_back(files, tmp_path):
    furnish(tmp_path)
    made, _ = panel(tmp_path)
    made.choose_adapter(BASE_NAME, "lora/anna.safetensors", 0.7)
    rows = ["lora/mine/bert.safetensors", 0.3, made.none, 1, made.none, 1]
    said, answered = made.change_blend(BASE_NAME, "lora/anna.safetensors", 0.7, *rows)
    assert "with lora/mine/bert.safetensors at 0.3" in said and isinstance(answered, str)
    assert made.voices.state.extras == (("lora/mine/bert.safetensors", 0.3),)
    expected = VoiceLoader(BASE, LIBRARY)
    lora = tmp_path / "assets/lora"
    expected.set_adapters([(lora / "anna.safetensors", 0.7), (lora / "mine/bert.safetensors", 0.3)])
    loaded = made.voices.vc.net_g.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in expected.network.state_dict().items()
               if name in loaded)
    # at rest: nothing is loaded twice, and a refused row says both bases and is not tried again
    assert made.change_blend(BASE_NAME, "lora/anna.safetensors", 0.7, *rows) == [NOTHING, NOTHING]
    assert made.settle(BASE_NAME, "lora/anna.safetensors", 0.7, "", *rows) == [NOTHING] * 20
    wrong = [*rows[:2], "lora/other.safetensors", 1, made.none, 1]
    said, _ = made.change_blend(BASE_NAME, "lora/anna.safetensors", 0.7, *wrong)
    assert "trained on the base other" in said and "the chosen base is f0G16k" in said and "at 0.3" in said
    assert made.settle(BASE_NAME, "lora/anna.safetensors", 0.7, "", *wrong) == [NOTHING] * 20
    # saved, it is one adapter of the list; loaded again, it is the rows
    def save(name):
        return made.merge.save_blend(name, made._adapter_names, 4)

    answer = save("duet")
    assert "duet.safetensors" in answer[0] and "lora/duet.safetensors" in answer[1]["choices"]
    assert "already" in save("duet")[0]
    made.take_off()
    assert made.voices.state.extras == () and "two voices" in save("solo")[0]
    answer = made.load(BASE_NAME, "lora/duet.safetensors", 1)
    assert made.voices.state[:3] == (BASE_NAME, "lora/anna.safetensors", 0.7)
    assert made.voices.state.extras == (("lora/mine/bert.safetensors", 0.3),)
    assert answer[3]["value"] == "lora/anna.safetensors" and answer[10]["value"] == 0.7
    assert [row.get("visible") for row in answer[12:18]] == [True, True, False, False, False, False]
    assert [row["value"] for row in answer[12:19]] == ["lora/mine/bert.safetensors", 0.3, made.none, 1.0, made.none,
                                                       1.0, 1]
    assert [line["visible"] for line in made.rows.in_sight(answer[18]["value"])] == [True, False, False]
    # where a part is gone, the blend is the one file that it is
    (lora / "mine/bert.safetensors").unlink()
    made.load(BASE_NAME, "lora/duet.safetensors", 0.5)
    assert made.voices.state[1:3] == ("lora/duet.safetensors", 0.5) and made.voices.state.extras == ()


@needs_gradio
def test_rows_are_added_and_removed(files):
    made, _ = panel(files)

    def seen(answer):
        assert len(answer) == len(made.rows.outputs) + len(made.rows.lines) == 10
        lines = [line["visible"] for line in answer[7:]]
        return [row.get("visible") for row in answer[:6:2]], answer[6]["value"], lines

    assert seen(made.rows.more(0)) == ([True, False, False], 1, [True, False, False])
    assert seen(made.rows.more(3)) == ([True] * 3, 3, [True] * 3) and seen(made.rows.more("nonsense"))[1] == 1
    fewer = made.rows.fewer(2)
    assert seen(fewer) == ([True, False, False], 1, [True, False, False]) and fewer[2]["value"] == made.none


@needs_gradio
def test_the_preview_of_an_adapter_is_played(tmp_path):
    furnish(tmp_path)
    file = tmp_path / "assets/lora/anna.safetensors"
    edit_metadata(file, {"preview": base64.b64encode(b"OggS" + bytes(99)).decode(), "consent": "own voice",
                         "tags": "calm, woman", "language": "en"})
    made, _ = panel(tmp_path)
    answer = made.choose_adapter(BASE_NAME, "lora/anna.safetensors", 1)
    player = answer[11]
    assert player["visible"] and 'src="data:audio/ogg;base64,T2dnUw' in player["value"]
    assert "Consent: own voice" in answer[1] and "Tags: calm, woman" in answer[1] and "Language: en" in answer[1]
    assert made.choose_adapter(BASE_NAME, "lora/mine/bert.safetensors", 1)[11] == {"value": "", "visible": False,
                                                                                 "__type__": "update"}
