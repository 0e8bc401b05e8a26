"""Sphinx configuration."""

import re

import jaxcur

project = "jaxcur"
author = "The jaxcur developers"
copyright = "The jaxcur developers"
release = version = jaxcur.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

# Docstrings name every shape; the annotations are for type checkers and would bury
# the signatures.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False
# Docstrings are plain text first: a single backtick marks code.
default_role = "code"

html_theme = "furo"
html_title = f"jaxcur {release}"

_LABEL = re.compile(
    r"^(Guarantee|Heuristic|Verified by|Transformations|Cost|Source|References?): "
)
_SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Examples?|Yields|Notes?):$")


def _escaped(line):
    """Keep reStructuredText from reading `|x|`, `x_` or a footnote into plain text."""
    bullet = re.match(r" *\* |", line)[0]
    pieces = re.split(r"(`+[^`]*`+)", line[len(bullet) :])
    for i in range(0, len(pieces), 2):
        pieces[i] = re.sub(r"(?<=\w)_(?=\W|$)", r"\\_", pieces[i])
        pieces[i] = re.sub(r"([|*])", r"\\\1", pieces[i])
    return bullet + "".join(pieces)


def _plain_text_to_rst(app, what, name, obj, options, lines):
    """Docstrings are written to be read as they are; say the same in markup.

    A labelled line ("Cost: ...") and what hangs below it become one paragraph; an
    indented block in the description is a formula and is shown as it stands.
    """
    out, in_section, in_label, in_formula, in_example = [], False, False, False, False
    for line in list(lines):
        is_top = bool(line) and not line.startswith(" ")
        if line.strip().startswith(">>>"):
            in_example = True
        elif not line.strip():
            in_example = False
        if _SECTION.match(line):
            in_section, in_label, in_formula = True, False, False
            out += ["", line]
        elif label := _LABEL.match(line):
            in_section, in_label, in_formula = False, True, False
            out += ["", f"**{label[1]}:** {_escaped(line[label.end() :])}"]
        elif in_label and line.strip():
            out.append(_escaped(line.strip()))
        elif in_section or in_example:
            out.append(line if in_example else _escaped(line))
        else:
            after_blank = bool(out) and not out[-1].strip()
            if line.startswith("    ") and after_blank and not in_formula:
                in_formula = True
                out += ["::", ""]
            elif is_top and in_formula:
                in_formula = False
                out.append("")
            out.append(line if in_formula else _escaped(line))
        if not line.strip():
            in_label = False
        if is_top and not _SECTION.match(line):
            in_section = False
    lines[:] = out


def _skip_routing(app, what, name, obj, skip, options):
    """Leave out the methods scikit-learn adds for the routing of metadata.

    Their text refers to pages of scikit-learn.
    """
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app):
    """Run before napoleon, which has the default priority 500."""
    app.connect("autodoc-skip-member", _skip_routing)
    app.connect("autodoc-process-docstring", _plain_text_to_rst, priority=400)
