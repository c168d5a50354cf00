"""Flags that are typed and do nothing with the others: told, as they may stand for a mistake."""

import re

__all__ = ["idle"]

_IMAGES = ("idim kernels squeeze_first factor_out fc_actnorm logit_transform alpha fc_end "
           "n_fc_blocks fc_idim first_resblock imagesize resize_mode nbits add_noise").split()


def idle(settings, argv, toys):
    """Lines about flags of a command line, not of its flagfiles, that have no effect.

    Args:
      settings: the `Settings` of all flags.
      argv: as `sys.argv`.
      toys: names of the data that are drawn.
    """
    names = {re.sub("=.*", "", a).lstrip("-") for a in argv[1:] if a.startswith("-")}
    typed = names | {name.removeprefix("no") for name in names}
    return [f"--{name} has no effect {why}" for name, works, why in _rules(settings, toys)
            if name in typed and not works]


def _rules(s, toys):
    """`(flag, whether it does something, where it does not)`."""
    drawn, series = s.data in toys, "with a truncated series, --n_power_series"
    yield "n_test", drawn, f"with --data={s.data}, which is not drawn"
    for name in ("val_fraction", "test_fraction"):
        yield name, not drawn, f"with --data={s.data}, of which --n_test are drawn"
    for name in ("n_dist", "n_samples", "n_exact_terms"):
        yield name, not s.n_power_series, series
    yield "n_lambda", s.n_dist == "poisson" and not s.n_power_series, "without --n_dist=poisson"
    yield "geom_p", s.n_dist == "geometric" and not s.n_power_series, "without --n_dist=geometric"
    for name in ("densenet_depth", "densenet_growth", "learnable_concat"):
        yield name, s.densenet, "without --densenet"
    for name in ("mixed", "p_range"):
        yield name, s.learn_p, "without --learn_p"
    yield "ema_decay", s.ema_val, "with --noema_val"
    yield "beta_2", s.optimizer in ("adam", "adamw", "adamax"), f"with --optimizer={s.optimizer}"
    for name in _IMAGES:
        yield name, not drawn and s.data != "csv", f"with --data={s.data}, which is no images"
    yield "dims", drawn or s.data in ("csv", "array"), f"with --data={s.data}, which is images"
