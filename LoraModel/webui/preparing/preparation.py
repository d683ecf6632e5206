"""The steps before training: slices, pitch and features, index. By RVC's own functions where the WebUI script has them,
else by `scripts/prepare_data.py`. They run in a thread of the WebUI, so that a page that is closed stops nothing. What
is under way and still to do lies in logs/.rvc-lora/preparation.json meanwhile, for a WebUI that was ended to go on
with when it is started again.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import os
import re
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict, Iterable, Optional, Sequence, Tuple

from ...commands import parse_rate
from ...files import atomic_write
from ...host import find_host, preprocess
from ...host.index import build_index
from ...messages import Text, UserError, closest, wanted_language
from ...paths import plain_in_shell
from ...preparation import checks
from ...preparation.options import network_config
from ...preparation.recordings import Recordings, flat_folder, left_out
from ..runs import processes
from ..runs.queue_runs import Queue
from ..runs.run_log import tail
from ..runs.runs import Runs, RunSettings, child_environment
from .forecast import Forecaster
from .made import Made
from .paces import USUAL
from .preparation_job import STEPS, Preparation

FUNCTIONS = {"preprocess": "preprocess_dataset", "extract": "extract_f0_feature", "index": "train_index"}
"""RVC's own function for each step; the same names in both layouts."""
LEAST_SPENT = 2.0
"""Seconds: a step that took less had most of its work done before."""
QUIET_SECONDS = 10.0
"""RVC's scripts outlive the WebUI that started them: only an experiment in which so long nothing was written is gone
on with."""


class Preparer:
    """The preparation of one experiment at a time.

    Args:
        namespace: the WebUI script's `globals()`, which may hold RVC's functions.
        forecaster: tells how long the steps will take; None where nobody watches.
    """

    def __init__(self, runs: Runs, namespace: Dict[str, Any], forecaster: Optional[Forecaster] = None):
        self.runs, self.folders, self._namespace, self.forecaster = runs, runs.folders, namespace, forecaster
        self.current: Optional[Preparation] = None
        self._guard = threading.Lock()

    @property
    def by_rvc(self) -> bool:
        """Whether the script has RVC's own functions."""
        return self.folders.is_checkout and all(callable(self._namespace.get(name)) for name in FUNCTIONS.values())

    @property
    def _record(self) -> Path:
        return self.folders.own / "preparation.json"

    def begin(self, steps: Sequence[str], settings: RunSettings, recordings: str, f0_method: str,
              anew: bool = False) -> Preparation:
        """Do `steps` of STEPS one after the other, in a thread; "train" starts the run.

        Raises:
            UserError: something cannot be, or steps are under way already, here or in another WebUI on the same folder.
        """
        experiment = self.folders.experiment(settings.name)
        if "train" in steps:
            settings.train_config(self.folders)  # what is wrong is better reported now than after an hour of preparing
            self.runs.check_start(settings, anew)
        source = self.folders.recordings(recordings) if "preprocess" in steps or not self.by_rvc and set(steps) - {
            "train"} else None
        with self._guard, processes.locked(self.runs.lock):
            other = self._noted()
            busy = self.current is not None and self.current.active
            if busy or (other.get("pid") != os.getpid() and processes.alive(other)):
                name = self.current.name if busy and self.current is not None else str(other.get("name"))
                raise UserError("the data of {name} are being prepared already: wait for the end of it", name=name)
            if settings.name in self.runs.going_on():
                raise UserError("{settings_name} is being trained: wait for its end, or stop it first",
                                settings_name=settings.name)
            if set(steps) - {"train"}:
                Queue(self.folders).check_free(experiment)
            job = Preparation(tuple(steps), settings, recordings, f0_method, anew, source, step=steps[0])
            self.current = job
            self._note(os.getpid(), job)
            job.thread = threading.Thread(target=self._run, args=(job,), daemon=True)
            job.thread.start()
        return job

    def undone(self, name: str = "") -> Tuple[Dict[str, Any], bool]:
        """What a WebUI that has ended left of the experiment `name` (of any, if it is ""): the record, {} where there
        is nothing, with its "steps", the one under way first; and whether that one still goes on."""
        record = self._noted()
        ours = self.current is not None and self.current.active
        steps = record.get("steps")
        sound = isinstance(steps, list) and steps and all(step in STEPS for step in steps)
        if ours or not sound or record.get("name") != (name or record.get("name")):
            return {}, False
        return record, processes.alive(record)

    def resume(self, name: str) -> Preparation:
        """Do the steps that `undone` tells of; the one that was under way begins anew, over what it has made.

        Raises:
            UserError: as `begin`, or there are none, or a script of RVC's is still running on them.
        """
        record, going = self.undone(name)
        experiment = self.folders.experiment(name)
        written = max((path.stat().st_mtime for path in experiment.glob("*/*") if path.is_file()), default=0.0)
        if going or time.time() - written < QUIET_SECONDS:
            raise UserError("an earlier step is still running in {experiment}: try again in {quiet_seconds:.0f} "
                            "seconds", experiment=experiment, quiet_seconds=QUIET_SECONDS)
        if not record:
            raise UserError("nothing of the preparation of {name} is left to do", name=name)
        preprocess.remove_broken(experiment)
        return self.begin(record["steps"], RunSettings.read(record.get("settings")), record.get("recordings"),
                          record.get("f0_method"), bool(record.get("anew")))

    def forget(self, name: str) -> None:
        """What is left of `name` is not wanted any more: its training was started by hand."""
        if self.undone(name)[0]:
            atomic_write(self._record, b"{}")

    def stop(self) -> bool:
        """Break the steps off, where it can be done: RVC's own steps end by themselves, the steps after them are left
        out."""
        job = self.current
        if job is None or not job.active:
            return False
        job.stop_asked = True
        if job.process:
            processes.terminate(job.process)
        return True

    def _noted(self) -> Dict[str, Any]:
        return Runs._read(self.folders.own, self._record.name)

    def _note(self, pid: int, job: Preparation) -> None:
        Runs._write(self.folders.own, self._record.name, {
            "pid": pid, "began": processes.began(pid), "name": job.name,
            "steps": list(job.steps[job.steps.index(job.step):]),
            "settings": asdict(job.settings), "recordings": job.recordings, "f0_method": job.f0_method,
            "anew": job.anew,
        })

    def _run(self, job: Preparation) -> None:
        try:
            self._expect(job)
            for step in job.steps:
                if job.stop_asked or self._closing:
                    break
                job.step = job.failed = step
                job.begun[step] = time.monotonic()
                self._note(os.getpid(), job)
                if step == "train":
                    job.run_started = self.runs.start(job.settings, job.anew).started
                elif self.by_rvc:
                    self._by_rvc(job, step)
                else:
                    self._by_script(job, step)
                job.failed = ""
                if not job.stop_asked or self.by_rvc:
                    job.finished.append(step)
                    self._learn(job, step)
        except Exception as error:  # shown on the page
            if not isinstance(error, UserError):
                traceback.print_exc()
            job.error = error
        finally:
            job.step = ""
            if not self._closing:
                atomic_write(self._record, b"{}")

    def _expect(self, job: Preparation) -> None:
        """How long each step will take, before the first of them."""
        if self.forecaster is None:
            return
        job.seconds = self.forecaster.seconds_of(job.recordings)
        forecast = self.forecaster.forecast(job.settings, job.recordings) if "train" in job.steps else None
        training = forecast.seconds if forecast is not None else None
        preparing = self.forecaster.preparing(job.settings, job.seconds)
        job.expected = {step: max(1.0, preparing.get(step, training or 60.0)) for step in job.steps}

    def _learn(self, job: Preparation, step: str) -> None:
        """Keep how long a step took; one that found all of it there says nothing."""
        spent = time.monotonic() - job.begun[step]
        if self.forecaster is not None and job.seconds > 0 and step in USUAL and spent > LEAST_SPENT:
            self.forecaster.paces.learn(step, spent / job.seconds)

    @property
    def _closing(self) -> bool:
        """Whether the WebUI is about to end. Ctrl-C reaches RVC's scripts too: what they say then is no result."""
        return bool(getattr(getattr(self._namespace.get("app"), "server", None), "should_exit", False))

    # RVC's own functions

    def _tr(self, text: Text) -> str:
        return text.in_language(closest(self.runs.language or wanted_language()))

    def _note_of(self, job: Preparation, step: str, text: Text) -> None:
        job.notes[step] = "\n".join(filter(None, [job.notes.get(step, ""), self._tr(text)]))

    def _by_rvc(self, job: Preparation, step: str) -> None:
        """A step by RVC's own function, and what `prepared.json` notes of it: RVC's scripts skip what is there,
        whatever it was made of."""
        experiment = self.folders.experiment(job.name)
        with checks.only_preparation(experiment):
            made = Made(experiment, job.settings, job.f0_method, job.source)
            moved = made.begin(step)
            if moved is not None:
                self._note_of(job, step, Text("data from other recordings or settings under this name were moved to "
                                              "{moved} and are made again", moved=moved))
            for line in left_out(made.recordings) if made.recordings is not None else ():
                self._note_of(job, step, line)
            if step == "preprocess" and made.sliced:
                job.texts[step] = self._tr(Text("the slices of these recordings are there"))
            else:
                started = time.time() - 2
                with flat_folder(
                    made.recordings) if made.recordings is not None else contextlib.nullcontext() as folder:
                    by_rvc = self._rvc_can(job, step, folder)
                    if by_rvc:
                        self._call_rvc(job, step, folder)
                    if self._closing:
                        return
                    self._check(job, step, started if by_rvc else None, folder, made.recordings)
            if not self._closing:
                made.finish(step)
                self._write_config(job)
                self._warn(job, step, experiment)

    def _warn(self, job: Preparation, step: str, experiment: Path) -> None:
        """What is to be known of a step's results before anything is trained on them."""
        found = None
        if step == "preprocess":
            found = checks.too_few(experiment, len(preprocess.stems(experiment / "1_16k_wavs", ".wav")))
        elif step == "extract" and job.settings.f0:
            found = checks.no_voice(experiment)
        if found is not None:
            self._note_of(job, step, Text("warning: {found}", found=found))

    def _rvc_can(self, job: Preparation, step: str, source: Optional[Path]) -> bool:
        """Whether a step is one for RVC's function: its page offers the sample rate, and the shell, which RVC hands its
        scripts' command lines, takes every name in them for a name."""
        known, places = self._namespace.get("sr_dict"), [self._namespace.get("now_dir"), self.folders.root, source]
        rate = step != "preprocess" or not isinstance(known, dict) or job.settings.sample_rate in known
        names = [job.name, *(str(place) for place in places if place is not None)]
        # the pitch algorithm stands there without quotes
        return rate and all(map(plain_in_shell, names)) and bool(re.fullmatch(r"\w*", job.f0_method, re.ASCII))

    def _call_rvc(self, job: Preparation, step: str, source: Optional[Path]) -> None:
        """source: the folder of recordings for RVC's slicing, which reads no subfolders and fails on every file that
        is no audio."""
        namespace, name = self._namespace, job.name
        gpus = str(namespace.get("gpus") or "")
        known = {
            "trainset_dir": str(source), "exp_dir": name, "exp_dir1": name, "sr": job.settings.sample_rate,
            "n_p": max(1, (os.cpu_count() or 2) * 2 // 3), "gpus": gpus, "f0method": job.f0_method,
            "if_f0": job.settings.f0, "version19": job.settings.version, "gpus_rmvpe": f"{gpus}-{gpus}",
        }
        function = namespace[FUNCTIONS[step]]
        missing = [key for key, parameter in inspect.signature(function).parameters.items() if key not in known
                   and parameter.default is inspect.Parameter.empty
                   and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]
        if missing:
            raise UserError("this RVC's {functions} asks for {first!r}, which RVC-LoRA does not know: do this step in "
                            "RVC's own tab", functions=FUNCTIONS[step], first=missing[0])
        try:
            result = function(**{key: known[key] for key in inspect.signature(function).parameters if key in known})
            for item in [result] if isinstance(result, (str, tuple)) else result:
                job.texts[step] = str(item[0] if isinstance(item, tuple) else item)
        except Exception:
            # RVC's scripts cannot run by themselves with every Python: what is missing is done again below, and what
            # fails then is reported.
            traceback.print_exc()
            job.texts[step] = ""

    def _write_config(self, job: Preparation) -> None:
        """RVC's page writes config.json when its own training starts, and for its own sample rates alone; training
        here reads it.

        A base with a configuration of its own brings it along, in BASE.json or config.json beside it.
        """
        settings, host = job.settings, find_host(self.folders.root)
        path, rate = self.folders.experiment(job.name) / "config.json", parse_rate(settings.sample_rate) or 40000
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            if json.loads(path.read_text(encoding="utf-8"))["data"]["sampling_rate"] == rate:
                return
        if host.config_for(settings.version, rate) is None and settings.base_g:
            base = self.folders.catalog.training_base(settings.base_g)
            beside = next((file for file in (base.with_suffix(".json"), base.parent / "config.json") if file.is_file()),
                          None)
            if beside is None:
                raise UserError("{base} is of {rate} Hz, for which RVC has no configuration: put the config.json that "
                                "it was trained with beside it", base=base, rate=rate)
            contents = network_config(host, settings.version, rate, str(beside))
            atomic_write(path, json.dumps(contents, ensure_ascii=False, indent=4, sort_keys=True).encode("utf-8"))
        elif path.is_file():  # of another sample rate, which the folder had before
            path.unlink()

    def _check(self, job: Preparation, step: str, started: Optional[float], source: Optional[Path],
               recordings: Optional[Recordings]) -> None:
        """RVC's functions say in their text alone what went wrong: look at what they made, and do what is wholly
        missing again. Where they were not called (`started` is None), do the step.

        That runs the same scripts of RVC's in the way that needs less (`host.preprocess`): the classic layout's cannot
        read HuBERT where torch >= 2.6 refuses its file, the 2026 layout's find their own modules in RVC's own Python
        alone.

        Raises:
            UserError: it failed again; the message has RVC's own reason.
        """
        settings, experiment, workers = job.settings, self.folders.experiment(job.name), max(1, (os.cpu_count() or 2)
                                                                                             * 2 // 3)
        host = find_host(self.folders.root)
        own, since = started is None, started or math.inf

        def progress(count: int) -> None:
            job.texts[step] = self._tr(Text("done by RVC-LoRA: {count}", count=count) if own
                                       else Text("repeated by RVC-LoRA: {count}", count=count))

        def made(files: Iterable[Path]) -> bool:
            return any(file.stat().st_mtime >= since for file in files)

        slices = preprocess.stems(experiment / "1_16k_wavs", ".wav")
        if step == "preprocess" and source is not None and recordings is not None:
            if not made((experiment / "1_16k_wavs").glob("*.wav")):
                names = [recordings.name(file) for file in recordings.files]
                preprocess.slice_recordings(host, source, experiment, parse_rate(settings.sample_rate) or 40000,
                                            workers, progress, names)
        elif not slices:
            raise UserError("{experiment} holds no slices: process the data first", experiment=experiment)
        elif step == "extract":
            if settings.f0 and (own or not preprocess.stems(experiment / "2b-f0nsf", ".wav.npy")):
                method = job.f0_method.replace("_gpu", "")  # RVC's page has a script of its own for the other way
                if method != job.f0_method and not own:
                    self._note_of(job, step, Text("RVC found no pitch with {f0_method} ({reason}): {method} does it, "
                                                  "without the graphics card", f0_method=job.f0_method, method=method,
                                                  reason=preprocess.error_in(job.texts.get(step, "")) or "?"))
                preprocess.check_needs(host, method)
                preprocess.extract_f0(host, experiment, method, workers, progress)
            if own or not preprocess.stems(preprocess.feature_folder(experiment, settings.version), ".npy"):
                preprocess.check_needs(host, None)
                preprocess.extract_features(host, experiment, settings.version, progress)
        elif not made(experiment.glob("added_*.index")):
            progress(0)
            if not preprocess.build_host_index(host, experiment, settings.version):
                build_index(experiment, settings.version)
            progress(1)

    # scripts/prepare_data.py

    def _by_script(self, job: Preparation, step: str) -> None:
        settings = job.settings
        options = ["--input_dir", str(job.source), "--output_dir", str(self.folders.experiment(job.name)), "--version",
                   settings.version, "--sample_rate", settings.sample_rate]
        options += ["--f0_method", job.f0_method] if settings.f0 else ["--no_f0"]
        options += ["--rvc_root", str(self.folders.root)] if self.folders.is_checkout else []
        log, code = self.folders.own / f"{job.name}.prepare.log", self.folders.own / f"{job.name}.prepare.exit"
        for file in (log, code):
            if file.exists():
                file.unlink()
        command = [sys.executable, str(Path(__file__).with_name("prepare_step.py")), str(code), step, *options]
        job.process = processes.spawn(command, self.folders.root, child_environment(self.folders, self.runs.language),
                                      log)
        self._note(job.process["pid"], job)
        while not processes.wait(job.process, 0.5):
            job.texts[step] = "\n".join(tail(log, 8))
        job.texts[step] = "\n".join(tail(log, 8))
        job.process = None
        if not code.is_file() or code.read_text() != "0":
            if job.stop_asked:
                return
            last = (tail(log, 1) or ["?"])[0]
            raise UserError("preparing the data failed: {last}", last=last)
        code.unlink()
