"""Many voices on one base: a queue that survives everything, worked off by one machine or a cluster.

`session` is a run from its beginning to its report; the command (training/train_many.py) and the page's queue call
it. More than nine files: which voices (`manifest`), where each stands (`ledger`), what is done for one (`work`), two
engines that do it (`local` with `worker`, `memory` and `together`; `by_ray`), and what is reported of it (`progress`,
`report`).
"""

from .ledger import Ledger
from .manifest import Voice, read_voices
from .session import Session
from .work import Work

__all__ = ["Ledger", "Session", "Voice", "Work", "read_voices"]
