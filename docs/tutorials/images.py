# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Images: train, evaluate, sample
#
# The 1,797 handwritten digits of scikit-learn are 8x8 pixels with 17 grey levels. We merge the last
# two, so that a pixel is one of 16 values: 4 bits.

# %%
import keras
import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

import tfresflow
from bijectors.flows import image_flow
from tfresflow import FlowModel

tfresflow.threads.prepare()
keras.utils.set_random_seed(0)

levels = np.minimum(load_digits().images, 15)[..., None]       # [1797, 8, 8, 1], 0 to 15
levels = np.random.RandomState(0).permutation(levels)
train, test = levels[:1500], levels[1500:]

# %% [markdown]
# ## Noise makes a density of whole numbers
#
# A density of data that lies on a grid can grow without bound: a flow would learn narrow peaks. So
# each value gets uniform noise as wide as a level (*dequantisation*). The likelihood of noisy
# pixels is then a lower bound of the probability of the whole numbers. Pixels are scaled to [0, 1],
# which is what `image_flow` expects.


# %%
def noisy(images, seed):
    noise = np.random.RandomState(seed).uniform(size=images.shape)
    return ((images + noise) / 16).astype("float32")


# %% [markdown]
# For training, the noise must be new each time that an image is seen, so it belongs in a `tf.data`
# pipeline. It shuffles, too.

#
# A flow can also learn the noise: `Chain([image_flow(...), dequantizer([8, 8, 1], nbits=4)])`, with
# the dequantizer of `bijectors.flows`, is a flow of the whole numbers themselves. Then they are the
# data, without noise, and `FlowModel` gets no `nbits`.

# %%
data = tf.data.Dataset.from_tensor_slices(train.astype("float32")).cache().shuffle(1500, seed=0)
data = data.map(lambda image: (image + tf.random.uniform(tf.shape(image))) / 16).batch(60)

# %% [markdown]
# ## The flow
#
# A logit, then residual blocks of convolutions in two scales with a 2x2 squeeze between them, then
# dense blocks. `nbits=4` adds a metric: bits per dimension.

# %%
flow = image_flow([8, 8, 1], nblocks=(2, 2), idim=24, fc_idim=32, n_fc_blocks=2, coeff=0.95, seed=0)
model = FlowModel(flow, nbits=4)
epochs = 14
rate = keras.optimizers.schedules.CosineDecay(
    0.0, epochs * len(data), warmup_target=4e-3, warmup_steps=50)
model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0, use_ema=True, ema_momentum=0.98))
history = model.fit(data, epochs=epochs, validation_data=noisy(test, 0), shuffle=False, verbose=0)
scores = model.evaluate(noisy(test, 1), batch_size=100, return_dict=True, verbose=0)
scores

# %% [markdown]
# ## What bits per dimension say
#
# A nat is $1 / \log 2$ bits. Per pixel, and with the 4 bits of the grid added for the scaling to
# [0, 1], a score of $b$ says that an ideal compression program made of the model needs $b$ bits for
# a pixel. Two yardsticks: 4 bits is no compression at all, and a histogram of each pixel by itself
# knows what each place looks like, but nothing of strokes.

# %%
counts = 1 + np.stack([(train == level).sum(axis=0) for level in range(16)])   # one added to each
histogram = -np.log2(np.take_along_axis(counts / counts.sum(axis=0), test.astype(int), 0)).mean()
print(f"raw 4.00, histogram {histogram:.2f}, flow {scores['bpd']:.2f} bits per pixel")

# %%
figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(history.history["bpd"], label="training")
axis.plot(history.history["val_bpd"], label="test, averaged weights")
axis.axhline(histogram, color="gray", linestyle=":", label="histogram of each pixel")
axis.set_ylim(top=4)
axis.set_xlabel("epoch")
axis.set_ylabel("bits per pixel")
axis.legend()
plt.show()

# %% [markdown]
# ## Samples
#
# The logit's `alpha = 0.05` keeps pixels off its ends, so the support is a little wider than
# [0, 1]: a sample may be outside by up to `alpha / (1 - 2 alpha)`, 0.056. For pictures clip it.

# %%
with model.averaged_weights():
    samples = np.clip(model.sample(24, seed=0).numpy(), 0, 1)
figure, axes = plt.subplots(4, 12, figsize=(9, 3.2))
for axis, image in zip(axes.flat, np.concatenate([test[:24] / 15, samples])):
    axis.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=1)
    axis.set_axis_off()
figure.suptitle("test images (two rows above) and samples (below)")
plt.show()

# %% [markdown]
# That is little training. `python -m tfresflow --flagfile=configs/digits.cfg` trains a
# larger flow for three minutes.
#
# ## Folders of images, without Python
#
# The command line reads folders: all images in it, all of one size. It splits them, trains, keeps
# checkpoints, evaluates with error bars and draws samples.

# %%
import pathlib
import subprocess
import sys
import tempfile

folder = pathlib.Path(tempfile.mkdtemp())
(folder / "digits").mkdir()
for i, image in enumerate(levels[:300]):
    keras.utils.save_img(folder / "digits" / f"{i}.png", image * 17, scale=False)
command = [sys.executable, "-m", "tfresflow", "train", "--data=folder",
           f"--dataroot={folder / 'digits'}", f"--workdir={folder / 'run'}", "--nblocks=1-1",
           "--idim=8", "--fc_idim=8", "--niters=20", "--val_every=10", "--batchsize=32",
           "--nbits=4", "--eval_probes=2", "--n_sample_images=16"]
print(subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout)
print(sorted(path.name for path in (folder / "run").iterdir()))
