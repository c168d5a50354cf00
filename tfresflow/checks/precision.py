"""What numbers the layers compute with."""

__all__ = ["check_float"]


def check_float(layer):
    """Raises `ValueError` unless a Keras layer keeps its weights, and computes, in 32 or 64 bits.

    Half precision has neither the range nor the digits for norms, series and solvers.
    """
    if {layer.variable_dtype, layer.compute_dtype} - {"float32", "float64"}:
        raise ValueError("`dtype` must be float32 or float64, as an argument, or as Keras has it "
                         "from `set_dtype_policy` or `set_floatx`. Received: "
                         f"dtype={layer.dtype_policy.name} in {layer.name}")
