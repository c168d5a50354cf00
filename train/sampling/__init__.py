"""Sampling from densities known up to a constant: `--task=sampling`."""
