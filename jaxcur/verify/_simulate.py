"""Running replications: one key each, in chunks, on one device or many."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import PartitionSpec

MEMORY_CEILING = 2**28
"""Bytes that one chunk of replications may take, by the estimate below."""
MAX_CHUNK = 256

Replicate = Callable[[Array], Mapping[str, Any]]


def simulate(
    replicate: Replicate,
    *,
    key: Array,
    num_replications: int,
    start: int = 0,
    chunk_size: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
) -> dict[str, Array]:
    """Metrics of replications start .. start + num_replications - 1.

    Replication i sees `jax.random.fold_in(key, i)` and nothing else, so one that failed
    can be run again alone, and neither the batch nor the number of devices changes a
    bit of it. Nor does the chunk, with one exception: the compiler orders the terms of
    a floating-point sum by the chunk's shape, so another `chunk_size` may change the
    last bit of a mean taken inside the replicate function (never of ranks, counts or
    comparisons). The default chunk depends on the replicate function alone.

    Args:
        replicate: pure function from a key to a dict of numbers.
        key: one key, typed or legacy; the replicate function gets a typed one.
        num_replications: how many.
        start: index of the first one.
        chunk_size: replications in flight at once on each device; None chooses so
            that a chunk's intermediate results stay below 256 MiB.
        mesh: devices to split the replications over; None uses the default device.
            With several processes every process gets all metrics.

    Returns:
        By name, arrays of shape (num_replications,), or (num_replications, k) for
        metrics of shape (k,).

    Raises:
        TypeError: the replicate function does not return a dict of real numbers.
        ValueError: a metric of rank above 1, or sizes that are not positive.

    Transformations: none; this is a driver.
    Cost: one compilation per replicate function, chunk, number and mesh.

    Example:
        >>> import jax
        >>> from jaxcur import verify
        >>> def replicate(key):
        ...     return {"miss": jax.random.uniform(key) < 0.1}
        >>> metrics = verify.simulate(
        ...     replicate, key=jax.random.key(0), num_replications=100
        ... )
        >>> metrics["miss"].shape
        (100,)
    """
    for name, value, least in (
        ("num_replications", num_replications, 1),
        ("start", start, 0),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}")
    runner = Runner(replicate, key, chunk_size, mesh, num_replications)
    metrics = runner(start)
    return {name: value[:num_replications] for name, value in metrics.items()}


class Runner:
    """Computes a fixed number of replications from any starting index."""

    def __init__(
        self,
        replicate: Replicate,
        key: Array,
        chunk_size: int | None,
        mesh: jax.sharding.Mesh | None,
        num_wanted: int,
    ) -> None:
        self.key = as_key(key)
        self.shapes = check_replicate(replicate, self.key)
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"`chunk_size` must be at least 1, got {chunk_size}")
        self._replicate = _hashable(replicate)
        self._mesh = mesh
        self._chunk = chunk_size or choose_chunk(replicate, self.key)
        step = self._chunk * (1 if mesh is None else mesh.size)
        self.size = -(-num_wanted // step) * step
        # NumPy arguments: in a run of several processes they are the same everywhere
        # and need no placement.
        self._data = np.asarray(jax.random.key_data(self.key))
        self._implementation = str(jax.random.key_impl(self.key))

    def __call__(self, start: int) -> dict[str, Array]:
        """Metrics of replications start .. start + size - 1."""
        return _run(
            self._data,
            np.uint32(start),
            replicate=self._replicate,
            implementation=self._implementation,
            size=self.size,
            chunk=self._chunk,
            mesh=self._mesh,
        )


@jax.jit(static_argnames=("replicate", "implementation", "size", "chunk", "mesh"))
def _run(
    key_data: Any,
    start: Any,
    *,
    replicate: Replicate,
    implementation: str,
    size: int,
    chunk: int,
    mesh: jax.sharding.Mesh | None,
) -> dict[str, Array]:
    def run(key_data: Array, index: Array) -> dict[str, Array]:
        key = jax.random.wrap_key_data(key_data, impl=implementation)
        return jax.lax.map(
            lambda i: {
                name: jnp.asarray(value)
                for name, value in replicate(jax.random.fold_in(key, i)).items()
            },
            index,
            batch_size=chunk,
        )

    if mesh is None:
        return run(key_data, start + jnp.arange(size, dtype=jnp.uint32))
    axes = mesh.axis_names
    share = size // mesh.size

    def shard(key_data: Array, start: Array) -> dict[str, Array]:
        position = jax.lax.axis_index(axes).astype(jnp.uint32)
        index = start + position * np.uint32(share)
        metrics = run(key_data, index + jnp.arange(share, dtype=jnp.uint32))
        # Every device, and so every process, ends with all metrics: the decision to
        # stop must be the same everywhere.
        return {name: _gather(value, axes) for name, value in metrics.items()}

    return jax.shard_map(
        shard,
        mesh=mesh,
        in_specs=(PartitionSpec(), PartitionSpec()),
        out_specs=PartitionSpec(),
        check_vma=False,
    )(key_data, start)


def _gather(value: Array, axes: tuple[str, ...]) -> Array:
    # Booleans are not a type every collective library transports.
    wide = value.astype(jnp.int32) if value.dtype == jnp.bool_ else value
    full = jax.lax.all_gather(wide, axes, tiled=True)
    return full.astype(value.dtype)


def as_key(key: Any) -> Array:
    """A single typed key from a typed or legacy one."""
    dtype = getattr(key, "dtype", None)
    if dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key):
        typed = key
    elif dtype == jnp.uint32 and getattr(key, "ndim", 0) >= 1:
        typed = jax.random.wrap_key_data(jnp.asarray(key))
    else:
        raise TypeError(
            f"`key` must be a key such as jax.random.key(0), got {type(key).__name__}"
        )
    if typed.shape != ():
        raise ValueError(f"`key` must be a single key, got shape {typed.shape}")
    return typed


def check_replicate(
    replicate: Replicate, key: Array
) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes of the metrics; raises unless they are a dict of real numbers."""
    trace, shapes = jax.make_jaxpr(replicate, return_shape=True)(key)
    if not isinstance(shapes, Mapping) or not shapes:
        raise TypeError(
            "`replicate` must return a dict of metrics by name, "
            f"got {type(shapes).__name__}"
        )
    for name, shape in shapes.items():
        if not hasattr(shape, "dtype") or not _is_real(shape.dtype):
            raise TypeError(f"metric {name!r} must be a real number, got {shape}")
        if len(shape.shape) > 1:
            raise ValueError(
                f"metric {name!r} must be a scalar, or a vector for claims on several "
                f"means, got shape {shape.shape}"
            )
    (drawn,) = trace.jaxpr.invars
    read = (v for equation in trace.jaxpr.eqns for v in equation.invars)
    if not any(v is drawn for v in (*read, *trace.jaxpr.outvars)):
        raise ValueError(
            "`replicate` does not use its key, so that every replication is the same: "
            "draw with jax.random from the key (a NumPy draw happens once, while "
            "tracing)"
        )
    return dict(shapes)


def _is_real(dtype: Any) -> bool:
    return any(
        jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_)
    )


def choose_chunk(replicate: Replicate, key: Array) -> int:
    """A power of two of replications whose intermediate results fit the ceiling.

    The estimate adds up every intermediate array of one replication, loop bodies once;
    the compiler reuses memory, so the true peak is lower. It depends on nothing but
    the replicate function: the same program runs whatever the number of devices, the
    batch and the number of replications wanted.
    """
    closed = jax.make_jaxpr(replicate)(key)
    footprint = max(_footprint(closed.jaxpr), 1)
    chunk = min(MAX_CHUNK, max(1, MEMORY_CEILING // footprint))
    return 1 << (chunk.bit_length() - 1)


def _footprint(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = 0
        for value in equation.params.values():
            for item in value if isinstance(value, tuple | list) else (value,):
                item = getattr(item, "jaxpr", item)
                if hasattr(item, "eqns"):
                    inner = max(inner, _footprint(item))
        total += inner
        for variable in equation.outvars:
            shape = getattr(variable.aval, "shape", ())
            size = getattr(getattr(variable.aval, "dtype", None), "itemsize", 4)
            total += int(np.prod(shape, dtype=np.int64)) * int(size)
    return total


class _ByIdentity:
    """Makes a callable with unhashable parts usable as a static argument."""

    def __init__(self, function: Replicate) -> None:
        self._function = function

    def __call__(self, key: Array) -> Mapping[str, Any]:
        return self._function(key)


def _hashable(replicate: Replicate) -> Replicate:
    try:
        hash(replicate)
    except TypeError:
        return _ByIdentity(replicate)
    return replicate
