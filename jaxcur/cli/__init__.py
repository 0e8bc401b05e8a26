"""The command line: `jaxcur select`, `jaxcur estimate`, `jaxcur ordinal` and others.

The commands are thin. They read, call the library, and print; anything that could be
called mathematics lives in the packages they call.
"""

from jaxcur.cli._main import main

__all__ = ["main"]
