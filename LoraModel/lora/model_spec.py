"""What an adapter says of itself in the words of a standard that other programs read: ModelSpec's keys.

The Stability.AI Model Metadata Standard, version 1.0.1 (github.com/Stability-AI/ModelSpec): metadata of a safetensors
file, under names that begin with "modelspec.". They are made from our own fields when a file is written and left out
when it is read, so that no two fields of one meaning can differ.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping

from .adapter_metadata import read_parts

VERSION = "1.0.1"
PREFIX = "modelspec."
_SAME = {"title": "name", "date": "created", "author": "author", "license": "license", "description": "notes",
         "tags": "tags"}
"""ModelSpec's key -> our field."""


def model_spec(fields: Mapping[str, Any]) -> Dict[str, str]:
    """ModelSpec's keys for an adapter of these fields; those of which nothing is known are left out."""
    found = {"sai_model_spec": VERSION, "architecture": f"rvc-{fields.get('rvc_version', '')}/lora",
             "implementation": "rvc-lora"}
    found.update({key: str(fields[own]) for key, own in _SAME.items() if fields.get(own)})
    parts = read_parts(fields.get("parts", ""))
    if parts:
        found["merged_from"] = ", ".join(f"{part.strength:g} x {part.file}" for part in parts)
    return {PREFIX + key: value for key, value in found.items()}
