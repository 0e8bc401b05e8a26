"""Reproduce the simulations and the two data sets of PRESTO.

python -m paper_repro.presto.run                      both; resumes after Ctrl-C
python -m paper_repro.presto.run --quick              a few replications and splits
python -m paper_repro.presto.run --study simulation   only the ten simulations
python -m paper_repro.presto.run --replications 1400  adds to what is there
python -m paper_repro.presto.run --report-only        tables again
"""

import argparse
import json
import platform
import signal
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from jaxcur import data
from paper_repro.presto import _chunks, _figures, _real, _report, _study, _summary

HERE = Path(__file__).parent
STUDIES = ("simulation", "real")
REPLICATIONS = 700


def simulations(count: int, state: Path, report_only: bool) -> dict[str, Any]:
    """Summary of every setting that has replications."""
    found = {}
    for world in _study.WORLDS:
        if report_only:
            store = _chunks.world_store(world, state)
            arrays = store.arrays(_chunks.without_gap(store))
        else:
            arrays = _chunks.simulate(world, count, state)
        if arrays:
            found[world.name] = _summary.summarise_world(arrays)
    return found


def real(count: int | None, state: Path, report_only: bool) -> dict[str, Any]:
    """Summary of every data set; nothing where a file is not there."""
    try:
        tables = _real.tables()
    except data.DownloadError as error:
        print(f"skipped: soup and prediabetes: {error}")
        return {}
    found = {}
    for table in tables:
        if report_only:
            store = _chunks.table_store(table, state)
            arrays = store.arrays(_chunks.without_gap(store))
        else:
            arrays = _chunks.resplit(table, count or table.num_splits, state)
        if arrays:
            summary = _summary.summarise_table(arrays)
            found[table.name] = summary | {"num_strengths": table.num_strengths}
    return found


def report(out: Path, simulated: dict[str, Any], tables: dict[str, Any]) -> None:
    """Write result.json, tables and the figure; a study not run stays as it is."""
    path = out / "result.json"
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    simulated = simulated or old.get("simulation") or {}
    tables = tables or old.get("real") or {}
    payload: dict[str, Any] = {
        "environment": {
            "platform": platform.machine(),
            "device": str(jax.devices()[0].device_kind),
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "numpy")},
        }
    }
    if simulated:
        rows = [
            row
            for name, found in simulated.items()
            for row in _summary.compare(name, found)
        ]
        _report.write_simulation(out / "tables", simulated, rows)
        _figures.draw(out / "figures" / "ratios.png", rows)
        payload |= {"simulation": simulated, "comparison": rows}
    if tables:
        _report.write_real(out / "tables", tables)
        payload["real"] = tables
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(payload, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path} and tables")


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few replications")
    parser.add_argument("--study", choices=STUDIES, help="only this")
    parser.add_argument("--replications", type=int, help="of every simulated setting")
    parser.add_argument("--splits", type=int, help="of every data set")
    parser.add_argument("--out", type=Path, help="folder for results and saved state")
    parser.add_argument("--restart", action="store_true", help="forget saved results")
    parser.add_argument(
        "--report-only", action="store_true", help="tables of saved results"
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and write the report. 130 after Ctrl-C."""
    options = _arguments(arguments)
    folder = Path(tempfile.gettempdir()) / "jaxcur-presto-quick"
    out = options.out or (folder if options.quick else HERE)
    state = out / "state"
    if options.restart:
        for saved in state.glob("*.state.json"):
            saved.unlink()
    replications = options.replications or (25 if options.quick else REPLICATIONS)
    count = options.splits or (7 if options.quick else None)
    simulated: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    # Also where a shell started this in the background with Ctrl-C switched off.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        if options.study != "real":
            simulated = simulations(replications, state, options.report_only)
        if options.study != "simulation":
            tables = real(count, state, options.report_only)
    except KeyboardInterrupt:
        print("\ninterrupted; what is finished is saved: run it again to go on")
        return 130
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    report(out, simulated, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
