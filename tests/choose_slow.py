"""Write slow.txt: which parameters of slow tests run only when asked for.

python tests/choose_slow.py REPORT.xml

REPORT.xml comes from `pytest --junitxml=REPORT.xml`; what it shows is added to the
list, which may be emptied before the run. Of every
parametrised test the quickest parameter stays in the default run, and so do all that
take less than a third of a second; the others stay while the test as a whole takes less
than a second. No test function leaves the default run altogether; the marker `slow` is
for that. Of the examples of the documentation those of two seconds and more are chosen,
worlds of guarantees are left to their own list, and properties all stay: a level is
checked for every test that has one. Tests of a quarter of a minute, or half of that
where others check the same, are named one by one in `LONG`.
"""

import argparse
import collections
import re
import xml.etree.ElementTree as ET
from pathlib import Path

HERE = Path(__file__).parent
KEPT = ("tests/guarantees", "tests/property")
LONG = (
    "tests/e2e/test_cli_docs.py::test_every_console_block_prints_what_it_shows",
    "tests/e2e/test_demo_confident.py::test_the_test_keeps_its_level_where_outcomes_"
    "follow_the_forecast",
    "tests/e2e/test_demo_rare.py::test_the_methods_are_what_they_are_called",
    "tests/e2e/test_paper_repro_dsl.py::test_a_few_replications_agree_with_the_"
    "committed_table",
    "tests/e2e/test_paper_repro_presto.py::test_both_intercepts_differ_by_the_centring_"
    "of_the_released_code",
    "tests/guarantees/test_harness.py::test_structured_claims_have_right_error_rates_"
    "and_power[forecasts]",
    "tests/guarantees/test_harness.py::test_structured_claims_have_right_error_rates_"
    "and_power[ranks]",
    "tests/unit/frames/test_estimate.py::test_fixed_effects_agree_with_dummies",
    "tests/unit/learners/test_network.py::test_five_hundred_networks_are_one_program",
    "tests/unit/ordinal/test_crossing.py::test_where_nothing_crosses_the_optimum_is_"
    "the_usual_one[train]",
)


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
    path = HERE / "slow.txt"
    listed = set(path.read_text("utf-8").split("\n")) - {""} if path.exists() else set()
    names = sorted(listed | set(chosen) | set(LONG))
    path.write_text("\n".join(names) + "\n", encoding="utf-8")
    print(
        f"{len(chosen)} of {len(times)} on request, {sum(times[n] for n in chosen):.0f}"
    )
    print(f"of {sum(times.values()):.0f} seconds")


if __name__ == "__main__":
    main()
