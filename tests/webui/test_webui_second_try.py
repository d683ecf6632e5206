"""A second try under the same experiment name, with other recordings, in a real browser and a real checkout: on RVC's
own steps, with a base of a rate for which RVC has no configuration.

Marked `host`: runs on copies of the checkouts of RVC_HOSTS, with the Python that runs them.
"""

import json
import shutil
from pathlib import Path

import pytest
import standin_hosts
from browser import TRAIN_TAB, Visitor, chromium  # noqa: F401  (a fixture)
from checkouts import copy_of, each_checkout, install
from serving import end_runs, served

from LoraModel.host.experiment import indexes

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "LoraModel" / "demo"


def folder_of(target, source, numbers):
    """Recordings of the demo, the last of them in a folder below."""
    (target / "more").mkdir(parents=True)
    for number in numbers:
        to = target / "more" if number == numbers[-1] else target
        shutil.copy(str(DEMO / "recordings" / source / f"{number:02d}.flac"), str(to))
    return target


@pytest.mark.host
@each_checkout
def test_a_second_try_trains_nothing_of_the_first(checkout, chromium, tmp_path):  # noqa: F811
    folder = tmp_path / "rvc"
    host = copy_of(Path(checkout).resolve(), folder)
    bases = folder / "assets/pretrained_v2"
    shutil.copy(str(DEMO / "base" / "f0G16k.pth"), str(bases))
    shutil.copy(str(DEMO / "base" / "config.json"), str(bases / "f0G16k.json"))
    first = folder_of(tmp_path / "first", "target", [1, 2, 3])
    second = folder_of(tmp_path / "second", "source", [1, 2])
    (second / "half.wav").write_bytes(b"RIFF")
    (second / "notes.txt").write_text("notes")
    install(folder)
    log, experiment = tmp_path / "page.log", folder / "logs/anna"
    try:
        with served([standin_hosts.SCRIPT[host.name]], folder, log, PYTHONPATH="", RVC_LORA_LANG="en",
                    LC_ALL="en_US.UTF-8") as address:
            user = Visitor(chromium, address, False, 600)
            user.tab(*TRAIN_TAB)
            user.fill("Enter the experiment name:", "输入实验名", "anna")
            user.page.locator("label:visible", has_text="16k").locator("input[type=radio]").first.click()
            user.until(lambda: user.value("Load pre-trained base model G path:", "加载预训练底模G路径"),
                       lambda value: "f0G16k" in value)
            user.page.locator("label:visible", has_text="pm").locator("input[type=radio]").first.click()
            user.fill("Enter the path of the training folder:", "输入训练文件夹路径", first)
            for button, step in ((("Process data", "处理数据"), "slices"),
                                 (("Feature extraction", "特征提取"), "features")):
                user.click(*button)
                user.until(lambda step=step: done(experiment, step), bool)
            before = features(experiment)
            assert len(before) == len(list((experiment / "0_gt_wavs").glob("*.wav"))) > 2
            user.fill("Enter the path of the training folder:", "输入训练文件夹路径", second)
            user.number("Total training epochs (total_epoch):", "总训练轮数total_epoch", 2)
            user.number("Batch size per GPU:", "每张显卡的batch_size", 2)
            user.click("One-click training", "一键训练")
            user.progress("anna: done", 1800)
            said = user.page.locator("textarea").evaluate_all("(found) => found.map(e => e.value).join('\\n')")
            assert "no audio: notes.txt" in said and "left out: half.wav" in said and "moved to" in said
            assert user.wrong == [] or all("googleapis" in error for error in user.wrong)
            user.page.close()
        now = features(experiment)
        waves = {path.stem: path for path in (experiment / "0_gt_wavs").glob("*.wav")}
        assert set(now) == set(waves) and {name.split("_")[0] for name in waves} == {"0", "1"}
        [kept] = (experiment / "set_aside").iterdir()
        assert {path.stem: path.read_bytes() for path in (kept / "3_feature768").glob("*.npy")} == before
        for name, wave in waves.items():
            made = [experiment / "3_feature768" / f"{name}.npy", experiment / "2a_f0" / f"{name}.wav.npy",
                    experiment / "2b-f0nsf" / f"{name}.wav.npy"]
            assert all(path.stat().st_mtime_ns >= wave.stat().st_mtime_ns for path in made)
            assert now[name] not in before.values()
        assert indexes(experiment)[-1].stat().st_mtime >= max(wave.stat().st_mtime for wave in waves.values())
    finally:
        end_runs(folder, True)
        print(log.read_text(encoding="utf-8", errors="replace")[-4000:])


def done(experiment, step):
    try:
        steps = json.loads((experiment / "prepared.json").read_text(encoding="utf-8"))["steps"]
    except (OSError, ValueError):
        return False
    return steps.get(step, {}).get("done", False)


def features(experiment):
    return {path.stem: path.read_bytes() for path in (experiment / "3_feature768").glob("*.npy")}
