"""Runs that several comparisons want: each is made by one of them, and the others wait for it."""

from __future__ import annotations

import time
from pathlib import Path

from hpa_bench.machine.lease import PACE, Holder, InUse, Lease, Pace, Watch
from hpa_bench.results.run_folder import CLAIM, LEASE

LOOK_SECONDS = 1.0
"""How long to wait between two looks at a run that another process has."""


class Share:
    """One run, as a comparison sees it that wants it made.

    A comparison claims a run from before it hands it to a launcher until what comes of it is known, also while it
    waits in a queue. Whoever works at it, be it a comparison's or not, holds the run's own lease.

    Args:
        folder: the run's own folder.
        pace: of the leases.
    """

    def __init__(self, folder: Path, pace: Pace = PACE) -> None:
        self._claim = Lease(folder / CLAIM, pace=pace)
        self._claims = Watch(folder / CLAIM, pace)
        self._works = Watch(folder / LEASE, pace)
        self._looked = float("-inf")
        self._holder: Holder | None = None

    def holder(self) -> Holder | None:
        """Return who has the run in hand, or works at it; None where nobody does any more.

        It is looked for once in a while: in between, the answer stays.
        """
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._holder = self._claims.look() or self._works.look()
            self._looked = time.monotonic()
        return self._holder

    def take(self) -> bool:
        """Claim the run, and return whether that was possible."""
        self._looked = float("-inf")
        if self.holder() is not None:
            return False
        try:
            self._claim.take(self._claims)
        except InUse as error:
            self._holder = error.holder
            return False
        return True

    def release(self) -> None:
        """Leave the run to others."""
        self._claim.release()
        self._looked = float("-inf")
