"""Settings to a model: the one place that turns flag values into objects."""

import dataclasses
import functools
import math

import keras
import tensorflow as tf
import tensorflow_probability as tfp

from bijectors import Chain, Coupling, Inverted, InvertibleResidual, Monotone, flows
from tfresflow import FlowModel, autodiff, layers, logdet, solvers
from tfresflow.logdet.exact import SMALL
from tfresflow.training import optimizers
from train import data
from train.sampling import targets
from train.sampling.flags import LATTICES
from train.sampling.targets import build_loss
from train.settings import written

__all__ = ["build_loss", "build_model", "build_optimizer", "describe", "is_exact", "law",
           "steps_per_epoch", "total_steps"]

_AUTODIFF = {"recomputed": autodiff.Recomputed(), "stored": autodiff.Stored(),
             "released": autodiff.Released(), "checkpointed": autodiff.Checkpointed(),
             "reversible": autodiff.Reversible(), "moonwalk": autodiff.Moonwalk(),
             "moonwalk_reversible": autodiff.Moonwalk(autodiff.Reversible()),
             "memory_poor": autodiff.MemoryPoor(), "projected": autodiff.ProjectedForward()}
_BLOCKS = {"resblock": InvertibleResidual, "monotone": Monotone, "coupling": Coupling,
           "implicit": [InvertibleResidual, Inverted.of(InvertibleResidual)]}
_PROBES = {"normal": logdet.normal, "orthogonal": logdet.orthogonal,
           "rademacher": logdet.rademacher}
_FREQUENT = {"swish": layers.LipSwish, "sin": layers.Sin, "tanh": layers.Tanh}
_SOLVERS = {"anderson": solvers.Anderson, "broyden": solvers.Broyden, "newton": solvers.Newton,
            "picard": solvers.Picard}
_OPTIMIZERS = {"adam": optimizers.Adam, "adamw": keras.optimizers.AdamW,
               "adamax": keras.optimizers.Adamax, "rmsprop": keras.optimizers.RMSprop,
               "sgd": keras.optimizers.SGD}


def build_model(settings):
    """The `FlowModel` of a run, untrained.

    Raises:
      ValueError or OSError: the data is missing or the model does not fit it; one line.
    """
    keras.utils.set_random_seed(settings.seed)
    source = describe(settings)
    uniform, flow = source.kind == "image", _flow(settings, source)
    if uniform and settings.dequantise == "variational":
        uniform, flow = False, Chain([flow, _dequantizer(settings, source)])
    head = {} if settings.task in ("density", "sampling") else {
        "head": flows.scale_head(flow, len(source.classes), settings.cdim),
        "weight": settings.hybrid_weight if settings.task == "hybrid" else 0.0}
    return FlowModel(flow, _base(source), nbits=settings.nbits if uniform else None,
                     eval_log_det=_eval_log_det(settings, source, len(flow.branches())),
                     autodiff=_autodiff(settings), seed=settings.seed,
                     micro_batches=settings.update_freq, skip_nonfinite=settings.skip_nonfinite,
                     **head)


def _base(source):
    """The distribution of latents, None for normal ones: of angles it is uniform."""
    if source.kind != "u1":
        return None
    zeros = tf.zeros(source.event_shape, keras.config.floatx())
    return tfp.distributions.Independent(tfp.distributions.VonMises(zeros, 0 * zeros), 3)


def describe(settings):
    """The `Source` of the model's data, or of the target that it samples from.

    Raises:
      ValueError or OSError: see `data.describe`.
    """
    return (targets.source if settings.task == "sampling" else data.describe)(settings)


def build_optimizer(settings):
    """The Keras optimizer: warm-up, clipping, moving average."""
    kwargs = {"adam": {"beta_2": settings.beta_2}, "adamw": {"beta_2": settings.beta_2},
              "adamax": {"beta_2": settings.beta_2}, "sgd": {"momentum": 0.9}}
    decay = settings.wd if settings.optimizer == "adamw" else settings.wd or None
    return _OPTIMIZERS[settings.optimizer](
        _learning_rate(settings), weight_decay=decay,
        global_clipnorm=settings.clip or None, use_ema=settings.ema_val,
        ema_momentum=settings.ema_decay, **kwargs.get(settings.optimizer, {}))


def steps_per_epoch(settings):
    """Training steps of one pass over the training part; of a density that has no end, 1,000."""
    count = describe(settings).counts["train"]
    return 1000 if count is None else max(1, count // (settings.batchsize * settings.update_freq))


def total_steps(settings):
    """Training steps of the whole run."""
    return settings.niters or settings.nepochs * steps_per_epoch(settings)


def _flow(settings, source):
    given = written(settings)
    common = {"coeff": settings.coeff, "act": _activation(settings),
              "block": _BLOCKS[settings.block],
              "power_iteration": _power_iteration(settings),
              "certified": settings.certified, "log_det": _log_det(settings),
              "solver": _solver(settings), "seed": settings.seed,
              "context_shape": source.context_shape or None}
    if settings.densenet:
        if settings.learn_p or set(settings.vnorms) != {2.0}:
            raise ValueError("--densenet concatenates in the 2-norm: --vnorms must be 2s and "
                             "--learn_p off. Received: "
                             f"--vnorms={given['vnorms']} --learn_p={settings.learn_p}")
        common["dense_net"] = flows.DenseNet(settings.densenet_depth, settings.densenet_growth,
                                             learned=settings.learnable_concat)
    else:
        hidden = settings.dims if source.kind in ("vector", "toy") else settings.kernels[1:]
        common["orders"] = _orders(settings, len(hidden) + 1)
    nblocks = settings.nblocks
    if source.kind == "image":
        return flows.image_flow(
            source.event_shape, **common, nblocks=nblocks, idim=settings.idim,
            kernels=settings.kernels, preact=settings.preact,
            first_resblock=settings.first_resblock, squeeze_first=settings.squeeze_first,
            factor_out=settings.factor_out, fc_end=settings.fc_end,
            n_fc_blocks=settings.n_fc_blocks, fc_idim=settings.fc_idim, actnorm=settings.actnorm,
            fc_actnorm=settings.fc_actnorm, logit_alpha=_alpha(settings),
            channels_first=settings.reference_layout)
    if len(nblocks) != 1:
        kind = "fields" if source.kind in LATTICES else "vectors"
        raise ValueError(f"--nblocks must be one number for {kind}, which have no scales. "
                         f"Received: --nblocks={given['nblocks']}")
    if source.kind in LATTICES:
        return _turned(_on_lattice(settings, source, common), settings)
    as_there = settings.reference_layout
    tabular = settings.actnorm if as_there else source.kind != "toy"
    architecture = flows.tabular_flow if tabular else flows.toy_flow
    flow = architecture(source.event_shape, **common, nblocks=nblocks[0], dims=settings.dims,
                        actnorm=settings.actnorm, preact=as_there)
    return _turned(flow, settings)


def _activation(settings):
    """What a flow takes as `act`."""
    if not settings.frequency:
        return settings.act
    return functools.partial(_FREQUENT[settings.act], frequency=settings.frequency)


def _on_lattice(settings, source, common):
    """A flow of fields, of the options that all residual flows have."""
    kwargs = {"nblocks": settings.nblocks[0], "idim": settings.idim, "kernels": settings.kernels}
    if settings.block == "coupling":
        return flows.phi4_couplings(source.event_shape, **kwargs, act=_activation(settings),
                                    seed=settings.seed)
    of_data = {"context_shape"}
    if source.kind == "u1":
        of_data |= {"certified", "orders", "dense_net"}
        architecture = flows.u1_flow
    else:
        kwargs |= {"preact": settings.preact, "actnorm": settings.actnorm}
        architecture = flows.phi4_flow
    return architecture(source.event_shape, **kwargs, **{
        name: value for name, value in common.items() if name not in of_data})


def _turned(flow, settings):
    """A flow from data to latents; of a sampler that is evaluated, one from latents to samples."""
    evaluated = settings.task == "sampling" and settings.sampler == "evaluated"
    return Inverted(flow) if evaluated else flow


def _dequantizer(settings, source):
    return flows.dequantizer(
        source.event_shape, settings.nbits, nblocks=settings.dequantise_blocks,
        idim=settings.dequantise_idim, coeff=settings.coeff, act=_activation(settings),
        power_iteration=_power_iteration(settings), log_det=_log_det(settings),
        solver=_solver(settings), seed=settings.seed)


def _power_iteration(settings):
    return layers.PowerIteration(settings.n_lipschitz_iters or None, rtol=settings.sn_tol)


def _orders(settings, count):
    """Of the norms, one for each of the `count` linear layers of a branch, or one for all."""
    if settings.learn_p:
        low, high = settings.p_range
        order = layers.LearnedOrder(low, high, 2.0 if low < 2 < high else (low + high) / 2)
        return [order] * count if settings.mixed else order
    orders = list(settings.vnorms)
    if set(orders) == {2.0}:
        return 2.0
    if len(orders) == count + 1 and orders[0] == orders[-1]:
        orders = orders[:-1]
    if len(orders) != count:
        raise ValueError(
            f"--vnorms must be {count} orders for branches of {count} linear layers, or "
            f"{count + 1} of which the last is the first: a branch that ends in another norm "
            f"than it begins is no contraction. Received: --vnorms={written(settings)['vnorms']}")
    return orders


def _alpha(settings):
    if not settings.logit_transform:
        return None
    if settings.alpha > 0:
        return settings.alpha
    return 1e-6 if settings.data.startswith("mnist") else 0.05


def law(settings, n_exact):
    """The law for the number of terms, with so many that are always there."""
    if settings.n_power_series:
        return logdet.Truncated(settings.n_power_series)
    if settings.n_dist == "poisson":
        return logdet.Poisson(settings.n_lambda, n_exact, settings.n_samples)
    if settings.n_dist == "adaptive":
        return logdet.Adaptive(settings.threshold)
    return logdet.Geometric(settings.geom_p, n_exact, settings.n_samples)


def _log_det(settings):
    if settings.task == "sampling" and settings.exact_training:
        return logdet.Exact()
    return logdet.LogDet(
        law(settings, settings.n_exact_terms),
        logdet.Neumann() if settings.neumann_grad else logdet.Series(),
        probe=_PROBES[settings.probe], num_probes=settings.n_probes)


def _autodiff(settings):
    default = "recomputed" if settings.mem_eff else "stored"
    return _AUTODIFF[settings.autodiff or default]


def is_exact(settings, source):
    """Whether log-determinants are exact in evaluation, as they are where that is cheap."""
    small = source.kind != "image" and math.prod(source.event_shape) <= SMALL
    return settings.exact or small or (
        settings.block == "coupling" and settings.dequantise != "variational")


def _eval_log_det(settings, source, blocks):
    """What is evaluated has bounds, or is unbiased, also after training with a truncated series."""
    if is_exact(settings, source):
        return logdet.Exact()
    if settings.tolerance:
        unit = math.log(2) if source.kind == "image" else 1.0
        return logdet.LogDet(logdet.Bracket(unit * settings.tolerance / max(1, blocks)))
    without = dataclasses.replace(settings, n_power_series=0, n_samples=1)
    return logdet.LogDet(law(without, settings.n_exact_terms_eval),
                         probe=_PROBES[settings.probe])


def _solver(settings):
    return _SOLVERS[settings.solver](rtol=settings.rtol or None, atol=settings.atol or None,
                                     max_steps=settings.max_solver_steps)


def _learning_rate(settings):
    """Rises linearly over the warm-up, then stays, or falls along a cosine to zero.

    A schedule even if it is constant: a number would be a variable of the optimizer, and so a part
    of checkpoints, which a run that goes on with another rate would find there.
    """
    schedules, warmup = keras.optimizers.schedules, settings.warmup_iters
    if settings.lr_decay:
        return schedules.CosineDecay(0.0 if warmup else settings.lr,
                                     max(1, total_steps(settings) - warmup),
                                     warmup_target=settings.lr if warmup else None,
                                     warmup_steps=warmup)
    rise = max(1, warmup)
    return schedules.PolynomialDecay(settings.lr / rise, rise, settings.lr, power=1.0)
