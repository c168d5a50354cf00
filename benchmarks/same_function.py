"""Before the race: both libraries compute the same function.

Weights are copied over, the probes and the number of terms are the same; then latents and
log-determinants must agree.
"""

import numpy as np
import tensorflow as tf
import torch

from benchmarks import ours, peer
from benchmarks.workloads import Image, Toy
from tfresflow import logdet

__all__ = ["largest_difference"]

SMALL = (Image(nblocks=(2, 1, 1), idim=16, n_fc_blocks=2, batch=4, n_terms=5),
         Toy(nblocks=5, dims=(16, 16), batch=7, n_terms=5))


def largest_difference(workload):
    """`max |difference|` of z, and of log-det relative to its size."""
    x = np.random.RandomState(0).rand(workload.batch, *workload.event_shape).astype("float32")
    probes = []

    def probe(shape, seed, dtype):  # a closure, so that it is called for each block
        v = np.random.RandomState(len(probes)).randn(*shape).astype("float32")
        probes.append(v[:, 0])
        return tf.constant(v)

    flow = ours.build(workload)
    flow.initialize(tf.constant(x))
    estimator = logdet.LogDet(logdet.Truncated(workload.n_terms), probe=probe)
    z, log_det = flow.with_log_det(estimator).forward_and_log_det(tf.constant(x), seed=0)

    theirs = peer.build(workload, reduce_memory=False)
    peer.load_weights(theirs, ours.weights(flow))
    for module in theirs.modules():
        if hasattr(module, "neumann_grad"):
            module.neumann_grad = False  # whose value is no log-determinant
    replay = iter(probes)
    randn_like, torch.randn_like = torch.randn_like, lambda x: peer.to_torch(next(replay))
    try:
        their_z, their_log_det = theirs(peer.to_torch(x))
    finally:
        torch.randn_like = randn_like
    their_z = their_z.detach().numpy().reshape(z.shape)
    their_log_det = their_log_det.detach().numpy()
    return (np.abs(z.numpy() - their_z).max(),
            (np.abs(log_det.numpy() - their_log_det) / np.abs(their_log_det)).max())


def main():
    for workload in SMALL:
        z, log_det = largest_difference(workload)
        print(f"{type(workload).__name__}: z differs by {z:.1e}, log-det relatively by "
              f"{log_det:.1e}", flush=True)
        assert max(z, log_det) < 1e-4


if __name__ == "__main__":
    main()
