"""A worker of its own process: `model.fit` as a Keras user writes it. Argument: a folder."""

import pathlib
import sys

from train import environment

environment.prepare()

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from bijectors import flows  # noqa: E402
from tfresflow import FlowModel, optimizers  # noqa: E402
from train import cluster, flags  # noqa: E402


def main(folder):
    group = cluster.form(flags.parse(["x", "--strategy=multiworker", "--logical_cpus=2"]))
    folder = pathlib.Path(folder) / str(group.index)
    folder.mkdir()
    x = np.random.RandomState(0).randn(200, 3).astype("float32") * [3, 1, 0.1] + 1
    batches = tf.data.Dataset.from_tensor_slices(x.astype("float32")).batch(32)
    with group.strategy.scope():
        model = FlowModel(flows.tabular_flow([3], nblocks=2, dims=(8,), seed=0))
        model.compile(optimizers.Adam(1e-2, global_clipnorm=1.0, use_ema=True))

    def keep(epoch, logs):
        """All variables, as each replica of this worker has them."""
        for replica in range(2):
            values = [group.strategy.experimental_local_results(w.value) for w in model.weights]
            np.savez(folder / f"epoch{epoch}-{replica}.npz", *[v[replica] for v in values],
                     **{name: np.array(value) for name, value in logs.items()})

    model.fit(batches, epochs=3, validation_data=batches, verbose=0, callbacks=[
        keras.callbacks.LambdaCallback(on_epoch_end=keep),
        keras.callbacks.ModelCheckpoint(folder / "best.weights.h5", save_best_only=True,
                                        save_weights_only=True),
        keras.callbacks.EarlyStopping(patience=2), keras.callbacks.TensorBoard(folder / "tb"),
        keras.callbacks.BackupAndRestore(folder / "backup")])
    np.savez(folder / "final.npz", *[w.numpy() for w in model.weights if w.name != "mark"])
    group.total([0])


if __name__ == "__main__":
    main(sys.argv[1])
