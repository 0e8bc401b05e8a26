"""The drug-discovery comparison, where the data sets are on this machine.

The published study encodes molecules with eight deep networks. None of them is
available here: a molecule is encoded by counts over its SMILES text, and sixteen models
(four encodings by four learners) stand in for the seventeen. The dealing of rows is the
published one: half train, a tenth is set aside, and the rest is halved at random again
and again into calibration rows and candidates.
"""

import functools
import re
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcur import data, learners

# One symbol of a SMILES string: an atom in brackets, a two-letter element, or a sign.
_SYMBOL = re.compile(r"\[[^\]]*\]|Br|Cl|%\d\d|.")
_WIDTH = 256
ENCODINGS = ("symbols", "pairs", "triples", "outline")


def _hashed(words: list[str]) -> np.ndarray:
    """Logarithms of word counts, words folded into a fixed number of places."""
    out = np.zeros(_WIDTH)
    for word in words:
        out[zlib.crc32(word.encode()) % _WIDTH] += 1
    return np.log1p(out)


def _outline(smiles: str, symbols: list[str]) -> np.ndarray:
    """Length, rings, branches, bonds, aromatic atoms, charges, elements."""
    marks = ("(", "=", "#", "+", "-", "@", "/", "1", "2", "3", "4")
    elements = ("C", "c", "N", "n", "O", "o", "S", "s", "F", "Cl", "Br", "P")
    counts = [smiles.count(mark) for mark in marks]
    atoms = [sum(symbol == element for symbol in symbols) for element in elements]
    return np.array([len(symbols), *counts, *atoms], float)


def encode(smiles: tuple[str, ...], encoding: str) -> np.ndarray:
    """Features of molecules, (n, d); no row looks at another."""
    rows = []
    for text in smiles:
        symbols = _SYMBOL.findall(text)
        if encoding == "outline":
            rows.append(_outline(text, symbols))
            continue
        size = {"symbols": 1, "pairs": 2, "triples": 3}[encoding]
        words = ["".join(w) for w in zip(*(symbols[i:] for i in range(size)))]
        rows.append(_hashed(words))
    return np.array(rows)


def _models(d: int) -> tuple[Any, ...]:
    return (
        learners.Ridge(10.0),
        learners.Ridge(1000.0),
        learners.KernelRidge(learners.RBF(0.5 / d), 1.0),
        learners.KNN(10),
    )


@functools.cache
def predictions(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Predictions (16, N) of the 40 % that are not trained on, and who is good (N,)."""
    found = data.load_drug_discovery(name)
    n = len(found.outcome)
    order = np.random.default_rng(zlib.crc32(name.encode())).permutation(n)
    train, rest = order[: n // 2], order[n // 2 + n // 10 :]
    y = found.outcome[train]
    y = ((y - y.mean()) / max(y.std(), 1e-12)).astype(np.float32)
    rows = []
    for encoding in ENCODINGS:
        x = encode(found.smiles, encoding)
        center, spread = x[train].mean(axis=0), x[train].std(axis=0)
        x = ((x - center) / np.where(spread > 0, spread, 1)).astype(np.float32)
        for model in _models(x.shape[1]):
            params = model.fit(jnp.asarray(x[train]), jnp.asarray(y))
            rows.append(jax.device_get(model.predict(params, jnp.asarray(x[rest]))))
    return np.array(rows), found.interesting[rest]


def simulate(setting: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """One random halving of the rows that were not trained on."""
    mu, good = predictions(setting)
    order = rng.permutation(len(good))
    n = len(good) // 2
    first, second = order[:n], order[n:]
    return {
        "calibration": mu[:, first],
        "test": mu[:, second],
        "interesting": good[first],
        "good": good[second],
        "fixed": np.asarray(0, np.int32),
    }


@functools.cache
def available() -> tuple[list[Any], list[str]]:
    """Studies of the data sets that are here, and in a line why others are not."""
    from paper_repro.optcs._studies import Study

    found, absent, why = [], [], ""
    for name in data.DRUG_TASKS:
        try:
            data.load_drug_discovery(name)
        except (data.DownloadError, ModuleNotFoundError) as error:
            absent.append(name)
            why = why or str(error)
            continue
        config = {"data": name, "models": "16: four encodings by four learners"}
        found.append(Study("drug", name, simulate, "among_models", 100, 20, config))
    if not absent:
        return found, []
    names = ", ".join(absent)
    return found, [f"{len(absent)} drug data sets are not here ({names}): {why}"]
