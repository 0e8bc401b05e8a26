"""Run a function of a learner as one compiled program, whatever the learner is."""

import dataclasses
import functools
import types
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, bool, int, float))


def _never_changes(leaf: Any) -> bool:
    """Whether equal hash means equal behaviour, so that a program can be kept."""
    if leaf is None or isinstance(leaf, (str, type, types.FunctionType)):
        return True
    parameters = getattr(type(leaf), "__dataclass_params__", None)
    return parameters is not None and parameters.frozen and parameters.eq


def _rebuild(treedef: Any, fixed: tuple[Any, ...], leaves: list[Any]) -> Any:
    remaining = iter(leaves)
    return jax.tree.unflatten(
        treedef,
        [next(remaining) if leaf is _TRACED else leaf.value for leaf in fixed],
    )


@dataclasses.dataclass(frozen=True)
class _Fixed:
    value: Any


_TRACED = _Fixed("traced")


def _call(leaves, arrays, *, function, treedef, names, fixed, options):
    del names
    learner = _rebuild(treedef, fixed, leaves)
    return function(learner, *arrays, **dict(options))


_kept = jax.jit(
    _call, static_argnames=("function", "treedef", "names", "fixed", "options")
)


def compiled(
    function: Callable[..., Any], learner: Any, **options: Any
) -> Callable[..., Any]:
    """`function(learner, *arrays, **options)` as a program of the arrays.

    Numbers in a learner that is a pytree are traced; the options are static. A learner
    that is no pytree is part of the program: kept for later calls if it is a frozen
    dataclass, compiled again by each call of `compiled` otherwise, because an object
    whose attributes change keeps its hash.
    """
    leaves, treedef = jax.tree.flatten(learner)
    traced = [leaf for leaf in leaves if _is_array(leaf)]
    fixed = tuple(_TRACED if _is_array(leaf) else _Fixed(leaf) for leaf in leaves)
    statics = {
        "function": function,
        "treedef": treedef,
        # Structures of dataclasses registered by JAX's own function do not tell the
        # classes apart, see jaxcur._base.register_dataclass; their text does.
        "names": str(treedef),
        "fixed": fixed,
        "options": tuple(sorted(options.items())),
    }
    if _can_be_kept(treedef, fixed):
        run = functools.partial(_kept, **statics)
    else:
        run = jax.jit(functools.partial(_call, **statics))

    def call(*arrays: Any) -> Any:
        try:
            return run(traced, arrays)
        except (
            jax.errors.TracerArrayConversionError,
            jax.errors.ConcretizationTypeError,
        ) as error:
            raise TypeError(
                f"`learner` {type(learner).__name__} looks at values that JAX is "
                "tracing. If it calls NumPy or another library, set the attribute "
                "`on_host = True` on it, or wrap the estimator in learners.HostLearner"
            ) from error

    return call


def _can_be_kept(treedef: Any, fixed: tuple[_Fixed, ...]) -> bool:
    if not all(leaf is _TRACED or _never_changes(leaf.value) for leaf in fixed):
        return False
    try:
        hash((treedef, fixed))
    except TypeError:
        return False
    return True


def run_compiled(
    function: Callable[..., Any], learner: Any, *arrays: Any, **options: Any
) -> Any:
    """Call the program of `compiled` once."""
    return compiled(function, learner, **options)(*arrays)
