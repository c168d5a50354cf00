# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Many GPUs, many machines
#
# A flow trained on several devices comes to the same weights as on one: random probes belong to the
# examples of the global batch, numbers of terms to the step, and gradients are summed before they
# are clipped. Here we use several processes of this machine; on a cluster the same programs run
# unchanged.

# %%
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

folder = pathlib.Path(tempfile.mkdtemp())

# %% [markdown]
# ## One machine, several GPUs
#
# As with any Keras model: make and compile it in the scope of a strategy, then `fit`. We have no
# GPU, so we split the CPU into two logical devices that stand for them.

# %%
program = '''
import keras, numpy as np, tensorflow as tf

devices = tf.config.list_physical_devices("GPU")
if len(devices) < 2:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategies = [tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])]
else:
    strategies = [tf.distribute.get_strategy(), tf.distribute.MirroredStrategy()]

from bijectors.flows import toy_flow
from tfresflow import FlowModel

x = np.random.RandomState(0).randn(256, 2) * [1.0, 0.3]
weights = []
for strategy in strategies:
    with strategy.scope():
        model = FlowModel(toy_flow(nblocks=2, dims=(16,), seed=0, dtype="float64"), seed=0)
        model.compile(keras.optimizers.Adam(1e-2))
    model.fit(x, batch_size=64, epochs=2, shuffle=False, verbose=0)
    weights.append(model.get_weights())
    print(strategy.num_replicas_in_sync, "replica(s)")
print("largest difference of a weight:",
      max(abs(a - b).max() for a, b in zip(*weights) if a.dtype.kind == "f"))
'''
(folder / "mirrored.py").write_text(program)


def run(*command, **environment):
    done = subprocess.run([sys.executable, *command], text=True, stdout=subprocess.PIPE,
                          env={**os.environ, **environment})
    print(done.stdout + f"exit code {done.returncode}")


run(str(folder / "mirrored.py"))

# %% [markdown]
# ## Several machines
#
# Each machine runs the same command, with `TF_CONFIG` in its environment: who all are, and who I
# am. Slurm and Kubeflow set what is needed themselves, see [](../guides/scaling.md). Here two
# processes of this machine are the cluster. The flags train a small flow in the plane.


# %%
def free_ports(n):
    """Ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


FLAGS = ["-m", "tfresflow", "train", "--data=moons", "--nblocks=2", "--dims=16", "--batchsize=100",
         "--n_test=500", "--val_batchsize=500", "--save_every=20"]


def start(workers, workdir, *more):
    """The processes of a cluster, started."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(workers)]}
    processes = []
    for index in range(workers):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        environment = {**os.environ, **({"TF_CONFIG": config} if workers > 1 else {})}
        processes.append(subprocess.Popen(
            [sys.executable, *FLAGS, f"--workdir={folder / workdir}", *more], text=True,
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    return processes


processes = start(2, "two", "--niters=40", "--val_every=40")
outputs = [process.communicate()[0] for process in processes]
print(outputs[0])                          # worker 0 writes for all
print("exit codes", [process.returncode for process in processes])

# %% [markdown]
# From Python it is as in Keras: each process first makes
# `tf.distribute.MultiWorkerMirroredStrategy()`, before TensorFlow computes anything, and then runs
# the program above in its scope.
#
# ## Preemption
#
# A machine that is taken away sends SIGTERM first: the run saves and ends with exit code 143. One
# that crashes sends nothing. Either way the same command goes on, at the very next batch. We end a
# run in its midst and start it again.

# %%
[process] = start(1, "one", "--niters=2000", "--val_every=1000")
while not (folder / "one" / "checkpoints" / "last" / "checkpoint").exists():           # until it has saved a first time
    time.sleep(0.2)
    assert process.poll() is None
process.send_signal(signal.SIGTERM)
process.communicate()
print("exit code", process.returncode)

# %%
[process] = start(1, "one", "--niters=200", "--val_every=100")
print(process.communicate()[0])
print("exit code", process.returncode)

# %% [markdown]
# In Python, Keras's `BackupAndRestore` callback does the same for `fit`. What happens when a worker
# dies, hangs or has a full disk, and what many GPUs cost: [](../guides/scaling.md).
