"""Write slow.txt: which parameters of slow tests run only when asked for.

python tests/choose_slow.py REPORT.xml

REPORT.xml comes from `pytest --junitxml=REPORT.xml` with an empty slow.txt. Of every
parametrised test the quickest parameter stays in the default run, and so do all that
take less than a third of a second; the others stay while the test as a whole takes less
than a second. No test function leaves the default run altogether; the marker `slow` is
for that. Of the examples of the documentation those of two seconds and more are chosen,
worlds of guarantees are left to their own list, and properties all stay: a level is
checked for every test that has one.
"""

import argparse
import collections
import re
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).parent
KEPT = ("tests/guarantees", "tests/property")


def node_id(case: ET.Element) -> str:
    """The node id of a test in a report."""
    return case.attrib["classname"].replace(".", "/") + ".py::" + case.attrib["name"]


def choose(times: dict[str, float]) -> list[str]:
    """Node ids beyond the budget of their test, quickest kept first."""
    tests = collections.defaultdict(list)
    for name, time in times.items():
        tests[re.sub(r"\[.*", "", name)].append((time, name))
    chosen = []
    for test, variants in tests.items():
        spent = 0.0
        for i, (time, name) in enumerate(sorted(variants)):
            spent += time
            if test.startswith("tests/e2e/test_docs"):
                chosen += [name] * (time > 2)
            elif i and spent > 1 and time > 1 / 3:
                chosen.append(name)
    return sorted(chosen)


def main() -> None:
    """Read a report and write the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    options = parser.parse_args()
    cases = ET.parse(options.report).getroot().iter("testcase")
    times = {node_id(case): float(case.attrib["time"]) for case in cases}
    times = {n: t for n, t in times.items() if not n.startswith(KEPT)}
    chosen = choose(times)
    (HERE / "slow.txt").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    print(
        f"{len(chosen)} of {len(times)} on request, {sum(times[n] for n in chosen):.0f}"
    )
    print(f"of {sum(times.values()):.0f} seconds")


if __name__ == "__main__":
    main()
