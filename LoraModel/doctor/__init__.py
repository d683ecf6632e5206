"""The data's doctor: looks at the recordings of a voice before anything is prepared, and says what will harm it.

Nothing is changed. `examine` gives the findings; `prepare_data.py --check` and the page's step 2 show them.
"""

from .examine import Report, examine

__all__ = ["Report", "examine"]
