"""Bytes on disk at RVC v2 40k: an adapter, a base with ten voices, a training folder with its resume file.

python bench/storage.py [--json FILE] [--quick]

RVC's side is what its own train.py writes for each save: generator and discriminator with their optimisers' two
moments, in fp32.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, Optional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.common import arguments, finish, make_base, make_experiment, short_segments, table
from LoraModel.commands import start
from LoraModel.host import find_host, hush_torch
from LoraModel.messages import cli
from LoraModel.models import load_base
from LoraModel.training import TrainConfig, prepare


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def measure(folder: Path, quick: bool) -> Dict[str, Any]:
    """One short run at full size, on made-up recordings, and what it leaves."""
    host, version, rate = find_host(), "v2", 40000
    generator, discriminator, config = make_base(folder, host, version, rate)
    experiment = make_experiment(folder / "logs", short_segments(config) if quick else config, version, 3,
                                 1.0 if quick else 3.7)
    settings = TrainConfig(base_model=str(generator), data_dir=str(experiment), output_dir=str(folder / "out"),
                           name="voice", epochs=1 if quick else 12, batch_size=2, init_speaker=0)
    trainer = prepare(settings)
    trainer.run()
    adapter = trainer.adapter_path.stat().st_size
    small = folder / "small.pth"
    if start("LoraModel.scripts.convert_model", ["small", str(generator), "--output", str(small)]):
        raise SystemExit("the base could not be made small")
    generator_parameters = sum(p.numel() for p in load_base(generator, host).network.parameters())
    discriminator_parameters = sum(p.numel() for p in host.build_discriminator(version).parameters())
    return {
        "adapter_bytes": adapter,
        "base_bytes": small.stat().st_size,
        "ten_voices_bytes": small.stat().st_size + 10 * adapter,
        "ten_voices_bytes_rvc": 10 * small.stat().st_size,
        "training_folder_bytes": folder_bytes(Path(settings.output_dir)),
        "training_save_bytes_rvc": 3 * 4 * (generator_parameters + discriminator_parameters),
        "saves": settings.epochs,
    }


def main(argv: Optional[List[str]] = None) -> None:
    hush_torch()
    args = arguments(__doc__.splitlines()[0]).parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), args.quick)
    rows = [("what", "RVC-LoRA", "RVC"),
            ("one voice, bytes", f"{figures['adapter_bytes']:,}", f"{figures['base_bytes']:,}"),
            ("base and ten voices", f"{figures['ten_voices_bytes']:,}", f"{figures['ten_voices_bytes_rvc']:,}"),
            (f"training folder, {figures['saves']} saves (RVC: one save)", f"{figures['training_folder_bytes']:,}",
             f"{figures['training_save_bytes_rvc']:,}")]
    print(table(rows))
    finish(figures, args.json)


if __name__ == "__main__":
    sys.exit(cli(main))
