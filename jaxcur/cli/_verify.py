"""`jaxcur verify`: simulate the worlds behind the promises and print what was found."""

import argparse
import dataclasses
import difflib
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from jaxcur.cli._errors import CommandError

_DESCRIPTION = """\
Check by simulation the promises this library makes. Each claim is run in worlds where
the truth is known until there is enough evidence. CERTIFIED: the promise holds within
its margin. REFUTED: it does not. INCONCLUSIVE: not enough replications to tell.
INVALID: the simulation itself went wrong. A mutant is a deliberately broken method; it
must be REFUTED, which shows that the check can fail.
"""

_EPILOG = """\
examples:
  jaxcur verify                        look for a broken promise (tier smoke)
  jaxcur verify --list optcs           the claims whose name starts with optcs
  jaxcur verify --tier standard select --state select.state
      certify one family; start again with the same --state to go on where it stopped
  jaxcur verify --json > claims.json   the same results for a program

tiers: smoke makes few replications and can only refute; standard certifies up to a
margin of 10 % of the bound; release up to 2.5 %

exit code: 0 when nothing fails; 1 when a promise is REFUTED or INVALID, or a mutant got
through; in tier release, whenever a verdict is not the one that is expected
"""

_HEADINGS = ("claim", "estimate", "interval", "bound", "replications", "verdict")
_WIDTHS = (0, 9, 19, 11, 12, 12)


def add_parser(commands: Any) -> None:
    """Register the command."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "verify",
        help="check the library's promises by simulation",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="claims, or how their names begin; default: all",
    )
    parser.add_argument(
        "--tier",
        choices=("smoke", "standard", "release"),
        default="smoke",
        help="how much evidence to gather (default: smoke)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, not a table")
    parser.add_argument(
        "--list", action="store_true", help="print the claims without running them"
    )
    parser.add_argument(
        "--state",
        metavar="FILE",
        help="keep what was computed here, and go on from it if it exists",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="INTEGER", help="default: 0"
    )
    parser.set_defaults(run=run)


def choose(names: Sequence[str], patterns: Iterable[str]) -> tuple[str, ...]:
    """The names that a pattern means, in registry order.

    A pattern means the claim of that name with its floors and mutants (`name:...`) if
    there is one; else the claims whose name begins with it; else those in whose name a
    part after a dot, dash, slash, underscore or colon begins with it.
    """
    wanted: set[str] = set()
    patterns = list(patterns)
    for pattern in patterns:
        exact = [name for name in names if name == pattern]
        if exact:
            exact += [name for name in names if name.startswith(f"{pattern}:")]
        begins = [name for name in names if name.startswith(pattern)]
        inside = [
            name
            for name in names
            if any(part.startswith(pattern) for part in re.split(r"[./:_-]", name))
        ]
        found = exact or begins or inside
        if not found:
            close = difflib.get_close_matches(pattern, names, n=1, cutoff=0.5)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise CommandError(
                f"no claim is called '{pattern}'{hint} `jaxcur verify --list` prints "
                "the names"
            )
        wanted.update(found)
    return tuple(name for name in names if not patterns or name in wanted)


def run(args: argparse.Namespace) -> int:
    """Run the claims and report; 1 when a promise does not stand."""
    if not 0 <= args.seed < 2**32:
        raise CommandError(f"--seed is {args.seed}; give an integer from 0 to 2^32 - 1")
    from jaxcur import guarantees

    names = choose(guarantees.names(), args.names)
    if args.list:
        return _print_list(guarantees, names, as_json=args.json)

    import jax

    width = max([len(name) for name in names] + [len(_HEADINGS[0])])
    if not args.json:
        print(_line(_HEADINGS, width), flush=True)

    def show(result: Any) -> None:
        if not args.json:
            print(_line(_cells(result, args.tier), width), flush=True)

    try:
        results = guarantees.run(
            names,
            tier=args.tier,
            key=jax.random.key(args.seed),
            progress=sys.stderr.isatty(),
            state_path=args.state,
            on_result=show,
        )
    except KeyboardInterrupt:
        hint = (
            f"run the same command again to go on from {args.state}"
            if args.state
            else "with --state FILE an interrupted run can be continued"
        )
        print(f"\njaxcur verify: interrupted; {hint}", file=sys.stderr)
        return 130
    except OSError as error:
        raise CommandError(f"cannot use the state file: {error}") from error
    except ValueError as error:
        if args.state is None or args.state not in str(error):
            raise  # not about the state file, so not a mistake of the user
        raise CommandError(error) from error
    failed = [result for result in results if fails(result, args.tier)]
    if args.json:
        print(json.dumps(_document(args, results), indent=2))
    else:
        print(_verdict_line(results, failed, args.tier))
    return 1 if failed else 0


def fails(result: Any, tier: str) -> bool:
    """Whether a result turns the run red: in tier release, any unexpected verdict."""
    if tier == "release":
        return bool(result.failed) or result.verdict != result.expected
    return bool(result.failed)


def _print_list(guarantees: Any, names: Sequence[str], *, as_json: bool) -> int:
    promises = {
        name: str(getattr(guarantees.get(name), "promise", "")) for name in names
    }
    if as_json:
        listed = [{"name": name, "promise": promises[name]} for name in names]
        print(json.dumps(listed, indent=2))
        return 0
    width = max((len(name) for name in names), default=0)
    for name in names:
        print(f"{name:<{width}}  {promises[name]}".rstrip())
    return 0


def _number(value: Any) -> str:
    """Four decimals; a dash where there is no number."""
    if value is None or not math.isfinite(float(value)):
        return "-"
    return f"{float(value):.4f}"


def _cells(result: Any, tier: str) -> tuple[str, ...]:
    verdict = str(result.verdict)
    if result.expected == "REFUTED":
        verdict += " (mutant)"
    if fails(result, tier):
        verdict += "  <-- fails"
    return (
        str(result.name),
        _number(result.estimate),
        f"[{_number(result.lower)}, {_number(result.upper)}]",
        _number(result.bound),
        f"{int(result.replications)}",
        verdict,
    )


def _line(cells: Sequence[str], width: int) -> str:
    widths = (width, *_WIDTHS[1:])
    left = {0, len(cells) - 1}
    padded = (
        f"{cell:<{size}}" if index in left else f"{cell:>{size}}"
        for index, (cell, size) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(padded).rstrip()


def _verdict_line(results: Sequence[Any], failed: Sequence[Any], tier: str) -> str:
    parts = []
    for word, expected in (("promises and floors", False), ("mutants", True)):
        some = [
            str(r.verdict) for r in results if (r.expected == "REFUTED") == expected
        ]
        counts = ", ".join(f"{some.count(v)} {v}" for v in dict.fromkeys(some))
        if some:
            parts.append(f"{len(some)} {word}: {counts}")
    text = "; ".join(parts) or "no claims"
    if failed:
        return f"{text}; failing: {', '.join(str(result.name) for result in failed)}"
    if tier == "smoke":
        return f"{text}; nothing fails (smoke only refutes; --tier standard certifies)"
    return f"{text}; nothing fails"


def _document(args: argparse.Namespace, results: Sequence[Any]) -> dict[str, Any]:
    import jaxcur

    return {
        "version": jaxcur.__version__,
        "tier": args.tier,
        "seed": args.seed,
        "failed": any(fails(result, args.tier) for result in results),
        "results": [_record(result, args.tier) for result in results],
    }


def _record(result: Any, tier: str) -> dict[str, Any]:
    """A result as plain JSON values; a number that is not finite becomes null."""
    fields = {
        field.name: getattr(result, field.name) for field in dataclasses.fields(result)
    }
    record = {name: _plain(value) for name, value in fields.items()}
    record["failed"] = fails(result, tier)
    return record


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value)
    return number if math.isfinite(number) else None
