"""How long somebody waits after wrong passwords. Pure: no clock, no I/O.

Rule: the first failures cost nothing, each further one twice the wait, up to a bound: whoever guesses gets
about a hundred guesses a day, and whoever is locked out by a stranger is let in again soon.
Source: NIST SP 800-63B section 5.2.2.
"""

from __future__ import annotations

from typing import Final

FREE_FAILURES: Final = 5
FIRST_WAIT_S: Final = 15
LONGEST_WAIT_S: Final = 900


def wait_after_s(failures: int) -> int:
    """Say how long nobody is let in after so many failures in a row."""
    beyond = failures - FREE_FAILURES
    if beyond < 0:
        return 0
    return min(FIRST_WAIT_S << min(beyond, 16), LONGEST_WAIT_S)
