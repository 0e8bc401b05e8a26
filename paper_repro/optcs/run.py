"""Is selection after choosing a model valid, and what does it cost? The paper, rerun.

    python -m paper_repro.optcs.run                       everything, resuming
    python -m paper_repro.optcs.run --quick               a few replications, elsewhere
    python -m paper_repro.optcs.run --setting msel_jin/1 --replications 100

Results are saved every few replications; after Ctrl-C the same command goes on.
"""

import argparse
import concurrent.futures
import json
import multiprocessing
import platform
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from paper_repro.optcs import _drug, _figures, _gaussian, _procedures, _report
from paper_repro.optcs import _summary as summary
from paper_repro.optcs._store import Store
from paper_repro.optcs._studies import Study, studies

HERE = Path(__file__).resolve().parent
BATCH = 10
TITLES = {
    "bundled": "Real data carried by scikit-learn, random splits",
    "drug": "Drug properties of the Therapeutics Data Commons, random halves",
    "full_kernel": "OptCS-Full and Full-MSel, kernel ridge, Jin settings",
    "full_svr": "OptCS-Full, support vector regression, Jin settings",
    "full_forest": "OptCS-Full, random forest, Jin settings",
    "full_boosting": "OptCS-Full, gradient boosting, Jin settings",
    "full_msel_jin": "OptCS-Full-MSel, nine models, Jin settings",
    "full_msel_liang": "OptCS-Full-MSel, seven models, Liang settings",
    "msel_liang": "OptCS-MSel, eleven models (nine constant), Liang settings",
    "msel_liang_free": "OptCS-MSel, eleven unpenalised models, Liang settings",
    "msel_jin": "OptCS-MSel, twenty-four models, Jin settings",
}


def _draw(job: tuple[str, int]) -> tuple[int, dict[str, Any]]:
    """One replication by the name of its study, for a worker process."""
    name, index = job
    return index, _by_name()[name].replication(index)


def _by_name() -> dict[str, Study]:
    return {study.name: study for study in [*studies(), *_drug.available()[0]]}


def _replications(
    study: Study, missing: list[int], pool: concurrent.futures.Executor | None
) -> Iterator[tuple[int, dict[str, Any]]]:
    if pool is None:
        yield from ((index, study.replication(index)) for index in missing)
    else:
        yield from pool.map(_draw, [(study.name, index) for index in missing])


def run_study(
    study: Study,
    replications: int,
    folder: Path,
    pool: concurrent.futures.Executor | None = None,
) -> dict[str, Any] | None:
    """Complete a study up to `replications` and summarise it; None without any."""
    path = folder / f"{study.name.replace('/', '-')}.state.json"
    store = Store(path, repr((study.name, study.levels, study.rules, study.config)))
    missing = store.missing(replications)
    root = jax.random.key(zlib.crc32(study.name.encode()))
    start, batch, done = time.perf_counter(), [], 0

    def flush() -> None:
        nonlocal batch
        if not batch:
            return
        numbers = [index for index, _ in batch]
        # One shape, one program: the last batch is filled up with copies.
        filled = batch + [batch[-1]] * (BATCH - len(batch))
        keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(
            jax.numpy.asarray([index for index, _ in filled])
        )
        arrays = [replication for _, replication in filled]
        rates = _procedures.evaluate(study.rules, arrays, study.levels, keys)
        for number, one in zip(numbers, rates):
            store.add(number, one)
        store.save()
        batch = []

    try:
        for index, replication in _replications(study, missing, pool):
            batch.append((index, replication))
            done += 1
            if len(batch) == BATCH:
                flush()
                _progress(study.name, done, len(missing), start)
    finally:
        # What is drawn is kept, also when the run is interrupted.
        flush()
    if missing:
        _progress(study.name, done, len(missing), start, end="\n")
    arrays = store.arrays(replications)
    if not arrays:
        return None
    return {
        "config": study.config,
        "replications": len(next(iter(arrays.values()))),
        "levels": list(study.levels),
        "rules": {name: summary.summarise(values) for name, values in arrays.items()},
    }


def _progress(name: str, done: int, total: int, start: float, end: str = "") -> None:
    seconds = time.perf_counter() - start
    left = seconds / max(done, 1) * (total - done)
    text = f"\r{name}: {done}/{total}, {seconds:.0f} s, about {left:.0f} s left   "
    print(text, end=end, flush=True)


def gaussian(replications: int) -> dict[str, Any]:
    """The table of four worlds in which nothing is fitted."""
    out = {}
    for number, (name, world) in enumerate(_gaussian.WORLDS.items()):
        key = jax.random.fold_in(jax.random.key(9), number)
        rates = _gaussian.simulate(world, replications, key)
        figures = summary.summarise(rates)
        rules = {
            rule: {rate: values[i] for rate, values in figures.items()}
            for i, rule in enumerate(_gaussian.RULES)
        }
        out[name] = {
            "config": {"level": world.level, "world": repr(world)},
            "replications": replications,
            "rules": rules,
        }
        print(f"gaussian/{name}: {replications}/{replications}")
    return out


def _gaussian_rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    """The table beside the independent one."""
    rows = []
    for name, world in summary.EXPECTED["gaussian"]["worlds"].items():
        for rule, figures in world.items():
            ours = table[name]["rules"][rule]
            for rate in ("fdr", "power"):
                if rate not in figures:
                    continue
                other = figures.get(f"{rate}_se")
                error = ours[f"{rate}_se"]
                if other is None:
                    # Same rule and world, 400 replications instead of ours.
                    size = summary.EXPECTED["gaussian"]["replications"]
                    ratio = table[name]["replications"] / size
                    other = round(error * ratio**0.5, 4)
                apart = summary.distance(ours[rate], error, figures[rate], other)
                rows.append(
                    {
                        "study": f"gaussian/{name}",
                        "rule": rule,
                        "level": table[name]["config"]["level"],
                        "rate": rate,
                        "ours": ours[rate],
                        "ours_se": error,
                        "expected": figures[rate],
                        "expected_se": other,
                        "distance": round(apart, 2),
                    }
                )
    return rows


def report(out: Path, table: dict[str, Any] | None, results: dict[str, Any]) -> None:
    """Write result.json, tables and figures; studies not run this time stay."""
    out.mkdir(parents=True, exist_ok=True)
    if (out / "result.json").is_file():
        old = json.loads((out / "result.json").read_text(encoding="utf-8"))
        table = table or old["gaussian"]
        places = {name: place for place, name in enumerate(_by_name())}
        both = {k: v for k, v in old["studies"].items() if k in places} | results
        results = dict(sorted(both.items(), key=lambda item: places[item[0]]))
    rows = list(summary.comparisons(results))
    if table is not None:
        first = _gaussian_rows(table)
        _report.write_gaussian(out / "tables" / "gaussian.md", table, first)
        rows = first + rows
    payload = {
        "environment": {
            "platform": platform.machine(),
            "device": str(jax.devices()[0].device_kind),
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "numpy", "scikit-learn")},
        },
        "gaussian": table,
        "studies": results,
        "comparison": {
            "figures": len(rows),
            "beyond_three_standard_errors": sum(row["distance"] > 3 for row in rows),
            "rows": rows,
        },
        "fdr_above_level": summary.exceedances(results),
        "skipped": _drug.available()[1],
    }
    (out / "result.json").write_text(_json(payload) + "\n", encoding="utf-8")
    _report.write_comparison(out / "tables" / "comparison.md", rows, summary.WIDTH)
    groups = dict.fromkeys(name.partition("/")[0] for name in results)
    for group in groups:
        part = {k: v for k, v in results.items() if k.startswith(f"{group}/")}
        _report.write_csv(out / "tables" / f"{group}.csv", part)
        _report.write_markdown(out / "tables" / f"{group}.md", TITLES[group], part)
        _figures.draw(out / "figures" / f"{group}.png", TITLES[group], part)
    print(f"wrote {out / 'result.json'}, tables and figures")


def _json(value: Any, indent: int = 0) -> str:
    """JSON with one line for each innermost list or object."""
    pad = " " * (indent + 1)
    inner = list(value.values()) if isinstance(value, dict) else value
    if not isinstance(value, dict | list) or not any(
        isinstance(item, dict | list) for item in inner
    ):
        return json.dumps(value)
    if isinstance(value, dict):
        parts = [f"{json.dumps(k)}: {_json(v, indent + 1)}" for k, v in value.items()]
        opening, closing = "{", "}"
    else:
        parts = [_json(item, indent + 1) for item in value]
        opening, closing = "[", "]"
    body = ",\n".join(pad + part for part in parts)
    return f"{opening}\n{body}\n{' ' * indent}{closing}"


def _arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few replications")
    parser.add_argument(
        "--setting",
        action="append",
        help="a study (msel_jin/1), a group (msel_jin) or `gaussian`; repeatable",
    )
    parser.add_argument("--replications", type=int, help="of every study")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--out", type=Path, help="folder for results and saved state")
    parser.add_argument("--restart", action="store_true", help="forget saved results")
    parser.add_argument(
        "--report-only", action="store_true", help="tables and figures of saved results"
    )
    return parser.parse_args(arguments)


def _selected(settings: list[str] | None) -> tuple[bool, list[Study]]:
    drug, reasons = _drug.available()
    every = [*studies(), *drug]
    if settings is None:
        for reason in reasons:
            print(f"skipped: {reason}")
        return True, every
    chosen = []
    for setting in settings:
        found = [s for s in every if setting in (s.name, s.group)]
        if not found and setting != "gaussian":
            groups = sorted({s.group for s in every} | {"gaussian"})
            why = f" ({reasons[0]})" if setting.startswith("drug") and reasons else ""
            sys.exit(f"--setting {setting}: no such study{why}; groups: {groups}")
        chosen += found
    return "gaussian" in settings, chosen


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and write the report. 130 after Ctrl-C."""
    options = _arguments(arguments)
    folder = Path(tempfile.gettempdir()) / "jaxcur-optcs-quick"
    out = options.out or (folder if options.quick else HERE)
    state = out / "state"
    with_table, chosen = _selected(options.setting)
    if options.restart:
        for study in chosen:
            name = study.name.replace("/", "-")
            (state / f"{name}.state.json").unlink(missing_ok=True)
    pool = None
    if options.jobs > 1:
        pool = concurrent.futures.ProcessPoolExecutor(
            options.jobs, mp_context=multiprocessing.get_context("spawn")
        )
    results = {}
    # Also where a shell started this in the background with Ctrl-C switched off.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        default = 200 if options.quick else 2000
        table = gaussian(options.replications or default) if with_table else None
        for study in chosen:
            count = study.quick if options.quick else study.replications
            count = options.replications or count
            if options.report_only:
                count = _saved(study, state)
            result = run_study(study, count, state, pool)
            if result is not None:
                results[study.name] = result
    except KeyboardInterrupt:
        print(
            "\ninterrupted; the finished replications are saved: run it again to go on"
        )
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)
        return 130
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    if pool is not None:
        pool.shutdown()
    report(out, table, results)
    return 0


def _saved(study: Study, folder: Path) -> int:
    """One more than the last number without a gap among the saved replications."""
    path = folder / f"{study.name.replace('/', '-')}.state.json"
    if not path.is_file():
        return 0
    saved = json.loads(path.read_text(encoding="utf-8"))["results"]
    count = 0
    while str(count) in saved:
        count += 1
    return count


if __name__ == "__main__":
    sys.exit(main())
