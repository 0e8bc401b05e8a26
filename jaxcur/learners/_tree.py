"""Learners as pytrees when one of their options is a callable."""

from collections.abc import Callable
from typing import Any

import jax


def kernel_learner(kernel: str, *data: str) -> Callable[[type], type]:
    """Register a frozen dataclass of a kernel and further numbers as a pytree.

    A kernel that is itself a pytree node (a registered dataclass such as `RBF`) is a
    child, so that its parameters are traced. Any other callable, a function say, is no
    array and becomes part of the static structure.
    """

    def register(cls: type) -> type:
        def flatten(learner: Any) -> tuple[list[tuple[Any, Any]], Any]:
            numbers = [
                (jax.tree_util.GetAttrKey(name), getattr(learner, name))
                for name in data
            ]
            value = getattr(learner, kernel)
            if jax.tree_util.all_leaves([value]) and callable(value):
                return numbers, (value,)
            return [(jax.tree_util.GetAttrKey(kernel), value), *numbers], None

        def unflatten(static: Any, children: Any) -> Any:
            # Not through __init__: transformations pass placeholders as children.
            learner = object.__new__(cls)
            names = data if static is not None else (kernel, *data)
            values = dict(zip(names, children, strict=True))
            if static is not None:
                values[kernel] = static[0]
            for name, value in values.items():
                object.__setattr__(learner, name, value)
            return learner

        jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
        return cls

    return register
