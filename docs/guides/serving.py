# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Saving and serving
#
# `model.save("flow.keras")` saves everything: architecture, weights and averages, TFP's base
# distributions and bijectors too. It loads wherever this library is installed; if it holds classes
# of your own, import their module first.

# %%
import os
import subprocess
import sys
import tempfile

import keras
import numpy as np

from bijectors.flows import toy_flow
from tfresflow import FlowModel

folder = tempfile.mkdtemp()
x = np.random.RandomState(0).randn(500, 2).astype("float32") * [1, 0.3]
model = FlowModel(toy_flow(nblocks=2, dims=(16,), seed=0))
model.compile(keras.optimizers.Adam(1e-2))
model.fit(x, epochs=3, verbose=0)
model.save(os.path.join(folder, "flow.keras"))

# %%
program = '''
import sys, keras, bijectors, tfresflow
model = keras.models.load_model(sys.argv[1])
print(model.log_prob([[0.0, 0.0]], seed=0).numpy())
'''
path = os.path.join(folder, "flow.keras")
print(subprocess.run([sys.executable, "-c", program, path], check=True, text=True,
                     stdout=subprocess.PIPE).stdout)
print(model.log_prob([[0.0, 0.0]], seed=0).numpy())

# %% [markdown]
# With `use_ema=True` in the optimizer, a file that is saved *during* training, as by
# `ModelCheckpoint`, holds two sets of weights. Loaded, `evaluate` and `predict` use the averages;
# `log_prob` and `sample` the trained weights, unless they are called within
# `model.averaged_weights()`. Loaded with `compile=False`, the averages are the weights. After `fit`
# they are, too.
#
# ## For programs that have only TensorFlow
#
# `model.export` writes a SavedModel with the signatures `log_prob`, `sample`, `forward` and
# `inverse`. The random ones take a seed, the batch may have any size.

# %%
model.export(os.path.join(folder, "served"), verbose=False)
program = '''
import sys, tensorflow as tf
served = tf.saved_model.load(sys.argv[1])
for name, signature in sorted(served.signatures.items()):
    arguments = signature.structured_input_signature[1]
    print(name, {key: (value.dtype.name, value.shape) for key, value in arguments.items()})
'''
path = os.path.join(folder, "served")
print(subprocess.run([sys.executable, "-c", program, path], check=True, text=True,
                     stdout=subprocess.PIPE).stdout)

# %% [markdown]
# TFLite and ONNX lack operations of residual blocks, so `export` raises an error for these formats.
#
# ## Copies
#
# `copy.deepcopy`, `pickle` and `keras.models.clone_model` give a flow of its own with the same
# weights (`clone_model`: new ones). `flow.with_log_det(...)` gives one with *the same* weights, and
# another estimator.
