"""Chunks of rows, checked and brought to one form."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur.debiased._prepare import resolve_design

Chunks = Callable[[], Iterable[Mapping[str, Any]]]

_VARIABLES = ("X", "y", "offset")
_DESIGN = ("labeled", "sampling_prob", "strata", "clusters", "weights")
KEYS = (
    *_VARIABLES,
    *(f"{name}_predicted" for name in _VARIABLES[:2]),
    "observed",
    "predicted",
    *_DESIGN,
)
_RANKS = {"X": (2, "(n, p)"), "y": (1, "(n,)"), "offset": (1, "(n,)")}


class Layout(NamedTuple):
    """What all chunks have in common.

    Attributes:
        form: "mean", "index" or "moment": how the variables become records.
        keys: of every chunk, those that are None left out.
        dtype: float dtype of the computation.
        structure: of a record.
        shapes: trailing shape of every leaf of a record.
        dtypes: of every leaf; integers stay integers in the records of a moment.
        shared: for every leaf, whether observed and predicted are the same variable.
        names: of every leaf, observed and predicted, for messages.
        design: one of `DESIGNS`.
        num_strata: at least 1.
        num_clusters: 0 without clusters.
    """

    form: str
    keys: frozenset[str]
    dtype: Any
    structure: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    shared: tuple[bool, ...]
    names: tuple[tuple[str, str], ...]
    design: str
    num_strata: int
    num_clusters: int


class Part(NamedTuple):
    """The rows of one chunk that are there, as NumPy arrays.

    Attributes:
        observed: leaves of the gold records.
        predicted: leaves of the predicted records.
        labeled: (n,) bool.
        weight: (n,).
        prob: (n,), or None where the realised fraction stands for it.
        strata: (n,) int.
        clusters: (n,) int, or None.
    """

    observed: list[np.ndarray]
    predicted: list[np.ndarray]
    labeled: np.ndarray
    weight: np.ndarray
    prob: np.ndarray | None
    strata: np.ndarray
    clusters: np.ndarray | None

    def take(self, places: Any) -> "Part":
        """The rows at `places`."""
        same = [a is b for a, b in zip(self.observed, self.predicted)]
        predicted = [leaf[places] for leaf in self.predicted]
        observed = [
            guess if shared else leaf[places]
            for leaf, guess, shared in zip(self.observed, predicted, same)
        ]
        rest = (None if leaf is None else leaf[places] for leaf in self[2:])
        return Part(observed, predicted, *rest)  # pyright: ignore[reportArgumentType]


def make_layout(
    chunk: Mapping[str, Any],
    *,
    form: str,
    dtype: Any,
    design: Any,
    num_strata: int | None,
    num_clusters: int | None,
) -> Layout:
    """Read the layout off the first chunk; `dtype` None: that of its variables."""
    keys = frozenset(key for key, value in chunk.items() if value is not None)
    if unknown := sorted(keys - set(KEYS)):
        raise ValueError(f"unknown key {unknown[0]!r} in a chunk; known are {KEYS}")
    needed = {"mean": ("y", "y_predicted"), "index": ("X", "y"), "moment": ()}[form]
    for key in (*needed, "labeled"):
        if key not in keys:
            raise ValueError(f"a chunk must have the key {key!r}, got {sorted(keys)}")
    observed, predicted = _raw_records(chunk, form, keys)
    structure = jax.tree.structure(predicted)
    if jax.tree.structure(observed) != structure:
        raise ValueError(
            "`observed` and `predicted` must have the same structure, got "
            f"{jax.tree.structure(observed)} and {structure}"
        )
    seen, guess = jax.tree.leaves(observed), jax.tree.leaves(predicted)
    if not guess:
        raise ValueError(f"a chunk has no variables, got the keys {sorted(keys)}")
    if dtype is None:
        arrays = [np.asarray(leaf) for leaf in (*seen, *guess)]
        # Text and the like is refused by name when the chunk is converted.
        kinds = [
            device_dtype(array.dtype)
            for array in arrays
            if jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
        ]
        floats = [kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)]
        common = jnp.result_type(*floats) if floats else jnp.result_type(float)
        dtype = jnp.promote_types(common, jnp.float32)
    paths = [
        "".join(f"[{getattr(k, 'key', getattr(k, 'idx', k))!r}]" for k in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(predicted)
    ]
    if "observed" in keys:
        names = tuple((f"observed{path}", f"predicted{path}") for path in paths)
    else:
        bare = [path.strip("[]'") or "y" for path in paths]
        names = tuple((name, f"{name}_predicted") for name in bare)
    chosen = resolve_design(design, chunk.get("sampling_prob"), chunk.get("strata"))
    if chosen == "stratified" and num_strata is None:
        raise ValueError("`num_strata` is needed: `strata` are 0..num_strata-1")
    if ("clusters" in keys) != (num_clusters is not None):
        raise ValueError(
            "`num_clusters` and the key 'clusters' go together: clusters are "
            f"0..num_clusters-1; got {num_clusters} and the keys {sorted(keys)}"
        )
    if num_clusters == 1:
        raise ValueError(
            "`num_clusters` is 1: the sum of moments of a single cluster is zero at "
            "the estimate and says nothing about the variance"
        )
    return Layout(
        form=form,
        keys=keys,
        dtype=np.dtype(dtype),
        structure=structure,
        shapes=tuple(np.shape(leaf)[1:] for leaf in guess),
        dtypes=tuple(_kind(leaf, form, dtype) for leaf in guess),
        shared=tuple(a is b for a, b in zip(seen, guess)),
        names=names,
        design=chosen,
        num_strata=(num_strata or 1) if chosen == "stratified" else 1,
        num_clusters=num_clusters or 0,
    )


def device_dtype(kind: Any) -> Any:
    """What an array of this dtype becomes on the device: float32 without x64."""
    return jnp.asarray(np.zeros(0, kind)).dtype


def _raw_records(
    chunk: Mapping[str, Any], form: str, keys: frozenset[str]
) -> tuple[Any, Any]:
    if form == "mean":
        both = (np.asarray(chunk["y"]), np.asarray(chunk["y_predicted"]))
        first, second = (y[:, None] if y.ndim == 1 else y for y in both)
        return first, second
    if form == "moment" and "observed" in keys:
        return chunk["observed"], chunk.get("predicted")
    observed = {name: chunk[name] for name in _VARIABLES if name in keys}
    predicted = {
        name: chunk[other] if (other := f"{name}_predicted") in keys else value
        for name, value in observed.items()
    }
    if form == "index":
        for record, suffix in ((observed, ""), (predicted, "_predicted")):
            for name, value in record.items():
                rank, shape = _RANKS[name]
                if np.ndim(value) != rank:
                    raise ValueError(
                        f"`{name}{suffix}` must have shape {shape}, got "
                        f"{np.shape(value)}"
                    )
    return observed, predicted


def _kind(leaf: Any, form: str, dtype: Any) -> Any:
    own = np.asarray(leaf).dtype
    keeps = form == "moment" and not jnp.issubdtype(own, jnp.floating)
    return own if keeps else np.dtype(dtype)


def _as_leaf(name: str, value: Any, dtype: Any) -> np.ndarray:
    array = np.asarray(value)
    is_float = jnp.issubdtype(array.dtype, jnp.floating)
    if not is_float and array.dtype.kind not in "iub":
        raise TypeError(
            f"`{name}` must hold real numbers, got dtype {array.dtype}; convert it "
            "first"
        )
    if is_float and not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(
            f"`{name}` must have dtype {dtype} as in the first chunk, got {array.dtype}"
        )
    return array.astype(dtype, copy=False)


def _as_ids(name: str, value: Any, count: int) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise ValueError(
            f"`{name}` must be integers 0..{count - 1}, got dtype {array.dtype}"
        )
    if array.size and not (0 <= array.min() and array.max() < count):
        raise ValueError(
            f"`{name}` must lie in 0..{count - 1}, got {array.min()}..{array.max()}"
        )
    return array.astype(np.int32, copy=False)


def as_part(chunk: Mapping[str, Any], layout: Layout) -> Part:
    """Convert one chunk; rows of weight 0 are left out."""
    keys = frozenset(key for key, value in chunk.items() if value is not None)
    if keys != layout.keys:
        raise ValueError(
            f"the keys must be those of the first chunk, {sorted(layout.keys)}, got "
            f"{sorted(keys)}"
        )
    records = _raw_records(chunk, layout.form, keys)
    if any(jax.tree.structure(record) != layout.structure for record in records):
        raise ValueError(f"records must have the structure {layout.structure}")
    mask = np.asarray(chunk["labeled"])
    n = mask.shape[0] if mask.ndim else -1
    if mask.ndim != 1:
        raise ValueError(f"`labeled` must have shape (n,), got {mask.shape}")
    if mask.dtype != bool:
        if not np.isin(mask, (0, 1)).all():
            raise ValueError(
                "`labeled` must be boolean, True where the row has its gold label; got "
                f"values other than 0 and 1 of dtype {mask.dtype}"
            )
        mask = mask == 1
    observed, predicted = [], []
    seen, guess = (jax.tree.leaves(record) for record in records)
    for i, (names, shape) in enumerate(zip(layout.names, layout.shapes)):
        own = _as_leaf(names[1], guess[i], layout.dtypes[i])
        is_same = layout.shared[i] and seen[i] is guess[i]
        gold = own if is_same else _as_leaf(names[0], seen[i], layout.dtypes[i])
        for name, leaf in zip(names, (gold, own)):
            if leaf.shape != (n, *shape):
                raise ValueError(
                    f"`{name}` must have shape {(n, *shape)} like `labeled` and the "
                    f"first chunk, got {leaf.shape}"
                )
        observed.append(gold)
        predicted.append(own)

    def column(name: str) -> np.ndarray | None:
        if name not in keys:
            return None
        array = np.asarray(chunk[name])
        if name == "sampling_prob" and array.ndim == 0:
            array = np.broadcast_to(array, (n,))
        if array.shape != (n,):
            raise ValueError(f"`{name}` must have shape ({n},), got {array.shape}")
        return array

    weight = column("weights")
    if weight is not None:
        weight = weight.astype(layout.dtype, copy=False)
        if (bad := ~(np.isfinite(weight) & (weight >= 0))).any():
            raise ValueError(
                f"`weights` must be finite and nonnegative, {bad.sum()} rows are not"
            )
    prob = column("sampling_prob")
    if prob is not None:
        prob = prob.astype(layout.dtype, copy=False)
        bad = ~((prob > 0) & (prob <= 1))
        if weight is not None:
            bad &= weight > 0
        if bad.any():
            raise ValueError(
                "`sampling_prob` must lie in (0, 1]: the known probability that the "
                f"row was labelled; {int(bad.sum())} of {bad.size} values are 0, above "
                "1, negative or NaN"
            )
    clusters, strata = column("clusters"), column("strata")
    if clusters is not None:
        clusters = _as_ids("clusters", clusters, layout.num_clusters)
    if strata is not None:
        strata = _as_ids("strata", strata, layout.num_strata)
    else:
        strata = np.zeros(n, np.int32)
    part = Part(
        observed,
        predicted,
        mask,
        np.ones(n, layout.dtype) if weight is None else weight,
        prob,
        strata,
        clusters,
    )
    if weight is not None and not weight.all():
        part = part.take(np.flatnonzero(weight))
    return part


def check_finite(part: Part, layout: Layout) -> None:
    """Raise on a prediction, or a gold label, that is not finite."""
    labels: np.ndarray | None = None
    for i, (name, other) in enumerate(layout.names):
        leaf = part.predicted[i]
        shared = part.observed[i] is leaf
        if bad := _count_bad(leaf):
            raise ValueError(
                f"`{name if shared else other}` must be finite in every row, {bad} "
                "entries are NaN or infinite"
            )
        if shared:
            continue
        labels = np.flatnonzero(part.labeled) if labels is None else labels
        if bad := _count_bad(part.observed[i][labels]):
            raise ValueError(
                f"`{name}` must be finite where `labeled` is True, {bad} entries are "
                "NaN or infinite: set `labeled` to False there"
            )


def _count_bad(leaf: np.ndarray) -> int:
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return 0
    # A finite sum says the same without an array of bools.
    with np.errstate(all="ignore"):
        if leaf.dtype.itemsize >= 4 and np.isfinite(np.sum(leaf)):
            return 0
    return int((~np.isfinite(leaf)).sum())
