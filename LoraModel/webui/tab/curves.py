"""Progress and losses of a run as HTML: a bar, and curves as SVG, which need no library in the page and follow its
colours."""

from __future__ import annotations

from html import escape
from typing import Optional, Sequence

from ...charts import STYLE as CHART_STYLE
from ...charts import Curve, Points
from ...charts import chart as draw
from ...messages import listing
from ..runs.run_log import LogReader
from ..runs.runs import Status
from ..text import Tr
from .console import page_lines
from .prepare_bar import Stage

STYLE = "<style>" + CHART_STYLE + """
#lora_tick { display: none }
#lora_progress, #lora_progress *, #lora_forecast, #lora_forecast * { opacity: 1 !important }
#lora_curves, #lora_curves > * { opacity: 1 !important }
#lora_progress .wrap, #lora_forecast .wrap, #lora_curves .wrap { display: none }
.lora-bar { position: relative; height: 22px; border-radius: 6px; overflow: hidden; background: rgba(128,128,128,.18);
  margin: 4px 0 8px }
.lora-bar > div { height: 100%; background: #f97316; transition: width .6s }
.lora-bar > div.lora-waiting { width: 25% !important; opacity: .7;
  animation: lora-wait 1.6s ease-in-out infinite alternate }
@keyframes lora-wait { from { margin-left: 0 } to { margin-left: 75% } }
.lora-bar > span { position: absolute; inset: 0; text-align: center; font-size: 13px; line-height: 22px;
  font-weight: 600 }
.lora-line { font-size: 14px; margin: 2px 0; line-height: 1.5 }
.lora-error { white-space: pre-wrap; word-break: break-word; font-family: ui-monospace, Consolas, monospace;
  font-size: 12px; border-left: 4px solid #dc2626; background: rgba(220,38,38,.09); padding: 8px 12px; margin: 8px 0 }
.lora-shelf { max-height: 260px; overflow: auto }
.lora-shelf table { width: 100%; font-size: 13px; border-collapse: collapse }
.lora-shelf th, .lora-shelf td { text-align: left; padding: 3px 10px; border-bottom: 1px solid rgba(128,128,128,.2) }
.lora-charts { display: flex; flex-wrap: wrap; gap: 12px 28px }
.lora-charts > figure { flex: 1 1 340px; max-width: 640px; margin: 0 }
.lora-charts figcaption { font-size: 13px; font-weight: 600; margin: 4px 0 }
.lora-charts .key { display: inline-block; width: 18px; border-top: 3px solid; vertical-align: middle;
  margin: 0 5px 2px 12px }
</style>"""



def duration(seconds: float, tr: Tr) -> str:
    """A length of time as people say it."""
    minutes = int(seconds // 60)
    if minutes >= 60:
        return tr("{minutes} h {minutes_2} min", minutes=minutes // 60, minutes_2=minutes % 60)
    if minutes:
        return tr("{minutes} min {seconds} s", minutes=minutes, seconds=int(seconds % 60))
    return tr("{seconds} s", seconds=int(seconds))


def state_text(status: Status, tr: Tr) -> str:
    """What a run is doing, in a few words."""
    return {
        "none": tr("no run yet"), "starting": tr("loading base and data"), "running": tr("training"),
        "stopping": tr("stopping: finishing the step and saving"), "done": tr("done"),
        "stopped": tr("stopped"), "failed": tr("failed"), "broken": tr("ended unexpectedly"),
    }.get(status.state, status.state)


def bar(head: str, share: float, seconds_left: Optional[float], tr: Tr, waiting: bool = False) -> str:
    """The bar, with a line above it. share: 0 to 1, of all the work."""
    left = "" if seconds_left is None else tr(", {seconds_left} left", seconds_left=duration(seconds_left, tr))
    kind = ' class="lora-waiting"' if waiting else ""
    return (f'<div class="lora-line"><b>{escape(head)}</b></div><div class="lora-bar"><div{kind} '
            f'style="width:{100 * share:.1f}%"></div>'
            f"<span>{100 * share:.0f}%{escape(left)}</span></div>")


def preparing(name: str, stage: Stage, step: str, tr: Tr) -> str:
    """The bar while the data are prepared. step: RVC's word for it."""
    head = tr("{name}: step {number} of {count}, {step}", name=name, number=stage.number, count=stage.count, step=step)
    if stage.of:
        head += (tr(" ({done} of about {of} slices)", done=stage.done, of=stage.of) if stage.step == "preprocess"
                 else tr(" ({done} of {of} slices)", done=stage.done, of=stage.of))
    return bar(head, stage.share, stage.seconds_left, tr)


def progress(status: Status, tr: Tr, stage: Optional[Stage] = None) -> str:
    """The bar with what stands beside it; after a crash, the last lines.

    stage: where the run is the last step of what One-click does, for one bar over all of it.
    """
    if status.state == "none":
        return ""
    share = min(1.0, status.step / status.total_steps) if status.total_steps else 0.0
    left = status.seconds_left
    if stage is not None:
        share, left = stage.share, stage.seconds_left
    parts = [bar(f"{status.name}: {state_text(status, tr)}", share, left, tr,
                 status.state in ("starting", "stopping"))]
    facts = []
    if status.step:
        facts.append(tr("epoch {epoch} of {epochs}, step {step} of {total_steps}", epoch=status.epoch,
                        epochs=status.epochs, step=status.step, total_steps=status.total_steps) if status.epochs else
                     tr("epoch {epoch}, step {step} of at most {total_steps}: ends when nothing improves",
                        epoch=status.epoch, step=status.step, total_steps=status.total_steps))
    if status.seconds_step is not None:
        facts.append(tr("{seconds_step:.2f} s a step", seconds_step=status.seconds_step))
    if status.best is not None and status.base is not None:
        facts.append(tr("held-out loss {best:.4f} (best, step {best_step}; base alone {base:.4f})", best=status.best,
                        best_step=status.best_step, base=status.base))
    if facts:
        parts.append(f'<div class="lora-line">{escape(tr("; ").join(facts))}</div>')
    if status.verdict == "worse":
        parts.append(f'<div class="lora-error"><b>{escape(_worse(status, tr))}</b></div>')
    if status.verdict == "unevaluated":
        text = tr("The run ended before its adapter was evaluated on the held-out clips, so it was not put into the "
                  "list. Resume continues it; the first evaluation comes with the first save, as the save frequency "
                  "says.")
        parts.append(f'<div class="lora-line"><b>{escape(text)}</b></div>')
    if status.adapter and not status.active:
        parts.append(f'<div class="lora-line">{tr("Adapter, in the list now")}: '
                     f'<code>{escape(status.adapter)}</code></div>')
    if status.state in ("failed", "broken"):
        why = tr("It ended with an error; its last lines:") if status.state == "failed" else tr(
            "The process ended without a message (killed, out of memory, or the machine went down); its last lines:")
        if status.resumable:
            why += tr(" Resume continues from the last save.")
        parts.append(
            f'<div class="lora-error"><b>{escape(why)}</b>\n{escape(chr(10).join(page_lines(status.log, tr)))}</div>')
    return "".join(parts)


def _worse(status: Status, tr: Tr) -> str:
    so_far = tr("so far") if status.active else tr("even its best adapter")
    return tr("This training makes the voice worse ({so_far}): held-out loss {best:.4f}, the base alone has "
              "{base:.4f}. The adapter is not put into the list. Listen to the recordings (too loud, clipped, silent, "
              "several speakers?), choose the base that fits them, and start anew with a preset of lower rank.",
              so_far=so_far, best=status.best, base=status.base)


def cut_off(steps: Sequence[str], going: bool, tr: Tr) -> str:
    """What stands there after the end of the WebUI cut a preparation off.

    Args:
        steps: words for those still to do. going: whether the first of them goes on by itself.
    """
    text = tr("The WebUI was ended during the preparation. Still to do: {steps}. ", steps=listing(steps))
    text += tr("Press Resume to continue.") if not going else tr(
        "The first of them is still running; press Resume when it has ended.")
    return f'<div class="lora-line"><b>{escape(text)}</b></div>'


def chart(train: Points, held: Points = (), base: Optional[float] = None, label: str = "") -> str:
    """Curves over steps as an SVG element; "" where there is no point.

    Args:
        train: (step, value) of each step. held: of each save. base: a level to draw across. label: for screen readers.
    """
    curves = [Curve(train), Curve(held, "curve second", dots=True, smooth=False, lowest=True)]
    return draw(curves, label, base, width=500, height=204)


def charts(reader: LogReader, base: Optional[float], tr: Tr) -> str:
    """The curves of a run: log-mel L1 of training steps and of held-out clips, and the prior's KL."""
    mel, held, kl = reader.losses.get("mel", []), reader.heldout, reader.losses.get("kl", [])
    if not mel:
        return ""
    key = ('<span class="key" style="color:#2f7fd6"></span>' + tr("training clips") + '<span class="key" '
           'style="color:#f97316"></span>'
           + tr("held-out clips") + '<span class="key" style="border-top-style:dashed"></span>' + tr(
               "base alone"))
    title = tr("Log-mel loss over steps")
    return (f'<div class="lora-charts"><figure><figcaption>{title}{key}</figcaption>'
            f'{chart(mel, held, base, title)}</figure>'
            f'<figure><figcaption>{tr("KL loss of the prior")}</figcaption>{chart(kl, label="KL")}</figure></div>')
