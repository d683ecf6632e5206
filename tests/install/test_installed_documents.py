"""The documents go along into an installed copy, and their links lead somewhere there."""

import posixpath
import re
from pathlib import Path

from LoraModel.install.installed_copy import DOCUMENTS, files_of

ROOT = Path(__file__).resolve().parents[2]


def test_documents_go_along():
    files = files_of(ROOT / "LoraModel")
    assert set(DOCUMENTS) <= set(files) and {"docs/install.md", "docs/settings.zh-CN.md"} <= set(files)
    assert (
        files["README.md"] == ROOT / "README.md"
        and "scripts/prepare_data.bat" in files
        and "examples/rvc_lora.ipynb" in files
    )
    pictures = [name for name in files if name.startswith("docs/images/")]
    assert pictures and not any(name.startswith((".", "tests/", "bench/")) for name in files)


def test_of_a_package_that_lies_in_rvc_itself_no_document_is_taken(tmp_path):
    (tmp_path / "LoraModel").mkdir()
    (tmp_path / "LoraModel" / "a.py").write_text("")
    (tmp_path / "README.md").write_text("RVC's")
    assert list(files_of(tmp_path / "LoraModel")) == ["a.py"]


def test_links_between_documents_lead_somewhere_in_the_copy_and_in_the_source():
    files = files_of(ROOT / "LoraModel")
    for name in files:
        if not name.endswith(".md") or not (name in DOCUMENTS or name.startswith("docs/")):
            continue
        for link in re.findall(r"\]\(([^)#:]+)\)", files[name].read_text(encoding="utf-8")):
            place = (files[name].parent / link).resolve()
            assert place.exists(), f"{name}: {link} leads nowhere"
            inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), link))
            goes_along = inside in files or any(file.startswith(inside + "/") for file in files)
            assert goes_along, f"{name}: {link} leads nowhere in an installed copy"
