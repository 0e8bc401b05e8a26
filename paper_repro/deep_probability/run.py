"""Calibrated probability estimation on five scenarios with known probabilities.

python -m paper_repro.deep_probability.run                 ten seeds; resumes
python -m paper_repro.deep_probability.run --quick         one scenario, two seeds
python -m paper_repro.deep_probability.run --seeds 20      adds to what is there
python -m paper_repro.deep_probability.run --report-only   tables again
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from jaxcur._base import ProgressBar
from paper_repro.deep_probability import _methods, _real, _report, _scenarios, _scores

HERE = Path(__file__).parent
SEEDS = 10


def one(scenario: str, seed: int, state: Path) -> dict[str, Any]:
    """Scores of every method on one draw, from the file where there is one."""
    path = state / f"{scenario}-{seed}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    parts = _scenarios.draw(scenario, seed)
    test = parts["test"]
    found = {
        name: _scores.score(f, test.y, test.p)
        for name, f in _methods.predictions(parts, seed).items()
    }
    state.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found) + "\n", encoding="utf-8")
    part.replace(path)
    return found


def _saved(scenario: str, state: Path) -> list[Any]:
    paths = sorted(state.glob(f"{scenario}-*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing and write the report. 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few draws")
    parser.add_argument("--seeds", type=int, help="draws of every scenario")
    parser.add_argument("--out", type=Path, help="folder for results and saved state")
    parser.add_argument("--report-only", action="store_true", help="tables again")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.gettempdir()) / "jaxcur-deep-probability-quick"
    out = options.out or (folder if options.quick else HERE)
    seeds = options.seeds or (2 if options.quick else SEEDS)
    names = ["linear"] if options.quick else list(_scenarios.SCENARIOS)
    state = out / "state"
    bar = ProgressBar("draws", seeds * len(names), "draws", None)
    # Also where a shell started this in the background with Ctrl-C switched off.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        if not options.report_only:
            # By seed first: an interrupted run has every scenario.
            for i in range(seeds * len(names)):
                one(names[i % len(names)], i // len(names), state)
                bar.update(i + 1)
    except KeyboardInterrupt:
        print("\ninterrupted; what is finished is saved: run it again to go on")
        return 130
    finally:
        bar.close()
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
    found = {name: _saved(name, state) for name in names}
    summary = {name: _scores.summarise(runs) for name, runs in found.items() if runs}
    _report.write(out, summary, _real.released(), _real.bundled())
    return 0


if __name__ == "__main__":
    sys.exit(main())
