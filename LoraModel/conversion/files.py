"""Where an adapter's file may be written."""

from __future__ import annotations

from pathlib import Path

from ..files import check_file_place
from ..messages import UserError


def check_adapter_output(output: Path, force: bool, *inputs: Path) -> None:
    """Check that an adapter may be written at `output`, before any work.

    Raises:
        UserError: it is there and `force` is off, it is an input, has another ending than .safetensors, or cannot be
            written.
    """
    if (
        output.suffix.lower() != ".safetensors"
        or output.resolve() in {file.resolve() for file in inputs}
        or (output.exists() and not force)
    ):
        raise UserError("{output} exists, is the input or does not end in .safetensors: choose another --output "
                        "(--force overwrites)", output=output)
    check_file_place(output)
