"""Reproduce the simulation and the re-analysis of design-based supervised learning.

python -m paper_repro.dsl.run                     both; resumes after Ctrl-C
python -m paper_repro.dsl.run --quick             a few replications
python -m paper_repro.dsl.run --replications 4000 adds to what is there
python -m paper_repro.dsl.run --report-only       tables again
"""

import argparse
import json
import platform
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcur import data
from paper_repro.dsl import _complaints, _report, _study, _summary
from paper_repro.optcs._store import Store

HERE = Path(__file__).parent
# Replications of one call of the program, and between two savings.
CHUNK = 20
_NAME = "dgp_a.state.json"
_DESCRIPTION = repr(
    (
        "DGP-A",
        _study.NUM_ROWS,
        _study.NUM_LABELED,
        _study.ACCURACIES,
        _study.ESTIMATORS,
    )
)


def simulate(replications: int, folder: Path) -> np.ndarray:
    """Complete the simulation up to `replications`; what was saved is not redone."""
    store = Store(folder / _NAME, _DESCRIPTION)
    missing = store.missing(replications)
    start = time.perf_counter()
    try:
        for first in range(0, len(missing), CHUNK):
            numbers = missing[first : first + CHUNK]
            # One shape, one program: the last chunk is filled up with copies.
            filled = numbers + [numbers[-1]] * (CHUNK - len(numbers))
            found = _study.replications(filled)
            for number, one in zip(numbers, found):
                store.add(number, {"all": one})
            done = first + len(numbers)
            if done % (10 * CHUNK) == 0:
                store.save()
            seconds = time.perf_counter() - start
            left = seconds / done * (len(missing) - done)
            text = f"\rdgp_a: {done}/{len(missing)}, {seconds:.0f} s, about {left:.0f}"
            print(f"{text} s left   ", end="", flush=True)
    finally:
        # What is drawn is kept, also when the run is interrupted.
        store.save()
    if missing:
        print()
    return store.arrays(replications).get("all", np.zeros((0,)))


def saved(folder: Path) -> int:
    """One more than the last number without a gap among the saved replications."""
    kept = Store(folder / _NAME, _DESCRIPTION).results
    count = 0
    while count in kept:
        count += 1
    return count


def complaints() -> tuple[dict[str, Any] | None, str | None]:
    """The re-analysis, or None and why there is none."""
    try:
        table = data.load_complaints()
    except (data.DownloadError, ModuleNotFoundError) as error:
        return None, str(error)
    return _complaints.analyse(table), None


def report(
    out: Path, summary: dict[str, Any] | None, reanalysis: dict[str, Any] | None
) -> None:
    """Write result.json and tables; a study that was not run stays as it is."""
    path = out / "result.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    summary = summary or old.get("dgp_a")
    reanalysis = reanalysis or old.get("complaints")
    payload: dict[str, Any] = {
        "environment": {
            "platform": platform.machine(),
            "device": str(jax.devices()[0].device_kind),
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "numpy")},
        }
    }
    if summary is not None:
        rows = _summary.compare(summary)
        _report.write_simulation(out / "tables", summary, rows)
        payload |= {"dgp_a": summary, "comparison": rows}
    if reanalysis is not None:
        _report.write_complaints(out / "tables", reanalysis)
        payload["complaints"] = reanalysis
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path} and tables")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few replications")
    parser.add_argument("--setting", choices=["dgp_a", "complaints"], help="only this")
    parser.add_argument("--replications", type=int, help="of the simulation")
    parser.add_argument("--out", type=Path, help="folder for results and saved state")
    parser.add_argument("--restart", action="store_true", help="forget saved results")
    parser.add_argument(
        "--report-only", action="store_true", help="tables of saved results"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and write the report. 130 after Ctrl-C."""
    options = _arguments(arguments)
    folder = Path(tempfile.gettempdir()) / "jaxcur-dsl-quick"
    out = options.out or (folder if options.quick else HERE)
    state = out / "state"
    if options.restart:
        (state / _NAME).unlink(missing_ok=True)
    summary = reanalysis = None
    # Also where a shell started this in the background with Ctrl-C switched off.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        if options.setting != "complaints":
            count = options.replications or (40 if options.quick else 2000)
            count = saved(state) if options.report_only else count
            if count:
                summary = _summary.summarise(simulate(count, state))
        if options.setting != "dgp_a" and not options.report_only:
            reanalysis, reason = complaints()
            if reason:
                print(f"skipped: complaints: {reason}")
    except KeyboardInterrupt:
        print(
            "\ninterrupted; the finished replications are saved: run it again to go on"
        )
        return 130
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    report(out, summary, reanalysis)
    return 0


if __name__ == "__main__":
    sys.exit(main())
