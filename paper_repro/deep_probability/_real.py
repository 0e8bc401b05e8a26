"""The released forecasts scored again, and a study on bundled data."""

from typing import Any

import numpy as np
from scipy.special import expit

from jaxcur import calibration
from paper_repro.deep_probability import _scores

FILE = "cape_face_predictions.npz"
STAGES = ("infinite", "overfit", "early_stop", "cape_bin")


def released() -> dict[str, dict[str, float]]:
    """Scores of the authors' own forecasts of two scenarios; empty without the file.

    The file collects, as arrays `{scenario}_{stage}_phat`, `{scenario}_y` and
    `{scenario}_p`, the eight pickles that come with the published code. Pickles run
    code when they are read, so none is fetched from here: put the arrays into the
    folder that `JAXCUR_DATA` names, under `calibration/`.
    """
    from jaxcur import data

    path = data.data_folder() / "calibration" / FILE
    if not path.is_file():
        print(f"skipped: released forecasts: no file {FILE} in the data folder")
        return {}
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name].astype(np.float64) for name in stored}
    return {
        f"{scenario}, {stage}": _scores.score(
            arrays[f"{scenario}_{stage}_phat"],
            arrays[f"{scenario}_y"],
            arrays[f"{scenario}_p"],
        )
        for scenario in ("discrete", "unif")
        for stage in STAGES
    }


def bundled(splits: int = 20) -> dict[str, Any]:
    """Naive Bayes on breast cancer: log loss and error before and after each repair."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split
    from sklearn.naive_bayes import GaussianNB

    x, y = load_breast_cancer(return_X_y=True)
    runs = []
    for seed in range(splits):
        x_train, x_rest, y_train, y_rest = train_test_split(
            x, y, test_size=0.6, random_state=seed, stratify=y
        )
        x_fit, x_test, y_fit, y_test = train_test_split(
            x_rest, y_rest, test_size=0.5, random_state=seed, stratify=y_rest
        )
        model = GaussianNB().fit(x_train, y_train)

        def logits(rows: np.ndarray) -> np.ndarray:
            log_p = model.predict_log_proba(rows)  # noqa: B023
            return (log_p[:, 1] - log_p[:, 0]).astype(np.float32)

        z_fit, z_test = logits(x_fit), logits(x_test)
        p_fit, p_test = expit(z_fit), expit(z_test)
        forecasts = {
            "none": p_test,
            "temperature": calibration.fit_temperature(z_fit, y_fit)(z_test),
            "Platt": calibration.fit_platt(z_fit, y_fit)(z_test),
            "beta": calibration.fit_beta(p_fit, y_fit)(p_test),
            "isotonic": calibration.fit_isotonic(p_fit, y_fit)(p_test),
            "Venn-Abers": calibration.fit_venn_abers(z_fit, y_fit)(z_test),
        }
        runs.append(
            {
                name: {
                    "log loss": float(
                        calibration.log_loss(np.clip(f, 1e-6, 1 - 1e-6), y_test)
                    ),
                    "Brier": float(calibration.brier_score(f, y_test)),
                    "smooth ECE": float(calibration.smooth_ece(f, y_test)),
                }
                for name, f in forecasts.items()
            }
        )
    found = {}
    for name in runs[0]:
        found[name] = {
            metric: _scores.interval(np.array([run[name][metric] for run in runs]))
            for metric in runs[0][name]
        }
    return found
