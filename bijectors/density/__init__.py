"""Densities of tables, and their outliers, as estimators of scikit-learn."""

try:
    import pandas  # noqa: F401
    import sklearn  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"bijectors.density: {error}: it needs pip install 'tfresflow[train]'"
                      ) from None

from bijectors.density.estimator import FlowDensity

__all__ = ["FlowDensity"]
