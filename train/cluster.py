"""Which devices and machines train, and what they have to agree on."""

import contextlib
import json
import os

import tensorflow as tf

from tfresflow.batches import threads
from train.errors import UserError, WorkerLost

__all__ = ["Cluster", "form", "watching"]

# What TensorFlow's collectives and its coordination service say of a peer that is gone.
_LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
         tf.errors.DeadlineExceededError, tf.errors.InternalError,
         tf.errors.FailedPreconditionError)

_SLURM = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST",
          "SLURM_STEP_TASKS_PER_NODE")


class Cluster:
    """The strategy, and this process's part in it.

    Attributes:
      strategy: a `tf.distribute.Strategy`.
      workers: processes that train together.
      index: of this one; worker 0 is the chief, which alone writes to the workdir.
    """

    def __init__(self, strategy, workers=1, index=0):
        self.strategy, self.workers, self.index = strategy, workers, index
        self._sum = tf.function(self._sum_over_replicas, autograph=False)

    @property
    def chief(self):
        return self.index == 0

    def total(self, values):
        """Sums a list of numbers over all workers, who must all ask: a barrier, too."""
        if self.workers == 1:
            return list(values)
        local = len(self.strategy.extended.worker_devices)
        total = self._sum(tf.constant(values, tf.float64) / local)
        return self.strategy.experimental_local_results(total)[0].numpy().tolist()

    def _sum_over_replicas(self, values):
        def on_replica(x):
            return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(x))

        return self.strategy.run(on_replica, (values,))


def form(settings):
    """The cluster that `--strategy` and the environment name; call it before anything else.

    auto: several workers where TF_CONFIG or Slurm says so, else a replica on each GPU, else one
    device. Waits until all workers are there.

    Raises:
      UserError: TF_CONFIG is not right, or there is no such cluster or device.
    """
    cpu, count = tf.config.list_physical_devices("CPU")[0], settings.logical_cpus
    if count > len(tf.config.get_logical_device_configuration(cpu) or [None]):
        devices = [tf.config.LogicalDeviceConfiguration()] * count
        tf.config.set_logical_device_configuration(cpu, devices)
    kind = _kind(settings)
    if kind == "multiworker":
        return _workers(settings)
    if kind == "mirrored":
        gpus = len(tf.config.list_logical_devices("GPU"))
        return Cluster(tf.distribute.MirroredStrategy(
            None if gpus else [f"CPU:{i}" for i in range(settings.logical_cpus)]))
    threads.prepare()
    return Cluster(tf.distribute.get_strategy())


@contextlib.contextmanager
def watching(group):
    """Within, the end of another worker ends this one.

    Raises:
      WorkerLost: with what is to be done.
    """
    try:
        yield
    except _LOST as error:
        if group.workers == 1:
            raise
        raise WorkerLost(f"worker {group.index} has lost another of the {group.workers} workers "
                         f"({type(error).__name__}). Start all of them again: training goes on "
                         "from the last checkpoint") from error


def _kind(settings):
    if settings.strategy != "auto":
        return settings.strategy
    if settings.command != "train":
        return "one"
    if len(_tasks()) > 1 or int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return "multiworker"
    gpus = len(tf.config.list_physical_devices("GPU"))
    return "mirrored" if max(gpus, settings.logical_cpus) > 1 else "one"


def _tasks():
    """The addresses in TF_CONFIG, checked; none without it."""
    if not os.environ.get("TF_CONFIG"):
        return []
    text = os.environ["TF_CONFIG"]
    try:
        config = json.loads(text)
        tasks = [a for kind in ("chief", "worker") for a in config["cluster"].get(kind, [])]
        config["cluster"][config["task"]["type"]][int(config["task"]["index"])]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        raise UserError(
            'TF_CONFIG must be as {"cluster": {"worker": ["host0:port", "host1:port"]}, "task": '
            f'{{"type": "worker", "index": 0}}}}. Received: TF_CONFIG={text}') from None
    return tasks


def _workers(settings):
    resolver = _resolver()
    if settings.logical_cpus > 1 and not tf.config.list_physical_devices("GPU"):
        _use_logical_cpus(settings.logical_cpus)
    spec, kind = resolver.cluster_spec().as_dict(), resolver.task_type
    first = len(spec.get("chief", [])) if kind == "worker" else 0
    workers = sum(len(spec.get(name, [])) for name in ("chief", "worker"))
    index = first + resolver.task_id
    print(f"worker {index} of {workers} waits for the others", flush=True)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        raise UserError(f"worker {index} of {workers} cannot join the others ({error})") from error
    print(f"all {workers} workers are here", flush=True)
    return Cluster(strategy, workers, index)


def _resolver():
    if _tasks():
        return tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if not all(name in os.environ for name in _SLURM):
        raise UserError("--strategy=multiworker needs TF_CONFIG, or a Slurm step (srun). Received: "
                        "neither")
    # TensorFlow's own fails where there is no GPU: it serves for the addresses alone.
    slurm = tf.distribute.cluster_resolver.SlurmClusterResolver(
        port_base=20000 + int(os.environ.get("SLURM_JOB_ID", 0)) % 20000,
        gpus_per_node=4096, gpus_per_task=1, auto_set_gpu=False)
    spec = slurm.cluster_spec()
    kind, index = slurm.get_task_info()
    gpus = len(tf.config.list_physical_devices("GPU"))  # Slurm shows each task its own
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type=kind, task_id=index, num_accelerators={"GPU": gpus}, rpc_layer="grpc")


def _use_logical_cpus(count):
    """Several CPU devices a worker, to try a layout without GPUs: TensorFlow would take one."""
    from tensorflow.python.distribute import collective_all_reduce_strategy as strategies

    def devices(self, resolver, worker_device):
        return tuple(f"{worker_device}/device:CPU:{i}" for i in range(count)), "CPU"

    strategies.CollectiveAllReduceExtended._initialize_local_devices = devices
