"""The chapters of `jaxcur demo` and their report.

A chapter is one module in `chapters` with a function `run(*, quick, seed) -> Chapter`,
listed in `CHAPTERS` in reading order.
"""

import importlib

from jaxcur.cli.demo._chapter import Chapter, Picture, Table
from jaxcur.cli.demo._report import write_report

__all__ = ["CHAPTERS", "Chapter", "Picture", "Table", "run_chapter", "write_report"]

CHAPTERS: tuple[str, ...] = (
    "patients",
    "many_models",
    "labels",
    "stream",
    "rare",
    "confident",
    "transport",
)


def run_chapter(name: str, *, quick: bool, seed: int) -> Chapter:
    """Run the chapter of that name."""
    module = importlib.import_module(f"jaxcur.cli.demo.chapters.{name}")
    return module.run(quick=quick, seed=seed)
