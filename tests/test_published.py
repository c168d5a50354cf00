"""The published architectures and settings."""

import numpy as np
import pytest

from bijectors import flows
from tfresflow import layers
from train import data, flags
from train.build import build_model, build_optimizer


@pytest.mark.exhaustive
def test_the_largest_published_architecture_builds():
    """With 16 channels for 512: on a CPU the first norms of the whole take a quarter of an hour."""
    flow = flows.image_flow([256, 256, 3], nblocks=(16,) * 6, idim=16, act=layers.ELU, fc_end=False,
                            factor_out=True, squeeze_first=True,
                            power_iteration=layers.PowerIteration(num_steps=1))
    check_built(flow, 96)


def check_built(flow, num_blocks):
    assert len(flow.lipschitz_layers()) == num_blocks
    assert flow.latent_shape(flow.event_shape) == (int(np.prod(flow.event_shape)),)
    assert all(np.all(np.isfinite(v)) for v in flow.trainable_variables)


def test_published_settings_are_the_references():
    cifar = flags.parse(["x", "--flagfile=configs/cifar10.cfg"])
    assert (cifar.nblocks, cifar.idim, cifar.coeff, cifar.batchsize, cifar.lr, cifar.n_lambda) == (
        (16, 16, 16), 512, 0.98, 64, 1e-3, 2.0)
    celeba = flags.parse(["x", "--flagfile=configs/celebahq256.cfg", "--dataroot=x"])
    assert (celeba.nbits, celeba.act, celeba.fc_end, celeba.factor_out, celeba.squeeze_first,
            celeba.update_freq, celeba.n_exact_terms) == (5, "elu", False, True, True, 5, 8)


@pytest.mark.exhaustive
def test_the_full_cifar10_model_takes_a_training_step():
    """25 million weights; on photographs of the same size, which need no download."""
    settings = flags.parse(["x", "--flagfile=configs/cifar10.cfg", "--data=photos",
                            "--batchsize=2", "--noema_val"])
    model = build_model(settings)
    check_built(model.flow, 52)
    model.compile(build_optimizer(settings))
    x = next(iter(data.load(settings, "train")))
    model.initialize(x)
    assert sum(w.shape.num_elements() for w in model.trainable_weights) == 25174129
    moved = []
    for _ in range(2):  # at first, the last shift is the best there is for this batch
        before = [w.numpy() for w in model.trainable_weights]
        logs = model.train_on_batch(x, return_dict=True)
        assert 4 < logs["bpd"] < 10
        moved.append([np.any(w != old) for w, old in zip(model.trainable_weights, before)])
    assert np.any(moved, axis=0).all()
