"""Selecting from a stream: one pass, little memory, the exact in-memory answer."""

import functools
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax import Array

from jaxcur import conformal, data, plots
from jaxcur.cli.demo._chapter import Chapter, Picture, Table

NUM_CALIBRATION = 100_000
THRESHOLD = 1.0
NOISE = 0.5
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4)
SPOKEN = (0.05, 0.1, 0.2)

_CODE = """\
from jaxcur import conformal

state = conformal.RankHistogram.init(calibration_scores)
for chunk in chunks:                       # any source, any number of rows
    state = state.update(chunk)
state.score_cutoff(0.1)                    # rows scoring at or below it are selected
"""


class Streamed(NamedTuple):
    """One pass over the stream.

    Attributes:
        state: the counts after all chunks.
        seconds: time of counting, without drawing the data.
    """

    state: conformal.RankHistogram
    seconds: float


@functools.partial(jax.jit, static_argnames=("size",))
def draw(key: Array, index: Array, size: int) -> data.NoisyPredictions:
    """Rows of one chunk; the same index gives the same rows again."""
    return data.noisy_predictions(size, noise=NOISE, key=jax.random.fold_in(key, index))


def scores(chunk: data.NoisyPredictions) -> Array:
    """Test scores of a chunk, shape (size,)."""
    return conformal.ClipScore().test(chunk.predictions[0], THRESHOLD)


def stream(
    state: conformal.RankHistogram, key: Array, *, num_chunks: int, size: int
) -> Streamed:
    """Count every chunk, timing the counting only."""
    seconds = 0.0
    for index in range(num_chunks):
        new = jax.block_until_ready(scores(draw(key, jnp.int32(index), size)))
        began = time.perf_counter()
        state = jax.block_until_ready(state.update(new))
        seconds += time.perf_counter() - began
    return Streamed(state, seconds)


@jax.jit
def _outcome(chunk: data.NoisyPredictions, cutoffs: Array) -> Array:
    """Selected, wrong and interesting rows of a chunk for each cut-off, (levels, 3)."""
    selected = scores(chunk)[None, :] <= cutoffs[:, None]
    interesting = chunk.labels[None, :] > THRESHOLD
    return jnp.stack(
        [
            selected.sum(axis=1),
            (selected & ~interesting).sum(axis=1),
            jnp.broadcast_to(interesting.sum(axis=1), (selected.shape[0],)),
        ],
        axis=1,
    )


def _second_pass(
    streamed: Streamed, key: Array, *, num_chunks: int, size: int
) -> np.ndarray:
    """Apply the cut-offs to every row and compare with the truth."""
    cutoffs = jnp.stack([streamed.state.score_cutoff(q) for q in LEVELS])
    total = np.zeros((len(LEVELS), 3), np.int64)
    for index in range(num_chunks):
        total += np.asarray(_outcome(draw(key, jnp.int32(index), size), cutoffs))
    return total


def _agrees(
    state: conformal.RankHistogram, key: Array, calibration: Array, size: int
) -> bool:
    """Whether streaming four chunks equals one call on all their rows, bit for bit."""
    parts = [scores(draw(key, jnp.int32(index), size)) for index in range(4)]
    whole = jnp.concatenate(parts)
    left = state.update(parts[0]).update(parts[1])
    right = state.update(parts[2]).update(parts[3])
    merged = left.merge(right)
    return all(
        bool(
            (
                (whole <= merged.score_cutoff(q))
                == conformal.select(calibration, whole, level=q).selected
            ).all()
        )
        for q in SPOKEN
    )


def run(*, quick: bool, seed: int) -> Chapter:
    """Stream rows with known truth through a histogram of ranks."""
    size, num_chunks = 1_000_000, 16 if quick else 300
    key_calibration, key_stream = jax.random.split(jax.random.key(seed))
    world = data.noisy_predictions(NUM_CALIBRATION, noise=NOISE, key=key_calibration)
    calibration = conformal.ClipScore().calibration(
        world.predictions[0], world.labels, THRESHOLD
    )
    empty = conformal.RankHistogram.init(calibration)
    empty.update(jnp.zeros(size))  # compile before the clock starts
    streamed = stream(empty, key_stream, num_chunks=num_chunks, size=size)
    total = _second_pass(streamed, key_stream, num_chunks=num_chunks, size=size)
    agrees = _agrees(empty, key_stream, calibration, size // 4)
    rows = num_chunks * size
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(streamed.state))
    table = _table(streamed, total, rows)
    return Chapter(
        name="stream",
        title="More candidates than memory: selecting from a stream",
        question="Can one select from any number of rows without holding "
        "them, and still get the exact answer?",
        setup=(
            "A deterministic conformal p-value can take only n + 1 values, so all that "
            "a selection needs to know of the candidates is how many fall between "
            "neighbouring calibration scores. A histogram of these counts is filled "
            "chunk by chunk; two histograms from two machines add up, and any level "
            "can be asked for afterwards.",
            f"The stream is synthetic, so the truth is known: labels are standard "
            f"normal, a prediction is the label plus noise of scale {NOISE:g}, and "
            f"rows whose label exceeds {THRESHOLD:g} are wanted. There are "
            f"{NUM_CALIBRATION:,} calibration rows and {rows:,} candidates.",
        ),
        findings=(
            f"{rows:,} rows went through a state of {state_bytes / 1e6:.1f} MB in "
            f"{streamed.seconds:.1f} s of counting "
            f"({rows / streamed.seconds / 1e6:.0f} million rows a second); held in "
            f"memory, their scores alone would take {rows * 4 / 1e6:,.0f} MB.",
            f"Four chunks, counted as two halves and merged, select "
            f"{'exactly the rows' if agrees else 'NOT the rows'} that one in-memory "
            f"call on all {size:,} selects, at each level.",
            *(
                f"At level {row['level']:.0%}, {row['selected']:,.0f} rows are "
                f"selected, {row['wrong']:.2%} of them wrong, and {row['found']:.1%} "
                "of the wanted rows are found."
                for row in table.frame.to_dict("records")
                if row["level"] in SPOKEN
            ),
        ),
        conclusion="The number of candidates is no limit: memory depends on the "
        "calibration rows only, and nothing is approximated. The promise is "
        "an average over calibration sets; "
        f"with {NUM_CALIBRATION:,} calibration rows a single one comes out close to "
        "the level, a little above it as often as below.",
        items=(table, _picture(table, rows)),
        code=_CODE,
    )


def _table(streamed: Streamed, total: np.ndarray, rows: int) -> Table:
    selected, wrong, wanted = total.T
    frame = pd.DataFrame(
        {
            "level": LEVELS,
            # A score is the threshold minus the prediction.
            "cut-off": [
                THRESHOLD - float(streamed.state.score_cutoff(q)) for q in LEVELS
            ],
            "selected": selected,
            "wrong": wrong / np.maximum(selected, 1),
            "found": (selected - wrong) / wanted,
        }
    )
    return Table(
        name="stream-levels",
        caption=f"Selection from {rows:,} rows. Cut-off: lowest prediction that is "
        "selected. Wrong: share of the selected whose label does not exceed "
        f"{THRESHOLD:g}. Found: share of the rows above it that are selected.",
        frame=frame,
        display={
            "level": "{:.0%}",
            "cut-off": "{:.4f}",
            "selected": "{:,}",
            "wrong": "{:.2%}",
            "found": "{:.1%}",
        },
    )


def _picture(table: Table, rows: int) -> Picture:
    drawing, axes = plots.figure(6.4, 3.8)
    wrong, found = table.frame["wrong"].to_numpy(), table.frame["found"].to_numpy()
    plots.rate_curves(
        axes,
        LEVELS,
        [
            plots.Curve("wrong among selected", wrong, wrong, wrong),
            plots.Curve("found, of the wanted rows", found, found, found),
        ],
        ylabel="share",
        xlabel="level",
        diagonal=True,
    )
    return Picture(
        name="stream-levels",
        caption=f"One pass over {rows:,} rows answers every level. Dotted: errors "
        "equal to the level. The share of errors follows it; the rest is the luck of "
        "one calibration set.",
        alt="Line chart over levels from 1 to 40%: the share of errors follows the "
        f"diagonal, the share found rises from {found[0]:.0%} to {found[-1]:.0%}.",
        figure=drawing,
    )
