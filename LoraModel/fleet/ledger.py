"""The state file of a run of many voices: OUT/fleet.sqlite.

SQLite with a write-ahead log. A change is one transaction: a process that is killed at any moment leaves it whole or
not there at all, and the next one to open the file finds that without a word. An append-only file survives as well,
but the page and the run change the order, pause and add voices at the same time, which there would need locks and a
replay of its own; a reader of a write-ahead log never holds up the run. Where a drive has no shared memory (some
network drives) SQLite keeps its rollback journal, which is as safe and lets readers wait.

One process, the one that holds OUT/.lock, gives voices to workers and writes what became of them (`claim` … `finish`);
a worker never opens the file. A result is taken only from the attempt that is under way: what a worker that was given
up sends later changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence

from ..messages import ENGLISH, StoredText, UserError, stored
from .manifest import Refused, Voice

FILE = "fleet.sqlite"
VERSION = "2"
"""Of version 1, which had its reasons in English and Chinese alone, a file is taken over when it is opened."""
WAITING, PREPARING, TRAINING, DONE, FAILED = STATES = ("waiting", "preparing", "training", "done", "failed")
ACTIVE = (PREPARING, TRAINING)
_TABLES = {
    "run": "CREATE TABLE run (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "voices": """CREATE TABLE voices (
 name TEXT PRIMARY KEY, place REAL NOT NULL, state TEXT NOT NULL, recordings TEXT NOT NULL, settings TEXT NOT NULL,
 data_dir TEXT, attempt INTEGER NOT NULL DEFAULT 0, lost INTEGER NOT NULL DEFAULT 0, step INTEGER NOT NULL DEFAULT 0,
 steps INTEGER NOT NULL DEFAULT 0, seconds REAL NOT NULL DEFAULT 0, seconds_left REAL, worker TEXT, reason TEXT,
 figures TEXT, changed REAL NOT NULL)""",
    "events": "CREATE TABLE events (time REAL NOT NULL, name TEXT NOT NULL, attempt INTEGER NOT NULL, what TEXT NOT "
              "NULL)",
}


@dataclass(frozen=True)
class Entry:
    """Where a voice stands.

    Attributes:
        place: voices are taken in this order. data_dir: its experiment folder, once it is prepared.
        attempt: how often it was taken up. lost: how often its worker ended without a word.
        step, steps: done, and in all. seconds: of work, over all attempts. seconds_left: until its end; None where it
            is not known. reason: why a failed one failed.
        figures: of a done one.
    """

    name: str
    place: float
    state: str
    recordings: str
    settings: Dict[str, Any]
    data_dir: Optional[str]
    attempt: int
    lost: int
    step: int
    steps: int
    seconds: float
    seconds_left: Optional[float]
    worker: Optional[str]
    reason: Optional[StoredText]
    figures: Dict[str, Any]
    changed: float

    @property
    def why(self) -> str:
        """Why it has failed, in the user's language; "" for all others."""
        return str(self.reason or "")

    @property
    def why_in_english(self) -> str:
        """The same for scripts."""
        return self.reason.in_language(ENGLISH) if self.reason else ""


class Ledger:
    """The state file of the run in `folder`. Each call is one transaction of its own, with its own connection: nothing
    is open while a worker is forked.

    Raises:
        UserError: the file is of another program or version, or damaged.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        with self._change() as db:
            found = {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
            if not found:
                for sql in _TABLES.values():
                    db.execute(sql)
                db.execute("INSERT INTO run VALUES ('version', ?)", (VERSION,))
            elif found == set(_TABLES) and self._get(db, "version") == "1":
                self._take_over(db)
            elif found != set(_TABLES) or self._get(db, "version") != VERSION:
                raise self._foreign()

    @staticmethod
    def _take_over(db: sqlite3.Connection) -> None:
        """Make a file of version 1 one of this version."""
        db.execute("ALTER TABLE voices ADD COLUMN reason TEXT")
        for row in db.execute("SELECT name, why_en, why_zh FROM voices WHERE why_en IS NOT NULL").fetchall():
            reason = json.dumps({ENGLISH: row["why_en"], "zh": row["why_zh"] or row["why_en"]})
            db.execute("UPDATE voices SET reason = ? WHERE name = ?", (reason, row["name"]))
        db.execute("UPDATE run SET value = ? WHERE key = 'version'", (VERSION,))

    def _foreign(self) -> UserError:
        return UserError("{path} is damaged, or not of this program or version: choose another --output_dir, or delete "
                         "it (the voices beside it are kept)", path=self.path)

    @contextlib.contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        """A transaction that writes."""
        with self._open() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        db: Optional[sqlite3.Connection] = None
        try:
            db = sqlite3.connect(str(self.path), timeout=60.0, isolation_level=None)
            db.row_factory = sqlite3.Row
            with contextlib.suppress(sqlite3.OperationalError):  # before SQLite 3.31
                db.execute("PRAGMA trusted_schema=OFF")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=NORMAL")
            yield db
        except sqlite3.OperationalError as error:
            words = str(error)
            if "full" in words:
                raise UserError("the disk is full while writing {named}: free some space and run the command again",
                                named=self.path) from None
            raise UserError("{path} cannot be used ({reason}): check the drive, or choose another --output_dir",
                            path=self.path, reason=words[:200]) from None
        except sqlite3.DatabaseError:
            raise self._foreign() from None
        finally:
            if db is not None:
                db.close()

    @staticmethod
    def _get(db: sqlite3.Connection, key: str) -> Optional[str]:
        row = db.execute("SELECT value FROM run WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row["value"])

    # The run

    def get(self, key: str) -> Optional[str]:
        with self._open() as db:
            return self._get(db, key)

    def put(self, key: str, value: str) -> None:
        with self._change() as db:
            db.execute("INSERT OR REPLACE INTO run VALUES (?, ?)", (key, value))

    @property
    def paused(self) -> bool:
        """Whether no further voice is to begin, and those under way are to save and wait."""
        return self.get("paused") == "1"

    def pause(self, paused: bool) -> None:
        self.put("paused", "1" if paused else "0")

    # The voices

    def entries(self) -> List[Entry]:
        """All voices, in the order in which they are taken."""
        with self._open() as db:
            return [_entry(row) for row in db.execute("SELECT * FROM voices ORDER BY place, name")]

    def add(self, voices: Sequence[Voice], refused: Sequence[Refused] = ()) -> None:
        """Enter voices at the end. One that is there and not done takes the new settings; a failed one waits again."""
        with self._change() as db:
            last = db.execute("SELECT max(place) AS place FROM voices").fetchone()["place"] or 0.0
            for voice in voices:
                data_dir = voice.recordings if voice.experiment else None
                settings = json.dumps(voice.settings, sort_keys=True)
                row = db.execute("SELECT * FROM voices WHERE name = ?", (voice.name,)).fetchone()
                if row is None:
                    last += 1.0
                    db.execute("INSERT INTO voices (name, place, state, recordings, settings, data_dir, changed) "
                               "VALUES (?, ?, ?, ?, ?, ?, ?)", (voice.name, last, WAITING, voice.recordings, settings,
                                                                data_dir, time.time()))
                elif row["state"] in (WAITING, FAILED):
                    kept = row["data_dir"] if row["recordings"] == voice.recordings else None
                    db.execute("UPDATE voices SET state = ?, recordings = ?, settings = ?, data_dir = ?, lost = 0, "
                               "reason = NULL, changed = ? WHERE name = ?",
                               (WAITING, voice.recordings, settings, data_dir or kept, time.time(), voice.name))
            for one in refused:
                row = db.execute("SELECT state FROM voices WHERE name = ?", (one.name,)).fetchone()
                if row is None:
                    last += 1.0
                    db.execute("INSERT INTO voices (name, place, state, recordings, settings, reason, changed) "
                               "VALUES (?, ?, ?, '', '{}', ?, ?)", (one.name, last, FAILED, _reason(one.problem),
                                                                    time.time()))
                elif row["state"] in (WAITING, FAILED):
                    db.execute("UPDATE voices SET state = ?, reason = ?, changed = ? WHERE name = ?",
                               (FAILED, _reason(one.problem), time.time(), one.name))

    def keep_only(self, names: Sequence[str]) -> None:
        """Let go of the voices that are named no more and are neither done nor under way."""
        with self._change() as db:
            for row in db.execute("SELECT name, state FROM voices").fetchall():
                if row["name"] not in names and row["state"] in (WAITING, FAILED):
                    db.execute("DELETE FROM voices WHERE name = ?", (row["name"],))

    def remove(self, name: str) -> bool:
        """Take a voice off the list, unless it is under way; what it has on the disk stays."""
        with self._change() as db:
            return db.execute("DELETE FROM voices WHERE name = ? AND state NOT IN (?, ?)", (name, *ACTIVE)).rowcount > 0

    def again(self, name: str) -> bool:
        """Let a failed voice wait again."""
        with self._change() as db:
            return db.execute("UPDATE voices SET state = ?, lost = 0, reason = NULL WHERE name = ? AND state = ?",
                              (WAITING, name, FAILED)).rowcount > 0

    def move(self, name: str, places: int) -> None:
        """Move a voice up (negative) or down the order, past so many others that wait."""
        with self._change() as db:
            names = [row["name"] for row in db.execute("SELECT name FROM voices WHERE state = ? ORDER BY place, name",
                                                       (WAITING,))]
            if name not in names:
                return
            free = sorted(row["place"] for row in db.execute("SELECT place FROM voices WHERE state = ?", (WAITING,)))
            where = names.index(name)
            names.insert(max(0, min(len(names) - 1, where + places)), names.pop(where))
            for one, place in zip(names, free):
                db.execute("UPDATE voices SET place = ? WHERE name = ?", (place, one))

    # The work, of the one process that holds the lock

    def recover(self) -> List[str]:
        """After a run that was broken off: what was under way waits again, in front. Returns the names."""
        with self._change() as db:
            names = [row["name"] for row in db.execute("SELECT name FROM voices WHERE state IN (?, ?)", ACTIVE)]
            db.execute("UPDATE voices SET state = ?, worker = NULL WHERE state IN (?, ?)", (WAITING, *ACTIVE))
            return names

    def claim(self, worker: str, to_prepare: bool) -> Optional[Entry]:
        """The next voice that waits to be prepared, or for training one that is prepared; None where there is none, or
        the run pauses."""
        with self._change() as db:
            if self._get(db, "paused") == "1":
                return None
            # what has begun already goes first, then the order
            row = db.execute("SELECT name, attempt FROM voices WHERE state = ? AND data_dir IS "
                             + ("NULL" if to_prepare else "NOT NULL") + " ORDER BY step > 0 DESC, place, name LIMIT 1",
                             (WAITING,)).fetchone()
            if row is None:
                return None
            state = PREPARING if to_prepare else TRAINING
            db.execute("UPDATE voices SET state = ?, attempt = attempt + 1, worker = ?, seconds_left = NULL, "
                       "changed = ? WHERE name = ?", (state, worker, time.time(), row["name"]))
            self._note(db, row["name"], row["attempt"] + 1, state)
            return _entry(db.execute("SELECT * FROM voices WHERE name = ?", (row["name"],)).fetchone())

    def progress(self, reports: Sequence[Dict[str, Any]]) -> None:
        """How far voices are: {"name", "attempt", "step", "steps", "seconds_left"} of each."""
        if not reports:
            return
        with self._change() as db:
            for one in reports:
                if db.execute("SELECT 1 FROM voices WHERE name = ? AND attempt = ? AND state = ? AND step = 0",
                              (one["name"], one["attempt"], TRAINING)).fetchone():
                    self._note(db, one["name"], one["attempt"], "first step")
                db.execute("UPDATE voices SET step = ?, steps = ?, seconds_left = ?, changed = ? WHERE name = ? AND "
                           "attempt = ? AND state = ?", (one["step"], one["steps"], one.get("seconds_left"),
                                                         time.time(), one["name"], one["attempt"], TRAINING))

    def prepared(self, name: str, attempt: int, data_dir: str, seconds: float) -> bool:
        return self._end(name, attempt, PREPARING, WAITING, seconds, data_dir=data_dir)

    def done(self, name: str, attempt: int, figures: Dict[str, Any], seconds: float) -> bool:
        return self._end(name, attempt, TRAINING, DONE, seconds, figures=json.dumps(figures), seconds_left=0.0,
                         step=figures.get("steps", 0), steps=figures.get("total_steps", figures.get("steps", 0)))

    def failed(self, name: str, attempt: int, problem: UserError, seconds: float = 0.0) -> bool:
        return self._end(name, attempt, None, FAILED, seconds, reason=_reason(problem))

    def given_back(self, name: str, attempt: int, seconds: float = 0.0) -> bool:
        """The voice saved and waits again: the run pauses, or ends."""
        return self._end(name, attempt, None, WAITING, seconds)

    def lost(self, name: str, attempt: int, most: int, problem: UserError) -> bool:
        """Its worker ended without a word: it waits again, or has failed when that happened more than `most` times."""
        with self._change() as db:
            row = db.execute("SELECT lost FROM voices WHERE name = ? AND attempt = ? AND state IN (?, ?)",
                             (name, attempt, *ACTIVE)).fetchone()
            if row is None:
                return False
            db.execute("UPDATE voices SET lost = lost + 1 WHERE name = ?", (name,))
            count = row["lost"] + 1
        return self.failed(name, attempt, problem) if count > most else self.given_back(name, attempt)

    def _end(self, name: str, attempt: int, state: Optional[str], after: str, seconds: float, **values: Any) -> bool:
        """End an attempt, if it is the one under way."""
        columns = {"state": after, "worker": None, "changed": time.time(), **values}
        with self._change() as db:
            done = db.execute(
                f"UPDATE voices SET {', '.join(f'{key} = ?' for key in columns)}, seconds = seconds + ? WHERE name = ? "
                f"AND attempt = ? AND state IN (?, ?)",
                (*columns.values(), seconds, name, attempt, *((state, state) if state else ACTIVE))).rowcount > 0
            self._note(db, name, attempt, after if done else "ignored")
            return done

    @staticmethod
    def _note(db: sqlite3.Connection, name: str, attempt: int, what: str) -> None:
        db.execute("INSERT INTO events VALUES (?, ?, ?, ?)", (time.time(), name, attempt, what))

    def events(self) -> List[Dict[str, Any]]:
        """What happened, in order: {"time", "name", "attempt", "what"}."""
        with self._open() as db:
            return [dict(row) for row in db.execute("SELECT * FROM events ORDER BY rowid")]


def _reason(problem: UserError) -> str:
    return json.dumps(stored(problem))


def _reason_again(kept: str) -> StoredText:
    try:
        return StoredText(json.loads(kept))
    except (ValueError, RecursionError):
        return StoredText({ENGLISH: kept})


def _entry(row: sqlite3.Row) -> Entry:
    values = {key: value for key, value in dict(row).items() if key not in ("why_en", "why_zh")}  # of version 1
    values["reason"] = _reason_again(values["reason"]) if values["reason"] else None
    values["settings"] = json.loads(values["settings"])
    values["figures"] = json.loads(values["figures"]) if values["figures"] else {}
    return Entry(**values)
