"""What an independent NumPy implementation reaches in the worlds of `debiased`.

Computed by tests/guarantees/numpy_debiased.py, which shares no code with the package.
"""

WIDTHS: dict[str, tuple[float, ...]] = {
    "debiased/mean": (0.0613,),
    "debiased/ols": (0.1339, 0.1700, 0.2675),
    "debiased/ols-covariate": (0.0871, 0.1376, 0.1764),
    "debiased/logistic": (0.2871, 0.3260, 0.5879),
    "debiased/poisson": (0.1240, 0.1294, 0.1298),
    "debiased/gamma": (0.0781, 0.0875, 0.1699),
    "debiased/multinomial": (0.2792, 0.3190, 0.3912, 0.4010),
    "debiased/shares": (0.0550, 0.0533, 0.0523),
    "debiased/ordered-logit": (0.2848, 0.2902, 0.2582),
    "debiased/iv": (0.1083, 0.1299),
    "debiased/user-moment": (0.1276, 0.1905),
    "debiased/ols-clusters": (0.2224, 0.2217, 0.4449),
    "debiased/quantile": (0.1546,),
    "debiased/fixed-effects": (0.1377, 0.1364),
}
"""Mean width of 95 % intervals over 300 draws (fixed effects: 50)."""

SQUARED_ERRORS: dict[int, tuple[float, ...]] = {
    2900: (0.01617, 0.01693, 0.00555),
    11500: (0.00399, 0.00427, 0.00144),
}
"""By number of rows, for each machine of the tuning worlds: summed squared error of
the better of labelled rows alone and no tuning, over 4000 draws."""
