"""From recordings to an experiment folder (`logs/NAME`): slices, pitch, features, index, filelist.

`fingerprint` knows what a folder was prepared of; the command, the demo and the web page call the same functions.
"""

from .fingerprint import Settings
from .steps import Plan, prepare

__all__ = ["Plan", "Settings", "prepare"]
