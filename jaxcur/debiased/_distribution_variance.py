"""The variance of the debiased distribution function at every value in the data.

For each design the squared scores summed over rows, strata or clusters, as polynomials
in F and lambda whose coefficients are cumulative sums. o and p stand for 1{y <= t} of
the label and of the prediction, a for the analysis weight, w for 1 / prob of a labelled
row and 0 elsewhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcur.debiased._sums import Sizes

_LOW_BITS = 32


class Events(NamedTuple):
    """Rows by the places at which they jump, in float64.

    Attributes:
        values: (M,), sorted; +inf for what is not there.
        last: (M,), place of the last value that ties.
        place: (N,), of the prediction of every row.
        place_observed: (L,), of the label of every labelled row.
        place_both: (L,), the later of its two.
        row: (L,), number of the labelled row.
        weight: (N,), analysis weight a.
        ratio: (N,), w: 1 / prob where there is a label, 0 elsewhere.
        present: (L,), 1 where the labelled slot is used.
        strata: (N,) int.
        clusters: (N,) int, one per cluster term.
        excess: (N,), as in `Rows`.
    """

    values: Array
    last: Array
    place: Array
    place_observed: Array
    place_both: Array
    row: Array
    weight: Array
    ratio: Array
    present: Array
    strata: Array
    clusters: tuple[Array, ...]
    excess: Array


def steps(
    events: Events,
    everyone: list[Array | None],
    observed: list[Array | None],
    both: list[Array | None],
) -> Array:
    """Jumps at the sorted places, (M, k), of k sums with terms per kind of event."""
    out = jnp.zeros((events.values.shape[0], len(everyone)), jnp.float64)
    kinds = (
        (events.place, everyone, None),
        (events.place_observed, observed, events.present),
        (events.place_both, both, events.present),
    )
    for places, terms, mask in kinds:
        for column, term in enumerate(terms):
            if term is not None:
                masked = term if mask is None else term[events.row] * mask
                out = out.at[places, column].add(masked)
    return out


def _grouped(
    jumps: Array, groups: Array, function: Callable[[Array, Array], Array]
) -> Array:
    """Sum over groups of a function of the running sums within the group, (M, j).

    Each event changes one group: the sum over groups moves by the change of that one.

    Args:
        jumps: (M, k), in order of value.
        groups: (M,) int.
        function: (M, k) running sums and the groups (M,) -> (M, j); 0 at 0.
    """
    m = jumps.shape[0]
    index = jnp.arange(m, dtype=jnp.int64)
    packed = jax.lax.sort((groups.astype(jnp.int64) << _LOW_BITS) | index)
    order = (packed & ((1 << _LOW_BITS) - 1)).astype(jnp.int32)
    group = (packed >> _LOW_BITS).astype(jnp.int32)
    own = jumps[order]
    running = jnp.cumsum(own, axis=0)
    starts = jnp.concatenate([jnp.ones((1,), bool), group[1:] != group[:-1]])
    start = jax.lax.cummax(jnp.where(starts, index, 0))
    after = running - (running - own)[start]
    change = function(after, group) - function(after - own, group)
    return jnp.cumsum(jnp.zeros_like(change).at[order].set(change), axis=0)


def _group_of_events(events: Events, groups: Array) -> Array:
    out = jnp.zeros(events.values.shape, groups.dtype)
    out = out.at[events.place].set(groups)
    return out.at[events.place_observed].set(groups[events.row])


Variance = Callable[[Array, Array], Array]


def independent(events: Events, target: str) -> Variance:
    """Squared scores  a [w o + lambda (1 - w) p - F (lambda + (1 - lambda) w)]."""
    w = events.ratio
    square = events.weight**2
    if target == "finite":
        # Only the label noise  sum a^2 (w^2 - w) [o - lambda p - F (1 - lambda)]^2.
        extra = square * (w * w - w)
        o, p, both = jnp.cumsum(
            steps(
                events,
                [None, extra, None],
                [extra, None, None],
                [None, None, extra],
            ),
            axis=0,
        ).T

        def finite(tuning: Array, share: Array) -> Array:
            value = o + tuning**2 * p - 2 * tuning * both
            cross = (1 - tuning) * (o - tuning * p)
            last = (1 - tuning) ** 2 * jnp.sum(extra)
            return value - 2 * share * cross + share**2 * last

        return finite
    none = None
    other = square * (1 - w)
    o_ww, o_w, p_vv, p_v, p_wv, both_wv = jnp.cumsum(
        steps(
            events,
            [none, none, other * (1 - w), other, other * w, none],
            [square * w * w, square * w, none, none, none, none],
            [none, none, none, none, none, other * w],
        ),
        axis=0,
    ).T

    def variance(tuning: Array, share: Array) -> Array:
        value = o_ww + tuning**2 * p_vv + 2 * tuning * both_wv
        cross = tuning * (o_w + tuning * p_v)
        cross += (1 - tuning) * (o_ww + tuning * p_wv)
        last = jnp.sum(square * (tuning + (1 - tuning) * w) ** 2)
        return value - 2 * share * cross + share**2 * last

    return variance


def fixed_size(events: Events, num_strata: int, target: str) -> Variance:
    """Labels drawn without replacement: covariances within strata, and their means.

    With d = a [o - lambda p - F (1 - lambda)] of labelled rows and g = a lambda (p - F)
    of all, a stratum contributes  N^2/n Var(d) + N Var(g) + 2 N Cov(d, g),  and the
    means of g + d vary between strata.
    """
    a = events.weight
    label = jnp.where(events.ratio > 0, 1.0, 0.0)
    al = a * label
    none = None
    # Sums: p and a p over all rows; p, a p, o, a o, a o p over labelled ones.
    jumps = steps(
        events,
        [a, a * a, al, a * al, none, none, none],
        [none, none, none, none, al, a * al, none],
        [none, none, none, none, none, none, a * al],
    )
    present = jnp.where(a > 0, 1.0, 0.0)
    whole = jnp.stack([present, a, a * a, label, al, a * al], axis=1)
    if num_strata == 1:
        constants = jnp.sum(whole, axis=0, keepdims=True)
    else:
        constants = jax.ops.segment_sum(whole, events.strata, num_strata)
    total_rows = jnp.sum(present)
    complete = jnp.all(constants[:, 0] == constants[:, 3])
    groups = _group_of_events(events, events.strata) if num_strata > 1 else None

    def coefficients(
        sums: Array, fixed: Array, tuning: Array
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Variance  c0 + c1 F + c2 F^2  of a stratum, N times its mean  m0 - m1 F."""
        p, pp, p_l, pp_l, o, oo, both = jnp.moveaxis(sums, -1, 0)
        n, k1, k2, n_l, a1, a2 = jnp.moveaxis(fixed, -1, 0)
        rest = 1 - tuning
        u, uu = o - tuning * p_l, oo + tuning**2 * pp_l - 2 * tuning * both
        au, ru = oo - tuning * pp_l, both - tuning * pp_l
        safe, safe_l = jnp.maximum(n, 1), jnp.maximum(n_l, 1)
        # One label in a stratum of several rows leaves the variance unknown.
        freedom = jnp.where((n_l == 1) & (n > 1), jnp.nan, jnp.maximum(n_l - 1, 1))
        varied = (n > 1).astype(sums.dtype)
        odds = safe / safe_l
        if target == "finite":
            by_d = varied * n * (odds - 1) / freedom
            by_g = by_dg = 0 * by_d
        else:
            by_d = varied * n * odds / freedom
            by_g = tuning**2 * varied * n / jnp.maximum(n - 1, 1)
            by_dg = 2 * tuning * varied * n / freedom
        v = rest * a1
        c0 = by_d * (uu - u * u / safe_l) + by_g * (pp - p * p / safe)
        c0 += by_dg * (ru - p_l * u / safe_l)
        c1 = -2 * by_d * (rest * au - u * v / safe_l)
        c1 += -2 * by_g * (pp - p * k1 / safe)
        c1 -= by_dg * (rest * pp_l + au - (p_l * v + a1 * u) / safe_l)
        c2 = by_d * (rest**2 * a2 - v * v / safe_l)
        c2 += by_g * (k2 - k1 * k1 / safe) + by_dg * (rest * a2 - a1 * v / safe_l)
        m0 = tuning * p + n * u / safe_l
        m1 = tuning * k1 + n * v / safe_l
        if target == "finite":
            m0, m1 = 0 * m0, 0 * m1
        return c0, c1, c2, m0, m1

    def variance(tuning: Array, share: Array) -> Array:
        if groups is None:
            c0, c1, c2, _, _ = coefficients(jnp.cumsum(jumps, 0), constants, tuning)
            value = c0 + share * c1 + share**2 * c2
        else:
            _, _, c2, _, m1 = coefficients(
                jnp.zeros((num_strata, 7)), constants, tuning
            )
            safe = jnp.maximum(constants[:, 0], 1)

            def terms(sums: Array, group: Array) -> Array:
                fixed = constants[group]
                c0, c1, _, m0, _ = coefficients(sums, fixed, tuning)
                mean = m0 / safe[group]
                return jnp.stack([c0, c1, m0 * mean, m1[group] * mean, m0], axis=-1)

            c0, c1, mm0, mm1, m0 = _grouped(jumps, groups, terms).T
            value = c0 + share * c1 + share**2 * jnp.sum(c2)
            between = mm0 - 2 * share * mm1 + share**2 * jnp.sum(m1 * m1 / safe)
            gap = m0 - share * jnp.sum(m1)
            value += between - gap * gap / jnp.maximum(total_rows, 1)
        if target == "finite":
            return jnp.where(complete, 0, value)
        # With a label in every row there is no design: the ordinary sum of squares.
        oo = jnp.cumsum(jumps[:, 5])
        plain = oo * (1 - 2 * share) + share**2 * jnp.sum(a * a)
        return jnp.where(complete, plain, value)

    return variance


def clustered(events: Events, sizes: Sizes, signs: tuple[int, ...]) -> Variance:
    """Squared sums of scores within clusters, several ways by inclusion, exclusion."""
    a, w = events.weight, events.ratio
    label = jnp.where(w > 0, 1.0, 0.0)
    other = a * (1 - w)
    jumps = steps(events, [None, other], [a * w, None], [None, None])
    means = None
    if sizes.strata:
        # With the number of labels fixed, the mean discrepancy is no noise.
        num_labeled = jnp.maximum(jnp.sum(label), 1)
        al = a * label
        o, p = jnp.cumsum(steps(events, [None, al], [al, None], [None, None]), 0).T
        means = (o / num_labeled, p / num_labeled, jnp.sum(al) / num_labeled)
    terms = []
    for sign, ids, count in zip(signs, events.clusters, sizes.clusters, strict=True):
        totals = jax.ops.segment_sum(
            jnp.stack([a, a * w, events.excess], axis=1), ids, count
        )
        linear = jnp.concatenate(
            [
                jnp.cumsum(
                    steps(events, [None, other * t], [a * w * t, None], [None, None]),
                    0,
                )
                for t in totals[ids].T
            ],
            axis=1,
        )

        def products(sums: Array, group: Array) -> Array:
            o, p = sums[:, 0], sums[:, 1]
            return jnp.stack([o * o, o * p, p * p], axis=-1)

        squares = _grouped(jumps, _group_of_events(events, ids), products)
        # Sums of products, not matrix products: their batching rule runs outside of
        # the 64-bit mode.
        gram = jnp.sum(totals[:, :, None] * totals[:, None, :], axis=0)
        terms.append((sign, squares.T, linear.T, gram))

    def variance(tuning: Array, share: Array) -> Array:
        total = jnp.zeros_like(share)
        for sign, (oo, op, pp), linear, gram in terms:
            o_a, p_a, o_w, p_w, o_e, p_e = linear
            rest = 1 - tuning
            value = oo + 2 * tuning * op + tuning**2 * pp
            cross = tuning * (o_a + tuning * p_a) + rest * (o_w + tuning * p_w)
            last = tuning * (tuning * gram[0, 0] + 2 * rest * gram[0, 1])
            last += rest * rest * gram[1, 1]
            value += -2 * share * cross + share**2 * last
            if means is not None:
                gap = means[0] - tuning * means[1] - share * rest * means[2]
                own = tuning * gram[0, 2] + rest * gram[1, 2]
                with_excess = o_e + tuning * p_e - share * own
                value += gap * (gap * gram[2, 2] - 2 * with_excess)
            total += sign * value
        return total

    return variance
