"""Tiles: a few rows against all columns at a time, so that no matrix is ever stored.

A panel of scores (tile, m) is formed by one matrix product, used, and forgotten, also
when the computation is differentiated: the body is recomputed, its inputs are O(n + m).
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh, PartitionSpec

from jaxcur._base import register_dataclass
from jaxcur.ot._costs import HIGHEST, GivenMatrix, Side

# Panels that stay in the cache of a CPU core are fastest; an accelerator wants work.
_PANEL = {"cpu": 400_000}
_PANEL_KEPT = 1_000_000
_PANEL_ACCELERATOR = 64_000_000
_FEWEST_ROWS = 40
_LARGEST_PANEL = 8_000_000
# A matrix up to this many bytes is kept between iterations: on a CPU reading it takes a
# third of the time of computing it again from a few dozen features.
_KEPT_BYTES = {"cpu": 400_000_000}


@dataclasses.dataclass(frozen=True)
class Layout:
    """How rows are cut up: static.

    Attributes:
        tile: rows in a panel.
        mesh: devices with one axis, over which the rows are divided; None for one.
        keep: whether the costs are computed once for all iterations of a solve.
    """

    tile: int
    mesh: Mesh | None = None
    keep: bool = False


def choose_tile(num_columns: int, keep: bool) -> int:
    """Rows in a panel, from measurements on a CPU."""
    backend = jax.default_backend()
    panel = _PANEL_KEPT if keep else _PANEL.get(backend, _PANEL_ACCELERATOR)
    # Below some forty rows the matrix product pays for reading all columns.
    fewest = min(_FEWEST_ROWS, max(8, _LARGEST_PANEL // max(num_columns, 1)))
    rows = max(fewest, min(panel // max(num_columns, 1), 4096))
    return max(1, rows)


def choose_keep(num_rows: int, num_columns: int, dtype: Any, mesh: Any) -> bool:
    """Whether a solve is faster with the whole matrix, and that is small enough."""
    limit = 0 if mesh is not None else _KEPT_BYTES.get(jax.default_backend(), 0)
    return num_rows * num_columns * jnp.dtype(dtype).itemsize <= limit


def stream(
    body: Callable[[Any, Any, Any], tuple[Any, Any]],
    rows: Any,
    weights: Any,
    shared: Any,
    layout: Layout,
) -> tuple[Any, Any]:
    """Sum and stack what `body(rows, weights, shared)` returns over all tiles.

    Args:
        body: gives (summed, stacked); `summed` is added over tiles, `stacked` has the
            rows of the tile as its leading axis.
        rows: pytree with leading axis n; the first row is repeated to fill the last
            tile.
        weights: pytree with leading axis n, filled with zeros.
        shared: pytree every tile sees.
        layout: how to cut.

    Returns:
        The sum, and the stack with leading axis n.
    """
    n = jax.tree.leaves(rows)[0].shape[0]
    devices = 1 if layout.mesh is None else layout.mesh.size
    tile = min(layout.tile, -(-n // devices))
    steps = -(-n // (tile * devices))
    # Equal tiles: the padding of the last one is then less than a row a tile.
    tile = -(-n // (steps * devices))
    extra = steps * devices * tile - n

    def cut(array: Array, repeated: bool) -> Array:
        shape = (extra, *array.shape[1:])
        if extra:
            padding = jnp.zeros(shape, array.dtype)
            if repeated:
                padding = jnp.broadcast_to(array[:1], shape)
            array = jnp.concatenate([array, padding])
        return array.reshape(devices * steps, tile, *array.shape[1:])

    tiles = (
        jax.tree.map(lambda leaf: cut(leaf, True), rows),
        jax.tree.map(lambda leaf: cut(leaf, False), weights),
    )
    # Recomputed when differentiated; the running sum stays outside, so that no copy of
    # it is kept for every tile.
    light = jax.checkpoint(body)

    def local(tiles: Any, shared: Any) -> tuple[Any, Any]:
        first = jax.tree.map(lambda leaf: leaf[0], tiles)
        if steps == 1:
            total, stacked = light(*first, shared)
            stacked = jax.tree.map(lambda leaf: leaf[None], stacked)
        else:
            shapes = jax.eval_shape(light, *first, shared)[0]
            zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

            def step(total: Any, tile_rows: Any) -> tuple[Any, Any]:
                part, out = light(*tile_rows, shared)
                return jax.tree.map(jnp.add, total, part), out

            total, stacked = jax.lax.scan(step, zeros, tiles)
        if layout.mesh is not None:
            total = jax.lax.psum(total, layout.mesh.axis_names[0])
        return total, stacked

    if layout.mesh is None:
        total, stacked = local(tiles, shared)
    else:
        split = PartitionSpec(layout.mesh.axis_names[0])
        total, stacked = jax.shard_map(
            local,
            mesh=layout.mesh,
            in_specs=(split, PartitionSpec()),
            out_specs=(PartitionSpec(), split),
            check_vma=False,
        )(tiles, shared)
    return total, jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:])[:n], stacked
    )


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Geometry:
    """Both clouds prepared, and the cost between them.

    `u` and `v` are what the potentials absorb: offsets of a bilinear cost or a matrix.
    """

    rows: Side
    columns: Side
    cost: Any
    swapped: bool = dataclasses.field(default=False, metadata={"static": True})

    @property
    def u(self) -> Array:
        """Absorbed part of the costs of the rows, (n,)."""
        return _absorbed(self.cost, self.rows)

    @property
    def v(self) -> Array:
        """Absorbed part of the costs of the columns, (m,)."""
        return _absorbed(self.cost, self.columns)


def _absorbed(cost: Any, side: Side) -> Array:
    if cost.bilinear or isinstance(cost, GivenMatrix):
        return side.offset
    return jnp.zeros(side.vectors.shape[0], side.vectors.dtype)


def scores(cost: Any, swapped: bool, rows: Side, columns: Side) -> Array:
    """u_i + v_j - C_ij of a tile of rows against all columns, (tile, m)."""
    if cost.bilinear:
        return jnp.matmul(rows.vectors, columns.vectors.T, precision=HIGHEST)
    if swapped:
        return -cost.panel(columns, rows).T
    return -cost.panel(rows, columns)


def gibbs(
    cost: Any, rows: Side, columns: Side, phi: Array, psi: Array, epsilon: Array
) -> Array:
    """exp((f_i + g_j - C_ij) / epsilon) of a tile, (tile, m), from f - u over epsilon.

    Between two points without weight it could be anything and is cut off, so that their
    weights still make it 0; wherever one has weight, it is below the inverse of that.
    """
    logs = log_gibbs(cost, False, rows, columns, phi, psi, epsilon)
    return jnp.exp(cut_off(logs))


def cut_off(logs: Array) -> Array:
    """Logarithms whose exponential is finite by far."""
    return jnp.minimum(logs, 60.0 if jnp.finfo(logs.dtype).bits == 32 else 600.0)


def log_gibbs(
    cost: Any,
    swapped: bool,
    rows: Side,
    columns: Side,
    phi: Array,
    psi: Array,
    epsilon: Array,
) -> Array:
    """(f_i + g_j - C_ij) / epsilon of a tile, (tile, m)."""
    if cost.bilinear:
        # Scaling the few vectors instead of the many scores.
        rows = rows._replace(vectors=rows.vectors / epsilon)
        return scores(cost, swapped, rows, columns) + phi[:, None] + psi[None, :]
    product = scores(cost, swapped, rows, columns) / epsilon
    return product + phi[:, None] + psi[None, :]


def swap(geometry: Geometry) -> Geometry:
    """Columns as rows. A given matrix is transposed."""
    cost, rows, columns = geometry.cost, geometry.rows, geometry.columns
    if isinstance(cost, GivenMatrix):
        flipped = Side(columns.offset, rows.vectors.T)
        empty = Side(rows.offset, rows.vectors[:, :0])
        return Geometry(flipped, empty, cost, False)
    return Geometry(columns, rows, cost, True)


def keep_costs(geometry: Geometry, layout: Layout) -> Geometry:
    """The same costs less what the potentials absorb, as a matrix."""

    def body(rows: Any, weights: Any, shared: Any) -> tuple[Any, Any]:
        columns, cost = shared
        return (), -scores(cost, False, rows, columns)

    if isinstance(geometry.cost, GivenMatrix):
        return geometry
    if geometry.cost.bilinear:
        left = geometry.rows._replace(vectors=-geometry.rows.vectors)
        matrix = scores(geometry.cost, False, left, geometry.columns)
    else:
        # In tiles: a function of blocks may need far more memory than its values.
        shared = (geometry.columns, geometry.cost)
        matrix = stream(body, geometry.rows, (), shared, layout)[1]
    nothing = jnp.zeros((geometry.v.shape[0], 0), matrix.dtype)
    rows, columns = Side(geometry.u, matrix), Side(geometry.v, nothing)
    return Geometry(rows, columns, GivenMatrix())
