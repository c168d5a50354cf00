"""`python -m benchmarks.anomalies [--splits=5] [--only=wine,...]`: FlowDensity beside PyOD.

Each detector is fitted to half of the normal rows of a table, and ranks the others and all
anomalies; its defaults are those of its package. Columns are standardised for the three of PyOD, as
their own examples do. Printed: area under the ROC curve, mean over splits, a row for each table;
below, the mean over tables and the standard error over splits of that mean. What was measured stays
in anomalies.json beside this file; with --only, the other tables are taken from there.

The defaults of FlowDensity were chosen on the splits 100 and 101, which are not reported.
"""

import argparse
import json
import pathlib
import time

import numpy as np
from pyod.models.ecod import ECOD
from pyod.models.iforest import IForest
from pyod.models.knn import KNN
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from benchmarks.tables import TABLES, parted
from bijectors.density import FlowDensity

__all__ = ["DETECTORS", "areas", "table"]


def _flow(train, test, seed):
    return -FlowDensity(random_state=seed).fit(train).score_samples(test)


def _pyod(make):
    def scores(train, test, seed):
        scaler = StandardScaler().fit(train)
        return make(seed).fit(scaler.transform(train)).decision_function(scaler.transform(test))

    return scores


# `(train, test, seed) -> scores`, high for anomalies.
DETECTORS = {"FlowDensity": _flow, "IForest": _pyod(lambda seed: IForest(random_state=seed)),
             "ECOD": _pyod(lambda seed: ECOD()), "KNN": _pyod(lambda seed: KNN())}


def areas(name, splits, detectors):
    """Areas `{detector: [splits]}` of one of `TABLES`."""
    rows, anomalous = TABLES[name]()
    found = {detector: [] for detector in detectors}
    for seed in splits:
        train, test, truth = parted(rows, anomalous, seed)
        for detector, scores in detectors.items():
            found[detector].append(roc_auc_score(truth, scores(train, test, seed)))
    return found


def table(results):
    """The lines of a table in Markdown.

    Args:
      results: `{table: {detector: areas [splits]}}`.
    """
    names = list(next(iter(results.values())))
    lines = [f"| table | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for name, found in results.items():
        lines.append(_row(name, [np.mean(found[detector]) for detector in names]))
    over_tables = [np.mean([found[detector] for found in results.values()], axis=0)
                   for detector in names]  # of each split
    lines.append(_row("**mean**", [mean.mean() for mean in over_tables]))
    errors = [mean.std(ddof=1) / len(mean) ** 0.5 if len(mean) > 1 else np.nan
              for mean in over_tables]
    lines.append(_row("standard error over splits", errors))
    return lines


def _row(name, values):
    return f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="seed of the first split")
    parser.add_argument("--results", default=str(pathlib.Path(__file__).with_suffix(".json")))
    parser.add_argument("--only", default=",".join(TABLES), help="which tables")
    options = parser.parse_args()
    began, path = time.monotonic(), pathlib.Path(options.results)
    results = json.loads(path.read_text()) if path.exists() else {}
    for name in options.only.split(","):
        results[name] = areas(name, range(options.first, options.first + options.splits), DETECTORS)
        path.write_text(json.dumps(results, indent=1) + "\n")
        said = ", ".join(f"{key} {np.mean(value):.3f}" for key, value in results[name].items())
        print(f"{name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
    print("\n".join(table({name: results[name] for name in TABLES if name in results})))


if __name__ == "__main__":
    main()
