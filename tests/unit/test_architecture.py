"""The rules of the house, read off the sources: floors, docstrings, forbidden names.

Each rule is a function from sources to a list of complaints, so that the test of the
rule can hand it a source that must be refused.
"""

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "jaxcur"

FLOORS = {
    "_base": 0,
    "stats": 1,
    "solvers": 2,
    "learners": 2,
    "data": 2,
    "verify": 2,
    "conformal": 3,
    "debiased": 3,
    "ordinal": 3,
    "calibration": 3,
    "ot": 3,
    "evaluation": 3,
    "mixing": 3,
    "representation": 3,
    "curation": 4,
    "distill": 5,
}
CEILING = {"guarantees", "sklearn", "frames", "plots", "cli"}

MODULES = sorted(PACKAGE.rglob("*.py"))
PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))

HEAVY = ("pandas", "matplotlib", "sklearn", "flax", "numpyro")

# What goes wrong on one of the supported lines of JAX, and what to write instead.
FORBIDDEN = {
    r"jax\.config\.update": "with jax.enable_x64(True)",
    r"jax\.tree_(map|leaves|flatten|unflatten|structure|util\.tree_map)\b": "jax.tree",
    r"jax\.experimental\.(enable_x64|shard_map|host_callback|maps|pjit)": "jax.*",
    r"from jax\.experimental import (enable_x64|shard_map|host_callback)": "jax.*",
    r"jax\.(pmap|soft_pmap|device_put_sharded|device_put_replicated)\b": "shard_map",
    r"\blax\.pvary\b": "jax.lax.pcast",
    r"\ba_(min|max)\s*=": "jnp.clip(x, min=, max=)",
    r"\bjnp\.(fix|top_k|minmax|row_stack|in1d|trapz)\b": "jnp.trunc, jax.lax.top_k",
    r"\bjnp\.empty(_like)?\(": "jnp.zeros or jnp.full",
    r"\bjax\.ad_checkpoint\b|\bcustom_remat\b": "jax.checkpoint",
    r"\bjax\._src\b|\bjax\.interpreters\b": "public names",
    r"\bjax\.core\.(?!Tracer\b)\w+": "only jax.core.Tracer",
    r"\bjax\.random\.PRNGKey\b|\bjr\.PRNGKey\b": "jax.random.key",
    r"from __future__ import annotations": "nothing: Python 3.11 does without",
}


def package_of(module: str) -> str | None:
    """`jaxcur.stats._sort` belongs to `stats`, the root to no package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "jaxcur" else None


def imported_modules(source: str) -> list[str]:
    """Every module of jaxcur the source imports, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            if module == "jaxcur":
                found += [f"jaxcur.{alias.name}" for alias in node.names]
            else:
                found.append(module)
    return [name for name in found if name.startswith((".", "jaxcur"))]


def bad_edges(module: str, source: str) -> list[str]:
    """Imports that go up, sideways, or into the ceiling, or that are relative."""
    here = package_of(module)
    complaints = []
    for target in imported_modules(source):
        there = package_of(target)
        edge = f"{module} imports {target}"
        if target.startswith("."):
            complaints.append(f"{edge}: imports are absolute")
        elif here is None:
            complaints.append(f"{edge}: the root imports nothing")
        elif there is None or there == here or there.startswith("__"):
            continue
        elif there not in FLOORS and there not in CEILING:
            complaints.append(f"{edge}: {there!r} has no floor")
        elif here in CEILING:
            continue
        elif there in CEILING:
            complaints.append(f"{edge}: nothing imports the ceiling")
        elif FLOORS[there] >= FLOORS[here]:
            complaints.append(f"{edge}: floor {FLOORS[there]} from {FLOORS[here]}")
    return complaints


def forbidden_names(source: str) -> list[str]:
    """Names that one of the supported lines of JAX lacks or is about to lose."""
    return [
        f"{found.group(0)}: use {instead}"
        for pattern, instead in FORBIDDEN.items()
        for found in re.finditer(pattern, source)
    ]


def machine_paths(source: str) -> list[str]:
    """Absolute paths that exist on one machine only."""
    roots = "home|root|Users|opt|mnt|tmp|srv|work"
    return re.findall(rf"(?<![\w.])/(?:{roots})/\w+", source)


def printing(source: str) -> list[int]:
    """Lines that call print."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "print"
    ]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_package_has_a_floor():
    assert set(PACKAGES) <= set(FLOORS) | CEILING


def test_the_import_graph_only_goes_down():
    complaints = [
        edge
        for path in MODULES
        for edge in bad_edges(module_name(path), source_of(path))
    ]
    assert complaints == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jaxcur.stats._sort", "from jaxcur.conformal import select"),
        ("jaxcur.stats._sort", "def f():\n    import jaxcur.verify._plan"),
        ("jaxcur.verify._check", "from jaxcur import learners"),
        ("jaxcur.conformal._sets", "from jaxcur.guarantees import names"),
        ("jaxcur.conformal._sets", "from jaxcur.undeclared import x"),
        ("jaxcur.stats._sort", "from ._ranks import ranks"),
        ("jaxcur", "from jaxcur import stats"),
    ],
)
def test_a_bad_edge_is_seen(module, source):
    assert len(bad_edges(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("jaxcur.conformal._sets", "from jaxcur import stats\nimport jaxcur._base"),
        ("jaxcur.conformal._sets", "from jaxcur.conformal._result import R"),
        ("jaxcur.cli", "from jaxcur import guarantees, __version__"),
        ("jaxcur.stats", "import numpy\nfrom scipy import special"),
    ],
)
def test_a_good_edge_is_let_through(module, source):
    assert bad_edges(module, source) == []


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_module_keeps_the_rules(path):
    source = source_of(path)
    assert forbidden_names(source) == []
    assert machine_paths(source) == []
    assert source.count("\n") <= 600
    if path.parent.name != "cli":
        assert printing(source) == []


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (forbidden_names, 'jax.config.update("jax_enable_x64", True)'),
        (forbidden_names, "jax.tree_map(f, tree)"),
        (forbidden_names, "from jax.experimental import enable_x64"),
        (forbidden_names, "jnp.clip(x, a_min=0)"),
        (forbidden_names, "isinstance(x, jax.core.ShapedArray)"),
        (forbidden_names, "jnp.empty((3,))"),
        (machine_paths, "path = '/" + "home/someone/data.csv'"),
        (printing, "def f():\n    print(1)"),
    ],
)
def test_a_broken_rule_is_seen(rule, source):
    assert rule(source)


def test_the_rules_let_good_code_through():
    source = "isinstance(x, jax.core.Tracer); jax.tree.map(f, x); jnp.clip(x, min=0)"
    assert forbidden_names(source) == []
    assert machine_paths("a/home/b and https://example.org/home") == []


@pytest.mark.parametrize("package", PACKAGES)
def test_package_says_what_it_is_for(package):
    doc = ast.get_docstring(ast.parse(source_of(PACKAGE / package / "__init__.py")))
    assert doc, f"jaxcur/{package}/__init__.py needs a docstring"


def public_objects():
    """Every public function and class, with the package that offers it."""
    for package in PACKAGES:
        if package == "_base":
            continue
        module = __import__(f"jaxcur.{package}", fromlist=["__all__"])
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value) or callable(value):
                yield f"{package}.{name}", value


def doc_complaint(value: object) -> str | None:
    """Why a docstring does not do, or None."""
    doc = inspect.getdoc(value) or ""
    if not doc or doc.startswith(f"{getattr(value, '__name__', '')}("):
        return "no docstring"
    if inspect.isclass(value):
        return None
    annotations = getattr(value, "__annotations__", {})
    has_arrays = any("Array" in str(hint) for hint in annotations.values())
    if has_arrays and not re.search(r"shape|scalar|pytree|\([a-z0-9_]+,", doc):
        return "arrays in or out, and no shape named"
    return None


def test_public_names_are_documented_with_shapes():
    complaints = {
        name: complaint
        for name, value in public_objects()
        if (complaint := doc_complaint(value))
    }
    assert complaints == {}


def test_all_lists_what_exists():
    for package in PACKAGES:
        module = __import__(f"jaxcur.{package}", fromlist=["__all__"])
        missing = [n for n in getattr(module, "__all__", ()) if not hasattr(module, n)]
        assert missing == [], package


def test_an_undocumented_function_is_seen():
    def shapeless(x: "Array") -> "Array":  # noqa: F821
        """Do something to x."""

    def silent(x):
        return x

    assert doc_complaint(shapeless) and doc_complaint(silent)


def modules_after(statement: str) -> tuple[set[str], float]:
    """Names in sys.modules, and seconds, after a statement in a fresh interpreter."""
    program = (
        "import json, sys, time\n"
        "start = time.perf_counter()\n"
        f"{statement}\n"
        "seconds = time.perf_counter() - start\n"
        "print(json.dumps([sorted(sys.modules), seconds]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    names, seconds = json.loads(done.stdout)
    return set(names), seconds


def test_importing_the_root_loads_nothing():
    runs = [modules_after("import jaxcur") for _ in range(3)]
    names = runs[0][0]
    assert not names.intersection({*HEAVY, "jax", "numpy", "scipy"})
    assert [name for name in names if name.startswith("jaxcur.")] == []
    # It loads one file; a tenth of a second leaves room for a busy machine.
    assert min(seconds for _, seconds in runs) < 0.1


def test_library_packages_leave_heavy_packages_alone():
    below = [package for package in PACKAGES if package in FLOORS]
    statement = "import " + ", ".join(f"jaxcur.{package}" for package in below)
    names, _ = modules_after(statement)
    assert names.intersection(HEAVY) == set()


def test_subpackages_are_reached_as_attributes():
    import jaxcur

    for package in PACKAGES:
        if package in ("_base", "cli"):
            continue
        assert package in dir(jaxcur)
        assert inspect.ismodule(getattr(jaxcur, package))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        jaxcur.nonsense  # noqa: B018
