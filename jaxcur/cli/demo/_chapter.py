"""What a chapter of the demo hands over: findings, tables, pictures, a conclusion."""

import dataclasses
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]*")


def _check_slug(name: str) -> None:
    if not _SLUG.fullmatch(name):
        raise ValueError(
            f"`name` must be lower-case letters, digits and hyphens, got {name!r}"
        )


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of the report, also written as CSV.

    Attributes:
        name: file name without ending: lower-case letters, digits and hyphens.
        caption: one or two sentences that make the table readable on its own.
        frame: plain columns; the report shows shares and numbers as `display` says.
        display: format of each column that is not shown as it is, for example
            `{"share": "{:.1%}"}`; the CSV keeps every digit.
    """

    name: str
    caption: str
    frame: "pd.DataFrame"
    display: dict[str, str] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_slug(self.name)
        unknown = sorted(set(self.display) - set(self.frame.columns))
        if unknown:
            raise ValueError(f"`display` names columns that are not there: {unknown}")


@dataclasses.dataclass(frozen=True)
class Picture:
    """A figure of the report, also written as PNG.

    Attributes:
        name: file name without ending.
        caption: what to see in it.
        alt: what it shows, for a reader who cannot see it.
        figure: a matplotlib figure.
    """

    name: str
    caption: str
    alt: str
    figure: "Figure"

    def __post_init__(self) -> None:
        _check_slug(self.name)
        if not self.alt.strip():
            raise ValueError("`alt` must describe the picture in words")


@dataclasses.dataclass(frozen=True)
class Chapter:
    """One finished chapter.

    Attributes:
        name: the anchor in the report.
        title: a headline.
        question: what is asked, in one sentence.
        setup: paragraphs on data and method.
        findings: sentences with numbers; also printed on the terminal.
        conclusion: what a reader should take away.
        items: tables and pictures in reading order.
        code: a few lines that do the same with the library.
    """

    name: str
    title: str
    question: str
    setup: tuple[str, ...]
    findings: tuple[str, ...]
    conclusion: str
    items: tuple[Table | Picture, ...] = ()
    code: str = ""

    def __post_init__(self) -> None:
        _check_slug(self.name)
