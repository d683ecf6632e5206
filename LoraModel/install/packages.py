"""The Python that runs RVC, and the packages that it lacks. Standard library only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import List, Optional

from ..messages import UserError, listing, say
from ..paths import clean_path
from .checkout import Checkout

NEEDS = {"torch": "torch", "gradio": "gradio", "numpy": "numpy", "scipy": "scipy", "librosa": "librosa",
         "faiss": "faiss-cpu",
         "soundfile": "soundfile", "parselmouth": "praat-parselmouth", "safetensors": "safetensors",
         "tensorboard": "tensorboard", "tqdm": "tqdm"}
"""Name to import -> name to install."""
RVCS_OWN = ("torch", "gradio")  # never named to pip: RVC runs with builds and versions of its own


def python_for(checkout: Checkout, named: Optional[str]) -> str:
    """The Python that runs RVC: `named`, else the one inside the checkout, else the one that runs this. A path comes
    back absolute, since it is run in the checkout; a name alone is one on PATH.

    Raises:
        UserError: `named` is no path.
    """
    if named:
        named = clean_path(named)
        return os.path.abspath(named) if os.path.dirname(named) else named
    places = (".venv/bin/python", "venv/bin/python")
    if os.name == "nt":
        places = ("runtime/python.exe", ".venv/Scripts/python.exe", "venv/Scripts/python.exe")
    inside = [str(checkout.root / place) for place in places if (checkout.root / place).is_file()]
    return os.path.abspath(inside[0]) if inside else sys.executable


def lacking_packages(python: str, root: Path) -> List[str]:
    """Names to import that `python` does not find."""
    code = ("import importlib.util, sys; print(' '.join(['found:'] + [n for n in sys.argv[1:] if "
            "importlib.util.find_spec(n) is None]))")
    try:
        done = subprocess.run([python, "-c", code, *NEEDS], cwd=str(root), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120)
        output = done.stdout.decode("utf-8", "replace").split("found:")
    except (OSError, subprocess.TimeoutExpired) as error:
        output = [str(error)]
    if len(output) != 2:
        raise UserError("{python} does not run as a Python ({first}): give --python the one that runs RVC",
                        python=python, first=output[0].strip()[-200:])
    return output[1].split()


def tell_packages(python: str, lacking: List[str]) -> None:
    own = [name for name in lacking if name in RVCS_OWN]
    if own:
        say("Python packages: {python} lacks {own}, without which RVC itself does not run: give --python the one that "
            "runs RVC, or install RVC's own requirements into it first", python=python, own=listing(own))
    others = [NEEDS[name] for name in lacking if name not in RVCS_OWN]
    if others:
        command = " ".join([f'"{python}"' if " " in python else python, "-m pip install", *others])
        say("Python packages: run this once: {command}", command=command)
    if not lacking:
        say("Python packages: all there ({python})", python=python)
