"""The eight densities of the plane: residual flow, RealNVP with as many weights, the entropy."""

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

from bijectors import Chain, Coupling, Inverted
from bijectors.coupling import bounded
from tfresflow import FlowModel
from tfresflow.training import optimizers
from train import data, flags
from train.checkpoints import loaded
from train.reproduce.figure import figure, save_table
from train.reproduce.kept import kept
from train.reproduce.runs import run
from train.settings import TOYS

__all__ = ["real_nvp", "reproduce"]

_NITERS = 2000
_FLAGS = (f"--niters={_NITERS}", "--val_every=1000")
_COUPLINGS = 8  # of RealNVP


def reproduce(folder, quick):
    """The figure, its csv and the verdict."""
    names, blocks = (TOYS[:1], 4) if quick else (TOYS, 10)
    rows, drawn = [], []
    for name in names:
        done = run(folder / name, quick, "toy", f"--data={name}", f"--nblocks={blocks}", *_FLAGS)
        settings = _settings(folder / name)
        entropy = data.describe(settings).entropy
        with loaded(settings) as model:
            width, weights, peer_nll = kept(folder, _train_real_nvp)(
                folder / name, _size(model), 4 if quick else _NITERS)
            peer = FlowModel(real_nvp(_COUPLINGS, width))
            peer.set_weights(weights)
            rows.append({"density": name, "entropy": entropy, "nll": done.metrics["nll_nats"],
                         "stderr": done.metrics["nll_nats_stderr_data"], "weights": _size(model),
                         "realnvp_nll": peer_nll, "realnvp_weights": _size(peer)})
            drawn.append((name, *(_density(m) for m in (model, peer))))
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    save_table(table, folder / "toy.csv")
    _draw(folder / "toy.png", drawn)
    gaps = table.nll - table.entropy
    better = (table.nll < table.realnvp_nll).sum()
    return (f"NLL above the entropy by {gaps.mean():.3f} nats on average ("
            + ", ".join(f"{n} {g:+.3f}" for n, g in zip(table.density, gaps))
            + f"); below RealNVP's on {better} of {len(table)} densities")


def real_nvp(couplings=8, width=64):
    """Affine couplings of the plane, one column in turns with the other: a flow.

    Args:
      couplings: how many.
      width: hidden units of each of the two layers of a coupling's network.
    """
    nets = [keras.Sequential([keras.layers.Dense(width, "relu"), keras.layers.Dense(width, "relu"),
                              keras.layers.Dense(2)]) for _ in range(couplings)]
    steps = [Inverted(Coupling(net, [2], bounded, swap=i % 2 == 1)) for i, net in enumerate(nets)]
    return Chain(steps[::-1])


def _settings(workdir):
    return flags.parse(["x", "eval", f"--workdir={workdir}"])


def _train_real_nvp(workdir, count, steps):
    """As the flow there was, with as many weights: `(width, weights, exact test NLL)`."""
    settings = _settings(workdir)
    # couplings (w^2 + 5 w + 2) weights
    width = round(-2.5 + np.sqrt(4.25 + count / _COUPLINGS))
    keras.utils.set_random_seed(settings.seed)
    model = FlowModel(real_nvp(_COUPLINGS, width))
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps, warmup_target=settings.lr,
                                                  warmup_steps=min(100, steps))
    model.compile(optimizers.Adam(rate, beta_2=settings.beta_2, global_clipnorm=1.0,
                                  use_ema=True, ema_momentum=settings.ema_decay))
    model.fit(data.load(settings, "train"), steps_per_epoch=steps, epochs=1, verbose=0)
    nll = model.evaluate(data.load(settings, "test"), verbose=0, return_dict=True)["nll"]
    return width, model.get_weights(), nll


def _size(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def _density(model, limit=4.0, side=160):
    """`exp log_prob` on a square grid."""
    along = np.linspace(-limit, limit, side, dtype=np.float32)
    points = np.stack(np.meshgrid(along, along), -1).reshape(-1, 2)
    score = tf.function(model.log_prob, autograph=False)
    return np.exp(score(tf.constant(points)).numpy()).reshape(side, side)


def _draw(path, drawn):
    pairs = min(2, len(drawn))
    rows = -(-len(drawn) // pairs)
    with figure(path, rows, 2 * pairs, figsize=(3.8 * pairs, 2.1 * rows), squeeze=False) as axes:
        for pair, (name, *densities) in zip(axes.reshape(-1, 2), drawn):
            largest = np.quantile(densities[0], 0.999)
            for ax, density, label in zip(pair, densities, (name, "by RealNVP")):
                ax.imshow(density, origin="lower", extent=(-4, 4, -4, 4), vmin=0, vmax=largest,
                          cmap="viridis")
                ax.set(title=label, xticks=[], yticks=[])
                ax.grid(False)
