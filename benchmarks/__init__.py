"""Side by side with PyTorch; TensorFlow is loaded as `train` loads it."""

from train import environment

environment.prepare()
