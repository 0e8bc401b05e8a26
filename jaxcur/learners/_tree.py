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
                return numbers, (False, value)
            # The class is repeated here for kernels registered by JAX's own function
            # for dataclasses, see jaxcur._base.register_dataclass.
            return [(jax.tree_util.GetAttrKey(kernel), value), *numbers], (
                True,
                type(value),
            )

        def unflatten(static: Any, children: Any) -> Any:
            # Not through __init__: transformations pass placeholders as children.
            learner = object.__new__(cls)
            is_child, value = static
            names = (kernel, *data) if is_child else data
            values = dict(zip(names, children, strict=True))
            if not is_child:
                values[kernel] = value
            for name, value in values.items():
                object.__setattr__(learner, name, value)
            return learner

        jax.tree_util.register_pytree_with_keys(cls, flatten, unflatten)
        return cls

    return register
