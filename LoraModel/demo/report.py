"""The demo's report: one HTML file that holds its sounds, pictures and figures, and needs nothing else
(`evaluation.page`)."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import Any, Dict, List, Optional

import soundfile

from LoraModel.evaluation import page

from ..charts import line_chart
from ..messages import Text

REQUIRED = (
    "base_params", "adapter_params", "adapter_bytes", "seconds_train", "steps", "loss_first", "loss_last",
    "heldout_mel_base",
    "heldout_mel_adapter", "speaker_similarity_base", "speaker_similarity_adapter", "merge_max_abs_diff",
    "unload_identical",
)  # fmt: skip
OPTIONAL = (
    "voice", "base_bytes", "merged_bytes", "speaker_similarity_reference",
    "adapter_file", "merged_file", "base_file", "seconds_data",
)  # fmt: skip

HEARD = (
    ("word_error", Text("Word error rate"), Text("share that a speech recogniser gets wrong; lower is better"), False),
    ("content_distance", Text("Content distance"),
     Text("between the source and its conversion, by the content encoder; lower is better"), False),
    ("dnsmos", Text("Naturalness (DNSMOS)"), Text("1 to 5, higher is better"), True),
    ("global_variance", Text("Sharpness: global variance"), Text(
        "1 is as sharp as the target’s recordings"), None),
    ("frame_contrast", Text("Sharpness: from frame to frame"), Text(
        "1 is as sharp as the target’s recordings"), None),
)  # fmt: skip
"""Further rows of the table where they were measured: key of the figures, names, hints, whether higher is better; None:
the nearer to 1 the better."""

SOUND = (
    ("level_db", Text("Loudness, dB"), Text("of the speech; a conversion keeps most of its source’s")),
    ("noise_floor_db", Text("Noise in pauses, dB"), Text("lower is quieter")),
    ("dc_offset", Text("Offset from zero"), Text("full scale is 1; 0 is right")),
)  # fmt: skip
"""Rows without a better or worse of their own: key of the figures, names and hints."""

# What a loss is called, and what it says: (English, Chinese, English, Chinese).
LOSSES = {
    "total": (Text("Total loss"), Text("the weighted sum that is trained on")),
    "loss": (Text("Total loss"), Text("the weighted sum that is trained on")),
    "mel": (Text("Mel loss"), Text("log-mel distance of reconstructed clips")),
    "kl": (Text("KL loss"), Text("the prior: what is said, in whose voice")),
    "stft": (Text("STFT loss"), Text("multi-resolution spectra")),
    "hold": (Text("Distance to the base"), Text("of the decoder's sound: keeps what the base can say")),
    "fm": (Text("Feature matching loss"), Text("inside the discriminator")),
    "gen": (Text("Adversarial loss"), Text("how well the discriminator is fooled")),
    "disc": (Text("Discriminator loss"), Text("real against generated")),
}


def _head(figures: Dict[str, Any]) -> str:
    voice = escape(str(figures.get("voice") or "demo"))
    adapter, seconds = page.size(figures["adapter_bytes"]), page.duration(figures["seconds_train"])
    data = figures.get("seconds_data")
    learnt = Text(" from {data:.0f} seconds of speech", data=data) if data else ""
    tiles = [
        (adapter, page.two("one voice: the adapter’s file")),
        (seconds, page.two("to train it, {steps} steps", steps=figures["steps"])),
    ]
    if figures.get("base_bytes"):
        tiles.append((page.size(figures["base_bytes"]),
                      page.two("the base, shared by all voices")))
    share = 100 * figures["adapter_params"] / figures["base_params"]
    tiles.append((f"{share:.1f}%", page.two("of the base’s parameters")))
    return page.header(
        page.two("A voice in {adapter}: {voice}", adapter=adapter, voice=voice),
        page.two("The base stayed frozen in memory; this small adapter was trained on top of it{learnt}. Listen to "
                 "what it changes, then look at the figures.", learnt=learnt),
        [page.tile(value, text) for value, text in tiles],
    )  # fmt: skip


def _clip(entry: Dict[str, Any]) -> str:
    samples, rate = soundfile.read(str(entry["path"]), dtype="float32", always_2d=True)
    return page.player(samples.mean(axis=1), rate, entry["key"], entry["title"])


def _said(text: Optional[str]) -> str:
    if not text:
        return ""
    return f'<p class="about">{page.two("The sentence in all of them:")} “{escape(text)}”</p>'


def _comparison(name: Text, hint: Text, base: Any, adapter: Any, real: Any,
                higher: Optional[bool]) -> str:
    """A row of the table: base, adapter, change, and the real recordings' own value where it is known.

    higher: whether a higher value is better; None where the nearer to 1 the better.
    """
    change = "–"
    if base is not None and adapter is not None:
        better = abs(adapter - 1) < abs(base - 1) if higher is None else (adapter > base) is higher and adapter != base
        text = f"{adapter - base:+.3f}" if higher in (None, True) or not base else f"{100 * (adapter / base - 1):+.0f}%"
        change = f'<span class="{"better" if better else "worse"}">{text.replace("-", "−")}</span>'
    return (
        f"<tr><th scope='row'>{page.plain(name)}<small>{page.plain(hint)}</small></th><td>{page.number(base)}</td>"
        f"<td class='best'>{page.number(adapter)}</td><td>{change}</td><td>{page.number(real)}</td></tr>"
    )


def _stand_in() -> str:
    return page.two("The demo has no HuBERT, whose weights it may not bring: what is said is read by a stand-in, the "
                    "encoder of the speech recogniser Whisper base, and pitch by Praat. With RVC's own HuBERT and a "
                    "full-size base the sound is another.")


def _figures(figures: Dict[str, Any]) -> str:
    rows = _comparison(
        Text("Held-out log-mel distance"),
        Text("lower is better; recordings kept out of training"),
        figures["heldout_mel_base"], figures["heldout_mel_adapter"], None, higher=False,
    ) + _comparison(
        Text("Similarity to the target speaker"),
        Text("higher is better; cosine of Resemblyzer’s embeddings"),
        figures["speaker_similarity_base"], figures["speaker_similarity_adapter"],
        figures.get("speaker_similarity_reference"), higher=True,
    ) + "".join(
        _comparison(name, hint, figures.get(f"{key}_base"), figures.get(f"{key}_adapter"),
                    figures.get(f"{key}_reference"), higher)
        for key, name, hint, higher in HEARD if figures.get(f"{key}_adapter") is not None
    )  # fmt: skip
    rows += "".join(
        f"<tr><th scope='row'>{page.plain(name)}<small>{page.plain(hint)}</small></th>"
        + "".join(f"<td>{page.number(figures.get(f'{key}_{name}'))}</td>" for name in ("base", "adapter"))
        + f"<td>–</td><td>{page.number(figures.get(f'{key}_reference'))}</td></tr>"
        for key, name, hint in SOUND if figures.get(f"{key}_adapter") is not None
    )
    same = figures["unload_identical"]
    verdict = (
        f'<span class="better">{page.two("yes, bit for bit")}</span>'
        if same
        else f'<span class="worse">{page.two("NO")}</span>'
    )
    share = 100 * figures["adapter_params"] / figures["base_params"]
    facts = [
        (page.two("Adapter parameters"),
         f"{figures['adapter_params']:,} <small>{share:.2f}% {page.two('of')} "
         f"{figures['base_params']:,}</small>"),
        (page.two("Adapter file"),
         f"{page.size(figures['adapter_bytes'])} <small>{figures['adapter_bytes']:,} "
         f"{page.two('bytes')}</small>"),
        (page.two("Loss, first to last"),
         f"{page.number(figures['loss_first'], 2)} → {page.number(figures['loss_last'], 2)}"),
        (page.two("Merged against adapter, largest difference"),
         f"{figures['merge_max_abs_diff']:.1e} <small>{page.two('full scale is 1')}</small>"),
        (page.two("Base restored when unloaded"), verdict),
    ]  # fmt: skip
    if figures.get("merged_bytes"):
        facts.insert(2, (page.two("Merged model, for plain RVC"),
                         page.size(figures["merged_bytes"])))
    facts_rows = "".join(f"<tr><th scope='row'>{name}</th><td>{value}</td></tr>" for name, value in facts)
    others = {key: value for key, value in figures.items() if key not in REQUIRED + OPTIONAL}
    more = ""
    if others:
        lines = "".join(f"<tr><td><code>{escape(str(k))}</code></td><td>{escape(str(v))}</td></tr>" for k,
                        v in others.items())
        title = page.two("Everything else that was measured")
        more = (f'<details class="card"><summary>{title}</summary><div '
                f'class="wide"><table>{lines}</table></div></details>')
    return f"""<h2>{page.two("Figures")}</h2>
<p class="about">{page.two("Measured in this run; the same values stand in report.json.")}
{_stand_in()}</p>
<div class="pair">
<div class="card wide"><table><thead><tr><th></th><th>{page.two("base alone")}</th>
<th>{page.two("base + adapter")}</th><th>{page.two("change")}</th>
<th>{page.two("target itself")}</th></tr></thead><tbody>{rows}</tbody></table></div>
<div class="card wide"><table class="facts"><tbody>{facts_rows}</tbody></table></div>
</div>{more}"""


def _curves(curves: Dict[str, List[Dict[str, Any]]], level: Optional[float]) -> str:
    heldout = [(row["step"], row["mel"]) for row in curves.get("heldout", []) if row.get("mel") is not None]
    charts = page.chart(
        page.two("Held-out log-mel distance"),
        page.two("dashed: the base alone"),
        line_chart(heldout, "held-out log-mel distance over steps", dots=True, level=level),
    )
    rows = curves.get("loss", [])
    parts = list(dict.fromkeys(key for row in rows for key in row if key != "step"))
    for part in parts:
        name, about = LOSSES.get(part, (part, ""))
        points = [(row["step"], row[part]) for row in rows if row.get(part) is not None]
        charts += page.chart(page.plain(name), page.plain(about),
                             line_chart(points, f"{part} loss over steps"))
    if not charts:
        return ""
    return f"""<h2>{page.two("Training curves")}</h2>
<p class="about">{page.two("Over training steps. Pale: each step; strong: running mean.")}</p>
<section class="charts">{charts}</section>"""


def _unbroken(command: str) -> str:
    """A command line as HTML whose options do not break at their hyphens."""
    return re.sub(r"\S+", lambda word: f"<span>{word.group()}</span>", command)


def _next(figures: Dict[str, Any]) -> str:
    adapter = escape(str(figures.get("adapter_file") or "demo_output/adapter.safetensors"))
    base = escape(str(figures.get("base_file") or "LoraModel/demo/base/f0G16k.pth"))
    merged = escape(str(figures.get("merged_file") or "demo_output/merged.pth"))
    steps = [
        (page.two("Convert a recording of your own"),
         f"python -m LoraModel.inference.infer_lora --base_model {base} --lora_weights {adapter} --input in.wav "
         f"--output out.wav"),
        (page.two("Merge the adapter into an ordinary RVC model, such as <code>{merged}</code> from this run",
                  merged=merged),
         f"python -m LoraModel.scripts.merge_lora --base_model {base} --lora_weights {adapter} --output my_voice.pth"),
        (page.two("Train a voice from your own recordings"),
         "python -m LoraModel.scripts.prepare_data --input_dir my_recordings --output_dir logs/my_voice\n"
         f"python -m LoraModel.training.train_lora --base_model {base} --data_dir logs/my_voice --output_dir my_voice"),
        (page.two("Put RVC-LoRA into your RVC checkout, for its large bases and HuBERT"),
         "python install_into_rvc.py --rvc_root PATH_TO_RVC"),
    ]  # fmt: skip
    where = '<p class="about">' + page.two("In the project’s folder, with its environment’s Python "
                                           "(<code>.venv</code>).") + "</p>"
    items = "".join(f'<li class="card"><h3>{title}</h3><pre>{_unbroken(command)}</pre></li>' for title,
                    command in steps)
    return f'<h2>{page.two("Next steps")}</h2>{where}<ol class="next">{items}</ol>'


def write_report(folder: Path, data: Dict[str, Any]) -> Path:
    """Write `report.html` into `folder` and return its path.

    Args:
        folder: an existing folder.
        data: `figures`, the content of report.json: every key of REQUIRED (None where a similarity was not measured),
            any of OPTIONAL, and others, which are listed as they are. `audio`, a list of {"key", "title",
            "path"} in the order to show. `curves`, {"loss": [{"step", part: value, ...}], "heldout":
            [{"step", "mel"}]}. `notes`, a list of texts. `said`, what is said in all of them.
    """
    figures = data["figures"]
    missing = [key for key in REQUIRED if key not in figures]
    if missing:
        raise ValueError(f"the report needs figures that were not given: {', '.join(missing)}")
    clips = data["audio"]
    body = [
        _head(figures),
        page.heading(Text("Listen"), Text("Click a spectrogram to play from there.")),
        _said(data.get("said")),
        f'<section class="clips">{"".join(_clip(entry) for entry in clips)}</section>',
        _figures(figures),
        _curves(data.get("curves") or {}, figures["heldout_mel_base"]),
        _next(figures),
        page.notes(data.get("notes") or []),
    ]
    return page.write_page(Path(folder) / "report.html", str(figures.get("voice") or "demo"), body, len(clips),
                           body[5].count("<figure"))
