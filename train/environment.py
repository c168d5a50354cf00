"""What is decided for TensorFlow before it is imported, unless the user has said otherwise."""

import os
import sys

__all__ = ["prepare"]


def prepare():
    """Sets environment variables that TensorFlow reads once, when it is imported.

    oneDNN is on. TensorFlow switches it on by itself on x86 processors with AVX-512 VNNI only, but
    it pays without, too: on an AMD EPYC with AVX2 a training step of image-M (README) takes 0.80
    of the time and 0.73 of the memory, and TensorFlow's allocator can say how much it holds.

    Keras computes with TensorFlow, whichever backend the user has for other programs.
    """
    if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
        print(f"warning: KERAS_BACKEND={os.environ['KERAS_BACKEND']} is passed over: it must be "
              "tensorflow here", file=sys.stderr)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # over that of keras.json, too
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings of its C++ side are not ours
