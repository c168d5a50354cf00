"""The same models from the blocks of normflows (PyTorch), and what a training step of them is."""

import math

import normflows as nf
import numpy as np
import torch
from normflows.flows.residual import iResBlock
from normflows.nets import lipschitz

from benchmarks.draw import measured
from benchmarks.workloads import Image

__all__ = ["Trainer", "build", "load_weights", "sampler", "to_torch"]


class _Flow(torch.nn.Module):
    """Data to latent, `x -> (z, log_det)`, and back."""

    def __init__(self, steps):
        super().__init__()
        self.steps = torch.nn.ModuleList(steps)

    def forward(self, x):
        total = 0
        for step in self.steps:
            x, log_det = step.inverse(x)
            total = total + log_det
        return x, total

    def log_prob(self, x):
        z, log_det = self(x)
        z = z.reshape(len(z), -1)
        return -0.5 * (z ** 2 + math.log(2 * math.pi)).sum(1) + log_det

    def sample(self, z):
        for step in reversed(self.steps):
            z, _ = step.forward(z)
        return z


class _Block(torch.nn.Module):
    """iResBlock as the reference calls it: forward is data to latent."""

    residual = None

    def __init__(self, layers, **estimator):
        super().__init__()
        self.block = iResBlock(torch.nn.Sequential(*layers), **estimator)

    def inverse(self, x):
        z, minus_log_det = self.block.forward(x, 0)
        return z, -minus_log_det.view(-1)

    def forward(self, z):
        # It stops at (change of x)^2 < atol, and the change of x is the residual.
        return self.block._inverse_fixed_point(z, atol=self.residual ** 2, rtol=0.0), 0


class _Logit(torch.nn.Module):
    def __init__(self, alpha):
        super().__init__()
        self.alpha = alpha

    def inverse(self, x):
        s = self.alpha + (1 - 2 * self.alpha) * x
        log_det = math.log(1 - 2 * self.alpha) - torch.log(s) - torch.log(1 - s)
        return torch.log(s) - torch.log(1 - s), log_det.flatten(1).sum(1)

    def forward(self, z):
        return (torch.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha), 0


class _Squeeze(torch.nn.Module):
    """As `nf.flows.Squeeze`, channels in TensorFlow's order."""

    def inverse(self, x):
        n, c, h, w = x.shape
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return x.reshape(n, 4 * c, h // 2, w // 2), 0

    def forward(self, z):
        n, c, h, w = z.shape
        z = z.view(n, 2, 2, c // 4, h, w).permute(0, 3, 4, 1, 5, 2)
        return z.reshape(n, c // 4, 2 * h, 2 * w), 0


class _Flatten(torch.nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape

    def inverse(self, x):
        return x.permute(0, 2, 3, 1).flatten(1), 0

    def forward(self, z):
        channels, height, width = self.shape
        return z.view(-1, height, width, channels).permute(0, 3, 1, 2), 0


def build(workload, reduce_memory):
    """The flow of a workload; `reduce_memory` as in normflows (Neumann, gradient in forward)."""
    return _image(workload, reduce_memory) if isinstance(workload, Image) else _toy(
        workload, reduce_memory)


def _estimator(workload, reduce_memory, n_dist):
    # As normflows.flows.Residual sets them, but Neumann in both modes.
    return {"n_dist": n_dist, "lamb": 2.0, "geom_p": 0.5, "n_exact_terms": 2,
            "neumann_grad": True, "grad_in_forward": reduce_memory,
            "n_power_series": workload.n_terms or None}


def _image(w, reduce_memory):
    estimator = _estimator(w, reduce_memory, "poisson")
    tolerance = {"coeff": w.coeff, "atol": 1e-3, "rtol": 1e-3}
    height, width, channels = w.event_shape
    steps = [_Logit(w.alpha), nf.flows.ActNorm((channels, 1, 1))]
    for scale, count in enumerate(w.nblocks):
        for i in range(count):
            layers = [] if scale == i == 0 else [lipschitz.Swish()]
            sizes = [channels, *[w.idim] * (len(w.kernels) - 1), channels]
            for j, kernel in enumerate(w.kernels):
                layers += [lipschitz.InducedNormConv2d(sizes[j], sizes[j + 1], kernel, 1,
                                                       kernel // 2, **tolerance), lipschitz.Swish()]
            steps += [_Block(layers[:-1], **estimator), nf.flows.ActNorm((channels, 1, 1))]
        if scale < len(w.nblocks) - 1:
            steps.append(_Squeeze())
            channels, height, width = 4 * channels, height // 2, width // 2
    size = channels * height * width
    steps.append(_Flatten((channels, height, width)))
    for _ in range(w.n_fc_blocks):
        steps += [_dense(size, [w.fc_idim] * (len(w.kernels) - 1), True, tolerance, estimator),
                  nf.flows.ActNorm((size,))]
    return _Flow(steps)


def _toy(w, reduce_memory):
    estimator = _estimator(w, reduce_memory, "geometric")
    [size] = w.event_shape
    iterations = {"coeff": w.coeff, "n_iterations": 5}
    steps = []
    for _ in range(w.nblocks):
        steps += [_dense(size, w.dims, False, iterations, estimator), nf.flows.ActNorm((size,))]
    return _Flow(steps)


def _dense(size, hidden, preact, tolerance, estimator):
    sizes, layers = [size, *hidden, size], [lipschitz.Swish()] if preact else []
    for a, b in zip(sizes, sizes[1:]):
        layers += [lipschitz.InducedNormLinear(a, b, **tolerance), lipschitz.Swish()]
    return _Block(layers[:-1], **estimator)


def load_weights(flow, arrays):
    """Copies what `benchmarks.ours.weights` gave into a flow of the same workload."""
    arrays = iter([torch.tensor(a) for a in arrays])
    for module in flow.modules():
        if isinstance(module, nf.flows.ActNorm):
            module.s.data = -next(arrays).view(module.s.shape)
            module.t.data = -next(arrays).view(module.t.shape)
            module.data_dep_init_done = torch.tensor(1.0)
        elif isinstance(module, lipschitz.Swish):
            module.beta.data = next(arrays).view(module.beta.shape)
        elif isinstance(module, lipschitz.InducedNormConv2d):
            module.weight.data = next(arrays).permute(3, 2, 0, 1).contiguous()
            module.bias.data = next(arrays)
            u, v = next(arrays), next(arrays)
            module.spatial_dims.copy_(torch.tensor(u.shape[1:3]))
            module.u = u.permute(0, 3, 1, 2).reshape(-1).contiguous()
            module.v = v.permute(0, 3, 1, 2).reshape(-1).contiguous()
            module.initialized.fill_(1)
        elif isinstance(module, lipschitz.InducedNormLinear):
            module.weight.data = next(arrays).t().contiguous()
            module.bias.data = next(arrays)
            module.u, module.v = next(arrays).view(-1), next(arrays).view(-1)
    assert next(arrays, None) is None


def to_torch(x):
    """numpy `[N, H, W, C]` or `[N, D]` in PyTorch's layout."""
    x = torch.from_numpy(x)
    return x.permute(0, 3, 1, 2).contiguous() if x.ndim == 4 else x


class Trainer:
    """A whole training step: loss, gradient, clip, Adam, power iteration."""

    def __init__(self, workload, reduce_memory, lr=1e-3):
        torch.manual_seed(0)
        np.random.seed(0)
        self.flow = build(workload, reduce_memory)
        self._lr, self._optimizer = lr, None

    def step(self, x):
        """`x`: numpy `[N, H, W, C]` or `[N, D]`; returns the loss, nats."""
        x = to_torch(x)
        if self._optimizer is None:  # weights that depend on the data are there after a first pass
            with torch.no_grad():
                self.flow(x)
            self._optimizer = torch.optim.Adam(self.flow.parameters(), self._lr, (0.9, 0.99))
        self._optimizer.zero_grad(set_to_none=True)
        loss = -self.flow.log_prob(x).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.flow.parameters(), 1.0)
        self._optimizer.step()
        nf.utils.update_lipschitz(self.flow, None)
        return loss.item()

    def bits_per_dim(self, images):
        """Mean over `images`, with 20 exact terms (what `eval` means in normflows)."""
        self.flow.eval()
        nll = []
        for i in range(0, len(images), 100):
            x = to_torch(images[i:i + 100])
            nll.append(-self.flow.log_prob(x).detach().numpy())
        self.flow.train()
        return float(np.mean(np.concatenate(nll)) / (images[0].size * math.log(2)) + 8)


def sampler(workload, arrays, residual):
    """`z [N, D] -> (x, largest residual of any block)`."""
    flow = build(workload, reduce_memory=True)
    load_weights(flow, arrays)
    for step in flow.steps:
        step.residual = residual
    return measured(torch.no_grad()(lambda z: flow.sample(torch.from_numpy(z)).numpy()),
                    torch.no_grad()(lambda z: _largest_residual(flow, torch.from_numpy(z))))


def _largest_residual(flow, z):
    largest = 0.0
    for step in reversed(flow.steps):
        x, _ = step.forward(z)
        if isinstance(step, _Block):
            largest = max(largest, float((z - x - step.block.nnet(x)).abs().max()))
        z = x
    return largest
