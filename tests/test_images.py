"""Images as vectors; windows and neighbourhoods: against their twins, gathers and PyTorch."""

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from support import FLOATS, assert_same_bits, python

from pyattn import biases, images, masks, reference
from pyattn.images import NeighborhoodAttention, WindowAttention

F = np.float32


def normal(rng, *shape, dtype=F):
    return rng.standard_normal(shape).astype(dtype)


def assert_close(got, expected):
    """Up to rounding, of numbers of order 1."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=100 * np.finfo(got.dtype).eps)


# --- vectors


def test_vectors_by_loops(rng):
    """Row, column, channel within a patch; patches row by row."""
    image = rng.integers(0, 255, (2, 6, 8, 3))
    vectors = images.to_vectors(image, (3, 2))
    assert vectors.shape == (2, 8, 18)
    for n, (b, row, column) in enumerate(np.ndindex(2, 2, 4)):
        patch = image[b, 3 * row : 3 * row + 3, 2 * column : 2 * column + 2]
        np.testing.assert_array_equal(vectors.reshape(16, 18)[n], patch.ravel())


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64, complex, ">f4", object, "S3"])
@pytest.mark.parametrize("patch", [1, 2, (1, 3), (4, 6), (4, 1)])
def test_vectors_and_back(patch, dtype):
    image = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).astype(dtype)
    for x in (image, image[0], image[:, ::-1, :, ::-1], image[..., :1], image[:0], image[:, :0]):
        vectors = images.to_vectors(x, patch)
        down, across = (patch, patch) if isinstance(patch, int) else patch
        grid = x.shape[-3] // down, x.shape[-2] // across
        assert vectors.shape == (*x.shape[:-3], grid[0] * grid[1], down * across * x.shape[-1])
        back = images.from_vectors(vectors, grid, patch)
        assert back.dtype == x.dtype == vectors.dtype
        np.testing.assert_array_equal(back, x)


def test_vectors_are_views_where_they_can_be():
    image = np.zeros((2, 4, 6, 3), F)
    views = {(1, 1): True, (1, 3): True, (2, 6): True, (4, 6): True, (2, 2): False, (4, 1): False}
    for (down, across), shared in views.items():
        vectors = images.to_vectors(image, (down, across))
        assert np.shares_memory(vectors, image) == shared
        back = images.from_vectors(vectors, (4 // down, 6 // across), (down, across))
        assert np.shares_memory(back, vectors) >= shared  # there and back
    assert np.shares_memory(images.to_vectors(image[:, 1:3]), image)  # whole rows
    assert not np.shares_memory(images.to_vectors(image[:, :, 1:3]), image)


def test_patches_are_the_convolution_of_a_vision_transformer(rng):
    signal = pytest.importorskip("scipy.signal")
    image, weight = normal(rng, 6, 9, 2, dtype=float), normal(rng, 4, 2, 3, 3, dtype=float)
    got = images.to_vectors(image, 3) @ weight.transpose(0, 2, 3, 1).reshape(4, -1).T
    for d in range(4):
        full = sum(signal.correlate2d(image[..., c], weight[d, c], "valid") for c in range(2))
        np.testing.assert_allclose(got[:, d].reshape(2, 3), full[::3, ::3], atol=1e-13)


# --- windows


def windows_by_definition(layer, image):
    """Pixels see each other if they are in the same window: one dense mask, one dense bias."""
    grid, (h, w) = image.shape[-3:-1], layer.window
    y, x = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    window = np.stack([(y - layer.shift[0]) // h, (x - layer.shift[1]) // w])
    mask = (window[:, :, None] == window[:, None]).all(axis=0)
    bias = np.zeros((layer.multihead.num_heads, *mask.shape))
    if layer.table is not None:
        for i, j in zip(*np.nonzero(mask), strict=True):
            row = (y[i] - y[j] + h - 1) * (2 * w - 1) + x[i] - x[j] + w - 1
            bias[:, i, j] = layer.table[row]
    flat = image.reshape(*image.shape[:-3], -1, image.shape[-1])
    heads = layer.multihead.num_heads
    out = reference.multi_head_attention(
        layer.multihead.weights, heads, flat, mask=mask, bias=bias
    )[0]
    return out.reshape(image.shape)


WINDOWS = {
    "whole": ((6, 8), (6, 8), 0),
    "plain": ((6, 8), (3, 4), 0),
    "shifted": ((6, 8), (3, 4), (1, 2)),
    "down only": ((6, 8), (2, 4), (1, 0)),
    "whole, shifted": ((4, 4), 4, 2),
    "pixels": ((3, 5), 1, 0),
    "Swin": ((21, 14), 7, 3),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("grid, window, shift", WINDOWS.values(), ids=WINDOWS)
def test_windows(each_isa, grid, window, shift, dtype, rng):
    layer = WindowAttention(12, 3, window, shift=shift, rng=rng, dtype=dtype)
    layer.table.flags.writeable = True
    layer.table *= 50  # so that it matters
    image = normal(rng, 2, *grid, 12, dtype=dtype)
    twin = reference.window_attention(
        layer.multihead.weights, 3, image, window, shift=shift, table=layer.table
    )
    np.testing.assert_allclose(twin, windows_by_definition(layer, image), rtol=0, atol=1e-12)
    for _ in each_isa():
        assert_close(layer(image), twin)


def test_a_swin_transformer(rng, tmp_path):
    """Both layers of a block, from the file that transformers writes."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    load_file = pytest.importorskip("safetensors.numpy").load_file
    config = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=12, depths=[2], num_heads=[3], window_size=4
    )
    model = transformers.SwinModel(config).eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4, generator=generator)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    for n, shift in enumerate((0, 2)):
        layer = WindowAttention.from_tensors(tensors, f"encoder.layers.0.blocks.{n}", shift=shift)
        assert (layer.window, layer.multihead.num_heads) == ((4, 4), 3)
        block = model.encoder.layers[0].blocks[n]
        seen = []  # what goes into the attention, and what comes out
        for module in (block.layernorm_before, block.drop_path):
            module.register_forward_hook(lambda m, x, y, seen=seen: seen.append(y.numpy()))
        with torch.no_grad():
            block(torch.from_numpy(normal(rng, 2, 16 * 16, 12)), (16, 16))
        image, expected = (a.reshape(2, 16, 16, 12) for a in seen[:2])
        assert_close(layer(image), expected)


def swin_tensors(layer, names):
    """The weights of a layer as a checkpoint has them."""
    w = layer.multihead.weights
    if names == "timm":
        return {
            "l.attn.qkv.weight": np.concatenate([w[f"{n}_weight"] for n in "qkv"]),
            "l.attn.qkv.bias": np.concatenate([w[f"{n}_bias"] for n in "qkv"]),
            "l.attn.proj.weight": w["out_weight"],
            "l.attn.proj.bias": w["out_bias"],
        }
    modules = {"q": "self.query", "k": "self.key", "v": "self.value", "out": "output.dense"}
    return {
        f"l.attention.{module}.{kind}": w[f"{n}_{kind}"]
        for n, module in modules.items()
        for kind in ("weight", "bias")
    }


@pytest.mark.parametrize("names, place", [("timm", "l.attn."), ("bert", "l.attention.self.")])
def test_from_tensors(names, place, rng):
    image = normal(rng, 8, 6, 12)
    swin = WindowAttention(12, 3, 2, shift=1, rng=rng)
    tensors = swin_tensors(swin, names)
    tensors[place + "relative_position_index"] = np.zeros((4, 4), int)  # a buffer, not needed
    with_table = tensors | {place + "relative_position_bias_table": swin.table}
    found = WindowAttention.from_tensors(with_table, "l", shift=1)
    assert_same_bits(found(image), swin(image))
    assert_same_bits(found.table, swin.table)
    bare = WindowAttention.from_tensors(tensors, "l", window=(4, 2), num_heads=3)
    assert bare.table is None and bare.shift == (0, 0)
    assert_close(bare(image), windows_by_definition(bare, image))

    near = NeighborhoodAttention(12, 3, (3, 5), rng=rng)
    tensors = swin_tensors(near, names)
    found = NeighborhoodAttention.from_tensors(tensors | {place + "rpb": near.table}, "l")
    assert_same_bits(found(image), near(image))
    bare = NeighborhoodAttention.from_tensors(tensors, "l", kernel_size=3, num_heads=3)
    assert bare.table is None and bare.kernel_size == (3, 3)


# --- neighbourhoods


def neighborhoods_by_gathering(layer, x):
    """As gathers have it, in float64: windows of keys by sliding_window_view, each pixel takes the
    one around it, or the nearest that there is; with dilation each remainder on its own."""
    axes, kernel = layer.axes, layer.kernel_size
    w = {name: a.astype(float) for name, a in layer.multihead.weights.items()}
    heads = layer.multihead.num_heads
    out = np.empty(x.shape)
    for rest in np.ndindex(*layer.dilation):
        part = tuple(slice(r, None, step) for r, step in zip(rest, layer.dilation, strict=True))
        own = x[(slice(None), *part)].astype(float)
        q, k, v = (
            (own @ w[f"{n}_weight"].T + w[f"{n}_bias"]).reshape(*own.shape[:-1], heads, -1)
            for n in "qkv"
        )
        extents = own.shape[1 : 1 + axes]
        starts = [
            np.clip(np.arange(n) - size // 2, 0, n - size)
            for n, size in zip(extents, kernel, strict=True)
        ]
        at = (slice(None), *np.ix_(*starts))
        spatial = tuple(range(1, 1 + axes))
        k, v = (  # (batch, *extents, heads, size, *kernel)
            np.lib.stride_tricks.sliding_window_view(a, kernel, axis=spatial)[at] for a in (k, v)
        )
        letters = "yx"[:axes]
        scores = np.einsum(f"...hd,...hd{letters}->...h{letters}", q, k) / q.shape[-1] ** 0.5
        if layer.table is not None:
            offsets = [
                np.expand_dims(start[:, None] - np.arange(n)[:, None] + np.arange(size), ())
                + size
                - 1
                for start, n, size in zip(starts, extents, kernel, strict=True)
            ]
            if axes == 2:
                rpb = layer.table[:, offsets[0][:, None, :, None], offsets[1][None, :, None]]
            else:
                rpb = layer.table[:, offsets[0]]
            scores = scores + np.moveaxis(rpb, 0, axes)
        p = np.exp(scores - scores.max(axis=tuple(range(-axes, 0)), keepdims=True))
        p /= p.sum(axis=tuple(range(-axes, 0)), keepdims=True)
        y = np.einsum(f"...h{letters},...hd{letters}->...hd", p, v).reshape(own.shape)
        out[(slice(None), *part)] = y @ w["out_weight"].T + w["out_bias"]
    return out


NEIGHBOURHOODS = {
    "square": ((9, 11), 3, {}),
    "whole": ((5, 7), (5, 7), {}),
    "rectangle": ((8, 13), (3, 7), {}),
    "own pixel": ((4, 5), 1, {}),
    "dilated": ((9, 13), 3, {"dilation": (3, 2)}),
    "no table": ((9, 11), 5, {"relative_bias": False}),
    "sequence": ((40,), (7,), {}),
    "dilated sequence": ((41,), (5,), {"dilation": 4}),
}
CAUSAL = {
    "causal rows": ((6, 9), (3, 5), {"causal": (True, False)}),
    "causal": ((7, 6), (2, 4), {"causal": True, "dilation": (2, 1)}),
    "causal, larger than the image": ((3, 4), (9, 6), {"causal": True}),
    "causal sequence": ((30,), (4,), {"causal": True, "dilation": 3}),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "grid, kernel, options", (NEIGHBOURHOODS | CAUSAL).values(), ids=NEIGHBOURHOODS | CAUSAL
)
def test_neighbourhoods(each_isa, grid, kernel, options, dtype, rng):
    layer = NeighborhoodAttention(12, 3, kernel, rng=rng, dtype=dtype, **options)
    options = dict(options)
    if layer.table is not None:
        layer.table.flags.writeable = True
        layer.table *= 50  # so that it matters
    x = normal(rng, 2, *grid, 12, dtype=dtype)
    options.pop("relative_bias", None)
    twin = reference.neighborhood_attention(
        layer.multihead.weights, 3, x, kernel, table=layer.table, **options
    )
    if not any(layer.causal):
        np.testing.assert_allclose(twin, neighborhoods_by_gathering(layer, x), rtol=0, atol=1e-12)
    for _ in each_isa():
        assert_close(layer(x), twin)


def test_causal_neighbourhoods_by_definition(rng):
    """A change of a later row changes nothing above it, and of rows out of reach nothing below."""
    layer = NeighborhoodAttention(8, 2, (3, 3), causal=(True, False), rng=rng)
    x = normal(rng, 9, 7, 8)
    other = x.copy()
    other[4, 3] += 1
    changed = (layer(x) != layer(other)).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert set(rows) == {4, 5, 6} and set(columns) == {2, 3, 4}


# --- what layers over grids have in common

LAYERS = {
    "windows": lambda **options: WindowAttention(8, 2, (3, 2), shift=1, rng=5, **options),
    "neighbourhoods": lambda **options: NeighborhoodAttention(8, 2, 3, rng=5, **options),
}
layers = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@layers
def test_batches_and_grids(make, rng):
    """An image alone has the bits that it has in any batch, and as a sequence of pixels."""
    layer, batch = make(), normal(rng, 2, 3, 9, 6, 8)
    out = layer(batch)
    assert out.shape == batch.shape
    assert_same_bits(layer(batch[1, 2]), out[1, 2])
    flat = images.to_vectors(batch)
    assert_same_bits(layer(flat, grid=(9, 6)), images.to_vectors(out))
    assert_same_bits(layer(flat[0, 1], grid=[9, 6]), images.to_vectors(out[0, 1]))
    assert layer(batch[:0]).shape == (0, 3, 9, 6, 8)
    assert layer(batch[:, :, :0]).shape == (2, 3, 0, 6, 8)


def test_twins_take_sequences_and_residuals(rng):
    near = NeighborhoodAttention(8, 2, 3, rng=5)
    flat = normal(rng, 2, 54, 8)
    options = {"grid": (9, 6), "residual": flat}
    w = near.multihead.weights
    twin = reference.neighborhood_attention(w, 2, flat, 3, table=near.table, **options)
    assert_close(near(flat, **options), twin)
    window = LAYERS["windows"]()
    w, table = window.multihead.weights, window.table
    twin = reference.window_attention(w, 2, flat, (3, 2), shift=1, table=table, **options)
    assert_close(window(flat, **options), twin)
    kernel = normal(rng, 3, 3, 8, 8)
    conv, twin = images.attention_as_conv(kernel), reference.attention_as_conv
    assert_close(conv(flat / 50, **options), twin(kernel, flat / 50, **options))


@layers
def test_strides_residuals_and_out(make, threads, rng):
    layer, wide = make(), normal(rng, 2, 12, 9, 16)
    for x in (wide[:, 3:, :6, 8:], wide[:, ::-1, ::-1, ::2][:, :9, :6]):
        plain = x.copy()
        expected = layer(plain)
        assert_same_bits(layer(x), expected)
        added = layer(plain, residual=plain)
        assert_close(added, expected.astype(float) + plain)
        assert_same_bits(layer(x, residual=x), added)
        row = plain[:, :1]
        assert_close(layer(x, residual=row), expected.astype(float) + row)
        own = plain.copy()
        assert layer(own, residual=own, out=own) is own
        assert_same_bits(own, added)
        surrounded = np.full((2, 11, 8, 10), 77, F)
        place = surrounded[:, 1:-1, 1:-1, 1:-1]
        assert layer(x, out=place) is place
        assert_same_bits(place.copy(), expected)
        place[...] = 77
        assert (surrounded == 77).all()


@layers
def test_weights_to_look_at(make, rng):
    layer, image = make(), normal(rng, 2, 9, 6, 8)
    weights = layer.attention_weights(image)
    assert weights.shape == (2, 2, 54, 54)
    assert_close(weights.sum(axis=-1), np.ones((2, 2, 54)))
    values = layer.multihead.weights
    v = (images.to_vectors(image) @ values["v_weight"].T).reshape(2, 54, 2, 4).swapaxes(1, 2)
    heads = (weights @ v).swapaxes(1, 2).reshape(2, 9, 6, 8)
    assert_close(heads @ values["out_weight"].T, layer(image))
    assert_same_bits(layer.attention_weights(images.to_vectors(image), grid=(9, 6)), weights)


@layers
def test_kept_grids(make, rng):
    """Those of some sizes, made once; a copy begins without any."""
    layer, image = make(), normal(rng, 9, 6, 8)
    expected = layer(image)
    kept = layer._kept[9, 6]
    for n in range(1, 20):
        layer(normal(rng, 3 * n, 6, 8))
        layer(image)
        assert layer._kept[9, 6] is kept or n > 7
        assert (3 * n, 6) in layer._kept
    assert len(layer._kept) == 8
    again = pickle.loads(pickle.dumps(layer))
    assert not again._kept and repr(again) == repr(layer)
    assert_same_bits(again(image), expected)
    assert not layer.table.flags.writeable and not again.table.flags.writeable


@layers
def test_several_threads(make, rng):
    """That all meet new sizes at the same time."""
    layer = make()
    pictures = [normal(rng, 3 * n, 6, 8) for n in range(1, 6)] * 4
    expected = [make()(x) for x in pictures[:5]] * 4
    with ThreadPoolExecutor(8) as pool:
        for got, one in zip(pool.map(layer, pictures), expected, strict=True):
            assert_same_bits(got, one)


@layers
def test_bias_is_read_in_the_order_in_which_it_lies(make, rng):
    layer = make()
    _, bias = layer._terms((9, 6))
    ((_, _, table),) = biases.bias_terms("test", bias, (1, 2, 54, 54))
    assert table.shape[-4:] == (9, 6, 9, 6) and table.strides[-1] == table.itemsize


@layers
def test_storage_and_dtype(make, rng):
    image = normal(rng, 9, 6, 8)
    half = make(storage="bfloat16")
    assert half.multihead.nbytes < make().multihead.nbytes
    np.testing.assert_allclose(half(image), make()(image), atol=0.05)
    assert_close(make()(image), make(dtype=np.float64)(image.astype(float)))


def test_windows_are_neighbourhoods_of_their_own(rng):
    """A neighbourhood as large as the image is one window."""
    near, window = (
        f(8, 2, 5, rng=3, dtype=float) for f in (NeighborhoodAttention, WindowAttention)
    )
    tensors = swin_tensors(near, "timm")
    table = near.table[:, ::-1, ::-1].reshape(2, -1).T  # query minus key
    tensors["l.attn.relative_position_bias_table"] = table
    window = WindowAttention.from_tensors(tensors, "l")
    image = normal(rng, 5, 5, 8, dtype=float)
    assert_close(near(image), window(image))


MEMORY = """
import numpy as np, pyattn
from pyattn import biases, images

def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024

def extra(call, side):
    x = np.ones((side, side, 64), np.float32)
    with open("/proc/self/clear_refs", "w") as f:
        f.write("5")  # the peak starts again from what is in use now
    before = peak()
    call(x)
    return peak() - before

def everywhere(x):
    side = len(x)
    x = images.to_vectors(x).reshape(-1, 8, 8).swapaxes(0, 1)
    table = np.zeros((8, 2 * side - 1, 2 * side - 1), np.float32)
    pyattn.attention(x, x, x, bias=biases.relative_grid(table, (side, side)))

for call in (
    everywhere,
    images.WindowAttention(64, 8, 4, shift=2, rng=0),
    images.NeighborhoodAttention(64, 8, 7, rng=0),
    images.attention_as_conv(np.ones((3, 3, 64, 4), np.float32)),
):
    extra(call, 16)  # starts the threads
    print(extra(call, 32), extra(call, 64))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_that_of_the_pixels():
    """Of 64 x 64 pixels the weights of 8 heads would be 537 MB."""
    found = np.array(python(MEMORY, PYATTN_NUM_THREADS="2").split(), int).reshape(-1, 2)
    print(f"\nMB of 32 x 32 and 64 x 64 pixels: {(found / 1e6).round(1).tolist()}")
    assert (found[:, 1] < 24e6).all()


def test_masks_and_biases_are_those_of_the_library(rng):
    """A layer is one call of `attention` between two projections."""
    layer = LAYERS["windows"]()
    image = normal(rng, 9, 6, 8)
    mask = masks.grid_windows((9, 6), (3, 2), 1)
    table = np.zeros((2, 17, 11), F)
    table[:, 9 - 3 : 9 + 2, 6 - 2 : 6 + 1] = layer.table.T.reshape(2, 5, 3)
    bias = biases.relative_grid(table, (9, 6))
    expected = layer.multihead(images.to_vectors(image), mask=mask, bias=bias)
    assert_same_bits(layer(image), images.from_vectors(expected, (9, 6)))
