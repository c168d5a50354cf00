"""One file of an image: what its header says, and its levels as 8 bits, grey or RGB."""

import os
import typing

import numpy as np
import PIL.Image
import PIL.ImageOps
import tensorflow as tf

__all__ = ["SUFFIXES", "Header", "decode", "read_header"]

SUFFIXES = frozenset(".bmp .dib .gif .jfif .jpe .jpeg .jpg .jp2 .pbm .pgm .png .pnm .ppm .tga .tif "
                     ".tiff .webp".split())

_GREY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L")
_COLOUR = ("RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_TENSORFLOW = {"PNG": ("1", "L", "LA", "RGB", "RGBA"), "JPEG": ("L", "RGB"), "MPO": ("L", "RGB")}


class Header(typing.NamedTuple):
    """What is known of an image before its pixels are read.

    Attributes:
      size: height and width, as it is to be looked at.
      grey: whether it has one channel, beside transparency.
      transparent: whether it has transparency, which is left out.
      deep: whether it is grey of 16 bits, of which the upper 8 are taken.
      tensorflow: whether TensorFlow decodes it; else Pillow does, more slowly.
    """

    size: tuple[int, int]
    grey: bool
    transparent: bool
    deep: bool
    tensorflow: bool


def read_header(path):
    """The `Header` of a file.

    Raises:
      ValueError: it cannot be read, or is no single picture of 8 or 16 bits; names the file.
    """
    try:
        with PIL.Image.open(path) as image:
            return _header(image, path)
    except PIL.Image.DecompressionBombError as error:
        raise ValueError(f"{path}: too large an image ({error})") from None
    except OSError as error:
        reason = f" ({error.strerror})" if error.strerror else ""
        raise ValueError(f"{path}: not a readable image{reason}") from None


@tf.autograph.experimental.do_not_convert
def decode(path, tensorflow, channels):
    """uint8 `[H, W, channels]` in TensorFlow operations.

    Args:
      path: string tensor.
      tensorflow: of the `Header`, a boolean tensor; None: of all files.
      channels: 1 or 3. A grey image of 3 has three equal ones.
    """
    def by_tensorflow():
        return tf.io.decode_image(tf.io.read_file(path), channels, expand_animations=False)

    def by_pillow():
        image = tf.numpy_function(lambda path: _pixels(path, channels), [path], tf.uint8)
        return tf.ensure_shape(image, [None, None, channels])

    if tensorflow is None:
        return by_tensorflow()
    return tf.cond(tensorflow, by_tensorflow, by_pillow)


def _header(image, path):
    # An MPO file is a photograph with smaller copies of itself behind it.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ValueError(f"{path} holds {image.n_frames} images, and one is expected of a file: an "
                         "animation or pages. Save each in a file of its own")
    mode, turned = image.mode, _orientation(image)
    if mode not in (*_GREY, "P", "PA", *_COLOUR) and not (mode == "I" and image.format == "PNG"):
        raise ValueError(f"{path} has pixels of kind {mode!r}, whose levels are not those of 8 or "
                         "16 bits. Save it as grey or RGB of 8 bits")
    size = (image.height, image.width)
    palette = mode in ("P", "PA")
    return Header(
        size=size if turned < 5 else size[::-1],
        grey=_has_grey_palette(image) if palette else mode not in _COLOUR,
        transparent=image.has_transparency_data, deep=mode.startswith("I"),
        tensorflow=turned == 1 and mode in _TENSORFLOW.get(image.format, ()))


def _orientation(image):
    """1: as it is stored; 2 to 4: mirrored or upside down; 5 to 8: on its side as well."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would read all of the pixels to look behind them
    orientation = image.getexif().get(274, 1)
    return orientation if orientation in range(1, 9) else 1


def _has_grey_palette(image):
    palette = image.palette
    if palette.rawmode is None:
        colours = np.frombuffer(palette.tobytes(), np.uint8).reshape(-1, len(palette.mode))
    else:  # stored in an order that only reading the pixels makes plain
        colours = np.reshape(image.getpalette(), (-1, 3))
    return bool(np.all(colours[:, :3] == colours[:, :1]))


@tf.autograph.experimental.do_not_convert  # where it runs eagerly, AutoGraph would be asked
def _pixels(path, channels):
    path = os.fsdecode(np.asarray(path).item())  # bytes, in an array where it runs eagerly
    try:
        with PIL.Image.open(path) as image:
            image = PIL.ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):
                grey = (np.asarray(image).astype(np.int64) >> 8).astype(np.uint8)
                return np.repeat(grey[..., None], channels, axis=2)
            if image.mode in ("P", "PA"):
                image = image.convert("RGB")
            pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    except Exception as error:  # Pillow raises what the format's reader happens to meet
        raise ValueError(f"{path}: not a readable image ({error})") from None
    return pixels.reshape(*pixels.shape[:2], channels)
