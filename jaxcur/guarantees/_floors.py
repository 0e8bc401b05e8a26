"""Power of an independent NumPy implementation in the registry's worlds.

Computed by tests/guarantees/numpy_power.py, which shares no code with the package: mean
over 4000 replications, fewer where candidates are looped over (400 in the worlds of
optcs, 500 to 2000 in those of score_risk and derandomize). The claims ask for at least
80 % of it. In the worlds of score_risk it is the share of candidates acted on.
"""

POWER: dict[str, float] = {
    "select/n50": 0.6877,
    "select/n1000": 0.5748,
    "select/few-nulls": 1.0,
    "select/many-nulls": 0.1850,
    "select/coarse": 0.3755,
    "select/weighted": 0.2333,
    "score_risk/mdr": 0.6896,
    "score_risk/mdr-weighted": 0.4995,
    "score_risk/sdr": 0.7004,
    "score_risk/sdr-weighted": 0.3033,
    "outliers/one": 0.8690,
    "outliers/storey": 0.8854,
    "outliers/quantile": 0.8508,
    "outliers/ada": 0.6906,
    "multi_condition/all": 0.7589,
    "multi_condition/any": 0.9449,
    "multi_condition/pairs": 0.3696,
    "conditional_p_values/dkwm": 0.7127,
    "conditional_p_values/simes": 0.9775,
    "conditional_p_values/monte-carlo": 0.9775,
    "conditional_p_values/asymptotic": 0.9990,
    "derandomize/n60": 0.7294,
    "optcs/weak-models": 0.1539,
    "optcs/good-models": 0.3797,
}
