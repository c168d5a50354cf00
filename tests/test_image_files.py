"""Images of every kind that Pillow writes: the levels of the file, or refused by its name."""

import shutil

import numpy as np
import PIL.Image
import pytest
import tensorflow as tf

from tests.test_data import settings
from train import data, flags
from train.files import fingerprint

COUNT = 10
RNG = np.random.RandomState(0)
GREY = RNG.randint(0, 256, (COUNT, 4, 6)).astype(np.uint8)
RGB = RNG.randint(0, 256, (COUNT, 4, 6, 3)).astype(np.uint8)
ALPHA = PIL.Image.fromarray(np.full((4, 6), 77, np.uint8))


def chosen(folder, *given):
    return settings("--data=folder", f"--dataroot={folder}", "--batchsize=4",
                    "--test_fraction=0.3", *given)


def levels(folder, *given):
    """All images of a folder, in the order of their pixels."""
    source = data.describe(chosen(folder, *given))
    parts = [source.fetch[s](tf.range(count)) for s, count in source.counts.items()]
    return sorted(np.concatenate(parts).tolist())


def with_alpha(image):
    image = image.copy()
    image.putalpha(ALPHA)
    return image


def palette(image):
    """The same pixels by way of a palette of at most 24 colours."""
    return image.convert("RGB").quantize(24)


def sixteen(i):
    return PIL.Image.fromarray(GREY[i].astype(np.uint16) * 256 + 13)


def grey(i):
    return PIL.Image.fromarray(GREY[i])


def colour(i):
    return PIL.Image.fromarray(RGB[i])


KINDS = {
    "grey.png": (grey, {}), "grey.gif": (grey, {}), "grey.tif": (grey, {}), "grey.bmp": (grey, {}),
    "alpha.png": (lambda i: with_alpha(grey(i)), {}), "16 bits.png": (sixteen, {}),
    "16 bits.tif": (sixteen, {}), "palette.png": (lambda i: palette(grey(i)), {}),
    "palette.bmp": (lambda i: palette(grey(i)), {}),
    "palette.tif": (lambda i: palette(grey(i)), {}),
    "rgb.webp": (colour, {"lossless": True}), "rgb.tif": (colour, {}), "rgb.bmp": (colour, {}),
    "rgb alpha.png": (lambda i: with_alpha(colour(i)), {}), "rgb.ppm": (colour, {}),
    "rgb palette.png": (lambda i: palette(colour(i)), {}),
    "rgb palette.gif": (lambda i: palette(colour(i)), {}), "rgb.PNG": (colour, {})}


@pytest.mark.parametrize("kind", KINDS)
def test_levels_are_those_of_the_file(tmp_path, kind, capsys):
    image, kwargs = KINDS[kind]
    suffix = kind.split(".")[1]
    for i in range(COUNT):
        image(i).save(tmp_path / f"{i}.{suffix}", **kwargs)
    want = RGB if kind.startswith("rgb") else GREY[..., None]
    assert levels(tmp_path) == sorted(want.tolist())
    said = capsys.readouterr().err
    assert ("are transparent: that is left out" in said) == ("alpha" in kind)
    assert ("have 16 bits: the upper 8 are taken" in said) == ("16" in kind)


def test_bits_are_read_as_black_and_white(tmp_path):
    for i in range(COUNT):
        grey(i).point(lambda v: 255 * (v > 127)).convert("1").save(tmp_path / f"{i}.png")
    assert levels(tmp_path) == sorted((255 * (GREY[..., None] > 127)).tolist())


def test_photographs_stand_as_their_exif_data_says(tmp_path):
    """Stripes that lie in the file, and stand in the picture: 4x6 becomes 6x4."""
    exif = PIL.Image.Exif()
    exif[274] = 6  # a quarter turn to the right
    stripes = np.repeat([[0, 80, 160, 240]], 6, 0).T.repeat(8, 0).repeat(8, 1).astype(np.uint8)
    for i in range(COUNT):
        PIL.Image.fromarray(stripes).save(tmp_path / f"{i}.jpg", exif=exif, quality=100)
    assert data.describe(chosen(tmp_path)).event_shape == (48, 32, 1)
    image = data.levels(chosen(tmp_path), "test")[0, ..., 0].astype(int)
    np.testing.assert_allclose(image, stripes[::-1].T, atol=2)


def test_cmyk_is_turned_to_rgb(tmp_path):
    for i in range(COUNT):
        colour(i).convert("CMYK").save(tmp_path / f"{i}.tif")
    assert levels(tmp_path) == sorted(RGB.tolist())


@pytest.mark.parametrize("name, save, message", [
    ("a.gif", {"save_all": True}, "a.gif holds 2 images"),
    ("a.webp", {"save_all": True}, "a.webp holds 2 images"),
    ("a.png", {"save_all": True}, "a.png holds 2 images"),
    ("a.tif", {"save_all": True}, "a.tif holds 2 images"),
    ("float.tif", {}, "float.tif has pixels of kind 'F'"),
    ("int.tif", {}, "int.tif has pixels of kind 'I'")])
def test_what_is_no_picture_of_8_bits_is_refused_by_name(tmp_path, name, save, message):
    for i in range(COUNT):
        colour(i).save(tmp_path / f"{i}.png")
    kinds = {"float.tif": np.float32, "int.tif": np.int32}
    image = PIL.Image.fromarray(GREY[0].astype(kinds[name])) if name in kinds else colour(0)
    if save:
        save = {**save, "append_images": [colour(1)]}
    image.save(tmp_path / name, **save)
    with pytest.raises(ValueError, match=message):
        data.describe(chosen(tmp_path))


def test_hidden_files_and_folders_named_like_images_are_passed_over(tmp_path):
    for i in range(COUNT):
        grey(i).save(tmp_path / f"{i}.png")
    want = levels(tmp_path)
    (tmp_path / "._000.png").write_bytes(b"\0\5\x16\7 of macOS")
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "000.png").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".thumbs").mkdir()
    colour(0).save(tmp_path / ".thumbs" / "0.png")
    (tmp_path / "folder.png").mkdir()
    assert levels(tmp_path) == want


def test_what_is_left_out_is_said(tmp_path, capsys):
    for i in range(COUNT):
        grey(i).save(tmp_path / f"{i}.png")
    for name in ("a.heic", "b.heic", "notes.txt", "labels"):
        (tmp_path / name).write_bytes(b"x")
    data.describe(chosen(tmp_path))
    assert "left out, as no images: 2 .heic, 1 .txt, 1 labels" in capsys.readouterr().err


def test_parts_that_are_not_taken_are_said(tmp_path, capsys):
    for part in ("train", "val", "test", "more"):
        (tmp_path / part).mkdir()
        for i in range(3):
            grey(i).save(tmp_path / part / f"{i}.png")
    data.describe(chosen(tmp_path))
    assert "3 images outside of train, validation and test" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "test")
    data.describe(chosen(tmp_path, "--val_fraction=0.2"))
    assert "no folders train and test: all files are parted by --seed" in capsys.readouterr().err
    (tmp_path / "test").mkdir()
    (tmp_path / "valid").mkdir()
    with pytest.raises(ValueError, match="one folder of validation. Found val, valid"):
        data.describe(chosen(tmp_path))


def test_grey_among_colour_and_grey_as_colour_are_said(tmp_path, capsys):
    for i in range(COUNT):
        (grey if i < 3 else colour)(i).save(tmp_path / f"{i}.png")
        (tmp_path / "rgb").mkdir(exist_ok=True)
        grey(i).convert("RGB").save(tmp_path / "rgb" / f"{i}.png")
    data.describe(chosen(tmp_path / "rgb"))
    assert "the 3 channels of 6 images are equal" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "rgb")
    data.describe(chosen(tmp_path))
    assert "3 of 10 images are grey among others in colour" in capsys.readouterr().err


def test_levels_that_nbits_leaves_nothing_of(tmp_path, capsys):
    for i in range(COUNT):
        PIL.Image.fromarray(GREY[i] % 16).save(tmp_path / f"{i}.png")
    data.describe(chosen(tmp_path))
    assert "the levels of 6 images are 0 to 15" in capsys.readouterr().err
    with pytest.raises(ValueError, match="--nbits=4 keeps the upper 4 bits: nothing is left"):
        data.describe(chosen(tmp_path, "--nbits=4"))


def test_a_file_that_ends_too_early_is_named(tmp_path):
    for i in range(COUNT):
        colour(i).save(tmp_path / f"{i}.webp", lossless=True)
    whole = (tmp_path / "7.webp").read_bytes()
    (tmp_path / "7.webp").write_bytes(whole[:len(whole) // 2])
    assert data.find_unreadable(chosen(tmp_path)).startswith(f"{tmp_path / '7.webp'}: not a read")


def test_images_of_another_shape_than_the_model_has(tmp_path):
    """Told before a model is built that does not fit its checkpoint."""
    for i in range(COUNT):
        for kind, image in (("grey", grey), ("rgb", colour)):
            (tmp_path / kind).mkdir(exist_ok=True)
            image(i).save(tmp_path / kind / f"{i}.png")
    trained = chosen(tmp_path / "rgb", f"--workdir={tmp_path}")
    flags.save(trained, tmp_path, "")
    data.save_trained(data.describe(trained), tmp_path)
    evaluated = flags.parse(["x", "eval", f"--workdir={tmp_path}"])
    assert data.describe(evaluated).event_shape == (4, 6, 3)
    evaluated = flags.parse(["x", "eval", f"--workdir={tmp_path}",
                             f"--dataroot={tmp_path / 'grey'}"])
    with pytest.raises(ValueError, match=r"shape \[4, 6, 1\], and the model .* on \[4, 6, 3\]"):
        data.describe(evaluated)


def test_other_folders_are_told_apart_without_their_hidden_files(tmp_path):
    grey(0).save(tmp_path / "0.png")
    before = fingerprint(tmp_path)
    (tmp_path / ".DS_Store").write_bytes(b"of macOS")
    assert fingerprint(tmp_path) == before
    grey(1).save(tmp_path / "1.png")
    assert fingerprint(tmp_path) != before
