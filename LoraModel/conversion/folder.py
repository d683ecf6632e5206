"""Many full voices, one after the other: what is done is skipped, one failure does not end the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..faults import describe_fault
from ..lora.adapter_file import read_metadata
from ..messages import UserError
from ..models import model_kind
from ..models.model_kind import VOICE
from ..training.checkpoint import RUN_FILE, STATE_FILE
from .match import ENDINGS
from .voice import Converted, Converter, VoiceOptions


class Outcome(NamedTuple):
    """What became of one voice. state: "made", "done before" or "failed"; error: why it failed."""

    voice: Path
    output: Path
    state: str
    converted: Optional[Converted] = None
    error: Optional[UserError] = None
    ours: bool = False
    """Whether the failure is a fault of this program, not something for the user to put right."""

    def figures(self) -> Dict[str, Any]:
        """Plain values, for JSON."""
        found: Dict[str, Any] = {"voice": str(self.voice), "adapter": str(self.output), "state": self.state}
        if self.converted is not None:
            found.update(self.converted.figures())
        if self.error is not None:
            found["error"] = self.error.en
        return found


def voices_in(folder: Path) -> List[Path]:
    """The full voices of a folder and of those below it; other files, bases among them, are passed over.

    Raises:
        UserError: there is none.
    """
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in ENDINGS and file.is_file() and not file.name.startswith(".")
    )
    found = [file for file in files if _may_be_voice(file)]
    if not found:
        raise UserError("{folder} holds no full voices: give the folder of the .pth files that RVC made "
                        "(assets/weights)", folder=folder)
    return found


def _may_be_voice(file: Path) -> bool:
    """A voice, or a file that cannot be read, which the run names as failed. The state of a training run is neither."""
    if file.name == STATE_FILE and file.with_name(RUN_FILE).is_file():
        return False
    kind = model_kind(file)
    return kind.kind == VOICE or kind.problem is not None and kind.kind == "other"


def jobs(voices: Sequence[Path], folder: Path, output: Path) -> List[Tuple[Path, Path]]:
    """(voice, adapter's file) pairs: the names and subfolders stay, the ending becomes .safetensors.

    A voice keeps its old ending where another one differs by nothing else.
    """
    stems = [str(voice.relative_to(folder).with_suffix("")).casefold() for voice in voices]
    pairs = []
    for voice, stem in zip(voices, stems):
        place = output / voice.relative_to(folder)
        name = f"{voice.name}.safetensors" if stems.count(stem) > 1 else f"{voice.stem}.safetensors"
        pairs.append((voice, place.with_name(name)))
    return pairs


def is_done(voice: Path, output: Path) -> bool:
    """Whether `output` is an adapter that can be read and is newer than the voice."""
    try:
        read_metadata(output)
        return output.stat().st_mtime >= voice.stat().st_mtime
    except (UserError, OSError):
        return False


def convert_all(
    converter: Converter,
    pairs: Sequence[Tuple[Path, Path]],
    options: VoiceOptions,
    redo: bool = False,
    begin: Callable[[int, Path], Any] = lambda number, voice: None,
    similarity: Any = None,
) -> List[Outcome]:
    """Convert voices one after the other. An adapter is written whole or not at all, so a run that is killed loses
    one voice.

    Args:
        redo: convert also what is done. begin: called with the number of a voice and its file; gives the `progress`
            of its conversion.
    """
    outcomes: List[Outcome] = []
    for number, (voice, output) in enumerate(pairs):
        if not redo and is_done(voice, output):
            outcomes.append(Outcome(voice, output, "already done"))
            continue
        try:
            made = converter.convert(voice, output, options, begin(number, voice), similarity)
            outcomes.append(Outcome(voice, output, "made", made._replace(judgement=made.judgement)))
        except Exception as error:
            words = describe_fault(error)
            text = f"{type(error).__name__}: {error}"
            outcomes.append(
                Outcome(voice, output, "failed", error=words or UserError("{text}", text=text), ours=words is None)
            )
    return outcomes
