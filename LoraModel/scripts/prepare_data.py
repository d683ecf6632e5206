"""Make an experiment folder for training from a folder of recordings.

python scripts/prepare_data.py --input_dir RAW --output_dir logs/NAME

In an RVC checkout its own scripts do the work (`host.preprocess`); without one the demo's stand-in does (`scripts.stand_in`).
"""

from __future__ import annotations

if __package__ in (None, ""):
    import pathlib
    import sys

    sys.path[0] = str(pathlib.Path(__file__).resolve().parents[2])

import argparse
import contextlib
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from tqdm import tqdm

from LoraModel.files import atomic_write
from LoraModel.host import Host, find_host
from LoraModel.host import preprocess
from LoraModel.host.index import build_index
from LoraModel.host.pipeline import default_f0_method
from LoraModel.inference.audio import audio_files
from LoraModel.commands import parse_rate
from LoraModel.messages import UserError, cli, tr

MANIFEST = "prepared.json"
DEMO_CONFIG = Path(__file__).resolve().parents[1] / "demo" / "base" / "config.json"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="prepare_data.py", description=tr(
        "Make an experiment folder (slices, pitch, features, index, filelist) from a folder of recordings.",
        "由录音文件夹生成实验文件夹（切片、音高、特征、索引、文件列表）。"))
    p.add_argument("--input_dir", required=True, help=tr("folder of recordings of one voice", "单一声音的录音文件夹"))
    p.add_argument("--output_dir", required=True, help=tr("the experiment folder, logs/NAME (a relative one lies inside the checkout)",
                                                          "实验文件夹 logs/NAME（相对路径位于 RVC 目录内）"))
    p.add_argument("--version", choices=("v1", "v2"), default="v2", help=tr("of the base (v2)", "底模版本（v2）"))
    p.add_argument("--sample_rate", help=tr("of the base: 32k, 40k, 48k, … (40k; without a checkout the demo's 16k)",
                                            "底模采样率：32k、40k、48k 等（默认 40k；没有 RVC 时为演示用的 16k）"))
    p.add_argument("--f0_method", help=tr("rmvpe where its model is there, else pm", "有 rmvpe 模型时用 rmvpe，否则 pm"))
    p.add_argument("--no_f0", action="store_true", help=tr("for a base without pitch", "用于不含音高的底模"))
    p.add_argument("--config_json", help=tr("config.json of a custom base", "自定义底模的 config.json"))
    p.add_argument("--speaker", type=int, default=0, help=tr("row of the speaker table (0)", "说话人编号（0）"))
    p.add_argument("--workers", type=int, default=min(os.cpu_count() or 1, 8), help=tr("processes", "进程数"))
    p.add_argument("--rvc_root", help=tr("the RVC checkout", "RVC 目录"))
    return p


def experiment_folder(host: Host, output: str) -> Path:
    """Where the experiment goes: RVC's scripts want it inside the checkout, so a relative path starts there.

    Raises:
        UserError: a name that RVC's filelist cannot hold.
    """
    path = Path(output).expanduser()
    path = path if path.is_absolute() or host.root is None else host.root / path
    path = Path(os.path.abspath(str(path)))
    if "|" in str(path) or "\n" in str(path):
        raise UserError(f"{path}: RVC's filelist cannot hold a path with '|' in it: choose another --output_dir",
                        f"{path}：RVC 的文件列表不支持含“|”的路径：请更换 --output_dir")
    return path


def network_config(host: Host, version: str, sample_rate: int, config_json: Optional[str]) -> Dict[str, Any]:
    """The config.json of the experiment.

    Raises:
        UserError: there is none for this version and rate, or the given one is of another rate.
    """
    if config_json is not None:
        path = host.resolve(config_json)
        try:
            contents = json.loads(path.read_text(encoding="utf-8"))
            found = contents["data"]["sampling_rate"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is no config.json of RVC ({error}): check the path",
                            f"{path} 不是 RVC 的 config.json（{error}）：请检查路径") from None
        if found != sample_rate:
            raise UserError(f"{path} is for {found} Hz, --sample_rate says {sample_rate}: give the same",
                            f"{path} 为 {found} Hz，而 --sample_rate 为 {sample_rate}：请保持一致")
        return contents
    if not host.is_checkout and sample_rate == 16000:
        return json.loads(DEMO_CONFIG.read_text(encoding="utf-8"))
    contents = host.config_for(version, sample_rate)
    if contents is None:
        known = ", ".join(str(c["data"]["sampling_rate"]) for v, c in host.configs() if v == version)
        raise UserError(f"RVC has no {version} configuration for {sample_rate} Hz (it has {known}): choose one of these or give --config_json",
                        f"RVC 没有 {sample_rate} Hz 的 {version} 配置（已有 {known}）：请选择其一或用 --config_json 指定")
    return contents


def check_unused(experiment: Path, manifest: Dict[str, Any]) -> List[str]:
    """The steps that are done already of the same recordings and settings.

    Raises:
        UserError: the folder holds something else.
    """
    if not experiment.exists():
        return []
    if not experiment.is_dir():
        raise UserError(f"{experiment} is a file: choose another --output_dir", f"{experiment} 是文件：请更换 --output_dir")
    try:
        old = json.loads((experiment / MANIFEST).read_text(encoding="utf-8"))
        done = old.pop("done")
    except (OSError, ValueError, KeyError, AttributeError):
        if any(experiment.iterdir()):
            raise UserError(
                f"{experiment} holds files that were not made by this command: train on it as it is, or choose another --output_dir",
                f"{experiment} 中已有并非由本命令生成的文件：请直接用它训练，或更换 --output_dir") from None
        return []
    if old != manifest:
        different = sorted(key for key in set(old) | set(manifest) if old.get(key) != manifest.get(key))
        raise UserError(f"{experiment} was made of other recordings or settings ({', '.join(different)}): choose another --output_dir, or delete it",
                        f"{experiment} 由其他录音或设置生成（{'、'.join(different)}）：请更换 --output_dir 或删除它")
    return list(done)


@contextlib.contextmanager
def only_audio(folder: Path, files: List[Path]) -> Iterator[Path]:
    """A folder that holds the recordings and nothing else: RVC's script fails on every other file."""
    if set(files) == set(folder.iterdir()):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="rvc-lora-") as name:
        for file in files:
            target = Path(name) / file.name
            try:
                target.symlink_to(file.resolve())
            except OSError:  # Windows, where links need a privilege
                shutil.copy2(str(file), str(target))
        yield Path(name)


def write_filelist(experiment: Path, version: str, f0: bool, speaker: int, mute: Optional[Path], rate_name: str) -> int:
    """Write filelist.txt as RVC's WebUI does, and return how many slices it names.

    Args:
        mute: RVC's logs/mute, of which two entries are added where it has all of them; None for none.
    """
    features = preprocess.feature_folder(experiment, version)
    names = preprocess.stems(experiment / "0_gt_wavs", ".wav") & preprocess.stems(features, ".npy")
    if f0:
        names &= preprocess.stems(experiment / "2a_f0", ".wav.npy") & preprocess.stems(experiment / "2b-f0nsf", ".wav.npy")
    if not names:
        raise UserError(f"nothing in {experiment} can be trained on: no slice has all it needs", f"{experiment} 中没有可用于训练的切片")

    def line(root: Path, wav: str, name: str) -> List[Path]:
        pitch = [root / "2a_f0" / f"{name}.wav.npy", root / "2b-f0nsf" / f"{name}.wav.npy"] if f0 else []
        return [root / "0_gt_wavs" / f"{wav}.wav", root / features.name / f"{name}.npy", *pitch]

    entries = [line(experiment, name, name) for name in sorted(names)]
    if mute is not None and all(file.is_file() for file in line(mute, f"mute{rate_name}", "mute")):
        entries += [line(mute, f"mute{rate_name}", "mute")] * 2
    random.Random(0).shuffle(entries)
    # Backslashes doubled, as RVC's WebUI writes them.
    text = "\n".join("|".join([*(str(file).replace("\\", "\\\\") for file in files), str(speaker)]) for files in entries)
    atomic_write(experiment / "filelist.txt", text.encode("utf-8"))
    return len(names)


class Steps:
    """The steps of one experiment, with a bar for each, and the record of those that are done.

    Args:
        manifest: recordings and settings, to be recognised when the command runs again.
        done: steps that were finished before.
    """

    def __init__(self, experiment: Path, manifest: Dict[str, Any], done: List[str]):
        self.experiment, self.manifest, self.done = experiment, manifest, done
        experiment.mkdir(parents=True, exist_ok=True)
        self._record()

    def _record(self) -> None:
        text = json.dumps({**self.manifest, "done": self.done}, indent=1, ensure_ascii=False)
        atomic_write(self.experiment / MANIFEST, text.encode("utf-8"))

    @contextlib.contextmanager
    def bar(self, title: str, total: int) -> Iterator[Any]:
        with tqdm(total=total, desc=title) as bar:
            yield lambda count: bar.update(count - bar.n)

    def run(self, name: str, title: str, total: int, work: Any) -> None:
        """Do a step unless it is done: `work(progress)`, with progress called with the number of results so far."""
        if name in self.done:
            return
        with self.bar(title, total) as progress:
            work(progress)
        self.done.append(name)
        self._record()


def prepare_in_checkout(
    host: Host, args: argparse.Namespace, recordings: List[Path], steps: Steps, sample_rate: int, f0_method: Optional[str]
) -> None:
    """Slices, pitch, features and index by RVC's own scripts."""
    experiment = steps.experiment
    if preprocess.remove_broken(experiment):
        steps.done = [step for step in steps.done if step == "slices"]
    with only_audio(recordings[0].parent, recordings) as folder:
        steps.run("slices", tr("slicing", "切分"), len(recordings),
                  lambda progress: preprocess.slice_recordings(host, folder, experiment, sample_rate, args.workers, progress))
    slices = len(preprocess.stems(experiment / "1_16k_wavs", ".wav"))
    if f0_method is not None:
        steps.run("f0", tr(f"pitch ({f0_method})", f"音高（{f0_method}）"), slices,
                  lambda progress: preprocess.extract_f0(host, experiment, f0_method, args.workers, progress))
    steps.run("features", tr("features (HuBERT)", "特征（HuBERT）"), slices,
              lambda progress: preprocess.extract_features(host, experiment, args.version, progress))

    def index(progress: Any) -> None:
        if not preprocess.build_host_index(host, experiment, args.version):
            build_index(experiment, args.version)
        progress(1)

    steps.run("index", tr("index", "索引"), 1, index)


def prepare_with_stand_in(args: argparse.Namespace, recordings: List[Path], steps: Steps, sample_rate: int) -> None:
    """The same folder with the demo's stand-in for HuBERT."""
    from LoraModel.scripts import stand_in

    experiment = steps.experiment
    steps.run("slices", tr("slicing",
                           "切分"), len(recordings), lambda progress: stand_in.slice_recordings(recordings, experiment, sample_rate, progress))
    slices = len(preprocess.stems(experiment / "1_16k_wavs", ".wav"))
    steps.run("features", tr("features and pitch (stand-in)", "特征与音高（替代实现）"), slices,
              lambda progress: stand_in.extract(experiment, not args.no_f0, progress))

    def index(progress: Any) -> None:
        build_index(experiment, args.version)
        progress(1)

    steps.run("index", tr("index", "索引"), 1, index)


def main(argv: Optional[list] = None) -> int:
    args = parser().parse_args(argv)
    if args.workers < 1 or args.speaker < 0:
        raise UserError("--workers must be at least 1 and --speaker at least 0", "--workers 至少为 1，--speaker 至少为 0")
    host = find_host(args.rvc_root)
    recordings = audio_files(host.resolve(args.input_dir))
    experiment = experiment_folder(host, args.output_dir)
    sample_rate = parse_rate(args.sample_rate) or (40000 if host.is_checkout else 16000)
    config = network_config(host, args.version, sample_rate, args.config_json)
    method: Optional[str] = None
    if host.is_checkout:
        method = None if args.no_f0 else args.f0_method or default_f0_method(host)
        preprocess.check_needs(host, method)
    else:
        if args.version == "v1":
            raise UserError("without an RVC checkout there are only the demo's stand-in features of 768 values, v1 takes 256: "
                            "name a checkout with --rvc_root",
                            "没有 RVC 目录时只有 768 维的替代特征，而 v1 需要 256 维：请用 --rvc_root 指定 RVC")
        if not args.no_f0:
            method = args.f0_method or "pm"
            if method != "pm":
                raise UserError(f"f0 method {method!r} needs an RVC checkout (--rvc_root): without one there is pm",
                                f"音高算法 {method!r} 需要 RVC 目录（--rvc_root）：否则只有 pm")
    manifest = {
        "recordings": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in recordings],
        "version": args.version, "sample_rate": sample_rate, "f0_method": method, "features": "HuBERT" if host.is_checkout else "stand-in",
    }
    done = check_unused(experiment, manifest)
    if not host.is_checkout:
        print(tr("no RVC checkout: features come from the demo's stand-in, not from HuBERT; train only the demo's base on them",
                 "没有 RVC 目录：特征来自演示用的替代实现，而非 HuBERT；只能用于训练演示底模"), file=sys.stderr)
    steps = Steps(experiment, manifest, done)
    if host.is_checkout:
        prepare_in_checkout(host, args, recordings, steps, sample_rate, method)
    else:
        prepare_with_stand_in(args, recordings, steps, sample_rate)
    text = json.dumps(config, ensure_ascii=False, indent=4, sort_keys=True) + "\n"
    atomic_write(experiment / "config.json", text.encode("utf-8"))
    mute = host.root / "logs" / "mute" if host.root is not None else None
    count = write_filelist(experiment, args.version, not args.no_f0, args.speaker, mute, f"{sample_rate // 1000}k")
    print(tr(f"{experiment}: {count} slices, ready for train_lora.py --data_dir", f"{experiment}：{count} 个切片，可用于 train_lora.py --data_dir"))
    return 0


if __name__ == "__main__":
    sys.exit(cli(main))
