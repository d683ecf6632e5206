"""The targets and presets of RVC's networks: which of their layers an adapter changes.

Patterns are matched against module paths of RVC's synthesizer, or of a part of it: `dec`, `enc_p` and `flow` may be
left out in front. Figures for each unit of rank at v2 40k stand in docs/training.md. A further target is one line in
TARGETS, a further preset one in PRESETS.
"""

from __future__ import annotations

from typing import Dict

from ..lora.targets import Preset, Target, define_targets

TARGETS: Dict[str, Target] = {
    "ups": Target(r"(dec\.)?ups\.\d+"),
    "resblocks": Target(r"(dec\.)?resblocks\.\d+\.convs[12]?\.\d+"),
    "dec_in": Target(r"(dec\.)?(conv_pre|cond)"),
    "enc_p_attn": Target(r"(enc_p\.)?encoder\.attn_layers\.\d+\.conv_[qkvo]"),
    "enc_p_ffn": Target(r"(enc_p\.)?encoder\.ffn_layers\.\d+\.conv_[12]"),
    "enc_p_io": Target(r"(enc_p\.)?(emb_phone|proj)"),
    "flow": Target(r"(flow\.)?flows\.\d+\.(pre|post|enc\.(cond_layer|in_layers\.\d+|res_skip_layers\.\d+))"),
    "spk": Target(r"emb_g"),
    "spk_row": Target(r"emb_g", form="row"),
    "disc": Target(r"discriminators\.\d+\.convs\.\d+"),
}
"""What each target takes. `spk` is a low-rank delta of the whole speaker table, `spk_row` the one row a voice uses
(cheaper and exact); `disc` is for training only: the discriminators, never part of an adapter file."""

DECODER_TARGETS = ("ups", "resblocks", "dec_in")
"""Those of the decoder alone."""

DEFAULT_PRESET = "clear"
PRESETS: Dict[str, Preset] = {
    # (rank, alpha). The prior (enc_p and flow) carries the voice; the decoder alone cannot (docs/training.md).
    "fast": {"enc_p_attn": (2, 4), "enc_p_ffn": (1, 2), "flow": (1, 2), "ups": (4, 8), "spk_row": (1, 1)},
    "balanced": {
        "enc_p_attn": (2, 4), "enc_p_ffn": (1, 2), "flow": (1, 2),
        "ups": (3, 6), "resblocks": (1, 2), "spk_row": (1, 1),
    },
    "clear": {"flow": (2, 4), "ups": (3, 6), "resblocks": (1, 2), "dec_in": (2, 4), "spk_row": (1, 1)},
    # enc_p, which says what is spoken, stays the base's own: fewer words are lost (docs/benchmarks.md)
    "high_quality": {
        "enc_p_attn": (4, 8), "enc_p_ffn": (3, 6), "flow": (3, 6),
        "ups": (6, 12), "resblocks": (2, 4), "spk_row": (1, 1),
    },
}

define_targets(TARGETS, PRESETS, DEFAULT_PRESET)
