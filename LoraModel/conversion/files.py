"""Where an adapter's file may be written."""

from __future__ import annotations

from pathlib import Path

from ..files import check_file_place
from ..messages import UserError

MODEL_ENDINGS = (".pth", ".pt", ".ckpt", ".bin", ".onnx")
"""Of other model files: the adapter's stands in their place."""


def check_adapter_output(output: Path, force: bool, *inputs: Path) -> None:
    """Check that an adapter may be written at `output`, before any work.

    Raises:
        UserError: it is there and `force` is off, it is an input, has another ending than .safetensors, or cannot be
            written.
    """
    if output.suffix.lower() != ".safetensors":
        stem = output.stem if output.suffix.lower() in MODEL_ENDINGS else output.name
        raise UserError("{output} does not end in .safetensors, as adapters do: did you mean {meant}?", output=output,
                        meant=f"{stem}.safetensors")
    if output.resolve() in {file.resolve() for file in inputs}:
        raise UserError("{path} is an input, and inputs are never overwritten: give {option} another name",
                        path=output, option="--output")
    if output.exists() and not force:
        raise UserError("{path} exists: choose another --output, or pass --force to overwrite it", path=output)
    check_file_place(output)
