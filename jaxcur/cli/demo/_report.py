"""Tables as CSV, pictures as PNG, and one HTML file that needs neither."""

import base64
import html
import platform
from collections.abc import Sequence
from pathlib import Path

from jaxcur.cli.demo._chapter import Chapter, Picture, Table

_STYLE = """
:root { --ink: #1a1a1a; --soft: #555; --line: #d0d0d0; --tint: #f4f6f8;
  --link: #005a8c }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 1.2rem; max-width: 46rem; color: var(--ink);
  background: #fff; font: 1.05rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", Arial, sans-serif }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 2.6rem 0 .4rem;
  border-top: 3px solid var(--ink); padding-top: 1rem }
a { color: var(--link) }
.question { font-size: 1.15rem; font-style: italic; margin: .2rem 0 1rem }
.facts { color: var(--soft); font-size: .9rem }
.findings { background: var(--tint); border-left: 4px solid var(--link);
  margin: 1.2rem 0; padding: .8rem 1rem .8rem 2.1rem }
.findings li { margin: .35rem 0 }
.conclusion { border: 2px solid var(--ink); padding: .8rem 1rem; margin: 1.4rem 0 }
.conclusion strong { display: block }
figure { margin: 1.8rem 0 }
img { display: block; width: 100%; height: auto }
figcaption, caption { text-align: left; font-size: .95rem; color: var(--soft);
  padding: .5rem 0; caption-side: top }
figcaption { padding-top: .6rem }
.scroll { overflow-x: auto; margin: 1.8rem 0 }
table { border-collapse: collapse; width: 100%; font-size: .93rem; line-height: 1.35 }
th, td { padding: .4rem .55rem; border-bottom: 1px solid var(--line);
  vertical-align: top; text-align: right; font-variant-numeric: tabular-nums }
th { border-bottom-color: var(--ink); vertical-align: bottom }
tbody th { border-bottom-color: var(--line); font-weight: 400; vertical-align: top }
th:first-child { text-align: left }
pre { background: var(--tint); padding: .8rem 1rem; overflow-x: auto; font-size: .88rem;
  line-height: 1.45 }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: .6rem }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt }
  h2 { break-after: avoid }
  section + section { break-before: page }
  figure, .findings, .conclusion, tr, pre { break-inside: avoid }
  .scroll { overflow: visible }
  img { max-width: 14cm }
  a { color: inherit; text-decoration: none }
}
"""


def write_report(
    chapters: Sequence[Chapter], out: Path, *, quick: bool, seed: int, seconds: float
) -> Path:
    """Write every table, every picture and the report into the folder `out`.

    Args:
        chapters: in reading order.
        out: an existing folder.
        quick: whether repetitions were cut, which the report says.
        seed: what the random draws started from, which the report says.
        seconds: how long the chapters took.

    Returns:
        Path of `report.html`.
    """
    sections = [_section(chapter, out) for chapter in chapters]
    report = out / "report.html"
    report.write_text(
        _page(chapters, sections, quick=quick, seed=seed, seconds=seconds),
        encoding="utf-8",
    )
    return report


def _page(
    chapters: Sequence[Chapter],
    sections: Sequence[str],
    *,
    quick: bool,
    seed: int,
    seconds: float,
) -> str:
    import jax
    import numpy as np

    import jaxcur

    links = "".join(
        f'<li><a href="#{chapter.name}">{_text(chapter.title)}</a></li>'
        for chapter in chapters
    )
    kind = (
        "a quick run, with fewer repetitions than the full demo"
        if quick
        else "a full run"
    )
    facts = (
        f"jaxcur {jaxcur.__version__}, jax {jax.__version__}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}, {jax.devices()[0].platform.upper()}; "
        f"seed {seed}; chapters computed in {seconds:.0f} s."
    )
    body = "\n".join(sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>jaxcur demo report</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>What jaxcur promises, seen on data</h1>
<p>Each chapter asks one question of data whose truth is known, so that a promise can be
compared with what happened. This is {kind}. The tables stand beside this file as CSV
and the pictures as PNG; this file needs neither.</p>
<nav aria-label="Chapters"><ol>{links}</ol></nav>
</header>
<main>
{body}
</main>
<footer><p class="facts">{_text(facts)}</p></footer>
</body>
</html>
"""


def _section(chapter: Chapter, out: Path) -> str:
    setup = "\n".join(f"<p>{_text(paragraph)}</p>" for paragraph in chapter.setup)
    findings = "\n".join(f"<li>{_text(finding)}</li>" for finding in chapter.findings)
    items = "\n".join(
        _table(item, out) if isinstance(item, Table) else _picture(item, out)
        for item in chapter.items
    )
    code = (
        "<p>The same with the library:</p>\n"
        f"<pre><code>{_text(chapter.code)}</code></pre>"
        if chapter.code
        else ""
    )
    return f"""<section id="{chapter.name}" aria-labelledby="{chapter.name}-title">
<h2 id="{chapter.name}-title">{_text(chapter.title)}</h2>
<p class="question">{_text(chapter.question)}</p>
<ul class="findings">
{findings}
</ul>
{setup}
{items}
<p class="conclusion"><strong>What to conclude</strong> {_text(chapter.conclusion)}</p>
{code}
</section>"""


def _text(words: str) -> str:
    return html.escape(words.strip())


def _picture(picture: Picture, out: Path) -> str:
    from jaxcur import plots

    content = plots.save_png(picture.figure, out / f"{picture.name}.png")
    encoded = base64.b64encode(content).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{encoded}" '
        f'alt="{html.escape(picture.alt, quote=True)}">'
        f"<figcaption>{_text(picture.caption)}</figcaption></figure>"
    )


def _table(table: Table, out: Path) -> str:
    from jaxcur import data

    data.write_table(table.frame, out / f"{table.name}.csv")
    columns = [str(name) for name in table.frame.columns]
    head = "".join(f'<th scope="col">{_text(name)}</th>' for name in columns)
    rows = []
    for values in table.frame.itertuples(index=False, name=None):
        cells = [
            _cell(value, table.display.get(name, "{}"))
            for name, value in zip(columns, values, strict=True)
        ]
        first = f'<th scope="row">{cells[0]}</th>'
        rest = "".join(f"<td>{cell}</td>" for cell in cells[1:])
        rows.append(f"<tr>{first}{rest}</tr>")
    body = "\n".join(rows)
    # Focusable, so that a keyboard can scroll a table wider than the screen.
    return (
        f'<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{html.escape(table.caption, quote=True)}">'
        f"<table><caption>{_text(table.caption)}</caption>"
        f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def _cell(value: object, form: str) -> str:
    if value is None or value != value:
        return "\N{EN DASH}"
    return _text(form.format(value))
