"""LoRAConfig: presets, round trips, and nonsense refused with the remedy."""

import json
import math

import pytest
from torch import nn

from LoraModel.lora import LoRAConfig, TargetConfig, extract, inject
from LoraModel.lora.lora_config import MAX_RANK
from LoraModel.messages import UserError
from LoraModel.models.targets import DEFAULT_PRESET, PRESETS, TARGETS


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("rslora", [False, True])
def test_round_trips(preset, rslora):
    config = LoRAConfig.from_preset(preset, lora_dropout=0.1, use_rslora=rslora)
    assert LoRAConfig.from_dict(config.to_dict()) == config
    assert LoRAConfig.from_json(config.to_json()) == config
    plain = json.loads(config.to_json())
    assert plain == config.to_dict() and plain["preset"] == preset
    assert plain["targets"]["ups"] == {"r": PRESETS[preset]["ups"][0], "lora_alpha": PRESETS[preset]["ups"][1]}


def test_default_is_the_clear_presets_targets():
    assert DEFAULT_PRESET == "clear"
    assert set(LoRAConfig().targets) == set(PRESETS["clear"])


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_presets_adapt_the_prior_and_scale_by_two(preset):
    config = LoRAConfig.from_preset(preset)
    assert {"flow", "spk_row"} <= set(config.targets)  # the prior carries the voice
    assert ({"enc_p_attn", "enc_p_ffn"} <= set(config.targets)) is (preset != "clear")  # which leaves what is said
    assert {config.scaling(target) for target in config.targets if target != "spk_row"} == {2.0}


def test_rank_override_keeps_the_ratio_and_leaves_the_row():
    config = LoRAConfig.from_preset("balanced", rank=8)
    assert {name: (t.r, t.lora_alpha) for name, t in config.targets.items()} == {
        "enc_p_attn": (8, 16.0), "enc_p_ffn": (8, 16.0), "flow": (8, 16.0), "ups": (8, 16.0), "resblocks": (8, 16.0),
        "spk_row": (1, 1.0)}
    assert config.preset == "balanced, rank 8"


def test_scaling_by_hand():
    config = LoRAConfig(targets={"ups": {"r": 4, "lora_alpha": 6}})
    assert config.scaling("ups") == 1.5  # 6 / 4
    assert LoRAConfig(use_rslora=True, targets={"ups": {"r": 4, "lora_alpha": 6}}).scaling("ups") == 3.0  # 6 / sqrt(4)


def test_targets_inherit_what_they_leave_out():
    config = LoRAConfig(r=8, lora_alpha=12, targets={"ups": True, "flow": {"r": 2}, "resblocks": {"lora_alpha": 5},
                                                     "dec_in": False,
                                                     "enc_p_io": None, "enc_p_ffn": TargetConfig(3, 4)})
    assert config.targets == {"ups": TargetConfig(8, 12), "flow": TargetConfig(2, 3.0), "resblocks": TargetConfig(8, 5),
                              "enc_p_ffn": TargetConfig(3, 4)}


NONSENSE = [
    ({"r": 0}, r"r=0 must be a whole number from 1"),
    ({"r": -3}, r"r=-3 must be a whole number"),
    ({"r": 2.0}, r"r=2.0 must be a whole number"),
    ({"r": True}, r"r=True must be a whole number"),
    ({"r": "4"}, r"r='4' must be a whole number"),
    ({"r": MAX_RANK + 1}, r"from 1 to 4096: leave the target out"),
    ({"r": 10**400}, r"must be a whole number"),
    ({"lora_alpha": 0}, r"lora_alpha=0 must be a number above 0.*twice the rank"),
    ({"lora_alpha": -1.0}, r"lora_alpha=-1.0"),
    ({"lora_alpha": math.nan}, r"lora_alpha=nan"),
    ({"lora_alpha": math.inf}, r"lora_alpha=inf"),
    ({"lora_alpha": 10**400}, r"below a million"),
    ({"lora_alpha": True}, r"lora_alpha=True"),
    ({"lora_alpha": "8"}, r"lora_alpha='8'"),
    ({"lora_dropout": 1.0}, r"lora_dropout=1.0 must be at least 0 and below 1"),
    ({"lora_dropout": -0.1}, r"lora_dropout=-0.1"),
    ({"lora_dropout": math.nan}, r"lora_dropout=nan"),
    ({"lora_dropout": False}, r"lora_dropout=False"),
    ({"lora_dropout": "0"}, r"lora_dropout='0'"),
    ({"use_rslora": "yes"}, r"use_rslora='yes' must be true or false"),
    *[({"preset": value}, r"preset=.* must be text, the name of a preset") for value in (
        None, [], {}, 3, True, 0.5, ["clear"], {"clear": 1}, b"clear")],
    ({"targets": {}}, r"no target is switched on: choose at least one of ups, resblocks"),
    ({"targets": {"ups": False, "flow": None}}, r"no target is switched on"),
    ({"targets": {"up": True}}, r"unknown target 'up': choose from ups, resblocks"),
    ({"targets": {3: True}}, r"unknown target 3"),
    ({"targets": ["ups"]}, r"targets must be an object like .* not \['ups'\]"),
    ({"targets": {"ups": 8}}, r"target 'ups' takes true, false or .*not 8"),
    ({"targets": {"ups": {"rank": 8}}}, r"target 'ups' takes true, false"),
    ({"targets": {"ups": {"r": 0}}}, r"r=0"),
    ({"targets": {"ups": {"r": "8"}}}, r"r='8'"),
    ({"targets": {"ups": {"r": 10**400}}}, r"must be a whole number"),
    ({"targets": {"ups": {"lora_alpha": -2}}}, r"lora_alpha=-2"),
    ({"targets": {"spk": True, "spk_row": True}}, r"both change the speaker table: choose one"),
]


@pytest.mark.parametrize("arguments,message", NONSENSE, ids=[str(i) for i in range(len(NONSENSE))])
def test_nonsense_is_refused_with_the_remedy(arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        LoRAConfig(**arguments)
    assert any("\u4e00" <= letter <= "\u9fff" for letter in caught.value.zh)  # and says it in Chinese


@pytest.mark.parametrize("text,message", [
    ("{", "not JSON"), ("[1]", "must be a JSON object, not list"), ("[" * 100000, "not JSON"), ("\"r\"", "not str"),
    ('{"rank": 4}', "unknown key 'rank'.*known are r, lora_alpha"), ('{"r": 0}', "r=0"),
    ('{"targets": []}', "targets must be an object"),
])
def test_json_nonsense_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        LoRAConfig.from_json(text)


@pytest.mark.parametrize("rank", [0, -1, 2.5, True, "8", 10**400])
def test_rank_override_nonsense(rank):
    with pytest.raises(UserError, match="must be a whole number"):
        LoRAConfig.from_preset("balanced", rank=rank)


def test_unknown_preset():
    with pytest.raises(UserError, match="unknown preset 'best': choose from fast, balanced, clear, high_quality"):
        LoRAConfig.from_preset("best")


def test_rank_above_the_smaller_side_is_that_side_and_told():
    network = nn.Module()
    network.ups = nn.ModuleList([nn.ConvTranspose1d(8, 4, 4), nn.ConvTranspose1d(16, 8, 4)])
    injection = inject(network, LoRAConfig(targets={"ups": {"r": 9, "lora_alpha": 18}}))
    assert injection.clamped() == {"ups.0": 8} and [layer.r for _, layer in injection.items()] == [8, 9]
    assert [layer.scaling for _, layer in injection.items()] == [2, 2]  # alpha / r of the rank that was asked for
    extract(network)
    assert inject(network, LoRAConfig(targets={"ups": {"r": 8}})).clamped() == {}


MODULES = {
    "dec.ups.3": "ups", "dec.resblocks.11.convs1.2": "resblocks", "dec.resblocks.0.convs2.0": "resblocks",
    "resblocks.0.convs.1": "resblocks",
    "dec.conv_pre": "dec_in", "dec.cond": "dec_in", "enc_p.encoder.attn_layers.5.conv_o": "enc_p_attn",
    "enc_p.encoder.ffn_layers.0.conv_2": "enc_p_ffn", "enc_p.emb_phone": "enc_p_io", "enc_p.proj": "enc_p_io",
    "flow.flows.6.pre": "flow", "flow.flows.0.enc.in_layers.2": "flow", "flow.flows.0.enc.cond_layer": "flow",
    "flows.2.enc.res_skip_layers.0": "flow", "emb_g": "spk", "discriminators.3.convs.4": "disc",
    # not to be adapted: the frozen posterior, the source, the end of the decoder, norms
    "enc_q.enc.in_layers.0": None, "enc_q.pre": None, "enc_q.proj": None, "dec.m_source.l_linear": None,
    "dec.noise_convs.0": None,
    "dec.conv_post": None, "enc_p.encoder.norm_layers_1.0": None, "enc_p.emb_pitch": None, "dec.ups": None,
    "dec.ups.3.x": None, "discriminators.0.conv_post": None,
}


@pytest.mark.parametrize("path", sorted(MODULES))
def test_patterns_take_what_they_should(path):
    names = [name for name in TARGETS if name != "spk_row"]
    config = LoRAConfig(targets=dict.fromkeys(names, True))
    assert config.target_of(path) == MODULES[path]


LONG = "x" * 2**20


@pytest.mark.parametrize("values", [
    {"targets": {LONG: True}}, {"targets": {"ups": LONG}}, {"targets": {"ups": {LONG: 1}}},
    {"targets": {"ups": {"r": LONG}}}, {"targets": [LONG] * 9},
    {"targets": {str(index): True for index in range(2**17)}}, {LONG: 1},
    {str(index): 1 for index in range(2**17)}, {"r": LONG}, {"r": 10**4000}, {"lora_alpha": [10**5000]},
    {"use_rslora": {"a": {"b": [LONG]}}}, {"lora_dropout": "\x1b[2J\n" + LONG},
])
def test_messages_carry_no_more_than_a_little_of_the_configuration(values):
    with pytest.raises(UserError) as caught:
        LoRAConfig.from_dict(values)
    assert len(caught.value.en) < 400 and caught.value.en.isprintable() and len(caught.value.zh) < 400


def test_a_presets_name_is_one_line_that_every_message_and_page_can_hold():
    config = LoRAConfig.from_json(json.dumps({"preset": "\x1b[2J\n\ud800" + LONG}))
    assert config.preset.isprintable() and len(config.preset) == 200 and config.preset.encode("utf-8")
    assert LoRAConfig.from_dict(config.to_dict()) == config
    assert LoRAConfig(preset="清晰, rank 2").preset == "清晰, rank 2"


def test_a_preset_of_a_long_name_is_not_told_whole():
    with pytest.raises(UserError) as caught:
        LoRAConfig.from_preset(LONG)
    assert len(str(caught.value)) < 300


def test_a_row_has_neither_rank_nor_alpha():
    for rank in ({"r": 4}, {"lora_alpha": 2}, TargetConfig(2, 2)):
        with pytest.raises(UserError, match="'spk_row' is one row of a table and has neither rank nor alpha: give"):
            LoRAConfig(targets={"ups": True, "spk_row": rank})
    config = LoRAConfig(r=8, lora_alpha=16, use_rslora=True, targets={"ups": True, "spk_row": True})
    assert config.targets["spk_row"] == TargetConfig(1, 1) and config.scaling("spk_row") == 1
    assert LoRAConfig.from_dict(config.to_dict()) == config
    row = {"r": 8, "lora_alpha": 16}
    older = {**row, "use_rslora": True, "targets": {"ups": True, "spk_row": row}}
    assert LoRAConfig.from_json(json.dumps(older)) == config
