"""Results of single replications, saved as they come, so that a run can be resumed."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np


class Store:
    """Rates of the replications of one study, in a file that is whole at any moment.

    Args:
        path: the file; absent at first.
        fingerprint: text that describes the study. Saved results of another description
            are not mixed in: they are set aside under a second name.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self.digest = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
        self.results: dict[int, dict[str, list]] = {}
        if not path.is_file():
            return
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["digest"] == self.digest:
            self.results = {int(k): v for k, v in saved["results"].items()}
        else:
            path.replace(path.with_name(f"old-{path.name}"))

    def missing(self, replications: int) -> list[int]:
        """Numbers below `replications` that have no result yet."""
        return [i for i in range(replications) if i not in self.results]

    def add(self, index: int, rates: dict[str, Any]) -> None:
        """Keep the rates (levels, 2) of every rule in one replication."""
        self.results[index] = {
            name: np.round(np.asarray(value, float), 6).tolist()
            for name, value in rates.items()
        }

    def save(self) -> None:
        """Write the file beside its place and move it there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.path.with_suffix(f".{os.getpid()}.tmp")
        payload = {"digest": self.digest, "results": self.results}
        scratch.write_text(json.dumps(payload), encoding="utf-8")
        scratch.replace(self.path)

    def arrays(self, replications: int) -> dict[str, np.ndarray]:
        """Rule -> (replications, levels, 2), of the first `replications` that exist."""
        kept = [self.results[i] for i in sorted(self.results) if i < replications]
        if not kept:
            return {}
        return {name: np.array([one[name] for one in kept]) for name in kept[0]}
