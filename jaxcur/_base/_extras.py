"""Optional packages, with an error that says how to get them."""

import importlib
from types import ModuleType


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional package, naming the extra to install when it is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.partition(".")[0]
        if error.name is not None and error.name.partition(".")[0] != root:
            raise
        raise ModuleNotFoundError(
            f'this needs {root}, an optional dependency: pip install "jaxcur[{extra}]"',
            name=error.name,
        ) from error
