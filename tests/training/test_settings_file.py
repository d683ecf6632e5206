"""Settings of a run: JSON, TOML, YAML, other programs' names for them, and what is said of a wrong key."""

import json
import re
import sys
from pathlib import Path

import pytest
from training_data import BASE

from LoraModel.messages import UserError, cli
from LoraModel.training.config import TrainConfig
from LoraModel.training.settings_file import ALIASES, MOST_BYTES, own_names, read_config_file
from LoraModel.training.train_lora import main, parser

VALUES = {
    "lr": 0.005,
    "epochs": 3,
    "name": "声音",
    "lora": {"r": 2, "targets": {"flow": True, "ups": {"r": 4}}},
    "base_d": "D.pth",
}
TOML = """lr = 5e-3
epochs = 3
name = "声音"
base_d = "D.pth"
[lora]
r = 2
[lora.targets]
flow = true
ups = {r = 4}
"""
YAML = "lr: 5e-3\nepochs: 3\nname: 声音\nbase_d: D.pth\nlora:\n  r: 2\n  targets: {flow: true, ups: {r: 4}}\n"


def written(tmp_path, name, text):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    return tmp_path / name


def test_three_formats_say_the_same(tmp_path):
    assert read_config_file(written(tmp_path, "a.json", b"\xef\xbb\xbf" + json.dumps(VALUES).encode())) == VALUES
    if sys.version_info >= (3, 11):
        assert read_config_file(written(tmp_path, "a.toml", TOML)) == VALUES
    pytest.importorskip("yaml")
    for name in ("a.yaml", "a.YML"):
        assert read_config_file(written(tmp_path, name, YAML)) == VALUES
    assert TrainConfig.from_dict(VALUES).lora_config().targets["ups"].r == 4


def test_without_their_packages_a_line_says_so(tmp_path, monkeypatch):

    for name in ("yaml", "tomllib", "tomli"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="PyYAML"):
        read_config_file(written(tmp_path, "a.yaml", YAML))
    with pytest.raises(UserError, match="reads no TOML: use Python 3.11"):
        read_config_file(written(tmp_path, "a.toml", TOML))


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("a.toml", "lr = = 1", "is not TOML"),
        ("a.yaml", "a: [1", "is not YAML"),
        ("a.yaml", "a: &x [1, 2]\nb: *x\n", "has an alias"),
        ("a.yaml", "!!python/object/apply:os.system ['true']", "is not YAML"),
        ("a.yaml", "- 1", "must hold a YAML object"),
        ("a.yaml", "1: 2", "must hold"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "[" * 100000, "is not JSON"),
        ("a.json", b"\xff", "is not JSON"),
        ("a.json", " " * (MOST_BYTES + 1), "larger than"),
    ],
)
def test_what_is_no_settings_file(tmp_path, name, text, said):
    if name.endswith("toml") and sys.version_info < (3, 11):
        said = "TOML"
    if name.endswith("yaml"):
        pytest.importorskip("yaml")
    with pytest.raises(UserError, match=said) as caught:
        read_config_file(written(tmp_path, name, text))
    assert len(str(caught.value).splitlines()) == 1


def test_a_missing_file_names_the_near_one(tmp_path):
    written(tmp_path, "settings.json", "{}")
    with pytest.raises(UserError, match="no configuration file .*the nearest: .*settings.json"):
        read_config_file(tmp_path / "setting.json")


def test_a_misspelt_setting_is_named_before_what_seems_to_be_missing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("RVC_LORA_LANG", "en")
    assert cli(main, ["--config", str(written(tmp_path, "a.json", '{"base_modl": "G.pth"}'))]) == 2
    assert "unknown setting 'base_modl': did you mean base_model?" in capsys.readouterr().err


def test_other_programs_names():
    assert own_names({"network_dim": 8, "network_alpha": 4, "learning_rate": 1e-3}) == {
        "lora_rank": 8,
        "lora_alpha": 4,
        "lr": 1e-3,
    }
    options = parser().parse_args(["--network_dim", "8", "--network_alpha", "4", "--learning_rate", "1e-3"])
    assert (options.lora_rank, options.lora_alpha, options.lr) == (8, 4.0, 1e-3)
    assert parser().parse_args(["--rank", "3"]).lora_rank == 3 and set(ALIASES.values()) <= set(TrainConfig().to_dict())
    with pytest.raises(UserError, match="did you mean lora_rank?"):
        TrainConfig.from_dict({"lora_rnk": 8})
    with pytest.raises(UserError, match="did you mean lora_rank?"):
        TrainConfig.from_dict({"networkdim": 8})
    with pytest.raises(UserError, match="did you mean --lora_rank?"):
        parser().parse_args(["--lora_rnk", "8"])


def test_alpha_scales_all_but_the_speakers_row():
    config = TrainConfig(lora_rank=8, lora_alpha=4).lora_config()
    assert {(name, target.r, target.lora_alpha) for name, target in config.targets.items()} == {
        ("flow", 8, 4),
        ("ups", 8, 4),
        ("resblocks", 8, 4),
        ("dec_in", 8, 4),
        ("spk_row", 1, 1),
    }
    assert config.preset == "clear, rank 8, alpha 4" and config.scaling("flow") == 0.5
    assert TrainConfig(lora_alpha=3).lora_config().targets["dec_in"].lora_alpha == 3


@pytest.mark.parametrize("page", ["docs/settings.md", "docs/settings.zh-CN.md"])
def test_the_page_lists_every_setting_with_its_default_and_option(page):
    text = (Path(__file__).resolve().parents[2] / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.*?) \| (.+?) \|$", text, re.MULTILINE)
    defaults = TrainConfig().to_dict()
    assert {name: json.loads(value) for name, value, _, _ in rows} == defaults and [name for name, *_ in rows] == list(
        defaults
    )
    options = {action.dest: action.option_strings for action in parser()._actions}
    for name, _, named, meaning in rows:
        assert re.findall(r"`(--\w+)`", named) == options.get(name, []) and meaning
    assert all(alias in text for alias in ALIASES)


@pytest.mark.parametrize("values, said", [
    ({"lr": 10**400}, "lr"), ({"lr": float("inf")}, "lr"), ({"c_mel": 1e300}, "c_mel"), ({"epochs": 10**30}, "epochs"),
    ({"epochs": True}, "epochs"), ({"name": ["x" * 10**6]}, "name"), ({"device": {"a": 1}}, "device"),
    ({"notes": "\ud800"}, "no text"), ({"precision": "x" * 10**6}, "precision"), ({"lora": "x" * 10**6}, "lora"),
    ({"epochs": "9" * 10**6}, "epochs"), ({"seed": 2**32}, "seed"), ({"x" * 10**6: 1}, "unknown setting")])
def test_nonsense_is_named_in_a_short_line(values, said):
    with pytest.raises(UserError, match=said) as caught:
        TrainConfig.from_dict(values)
    assert len(caught.value.en) < 1500 and "\n" not in caught.value.en


def test_a_file_nested_without_end_is_said_so_in_words(tmp_path):
    with pytest.raises(UserError, match="it is nested too deep"):
        read_config_file(written(tmp_path, "a.json", "[" * 100_000))


@pytest.mark.parametrize("key", ["base_model", "data_dir", "output_dir", "base_d", "config_json"])
@pytest.mark.parametrize("place", ["~nosuchuser/x", "a\0b", "\ud800", "x" * 5000])
def test_paths_of_a_file_are_paths_of_an_option(key, place, tmp_path, capsys):
    values = {"base_model": str(BASE), "data_dir": str(tmp_path), "output_dir": str(tmp_path / "out")}
    more = []
    if key == "config_json":
        more = ["--config_json", place]
    else:
        values[key] = place
    file = written(tmp_path, "a.json", json.dumps(values))
    assert cli(main, ["--config", str(file), *more]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and len(said[0]) < 1000 and not (tmp_path / "out").exists()
