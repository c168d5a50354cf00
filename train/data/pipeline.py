"""From a source to batches: order, dequantisation, batching; all of it stateless.

The example in place t of the training stream, its noise included, is a function of the
seed and t. So a run that is killed goes on at the very next batch, in no time, and the
stream does not depend on how many threads prepare it.
"""

import contextlib
import contextvars
import dataclasses
import functools
import importlib

import keras
import numpy as np
import tensorflow as tf

from bijectors.dequantize import in_bins
from train.data.scaler import Scaler
from train.data.source import SPLITS
from train.data.trained import load_trained
from train.settings import FILES, ON_DISK

__all__ = ["batches", "dequantize", "describe", "kept", "level_chunks", "levels", "load", "opened",
           "quantize", "steps"]

_END = np.iinfo(np.int64).max
_KEPT: contextvars.ContextVar = contextvars.ContextVar("kept", default=None)


@contextlib.contextmanager
def kept():
    """Within, files are looked at once: a run has its parts as they were when it began.

    Else each call looks at them anew.
    """
    token = _KEPT.set({})
    try:
        yield
    finally:
        _KEPT.reset(token)


def describe(settings):
    """The `Source` that the settings name, its parts counted and checked.

    Where the command is not `train`, a table is standardised as the workdir's run was.

    Raises:
      ValueError or OSError: missing, unreadable or unsuitable data; one line.
    """
    trained = None if settings.command == "train" else load_trained(settings)
    source = opened(settings, trained)
    if trained and source.event_shape != trained.event_shape:
        raise ValueError(f"an example of --data={settings.data} --dataroot={settings.dataroot} has "
                         f"shape {list(source.event_shape)}, and the model was trained on "
                         f"{list(trained.event_shape)}")
    if source.nbits is not None and settings.nbits > source.nbits:
        raise ValueError(f"--nbits must be at most {source.nbits} for --data={settings.data}. "
                         f"Received: --nbits={settings.nbits}")
    if source.kind == "image" and settings.imagesize not in (0, source.event_shape[0]):
        raise ValueError(f"--imagesize must be 0 or {source.event_shape[0]} for --data="
                         f"{settings.data}. Received: --imagesize={settings.imagesize}")
    if source.counts["test"] < 2:
        raise ValueError(f"--data={settings.data}: the test part must have at least 2 examples, "
                         f"for a standard error. Received: {source.counts['test']}")
    return source


def opened(settings, trained=None):
    """The `Source` that the settings name, whatever the model was trained on.

    Args:
      settings: `Settings`.
      trained: what has the scalers of a table that is read in the units of another one, and the
        classes.

    Raises:
      ValueError or OSError: missing, unreadable or unsuitable data; one line.
    """
    of_run = {name: getattr(trained, name, None)
              for name in ("scaler", "context_scaler", "classes")}
    names = {field.name for field in dataclasses.fields(_Request)} - set(of_run)
    return _source(_Request(**{name: getattr(settings, name) for name in names}, **of_run))


def load(settings, split, start=0, strategy=None, join=None):
    """Batches of one part.

    Args:
      settings: `Settings`.
      split: "train" (shuffled anew each epoch, without end, full batches), "validation" or
        "test" (in order, once).
      start: training step to begin at.
      strategy: a `tf.distribute.Strategy`, each of whose replicas gets a share of each batch, and
        prepares no other.
      join: what is made of `(x, context)`, as a model takes it; None: they stay a pair.

    Returns:
      A `tf.data.Dataset` of `[N, ...]`, of Keras's float type (with several replicas, a
      `tf.distribute.DistributedDataset`): images dequantised to [0, 1), or their levels where the
      model does that; vectors as they are. A batch of training is `batchsize * update_freq`
      examples. Of a conditional run, or with another task than density, it is one of pairs
      `(x, context)` or `(x, label)`.

    Raises:
      ValueError or OSError: see `describe`; and if the training part is less than a batch, or a
        batch not a multiple of the replicas.
    """
    source, replicas = describe(settings), strategy.num_replicas_in_sync if strategy else 1
    whole, count = settings.batchsize * settings.update_freq, source.counts["train"]
    if split == "train" and count is not None and count < whole:
        name = "batchsize" if settings.update_freq == 1 else "batchsize * update_freq"
        raise ValueError(f"--{name} must be at most the {count} examples of the training part. "
                         f"Received: --{name}={whole}")
    if split == "train" and settings.batchsize % replicas:
        raise ValueError(f"--batchsize must be a multiple of the {replicas} replicas. "
                         f"Received: --batchsize={settings.batchsize}")
    if replicas == 1:
        found = _joined(batches(settings, source, split, start), source, join)
        found.joined_rows = join is not None
        return found

    def of_a_worker(context):
        # In the order in which TensorFlow deals: the first share of each worker, then the second.
        own = range(context.input_pipeline_id, replicas, context.num_input_pipelines)
        return _joined(batches(settings, source, split, start, replicas, list(own)), source, join)

    found = strategy.distribute_datasets_from_function(of_a_worker)
    found.joined_rows = join is not None
    return found


def steps(settings, split):
    """Batches of the validation or the test part."""
    count = describe(settings).counts[split]
    return -(-(settings.n_test if count is None else count) // settings.val_batchsize)


def batches(settings, source, split, start=0, shares=1, own=(0,)):
    """`load` of a `Source`: the shares `own`, of `shares`, of each batch, one after the other."""
    seed, train = [settings.seed, SPLITS.index(split)], split == "train"
    size = settings.batchsize * settings.update_freq if train else settings.val_batchsize
    count = source.counts[split]
    if source.kind == "toy" and not train:
        count, sample = settings.n_test, source.fetch[split](settings.n_test, seed)
    share, own = -(-size // shares), tf.constant(own, tf.int64)
    end_step = _END // len(own) if train else -(-count // size)

    def places(i):
        """Step, and the places in the stream of one share of its batch."""
        step, begin = i // len(own), own[i % len(own)] * share
        end = step * size + tf.minimum(begin + share, size)
        if train:
            return step, tf.ensure_shape(tf.range(end - share, end), [share])
        return step, tf.range(tf.minimum(step * size + begin, count), tf.minimum(end, count))

    def examples(step, places):
        if source.kind == "toy":
            if not train:
                return tf.gather(sample, places)
            return tf.gather(source.fetch[split](size, tf.random.fold_in(seed, step)),
                             places - step * size)
        indices = _shuffled(places, count, seed) if train else places
        x = tf.ensure_shape(source.fetch[split](indices), [None, *source.event_shape])
        if source.kind == "image":
            if train and settings.random_flip:
                x = _flipped(x, places, seed)
            x = quantize(x, settings.nbits)
            if settings.dequantise == "uniform":
                x = dequantize(x, _noise(places, x, seed, settings.add_noise), settings.nbits)
        if source.context_shape is None:
            return x
        context = source.fetch_context[split](indices)
        return x, tf.ensure_shape(context, [None, *source.context_shape])

    def cast(*tensors):
        tensors = tuple(tf.cast(t, keras.config.floatx()) for t in tensors)
        return tensors if len(tensors) > 1 else tensors[0]

    shares = tf.data.Dataset.range(start * len(own), end_step * len(own)).map(places)
    x = shares.map(examples, tf.data.AUTOTUNE, deterministic=True)
    return x.map(cast).prefetch(tf.data.AUTOTUNE)


def _joined(found, source, join):
    return found if join is None or source.context_shape is None else found.map(join)


def quantize(x, nbits):
    """8-bit levels to the `nbits` highest bits: integers in {0, ..., 2^nbits - 1}."""
    return x // 2 ** (8 - nbits)


def dequantize(levels, noise, nbits):
    """`(level + noise) / 2^nbits` in [0, 1), each level in a bin of its own.

    Float32 would round a noise just below 1 up into the next bin; it is kept under it.
    """
    return in_bins(tf.cast(levels, tf.float32) / 2 ** nbits, noise, nbits)


def levels(settings, split):
    """All integer levels of a part of an image source: uint8 `[n, H, W, C]`, in memory."""
    return np.concatenate(list(level_chunks(settings, split)))


def level_chunks(settings, split):
    """Iterates over `levels`, some 500 images at a time."""
    source = describe(settings)
    chunks = tf.data.Dataset.range(source.counts[split]).batch(500).map(
        lambda i: quantize(source.fetch[split](i), settings.nbits))
    return chunks.as_numpy_iterator()


def _shuffled(places, count, seed):
    """The example in each place: another permutation of all examples each epoch."""
    epochs = places // count
    base = tf.broadcast_to(tf.constant(seed, tf.int64), [tf.size(places), 2])
    keys = tf.concat([base, epochs[:, None]], axis=1)
    # The op itself: tf.random.experimental.index_shuffle pads a matrix of seeds wrongly.
    return tf.raw_ops.RandomIndexShuffle(index=places % count, seed=keys,
                                         max_index=tf.constant(count - 1, tf.int64))


def _flipped(x, places, seed):
    """Each image, mirrored left to right or not, by its place in the stream."""
    uniform = tf.map_fn(
        lambda t: tf.random.stateless_uniform([], tf.random.fold_in(seed, -1 - t)),
        places, fn_output_signature=tf.float32)  # the noise of an image is drawn with t
    return tf.where((uniform < 0.5)[:, None, None, None], tf.reverse(x, [2]), x)


def _noise(places, x, seed, add_noise):
    """Uniform noise of each example from its place, `[N, ...]` in [0, 1); 1/2 without."""
    if not add_noise:
        return tf.fill(tf.shape(x), 0.5)
    return tf.map_fn(
        lambda t: tf.random.stateless_uniform(x.shape[1:], tf.random.fold_in(seed, t)),
        places, fn_output_signature=tf.TensorSpec(x.shape[1:], tf.float32))


@dataclasses.dataclass(frozen=True)
class _Request:
    """The settings that a source may look at."""

    data: str
    dataroot: str
    imagesize: int
    resize_mode: str
    val_fraction: float
    test_fraction: float
    n_test: int
    seed: int
    nbits: int
    conditional: bool
    task: str
    context_columns: str
    labels: str
    scaler: Scaler | None
    context_scaler: Scaler | None
    classes: tuple | None


def _source(request):
    if request.data not in ON_DISK:
        return _open_once(request)
    known = _KEPT.get()
    if known is None:
        return _open(request)
    if request not in known:
        known[request] = _open(request)
    return known[request]


def _open(request):
    module = request.data if request.data in ("mnist5k", "digits", "photos", *FILES) else None
    if request.data not in FILES and request.data in ON_DISK:
        module = "published"
    module = module or ("downloaded" if request.data in ("mnist", "cifar10") else "toy")
    return importlib.import_module(f"train.data.{module}").source(request)


_open_once = functools.lru_cache(maxsize=8)(_open)  # of data that nobody changes
