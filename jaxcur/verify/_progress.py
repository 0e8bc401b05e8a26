"""One line on stderr that says how far a long run is."""

import sys
import time

_DELAY = 2.0
_INTERVAL = 0.2
_WIDTH = 24


class ProgressBar:
    """Redraws one line; silent on short runs and where nobody watches."""

    def __init__(self, total: int, wanted: bool | None) -> None:
        self._total = total
        self._shown = sys.stderr.isatty() if wanted is None else wanted
        # Asked for explicitly, it appears at once; otherwise only on long runs.
        self._start = time.monotonic()
        self._next = self._start + (0.0 if wanted else _DELAY)
        self._first: int | None = None
        self._drawn = False

    def update(self, done: int, decided: int, claims: int) -> None:
        """Show `done` replications and how many claims have their verdict."""
        if not self._shown:
            return
        now = time.monotonic()
        if self._first is None:
            self._first = done
        if now < self._next:
            return
        self._next = now + _INTERVAL
        share = min(1.0, done / self._total)
        bar = "#" * int(share * _WIDTH)
        rate = (done - self._first) / max(now - self._start, 1e-9)
        left = (self._total - done) / rate if rate > 0 else None
        tail = "" if left is None else f", at most {_duration(left)} left"
        line = (
            f"\rverify [{bar:<{_WIDTH}}] {done}/{self._total} replications, "
            f"{decided}/{claims} claims decided{tail}"
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
