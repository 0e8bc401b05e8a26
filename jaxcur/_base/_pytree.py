"""Frozen dataclasses as pytrees whose structures tell the classes apart."""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import jax

_T = TypeVar("_T")


def register_dataclass(
    cls: type[_T],
    *,
    data_fields: Sequence[str] | None = None,
    meta_fields: Sequence[str] | None = None,
) -> type[_T]:
    """Register a dataclass as a pytree, in place of `jax.tree_util.register_dataclass`.

    JAX's own function gives different classes with equally many fields EQUAL tree
    structures, though different hashes (jaxlib 0.10.2 to 0.12.0). A program compiled
    for one class is then run for another whenever their hashes share a slot of the
    cache's table: one process in about a hundred computes with the wrong kernel. Here
    the class is part of the structure.

    A field with `metadata={"static": True}` is static unless the fields are named.
    Rebuilding goes round `__init__`: transformations pass placeholders as values.
    """
    fields = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    if data_fields is None or meta_fields is None:
        static = {f.name for f in fields if f.metadata.get("static", False)}
        data = tuple(f.name for f in fields if f.name not in static)
        meta = tuple(f.name for f in fields if f.name in static)
    else:
        data, meta = tuple(data_fields), tuple(meta_fields)
    if set(data) | set(meta) != {f.name for f in fields} or set(data) & set(meta):
        raise TypeError(
            f"{cls.__name__}: every field must be either data or static, got "
            f"{data} and {meta}"
        )
    keys = tuple(jax.tree_util.GetAttrKey(name) for name in data)

    def flatten(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return (
            tuple([getattr(value, name) for name in data]),
            tuple([getattr(value, name) for name in meta]),
        )

    def flatten_with_keys(value: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, static = flatten(value)
        return tuple(zip(keys, children)), static

    def unflatten(static: tuple[Any, ...], children: Any) -> Any:
        value = object.__new__(cls)
        for name, child in zip(data, children):
            object.__setattr__(value, name, child)
        for name, entry in zip(meta, static):
            object.__setattr__(value, name, entry)
        return value

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls
