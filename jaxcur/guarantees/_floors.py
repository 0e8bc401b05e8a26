"""Power of an independent NumPy implementation in the registry's worlds.

Computed by tests/guarantees/numpy_power.py, which shares no code with the package: mean
over 4000 replications (400 in the worlds of optcs). The claims ask for at least 80 % of
it.
"""

POWER: dict[str, float] = {
    "select/n50": 0.6877,
    "select/n1000": 0.5748,
    "select/few-nulls": 1.0,
    "select/many-nulls": 0.1850,
    "select/coarse": 0.3755,
    "select/weighted": 0.2333,
    "optcs/weak-models": 0.1539,
    "optcs/good-models": 0.3797,
}
