"""Wrong images, grids and kernels: the right exception, its text word for word, and an `out` left
alone."""

import inspect
import re

import numpy as np
import pytest

from pyattn import MultiHeadAttention, images
from pyattn.images import NeighborhoodAttention, WindowAttention

F = np.float32


def z(*shape, dtype=F):
    return np.zeros(shape, dtype)


SWIN = {
    "attn.qkv.weight": z(24, 8),
    "attn.proj.weight": z(8, 8),
    "attn.relative_position_bias_table": z(25, 2),
}
NAT = {"attn.qkv.weight": z(24, 8), "attn.proj.weight": z(8, 8), "attn.rpb": z(2, 5, 5)}
PLAIN = {name: a for name, a in NAT.items() if "rpb" not in name}


def windows(*arguments, **options):
    return lambda: WindowAttention(*arguments, **options)


def near(*arguments, **options):
    return lambda: NeighborhoodAttention(*arguments, **options)


def swin(changes, **options):
    return lambda: WindowAttention.from_tensors(SWIN | changes, **options)


def nat(changes, **options):
    return lambda: NeighborhoodAttention.from_tensors(NAT | changes, **options)


def conv(*arguments, **options):
    return lambda: images.attention_as_conv(*arguments, **options)


KERNEL = (
    "kernel must be (height, width, C_in, C_out), got {}: PyTorch's is weight.transpose(2, 3, 1, "
    "0), a filter for one channel filter[:, :, None, None]"
)

# What is said, after the name of the function.
CASES = [
    # vectors
    (
        lambda: images.to_vectors(z(5, 10)),
        ValueError,
        "image must be (..., height, width, channels), got (5, 10)",
    ),
    (
        lambda: images.to_vectors(np.ma.array(z(5, 10, 3))),
        TypeError,
        "image is a masked array; its mask would be lost: use image.filled(0)",
    ),
    (
        lambda: images.to_vectors(z(50, 64, 3), 16),
        ValueError,
        "patches of (16, 16) do not divide an image of (50, 64) pixels: cut it to (48, 64), or pad "
        "it to (64, 64)",
    ),
    (
        lambda: images.to_vectors(z(10, 64, 3), 16),
        ValueError,
        "patches of (16, 16) do not divide an image of (10, 64) pixels: pad it to (16, 64)",
    ),
    (
        lambda: images.to_vectors(z(4, 4, 3), 0),
        ValueError,
        "patch must be at least 1, got 0",
    ),
    (
        lambda: images.to_vectors(z(4, 4, 3), 2.0),
        TypeError,
        "patch must be an integer, got float",
    ),
    (
        lambda: images.to_vectors(z(4, 4, 3), (2, 2, 3)),
        ValueError,
        "patch must be one value or two, got (2, 2, 3)",
    ),
    (
        lambda: images.from_vectors(z(5), (1, 5)),
        ValueError,
        "vectors must be (..., vectors, numbers), got (5,)",
    ),
    (
        lambda: images.from_vectors(z(6, 12), (2, 2), 2),
        ValueError,
        "vectors (6, 12) has 6 vectors, a grid of (2, 2) needs 4",
    ),
    (
        lambda: images.from_vectors(z(6, 11), (2, 3), 2),
        ValueError,
        "vectors (6, 11) has vectors of 11 numbers, which are no whole channels for the 4 pixels "
        "of a patch of (2, 2)",
    ),
    (
        lambda: images.from_vectors(z(6, 12), 6, 2),
        ValueError,
        "grid must be (height, width), got 6",
    ),
    # layers
    (
        windows(8, 3, 2),
        ValueError,
        "embed_dim 8 is not a multiple of num_heads 3: give head_dim=",
    ),
    (windows(8, 2, 0), ValueError, "window must be at least 1, got 0"),
    (windows(8, 2, (2, 2, 2)), ValueError, "window must be one value or two, got (2, 2, 2)"),
    (windows(8, 2, 4, shift=4), ValueError, "shift must be less than the window (4), got 4"),
    (windows(8, 2, 4, shift=(-1, 0)), ValueError, "shift must be at least 0, got -1"),
    (windows(8, 2, 4, bias=1), TypeError, "bias must be True or False, got int"),
    (
        windows(8, 2, 4, dtype="f2"),
        TypeError,
        "dtype must be float32 or float64, got 'f2'",
    ),
    (
        windows(8, 2, 4, rng=-1),
        ValueError,
        "rng must be None, a seed of at least 0 or a Generator, got -1",
    ),
    (
        near(8, 2, 4),
        ValueError,
        "kernel_size must be odd, or else it has no centre, got 4",
    ),
    (
        near(8, 2, (4, 3), causal=(False, True)),
        ValueError,
        "kernel_size must be odd, or else it has no centre, got 4",
    ),
    (
        near(8, 2, (3, 3, 3)),
        ValueError,
        "kernel_size must be one number, (height, width), or (k,) for sequences, got (3, 3, 3)",
    ),
    (near(8, 2, "3"), TypeError, "kernel_size must be an integer, got str"),
    (near(8, 2, (3,), dilation=(1, 2)), ValueError, "dilation must be one value, got (1, 2)"),
    (near(8, 2, 3, dilation=0), ValueError, "dilation must be at least 1, got 0"),
    (near(8, 2, 3, causal=1), TypeError, "causal must be True or False, got int"),
    (
        near(8, 2, 3, relative_bias=None),
        TypeError,
        "relative_bias must be True or False, got NoneType",
    ),
    # tables of checkpoints
    (
        swin({"attn.relative_position_bias_table": z(25, 3)}),
        ValueError,
        "q of 'attn.qkv.weight' (8, 8) cannot be divided into 3 query heads",
    ),
    (
        swin({"attn.relative_position_bias_table": z(25, 4)}, num_heads=2),
        ValueError,
        "'attn.relative_position_bias_table' (25, 4) must be (25, 2), a row for each distance in "
        "windows of (3, 3) and a column per head",
    ),
    (
        swin({}, window=(2, 4)),
        ValueError,
        "'attn.relative_position_bias_table' (25, 2) must be (21, 2), a row for each distance in "
        "windows of (2, 4) and a column per head",
    ),
    (
        swin({"attn.relative_position_bias_table": z(21, 2)}),
        ValueError,
        "window= is needed: 'attn.relative_position_bias_table' (21, 2) has 21 rows, which are "
        "those of no square window",
    ),
    (
        swin({"attn.relative_position_bias_table": z(5, 5, 2)}),
        ValueError,
        "'attn.relative_position_bias_table' must be (distances, heads), got (5, 5, 2)",
    ),
    (
        lambda: WindowAttention.from_tensors(PLAIN),
        ValueError,
        "window= is needed: there is no relative_position_bias_table",
    ),
    (
        lambda: NeighborhoodAttention.from_tensors(PLAIN),
        ValueError,
        "kernel_size= is needed: there is no rpb",
    ),
    (
        nat({"attn.rpb": z(2, 5, 4)}),
        ValueError,
        "'attn.rpb' must be (heads, 2 * height - 1, 2 * width - 1) or (heads, 2 * k - 1), "
        "got (2, 5, 4)",
    ),
    (
        nat({}, kernel_size=5),
        ValueError,
        "'attn.rpb' (2, 5, 5) must be (2, 9, 9), a number for each head and offset in a "
        "neighbourhood of (5, 5)",
    ),
    (
        nat({"attn.rpb": z(2, 5, 5, dtype=int)}),
        TypeError,
        "'attn.rpb' must be float16, bfloat16, float32 or float64, got int64",
    ),
    # convolutions
    (conv(z(3, 3)), ValueError, KERNEL.format("(3, 3)")),
    (conv(z(3, 3, 0, 2)), ValueError, KERNEL.format("(3, 3, 0, 2)")),
    (
        conv(z(3, 2, 1, 1)),
        ValueError,
        "kernel must have odd height and width, or else it has no centre, got (3, 2, 1, 1)",
    ),
    (
        conv(z(3, 3, 1, 1, dtype=int)),
        TypeError,
        "kernel must be float16, bfloat16, float32 or float64, got int64: use "
        "kernel.astype(numpy.float32)",
    ),
    (
        conv(z(3, 3, 1, 2), z(3)),
        ValueError,
        "bias must be (2,) for the C_out of kernel (3, 3, 1, 2), got (3,)",
    ),
    (
        conv(z(3, 3, 1, 1), sharpness=0),
        ValueError,
        "sharpness must be positive and finite, got 0.0",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[re.sub(r"\W+", " ", case[2])[:60] for case in CASES])
def test_made(case):
    make, error, message = case
    with pytest.raises(error) as e:
        make()
    assert type(e.value) is error
    function, _, said = str(e.value).partition(": ")
    assert said == message
    assert function in {
        "to_vectors",
        "from_vectors",
        "attention_as_conv",
        *(f"{layer}{end}" for layer in LAYERS for end in ("", ".from_tensors")),
    }


LAYERS = {
    "WindowAttention": WindowAttention(8, 2, 4),
    "NeighborhoodAttention": NeighborhoodAttention(8, 2, 3, dilation=2),
    "ConvolutionalAttention": images.attention_as_conv(z(3, 3, 8, 8)),
}

# What is said, of layer(x, **options), after its name.
CALLS = [
    ("WindowAttention", [z(8, 8, 7)], {}, ValueError, "x must be (..., 8), got (8, 8, 7)"),
    (
        "ConvolutionalAttention",
        [z(2, 8, 8, 7)],
        {},
        ValueError,
        "x must be (..., 8), got (2, 8, 8, 7)",
    ),
    (
        "WindowAttention",
        [z(8, 8, 8, dtype=np.uint8)],
        {},
        TypeError,
        "x must be float32 or float64, got uint8: use x.astype(numpy.float32)",
    ),
    (
        "NeighborhoodAttention",
        [z(8, 8, 8, dtype=float)],
        {},
        TypeError,
        "x is float64, the layer computes in float32: use x.astype(numpy.float32)",
    ),
    (
        "WindowAttention",
        [z(8, 8)],
        {},
        ValueError,
        "x must be (..., height, width, 8), got (8, 8): if its pixels are one axis, give grid=",
    ),
    (
        "WindowAttention",
        [z(1, 60, 8)],
        {"grid": (8, 8)},
        ValueError,
        "x must be (..., 64, 8) for a grid of (8, 8), got (1, 60, 8)",
    ),
    (
        "WindowAttention",
        [z(1, 64, 8)],
        {"grid": 64},
        ValueError,
        "grid must be (height, width), got 64",
    ),
    (
        "NeighborhoodAttention",
        [z(64, 8)],
        {"grid": (8, 8.0)},
        TypeError,
        "grid must be an integer, got float",
    ),
    (
        "WindowAttention",
        [z(2, 3, 8, 8)],
        {},
        ValueError,
        "windows of (4, 4) are larger than an image of (3, 8) pixels: pad it to (4, 8), or use a "
        "layer with windows of (3, 4) and no shift",
    ),
    (
        "WindowAttention",
        [z(10, 8, 8)],
        {},
        ValueError,
        "windows of (4, 4) do not divide an image of (10, 8) pixels: pad it with zeros to (12, 8), "
        "as Swin does, and cut the result to (10, 8)",
    ),
    (
        "NeighborhoodAttention",
        [z(5, 8, 8)],
        {},
        ValueError,
        "kernel_size * dilation (3 * 2) exceeds the extent 5 of the grid",
    ),
    (
        "WindowAttention",
        [z(8, 8, 8)],
        {"out": z(8, 8, 7)},
        ValueError,
        "out must have shape (8, 8, 8), got (8, 8, 7)",
    ),
    (
        "WindowAttention",
        [z(8, 8, 8)],
        {"residual": z(7, 8, 8)},
        ValueError,
        "residual (7, 8, 8) does not broadcast to the result (8, 8, 8)",
    ),
]


@pytest.mark.parametrize("case", CALLS, ids=[re.sub(r"\W+", " ", case[4])[:60] for case in CALLS])
def test_called(case):
    name, arguments, options, error, message = case
    out = np.full(arguments[0].shape, 7, F)
    options = {"out": out} | options
    with pytest.raises(error) as e:
        LAYERS[name](*arguments, **options)
    assert type(e.value) is error
    assert str(e.value) == f"{name}: {message}"
    assert (out == 7).all()


def test_weights_say_who_was_asked():
    with pytest.raises(ValueError, match=r"^WindowAttention\.attention_weights: x must be"):
        LAYERS["WindowAttention"].attention_weights(z(8, 8))
    with pytest.raises(
        ValueError, match=r"^WindowAttention\.from_tensors: 'attn.logit_scale' is un"
    ):
        swin({"attn.logit_scale": z(2, 1, 1)})()  # of Swin v2


def test_tables_of_others_are_not_passed_over():
    table, rpb = "'attn.relative_position_bias_table' is un", "'attn.rpb' is un"
    heads = {"num_heads": 2}
    with pytest.raises(ValueError, match=rpb):
        WindowAttention.from_tensors(NAT, window=3, **heads)
    with pytest.raises(ValueError, match=table):
        NeighborhoodAttention.from_tensors(SWIN, kernel_size=3, **heads)
    with pytest.raises(ValueError, match=rpb):
        MultiHeadAttention.from_tensors(NAT, **heads)
    MultiHeadAttention.from_tensors(SWIN, **heads)  # which the caller adds as a bias


@pytest.mark.parametrize("name", images.__all__)
def test_documented(name):
    """Every parameter, what comes back, what is raised, and an example."""
    public = getattr(images, name)
    members = [public]
    if inspect.isclass(public):
        members += [public.__call__, public.attention_weights, public.from_tensors]
    for member in members:
        doc = inspect.getdoc(member)
        assert doc.split("\n\n")[0].endswith(".")
        for section in ("Parameters", "Raises"):
            assert re.search(rf"^{section}\n-+$", doc, flags=re.M), section
        parameters = set(inspect.signature(member).parameters) - {"self", "cls"}
        for parameter in parameters:
            assert re.search(rf"^(?:\w+, )*{parameter}(?:, \w+)*(?: :.*)?$", doc, flags=re.M)
        assert member is public.__call__ or "\nExamples\n" in doc
