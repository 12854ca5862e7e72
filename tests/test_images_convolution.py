"""Self-attention that is a convolution: against SciPy, on a real image, and its twin."""

from itertools import pairwise

import numpy as np
import pytest
from support import FLOATS, assert_same_bits

from pyattn import images, reference

ndimage = pytest.importorskip("scipy.ndimage")
signal = pytest.importorskip("scipy.signal")


def convolved(kernel, image, bias=0.0):
    """By scipy.ndimage, channel by channel, in float64."""
    kernel, image = kernel.astype(float), image.astype(float)
    *_, inputs, outputs = kernel.shape
    planes = [
        sum(
            ndimage.correlate(image[..., c], kernel[:, :, c, o], mode="constant")
            for c in range(inputs)
        )
        for o in range(outputs)
    ]
    return np.stack(planes, axis=-1) + bias


@pytest.fixture(scope="module")
def photo():
    """A part of a real picture, (40, 56, 3), from 0 to 1."""
    datasets = pytest.importorskip("sklearn.datasets")
    pytest.importorskip("PIL")
    picture = datasets.load_sample_image("china.jpg")
    return picture[100:140, 200:256].astype(np.float32) / 255


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (1, 7)])
def test_on_a_photo(each_isa, size, photo, rng):
    kernel, bias = rng.standard_normal((*size, 3, 8)).astype(np.float32), rng.standard_normal(8)
    layer = images.attention_as_conv(kernel, bias)
    expected = convolved(kernel, photo, bias)
    for _ in each_isa():
        got = layer(photo)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_against_signal(photo):
    """The other half of SciPy, with its own idea of the same size."""
    blur = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256.0
    layer = images.attention_as_conv(blur[:, :, None, None], dtype=np.float32)
    expected = signal.correlate2d(photo[..., 1], blur, "same")
    np.testing.assert_allclose(layer(photo[..., 1:2])[..., 0], expected, rtol=0, atol=1e-6)


def test_against_torch(photo, rng):
    torch = pytest.importorskip("torch")
    weight, bias = rng.standard_normal((4, 3, 3, 5)), rng.standard_normal(4)  # as PyTorch has them
    layer = images.attention_as_conv(weight.transpose(2, 3, 1, 0), bias)
    x = torch.from_numpy(photo.astype(float)).permute(2, 0, 1)[None]
    expected = torch.nn.functional.conv2d(
        x, torch.from_numpy(weight), torch.from_numpy(bias), padding="same"
    )
    expected = expected[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(layer(photo.astype(float)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("grid", [(7, 9), (2, 3), (1, 1), (1, 9), (4, 2)])
@pytest.mark.parametrize("sharpness", [None, 0.5])
def test_twin(grid, sharpness, dtype, rng):
    """Of kernels that are larger than the image too."""
    kernel = rng.standard_normal((3, 5, 4, 2)).astype(dtype)
    bias, image = rng.standard_normal(2), rng.standard_normal((2, *grid, 4)).astype(dtype)
    layer = images.attention_as_conv(kernel, bias, sharpness=sharpness)
    twin = reference.attention_as_conv(kernel, image, bias, sharpness=sharpness)
    assert twin.shape == (2, *grid, 2) == layer(image).shape
    np.testing.assert_allclose(layer(image), twin, rtol=0, atol=1000 * np.finfo(dtype).eps)
    if sharpness is None:
        for one, expected in zip(image, twin, strict=True):
            np.testing.assert_allclose(convolved(kernel, one, bias), expected, atol=1e-12)


def test_twin_by_formula(rng):
    """With a sharpness: all pixels by their squared distance from the one that is looked for, if
    that one is in the image."""
    kernel, image = rng.standard_normal((1, 3, 1, 1)), rng.standard_normal((1, 4, 1))
    got = reference.attention_as_conv(kernel, image, sharpness=0.7)[0, :, 0]
    expected = np.zeros(4)
    for x in range(4):
        for b in range(3):
            if 0 <= x + b - 1 < 4:
                p = np.exp(-0.7 * (np.arange(4) - (x + b - 1)) ** 2)
                expected[x] += kernel[0, b, 0, 0] * (p @ image[0, :, 0]) / p.sum()
    np.testing.assert_allclose(got, expected, atol=1e-14)


def test_sharper_is_closer(photo, rng):
    """Of four neighbours each has exp(-sharpness) of the weight of the right pixel."""
    kernel, image = rng.standard_normal((3, 3, 3, 2)), photo[:16, :20].astype(float)
    exact = convolved(kernel, image)
    errors = [
        np.abs(images.attention_as_conv(kernel, sharpness=s)(image) - exact).max()
        for s in (1.0, 2.0, 4.0, 8.0, 16.0, 40.0)
    ]
    assert all(later < 0.6 * earlier for earlier, later in pairwise(errors))
    assert errors[0] > 0.1 and errors[-1] < 1e-12
    np.testing.assert_allclose(errors[4] / errors[3], np.exp(-8.0), rtol=0.2)


def test_the_border_is_exactly_zero(rng):
    """A head that looks out of the image adds 0."""
    kernel = np.zeros((3, 3, 1, 1))
    kernel[0, 1] = 1  # the pixel above
    image = rng.standard_normal((4, 5, 1))
    for sharpness in (None, 1e9):
        out = images.attention_as_conv(kernel, sharpness=sharpness)(image)
        assert_same_bits(out[0], np.zeros((5, 1)))
        np.testing.assert_array_equal(out[1:], image[:3])


def test_a_nan_spreads_as_far_as_the_kernel(rng):
    layer = images.attention_as_conv(rng.standard_normal((3, 3, 2, 2)))
    image = rng.standard_normal((7, 8, 2))
    expected = layer(image)
    image[2, 3] = np.nan
    expected[1:4, 2:5] = np.nan
    assert_same_bits(np.isnan(layer(image)), np.isnan(expected))
    there = ~np.isnan(expected)
    assert_same_bits(layer(image)[there], expected[there])


def test_weights(rng):
    layer = images.attention_as_conv(rng.standard_normal((3, 3, 2, 4)))
    weights = layer.attention_weights(rng.standard_normal((4, 5, 2))).reshape(3, 3, 4, 5, 4, 5)
    for a, b, y, x in np.ndindex(3, 3, 4, 5):
        expected = np.zeros((6, 7))
        expected[y + a, x + b] = 1
        np.testing.assert_array_equal(weights[a, b, y, x], expected[1:-1, 1:-1])


def test_kernels_of_any_float(rng):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    kernel, image = rng.integers(-3, 4, (3, 3, 2, 2)), rng.integers(0, 9, (5, 6, 2)).astype("f")
    expected = convolved(kernel, image)
    for dtype in (np.float16, bfloat16, ">f4", np.float32):
        np.testing.assert_array_equal(
            images.attention_as_conv(kernel.astype(dtype))(image), expected
        )
    layer = images.attention_as_conv(kernel.astype(np.float16), dtype=np.float64)
    np.testing.assert_array_equal(layer(image.astype(float)), expected)
