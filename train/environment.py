"""What is decided for TensorFlow before it is imported, unless the user has said otherwise."""

import os

__all__ = ["prepare"]


def prepare():
    """Sets environment variables that TensorFlow reads once, when it is imported.

    oneDNN is on. TensorFlow switches it on by itself on x86 processors with AVX-512 VNNI only, but
    it pays without, too: on an AMD EPYC with AVX2 a training step of image-M (README) takes 0.80
    of the time and 0.73 of the memory, and TensorFlow's allocator can say how much it holds.
    """
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings of its C++ side are not ours
