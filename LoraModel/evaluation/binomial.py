"""The interval of a share of answers: Wilson's score interval.

E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", Journal of the American
Statistical Association, 1927; recommended for few answers by Brown, Cai and DasGupta, "Interval Estimation for a
Binomial Proportion", 2001.
"""

from __future__ import annotations

import math

from .bootstrap import Interval

Z = 1.959963984540054
"""Of a normal distribution: 95% lie within so many standard deviations."""


def wilson(chosen: int, answers: int, z: float = Z) -> Interval:
    """The share `chosen / answers` and its 95% interval; the whole of 0 to 1 around 0.5 where nothing was answered.

    Raises:
        ValueError: fewer than none were chosen, or more than there are answers.
    """
    if not 0 <= chosen <= answers:
        raise ValueError(f"{chosen} of {answers} answers is no share")
    if answers == 0:
        return Interval(0.5, 0.0, 1.0)
    share, weight = chosen / answers, z * z / answers
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / answers + weight / (4 * answers)) / (1 + weight)
    return Interval(share, max(0.0, middle - half), min(1.0, middle + half))
