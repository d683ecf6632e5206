"""The notebook, run by nbclient as a reader runs it, on the demo's data."""

import os
import sys
from pathlib import Path

import pytest
from training_data import environment

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "LoraModel" / "examples" / "rvc_lora.ipynb"


@pytest.mark.skipif(sys.version_info < (3, 9), reason="the kernels for Python 3.8 are too old for this nbclient")
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(str(NOTEBOOK), as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    short = tmp_path / "recordings"
    short.mkdir()
    for number in (1, 2, 3):
        name = f"{number:02d}.flac"
        (short / name).write_bytes((ROOT / "LoraModel/demo/recordings/target" / name).read_bytes())
    for cell in notebook.cells:  # three of the twenty recordings are enough to see that every cell does its work
        cell.source = cell.source.replace(
            'RECORDINGS = DEMO / "recordings" / "target"', f"RECORDINGS = Path({str(short)!r})"
        )
    for name, value in environment(
        PYTHONPATH=str(ROOT),
        RVC_LORA_EPOCHS="2",
        RVC_LORA_OUTPUT=str(tmp_path / "out"),
        JUPYTER_PLATFORM_DIRS="1",
        IPYTHONDIR=str(tmp_path / "ipython"),
    ).items():
        monkeypatch.setenv(name, value)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(
        output.get("text", "") for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
    )
    assert "distance on recordings kept out" in said and "transpose " in said and "-> adapter" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"run", "converted.wav", "voice.pth"}
    assert os.path.getsize(tmp_path / "out" / "voice.pth") > 1e6


def test_its_first_cell_installs_from_where_it_lies_or_says_what_to_fill_in(tmp_path, monkeypatch):
    import importlib.util
    import json
    import subprocess

    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = "".join(next(cell["source"] for cell in cells if cell["cell_type"] == "code"))
    asked = []
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command[-1]))
    monkeypatch.chdir(NOTEBOOK.parent)
    exec(compile(code, "cell", "exec"), {})
    assert asked == [str(ROOT), "rvc==0.3.5"]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="Write into SOURCE where RVC-LoRA is"):
        exec(compile(code, "cell", "exec"), {})
    filled = code.replace('SOURCE = ""', 'SOURCE = "https://example.org/RVC-LoRA.git"')
    exec(compile(filled, "cell", "exec"), {})
    assert asked[2:] == ["git+https://example.org/RVC-LoRA.git", "rvc==0.3.5"]
