"""Raises `ImportError` if Keras is set to another backend than TensorFlow, and says how to set it.

The first module that the package imports: the other backend may not even be installed, and Keras's
own error would say no more than that.
"""

import os


def _refuse(backend):
    raise ImportError("tfresflow needs Keras with TensorFlow: set KERAS_BACKEND=tensorflow, or "
                      "\"backend\": \"tensorflow\" in ~/.keras/keras.json. "
                      f"Received: KERAS_BACKEND={backend}")


if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
    _refuse(os.environ["KERAS_BACKEND"])

import keras  # noqa: E402

if keras.backend.backend() != "tensorflow":  # from the file, or imported before
    _refuse(keras.backend.backend())
