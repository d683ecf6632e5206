"""The whole way of a user, in a real browser: install, train from the tab, stop, resume, load, convert, merge,
uninstall.

On both stand-in hosts, and on every real checkout of RVC_HOSTS (in a copy, with the Python of this run). A checkout
needs its HuBERT; RVC_LORA_RECORDINGS names a folder of recordings (default: the demo's).
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import standin_hosts
from browser import TRAIN_TAB, Visitor, chromium  # noqa: F401  (a fixture)
from checkouts import HUBERT, copy_of, each_checkout, install
from serving import end_runs, served

from LoraModel.models.catalog import Catalog
from LoraModel.webui.panel.voices import State, Voices

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "LoraModel" / "demo"

PREPARATION = '''"""A stand-in's own steps before training, as generators of what to show: the demo's code does the work, all in one process."""
import glob
import os
import shutil
import subprocess
import sys
import time

from LoraModel.webui.panel.voices import Voices

STEP, load = {step!r}, Voices.load


def slowly(self, *given):
    """What is chosen next is chosen while this goes on."""
    time.sleep(0.5)
    return load(self, *given)


Voices.load = slowly


def preprocess_dataset(trainset_dir, exp_dir, sr, n_p):
    yield "0"
    here = os.path.abspath("logs")
    code, beside = os.path.join(here, "code.txt"), os.path.join(here, "made beside")
    subprocess.run([sys.executable, STEP, code, "index", "--input_dir", trainset_dir, "--output_dir", beside,
                    "--version", "v2", "--sample_rate", sr], check=True, env={{**os.environ, "PYTHONPATH": ""}})
    os.remove(code)
    for name in os.listdir(beside):  # as RVC's functions do, which know no lock of ours and write no prepared.json
        if name != "prepared.json":
            target = os.path.join(here, exp_dir, name.replace("made beside", exp_dir))
            shutil.rmtree(target, ignore_errors=True)
            shutil.move(os.path.join(beside, name), target)
    shutil.rmtree(beside)
    yield "end preprocess"


def extract_f0_feature(gpus, n_p, f0method, if_f0, exp_dir, version19, gpus_rmvpe):
    yield "all-feature-done"


def train_index(exp_dir1, version19):
    for path in glob.glob(os.path.join("logs", exp_dir1, "added_*.index")):
        os.utime(path)
    yield "index"
'''  # noqa: E501


def git(folder, *options):
    command = ["git", "-c", "core.quotepath=off", "-c", "core.autocrlf=false", "-c", "user.name=t", "-c",
               "user.email=t@example.org", *options]
    return subprocess.run(command, cwd=str(folder), stdout=subprocess.PIPE, check=True).stdout.decode("utf-8")


def some_of(recordings, folder):
    """Two of the recordings in a folder of their own."""
    folder.mkdir()
    for file in sorted(file for file in recordings.iterdir() if file.suffix in (".wav", ".flac"))[:2]:
        shutil.copy(str(file), str(folder))
    return folder


def under_git(folder):
    """The checkout as a clone of it would be: everything that it does not ignore is committed."""
    if not (folder / ".gitignore").exists():
        (folder / ".gitignore").write_text("__pycache__\n/logs\n/TEMP\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "the checkout")
    assert git(folder, "status", "--porcelain") == ""


def nothing_of_ours(folder, before):
    """After uninstalling: every file of the checkout as it was; beside them RVC's own caches and the user's data, and
    no more."""
    left = [line[3:].strip('"') for line in git(folder, "status", "--porcelain", "--ignored", "-uall").splitlines()
            if line[:2] in ("??", "!!")]
    config = folder / "configs/config.py"
    own = 'open("infer/modules/train/preprocess.py", "w")' in config.read_text(
        encoding="utf-8") if config.is_file() else False
    # on a CPU RVC 2.2 rewrites them
    rvcs = re.compile(r"configs/v\d/\w+\.json|infer/modules/train/preprocess\.py") if own else re.compile("(?!)")
    assert [name for name in git(folder, "diff", "--name-only").splitlines() if not rvcs.fullmatch(name)] == []
    users = re.compile(r"(assets/(lora|weights|indices)|logs|TEMP)/|configs/inuse/|(.*/)?__pycache__/")
    assert [name for name in left if name not in before and (not users.match(name) or "LoraModel" in name)] == []
    assert not (folder / "LoraModel").exists()
    assert (folder / "assets/lora/anna.safetensors").is_file() and (folder / "assets/weights/anna_merged.pth").is_file()


def whole_way(browser, folder, script, recordings, recording, batch, chinese, base, log, seconds, **environment):
    """One user's way through the WebUI of `folder`.

    recordings: folder to train on. recording: file to convert, given by `recording(visitor)`. batch: folder of files
    to convert.
    seconds: what a slow step may take.
    """
    plain = (folder / script).read_bytes()
    before = {line[3:].strip('"') for line in git(folder, "status", "--porcelain", "--ignored", "-uall").splitlines()}
    assert "is installed in" in install(folder) and "=> RVC-LoRA" in install(folder, "--status")
    assert (folder / script).read_bytes() != plain
    try:
        with served([script], folder, log, PYTHONPATH="", **environment) as address:
            user = Visitor(browser, address, chinese, seconds)
            train(user, folder, recordings)
            use(user, folder, recording, batch, base)
            assert [error for error in user.wrong if "googleapis" not in error] == []
            user.page.close()
    finally:
        end_runs(folder, True)
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:])
    install(folder, "--uninstall")
    assert (folder / script).read_bytes() == plain
    nothing_of_ours(folder, before)


def train(user, folder, recordings):
    """The LoRA Train tab: prepare and train by one click, see it, stop, resume, done."""
    user.tab(*TRAIN_TAB)
    ours = user._button(*TRAIN_TAB)
    rvcs = ours.locator("xpath=preceding-sibling::button[1]")
    assert re.fullmatch("Train|训练", rvcs.inner_text().strip())
    boxes = [button.bounding_box() for button in (rvcs, ours)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["height"] == boxes[1]["height"]  # no label in two lines
    user.fill("Enter the experiment name:", "输入实验名", "anna")
    user.fill("Enter the path of the training folder:", "输入训练文件夹路径", recordings)
    user.page.locator("label:visible", has_text="fast").first.click()
    user.number("Total training epochs (total_epoch):", "总训练轮数total_epoch", 400)
    user.number("Batch size per GPU:", "每张显卡的batch_size", 2)
    user.click("One-click training", "一键训练")
    user.progress(user.say(r"epoch \d+ of 400, step ([2-9]|\d\d+) of", r"第 \d+/400 轮，第 ([2-9]|\d\d+)/"),
                  3 * user.seconds)
    shown = user.progress(user.say(r"held-out loss \d", r"验证集损失 \d"), 3 * user.seconds)
    assert user.say("anna: training", "anna: 训练中") in shown and re.search(user.say(r"\d (s|min) left", r"剩余 .*\d"),
                                                                             shown)
    assert 0 < user.bar() < 100
    user.until(lambda: user.page.locator(".lora-charts svg").count(), lambda count: count >= 2)
    user.until(user.sounds, bool)

    user.click("Stop (saves, then ends)", "停止（保存后结束）")
    stopped = user.progress(user.say("anna: stopped", "anna: 已停止"), 2 * user.seconds)
    epoch, step = (int(number) for number in re.search(user.say(r"epoch (\d+) of \d+, step (\d+)",
                                                                r"第 (\d+)/\d+ 轮，第 (\d+)"), stopped).groups())
    assert step >= 2 and (folder / "assets/lora/anna.safetensors").is_file()
    first = (folder / "assets/lora/anna.safetensors").stat().st_mtime_ns

    user.number("Total training epochs (total_epoch):", "总训练轮数total_epoch", epoch + 1)
    user.click("Resume", "继续训练")
    done = user.progress(user.say("anna: done", "anna: 已完成"), 3 * user.seconds)
    numbers = re.search(user.say(r"epoch (\d+) of \d+, step (\d+) of (\d+)", r"第 (\d+)/\d+ 轮，第 (\d+)/(\d+)"), done)
    now, last, total = (int(number) for number in numbers.groups())
    assert now == epoch + 1 and last == total > step
    assert user.say("Adapter, in the list now", "适配器（已在列表中）") in done
    assert (folder / "assets/lora/anna.safetensors").stat().st_mtime_ns >= first
    said = (folder / "logs/anna/lora/page.log").read_text(encoding="utf-8", errors="replace")
    assert "done in" in said or "完成" in said
    assert str(Path("assets", "lora")) not in said  # the trainer does not ask for the place that the page has taken


def use(user, folder, recording, batch, base):
    """The inference tab: base, adapter, strength, unloading, merging, and RVC's own list, Convert and batch button."""
    loaded = ("Loaded", "当前加载")
    user.tab("Model Inference", "模型推理")
    head = user.page.get_by_text("RVC-LoRA: ").locator("visible=true").first
    assert head.bounding_box()["height"] < 60 and not user.block(*loaded).count()  # one row, until it is unfolded
    head.click()
    adapter = ("LoRA adapter", "LoRA 适配器")
    assert "lora/anna.safetensors" in user.options(*adapter)  # without a refresh
    user.choose("Base model", "底模", base)
    user.says(*loaded, re.escape(base))
    user.choose(*adapter, "lora/anna.safetensors")
    user.says(*loaded,
              user.say(r"lora/anna\.safetensors\non .*\nstrength 1\nrandom noise 0\.45 of RVC's own$",
                       r"lora/anna\.safetensors\n底模 .*\n强度 1\n随机噪声为 RVC 的 0\.45 倍$"))
    user.until(head.inner_text, lambda text: re.match(r"RVC-LoRA: lora/anna\.safetensors, .* 1\b", text))
    assert "anna" in user.value("Adapter metadata", "适配器信息")
    recording(user)
    audio, rate = user.convert()
    assert len(audio) > rate / 2 and abs(audio).max() > 0

    user.number("Strength", "强度", 0.5)
    user.says(*loaded, user.say(r"strength 0\.5\nrandom noise 0\.67 of RVC's own$",
                                r"强度 0\.5\n随机噪声为 RVC 的 0\.67 倍$"))
    user.number("Random noise", "随机噪声", 0.2)
    user.says(*loaded, user.say(r"strength 0\.5\nrandom noise 0\.2 of RVC's own$",
                                r"强度 0\.5\n随机噪声为 RVC 的 0\.2 倍$"))
    half, _ = user.convert()
    assert len(half) == len(audio)
    user.number("Random noise", "随机噪声", 0)
    convert_all(user, batch, folder.parent / "converted")
    user.click("Remove the adapter", "卸下适配器")
    user.says(*loaded, user.say("the base alone", "仅底模"))
    user.says(*adapter, user.say(r"^\(none", "^（无"))
    user.choose(*adapter, "lora/anna.safetensors")  # at once: the page still waits for what the empty choice brings
    user.says(*loaded, r"^lora/anna\.safetensors")
    user.fill("Name of the merged voice", "合并后的音色名称", "anna_merged")
    user.click("Merge into a voice (.pth)", "合并为音色（.pth）")
    user.says("Result of the merge", "合并结果", r"anna_merged\.pth")
    voices = ("Inferencing voice:", "推理音色")
    assert "anna_merged.pth" in user.options(*voices)
    user.choose(*voices, "anna_merged.pth")
    user.says(*loaded, r"^anna_merged\.pth")
    user.page.wait_for_timeout(2000)  # RVC's own loading, which nothing on its page tells of
    merged, same = user.convert()
    assert same == rate and len(merged) == len(audio) and abs(merged).max() > 0


def convert_all(user, batch, output):
    """RVC's own tab for many files: as many are written as there are in the folder `batch`, none of them silent."""
    user.tab("Batch Inference", "批量推理")
    user.fill("Enter the path of the audio folder to be processed (copy it from the address bar of the file manager):",
              "输入待处理音频文件夹路径(去文件管理器地址栏拷就行了)", batch)
    user.fill("Specify output folder:", "指定输出文件夹", output)
    pitch = user.page.locator("label:visible", has_text=re.compile(r"^\s*pm\s*$"))
    if pitch.count():  # the stand-ins have no choice
        pitch.first.locator("input[type=radio]").click()
    user.click("Convert", "转换")
    files = user.until(lambda: sorted(output.glob("*.wav")), lambda found: len(found) == len(list(batch.iterdir())))
    user.page.wait_for_timeout(1000)  # the last one is being written
    for file in files:
        audio, rate = soundfile.read(str(file))
        assert len(audio) > rate / 2 and abs(audio).max() > 0
    user.tab("Single Inference", "单次推理")


@pytest.mark.parametrize("layout, language", [("classic", "en_US"), ("2026", "zh_CN")])
def test_the_whole_way_on_a_stand_in_host(layout, language, chromium, tmp_path):  # noqa: F811
    folder = standin_hosts.make(layout, tmp_path / "我的 RVC")
    script = folder / standin_hosts.SCRIPT[layout]
    script.write_text(script.read_text(encoding="utf-8").replace("import gradio as gr\n", "import gradio as gr\nfrom "
                                                                 "training_steps import *\n", 1),
                      encoding="utf-8")
    step = ROOT / "LoraModel/webui/preparing/prepare_step.py"
    (folder / "training_steps.py").write_text(PREPARATION.format(step=str(step)), encoding="utf-8")
    (folder / "assets/pretrained_v2").mkdir(parents=True)
    for name in ("f0G16k.pth", "config.json"):
        shutil.copy(str(DEMO / "base" / name), str(folder / "assets/pretrained_v2"))
    recordings = tmp_path / "录音 a"
    recordings.mkdir()
    for number in range(1, 4):
        shutil.copy(str(DEMO / f"recordings/target/{number:02d}.flac"), str(recordings))
    under_git(folder)
    batch = some_of(DEMO / "recordings/source", tmp_path / "many files")
    speech = str(DEMO / "recordings/source/01.flac")
    whole_way(chromium, folder, script.name, recordings, lambda user: user.fill("audio", "audio", speech), batch,
              language == "zh_CN", "pretrained_v2/f0G16k.pth", tmp_path / "page.log", 300, STANDIN_LANGUAGE=language)


def test_a_link_to_an_index_that_is_gone_does_not_keep_a_voice_from_loading(tmp_path):
    """As RVC 2026 leaves them in assets/indices when logs/NAME is deleted or the checkout is moved; its search
    raises."""
    def search(name):
        return os.path.getmtime(f"assets/indices/{name}.index")

    voices = Voices(SimpleNamespace(), None, Catalog(tmp_path))
    voices._converter._module = lambda: SimpleNamespace(get_index_path_from_model=search)
    state = State("pretrained_v2/f0G40k.pth", "lora/anna.safetensors", 1.0, 0, 109, True)
    assert voices.index_for(state) == ""
    (tmp_path / "logs/anna").mkdir(parents=True)
    (tmp_path / "logs/anna/added_IVF5_Flat_nprobe_1_anna_v2.index").write_bytes(b"")
    assert voices.index_for(state) == str(tmp_path / "logs/anna/added_IVF5_Flat_nprobe_1_anna_v2.index")


# ---------------------------------------------------------------- real checkouts

@pytest.mark.host
@each_checkout
def test_the_whole_way_in_a_real_checkout(checkout, chromium, tmp_path, request):  # noqa: F811
    checkout = Path(checkout).resolve()
    folder = tmp_path / "rvc"
    if not any(file.stat().st_size > 1e6 for name in HUBERT.values() for file in (checkout / name).glob("*")):
        pytest.skip(f"{checkout} has no HuBERT")
    host = copy_of(checkout, folder)
    under_git(folder)
    recordings = Path(os.environ.get("RVC_LORA_RECORDINGS") or DEMO / "recordings/target").resolve()
    batch = some_of(recordings, tmp_path / "many files")
    speech = str(sorted(batch.iterdir())[0])
    chinese = host.name == "2026"

    def recording(user):
        if chinese:
            user.page.locator("input[type=file]").first.set_input_files(speech)
        else:
            user.page.locator("textarea[placeholder*=audio_example]").locator("visible=true").first.fill(speech)
        user.page.locator("label:visible", has_text="pm").locator("input[type=radio]").first.click()
        user.page.wait_for_timeout(3000)

    whole_way(chromium, folder, standin_hosts.SCRIPT[host.name], recordings, recording, batch, chinese,
              "pretrained_v2/f0G40k.pth", tmp_path / "page.log", 600,
              LC_ALL="zh_CN.UTF-8" if chinese else "en_US.UTF-8")
