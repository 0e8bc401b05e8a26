"""One line on stderr that says how far a long run is."""

import sys
import time

_DELAY = 2.0
_INTERVAL = 0.2
_WIDTH = 24


class ProgressBar:
    """Redraws one line; silent on short runs and where nobody watches."""

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str,
        wanted: bool | None,
        *,
        left: str = "at most",
    ) -> None:
        """Prepare the line.

        Args:
            label: what runs.
            total: number of units; None while it is unknown.
            unit: what is counted, in the plural.
            wanted: True shows the line at once, None on a long run in a terminal only.
            left: word before the time that is left.
        """
        self._unit = unit
        self._left = left
        self._shown = sys.stderr.isatty() if wanted is None else wanted
        # Asked for explicitly, it appears at once; otherwise only on long runs.
        self._next = time.monotonic() + (0.0 if wanted else _DELAY)
        self._drawn = False
        self.restart(label, total)

    def restart(self, label: str, total: int | None) -> None:
        """Count from zero again, on the same line."""
        self._label, self._total = label, total
        self._start = time.monotonic()
        self._first: int | None = None

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` units are finished, and a note."""
        if not self._shown:
            return
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now < self._next:
            return
        self._next = now + _INTERVAL
        if self._total is None:
            line = f"\r{self._label}: {done} {self._unit}{note}"
        else:
            share = min(1.0, done / max(self._total, 1))
            bar = "#" * int(share * _WIDTH)
            rate = (done - self._first) / max(now - self._start, 1e-9)
            seconds = (self._total - done) / rate if rate > 0 else None
            tail = ""
            if seconds is not None:
                tail = f", {self._left} {_duration(seconds)} left"
            line = (
                f"\r{self._label} [{bar:<{_WIDTH}}] {done}/{self._total} "
                f"{self._unit}{note}{tail}"
            )
        sys.stderr.write(line + "\x1b[K")
        sys.stderr.flush()
        self._drawn = True

    def close(self) -> None:
        """End the line, if there is one."""
        if self._drawn:
            sys.stderr.write("\n")
            sys.stderr.flush()


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60} min"
    return f"{whole // 3600} h"
