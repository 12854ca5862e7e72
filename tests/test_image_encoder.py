"""ImageEncoder: agrees with float64, has the same bits in any company, takes images of any size."""

import json
import pickle
import threading

import numpy as np
import pytest
from support import assert_same_bits

pytest.importorskip("tokenizers")  # of encoders.py

import image_encoders
from image_encoders import HEADS, HIDDEN, LAYERS, PATCH, REGISTERS, SIDE

import pyattn
from pyattn.models import ImageEncoder

TOLERANCE = 4e-6
# As trained; fewer patches on one axis and more on the other, twice the same number; more.
SIZES = [(SIDE, SIDE), (8, 20), (20, 8), (24, 16)]
COLOURS = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3]}
LOAD = ImageEncoder.from_pretrained


def plain(directory, kind, colours=COLOURS):
    mean, std = colours["image_mean"], colours["image_std"]
    if image_encoders.is_timm(kind):
        mean, std = (image_encoders.config(kind)["pretrained_cfg"][n] for n in ("mean", "std"))
    return image_encoders.Plain(directory, kind, mean, std)


@pytest.fixture(scope="module", params=image_encoders.KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def directory(kind, tmp_path_factory):
    return image_encoders.save(tmp_path_factory.mktemp(kind), kind, colours=COLOURS)


@pytest.fixture(scope="module")
def encoder(directory):
    return LOAD(directory)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return LOAD(image_encoders.save(tmp_path_factory.mktemp("one"), "vit", colours=COLOURS))


# Right


@pytest.mark.parametrize("size", SIZES)
def test_features(encoder, directory, kind, size):
    images = image_encoders.images(2, *size)
    expected = [plain(directory, kind).features(image / 255) for image in images]
    got = encoder.features(images)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_every_instruction_set(encoder, directory, kind, each_isa):
    images = image_encoders.images(1)
    expected = [plain(directory, kind).features(image / 255) for image in images]
    for _ in each_isa():
        np.testing.assert_allclose(encoder.features(images), expected, rtol=0, atol=TOLERANCE)


def test_attention_maps(encoder, directory, kind):
    image = image_encoders.images(1, 8, 20)[0]
    oracle = plain(directory, kind)
    oracle.features(image / 255)
    for layer in range(-LAYERS, LAYERS):
        maps = encoder.attention_maps(image, layer)
        expected = oracle.attention[layer][:, 0, encoder.prefix_tokens :]
        assert maps.shape == (HEADS, 2, 5) and maps.dtype == np.float32
        np.testing.assert_allclose(maps.reshape(HEADS, -1), expected, rtol=0, atol=1e-6)
        assert_same_bits(encoder.attention_maps(image, layer, -1), maps[-1])


def test_what_it_says(encoder, kind):
    tokens = 2 if "deit" in kind else 1 + REGISTERS if image_encoders.has_registers(kind) else 1
    assert encoder.prefix_tokens == tokens
    assert encoder.dim == image_encoders.hidden(kind)
    assert encoder.image_size == (SIDE, SIDE) and encoder.grid == (3, 3)
    assert (encoder.num_layers, encoder.num_heads, encoder.patch_size) == (LAYERS, HEADS, PATCH)
    assert encoder.channels == 3 and encoder.pooling == ("cls",)
    colours = image_encoders.config(kind).get("pretrained_cfg")
    if colours is None:
        colours = {name.removeprefix("image_"): numbers for name, numbers in COLOURS.items()}
    assert encoder.mean == tuple(colours["mean"]) and encoder.std == tuple(colours["std"])
    # Factors are multiplied into weights, positions added to tokens; weights may be padded.
    elsewhere = ("pos", "scale", ".ls")
    shapes = image_encoders.shapes(kind).items()
    sizes = [np.prod(s) for name, s in shapes if not any(part in name for part in elsewhere)]
    assert encoder.nbytes >= 4 * (sum(sizes) + image_encoders.PATCHES * encoder.dim)
    assert f"{LAYERS} layers, {HEADS} heads" in repr(encoder)


@pytest.mark.parametrize("model", ["ViT", "DeiT", "Dinov2", "Dinov2WithRegisters"])
def test_like_transformers(model, tmp_path):
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"image_size": SIDE, "patch_size": PATCH, "layer_norm_eps": 1e-6}
    dino = "Dinov2" in model
    for options in (
        ({"use_swiglu_ffn": False}, {"use_swiglu_ffn": True})
        if dino
        else (
            {"intermediate_size": 48},
            {"intermediate_size": 48, "qkv_bias": False, "hidden_act": "gelu_pytorch_tanh"},
        )
    ):
        torch.manual_seed(1)
        config = getattr(transformers, f"{model}Config")(**sizes, **options)
        oracle = getattr(transformers, f"{model}Model")(config).eval()
        for parameter in oracle.parameters():
            parameter.data = torch.randn_like(parameter) * parameter.shape[-1] ** -0.5
        oracle.save_pretrained(tmp_path)
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(COLOURS))
        encoder = LOAD(tmp_path)
        for height, width in SIZES:
            images = image_encoders.images(2, height, width)
            pixels = (images / 255 - COLOURS["image_mean"]) / COLOURS["image_std"]
            pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).astype(np.float32))
            with torch.no_grad():
                given = {} if dino else {"interpolate_pos_encoding": True}
                expected = oracle(pixels, **given).last_hidden_state.numpy()
            got = encoder.features(images)
            np.testing.assert_allclose(got, expected, rtol=0, atol=3e-6 * np.abs(expected).max())


# One vector of an image


def test_pooling(encoder):
    images = image_encoders.images(4)
    x = encoder.features(images).astype(np.float64)
    patches = x[:, encoder.prefix_tokens :]
    expected = {"cls": x[:, 0], "mean": patches.mean(axis=1), "max": patches.max(axis=1)}
    assert_same_bits(encoder.encode(images), x[:, 0].astype(np.float32))
    for mode, embeddings in expected.items():
        got = encoder.encode(images, pooling=mode)
        np.testing.assert_allclose(got, embeddings, rtol=0, atol=1e-6)
    both = encoder.encode(images, pooling=("cls", "mean"), normalize=True)
    expected = np.hstack([expected["cls"], expected["mean"]])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(both, expected, rtol=0, atol=1e-6)


def test_no_images(vit):
    assert vit.encode([]).shape == (0, HIDDEN)
    assert vit.encode(np.empty((0, SIDE, SIDE, 3)), pooling=["cls", "max"]).shape == (0, 2 * HIDDEN)
    with pytest.raises(ValueError, match="features: there are no images"):
        vit.features([])


# The same bits


def test_company_does_not_matter(encoder):
    images = [
        *image_encoders.images(3),
        *image_encoders.images(2, 8, 20),
        *image_encoders.images(1, 20, 8),
        *image_encoders.images(1),
        *image_encoders.images(1, 4, 4),
    ]
    expected = np.concatenate([encoder.encode([image]) for image in images])
    assert_same_bits(encoder.encode(images), expected)
    assert_same_bits(encoder.encode(images[::-1]), expected[::-1])
    for budget in (1, 12, 25, 10**6):
        assert_same_bits(encoder.encode(iter(images), batch_tokens=budget), expected)
    several = np.stack(images[:3])
    assert_same_bits(encoder.features(several, batch_tokens=15)[:, 0], expected[:3])


def test_threads(vit, threads):
    images = image_encoders.images(2, 24, 16)
    got = vit.encode(images)
    pyattn.set_num_threads(1)
    assert_same_bits(got, vit.encode(images))


def test_many_threads_of_python(vit):
    """Each with images of another size, for which positions are resampled; of some, the patches are
    as many."""
    sizes = [(8, 20), (20, 8), (4, 40), (40, 4), (12, 12)]
    expected = {size: vit.encode(image_encoders.images(1, *size)) for size in sizes}
    wrong = []

    def work(size):
        images = image_encoders.images(1, *size)
        try:
            for _ in range(20):
                if not np.array_equal(vit.encode(images), expected[size]):
                    wrong.append(size)
        except Exception as error:
            wrong.append(error)

    workers = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_pickle(encoder):
    images = image_encoders.images(1, 8, 20)
    again = pickle.loads(pickle.dumps(encoder))
    assert repr(again) == repr(encoder) and again.nbytes == encoder.nbytes
    assert_same_bits(again.encode(images), encoder.encode(images))


def test_pickle_without_the_positions_of_the_last_image(vit):
    vit.encode(image_encoders.images(1))
    size = len(pickle.dumps(vit))
    vit.encode(np.zeros((1, 160, 160, 3)))
    assert len(pickle.dumps(vit)) <= size


def test_an_iterator_that_fills_one_array_again(vit):
    images = image_encoders.images(4)

    def refilled():
        room = np.empty_like(images[0])
        for image in images:
            room[...] = image
            yield room

    assert_same_bits(vit.encode(refilled()), vit.encode(images))
    assert_same_bits(vit.features(refilled(), batch_tokens=15), vit.features(images))


def test_arrays_of_objects(vit):
    images = image_encoders.images(2)
    objects = np.empty(2, object)
    objects[:] = list(images)
    assert_same_bits(vit.encode(objects), vit.encode(images))


def test_series(vit):
    pandas = pytest.importorskip("pandas")
    images = image_encoders.images(2)
    assert_same_bits(vit.encode(pandas.Series(list(images))), vit.encode(images))


def test_whatever_numpy_says_of_tiny_numbers(encoder):
    images = [image_encoders.images(1, 8, 20)[0] / 255 * 1e-310, np.full((8, 20, 3), np.nan)]
    expected = encoder.encode(images, pooling=("cls", "mean", "max"), normalize=True)
    with np.errstate(all="raise"):
        got = encoder.encode(images, pooling=("cls", "mean", "max"), normalize=True)
    assert_same_bits(got, expected)


def test_whatever_numpy_says_of_tiny_embeddings(tmp_path):
    tensors = image_encoders.weights("vit")
    for name in ("layernorm.weight", "layernorm.bias"):
        tensors[name] = tensors[name] * np.float32(1e-40)
    encoder = LOAD(image_encoders.save(tmp_path, "vit", tensors=tensors))
    with np.errstate(all="raise"):
        assert np.abs(encoder.encode(image_encoders.images(1), pooling="mean")).max() < 1e-38


# Numbers of images


def test_floats_are_from_0_to_1(vit):
    images = image_encoders.images(2)
    expected = vit.features(images)
    for dtype, tolerance in ((np.float16, 2e-2), (np.float32, 2e-6), (np.float64, 2e-6)):
        got = vit.features((images / 255).astype(dtype))
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)
    mixed = vit.encode([images[0], images[1] / 255])
    np.testing.assert_allclose(mixed, vit.encode(images), rtol=0, atol=2e-6)


def test_any_memory(vit):
    images = image_encoders.images(2)
    expected = vit.features(images)
    assert_same_bits(vit.features(np.asfortranarray(images)), expected)
    assert_same_bits(vit.features(np.repeat(images, 2, axis=2)[:, :, ::2]), expected)
    assert_same_bits(vit.features(images[:, ::-1, ::-1].copy()[:, ::-1, ::-1]), expected)
    assert_same_bits(
        vit.features([image.tolist() for image in images / 255])[0], vit.features(images / 255)[0]
    )
    swapped = (images / 255).astype(">f4")
    assert_same_bits(vit.features(swapped), vit.features(swapped.astype("<f4")))


def test_nan_stays_in_its_image(vit):
    images = image_encoders.images(3) / 255
    expected = vit.encode(images)
    images[1, 3, 4, 0] = np.nan
    got = vit.encode(images)
    assert np.isnan(got[1]).all()
    assert_same_bits(got[[0, 2]], expected[[0, 2]])


@pytest.mark.parametrize(
    "changes, mean, std, factor",
    [
        ({"do_normalize": False}, 0, 1, 1 / 255),
        ({"do_rescale": False}, COLOURS["image_mean"], COLOURS["image_std"], 1),
        ({"rescale_factor": 1 / 127.5}, COLOURS["image_mean"], COLOURS["image_std"], 1 / 127.5),
        ({"image_mean": None, "image_std": None}, 0.5, 0.5, 1 / 255),
    ],
)
def test_colours(tmp_path, changes, mean, std, factor):
    encoder = LOAD(image_encoders.save(tmp_path, "vit", colours=COLOURS | changes))
    image = image_encoders.images(1)[0]
    oracle = image_encoders.Plain(tmp_path, "vit", mean, std)
    expected = oracle.features(image * factor)
    for same in (image, image / 255):  # floats to 1 are whole numbers to 255
        np.testing.assert_allclose(encoder.features([same])[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["vit", "timm"])
def test_colours_of_the_caller(tmp_path, kind):
    """They count instead of those in the files."""
    settings = {"pretrained_cfg": None} if kind == "timm" else ()
    directory = image_encoders.save(tmp_path, kind, settings=settings)
    encoder = LOAD(directory, mean=[0.1, 0.2, 0.3], std=np.array([0.4, 0.5, 0.6]))
    assert encoder.mean == (0.1, 0.2, 0.3) and encoder.std == (0.4, 0.5, 0.6)
    image = image_encoders.images(1)[0]
    oracle = image_encoders.Plain(directory, kind, encoder.mean, encoder.std)
    expected = oracle.features(image / 255)
    np.testing.assert_allclose(encoder.features([image])[0], expected, rtol=0, atol=TOLERANCE)
    if kind == "vit":
        (directory / "preprocessor_config.json").write_text('{"do_normalize": false}')
        assert LOAD(directory).mean == (0, 0, 0)
        half = LOAD(directory, mean=[0.5] * 3)
        assert half.mean == (0.5,) * 3 and half.std == (1, 1, 1)


@pytest.mark.parametrize(
    "colours, error, message",
    [
        ({"mean": 0.5}, ValueError, r"mean must be 3 numbers, one of each channel, got \(\)"),
        ({"std": [1, 1]}, ValueError, r"std must be 3 numbers, one of each channel, got \(2,\)"),
        ({"mean": "imagenet"}, TypeError, "mean must be a list of numbers, got 'imagenet'"),
        ({"mean": [[1], [1, 2]]}, TypeError, "mean must be a list of numbers"),
        ({"mean": [0, 0, np.nan]}, ValueError, "mean must be finite, got"),
        ({"std": [1, 1, 0]}, ValueError, "std must be finite and above 0, got"),
    ],
)
def test_colours_that_are_refused(tmp_path, colours, error, message):
    directory = image_encoders.save(tmp_path, "vit")
    with pytest.raises(error, match=f"from_pretrained: {message}"):
        LOAD(directory, **colours)


def test_without_a_file_of_colours(tmp_path):
    imagenet = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    for kind in image_encoders.HF:
        colours = {"image_mean": 0.5, "image_std": 0.5} if kind == "vit" else imagenet
        directory = image_encoders.save(tmp_path / kind, kind)
        image = image_encoders.images(1)[0]
        expected = plain(directory, kind, colours).features(image / 255)
        got = LOAD(directory).features([image])[0]
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_the_size_that_a_model_was_made_for(tmp_path):
    square = {"height": 20, "width": 16}
    for colours, expected in (
        ({"size": square}, (20, 16)),
        ({"size": 16}, (16, 16)),
        ({"size": {"shortest_edge": 16}}, (SIDE, SIDE)),
        ({"size": {"shortest_edge": 16}, "crop_size": square, "do_center_crop": True}, (20, 16)),
        ({"size": square, "crop_size": 16}, (20, 16)),
        ({"size": "large"}, (SIDE, SIDE)),
    ):
        encoder = LOAD(image_encoders.save(tmp_path, "vit", colours=colours))
        assert encoder.image_size == expected
        assert encoder.grid == (expected[0] // PATCH, expected[1] // PATCH)


def test_advice_is_taken(tmp_path):
    """A size that the model was made for need not be of whole patches."""
    for size, advice in ((14, "resize((12, 12))"), (3, "resize((4, 4))")):
        encoder = LOAD(image_encoders.save(tmp_path, "vit", colours={"size": size}))
        with pytest.raises(ValueError) as caught:
            encoder.encode([np.zeros((13, 13, 3))])
        assert advice in str(caught.value)


def test_images_that_are_not_square(tmp_path):
    tensors = image_encoders.weights("vit")
    table = tensors["embeddings.position_embeddings"]
    tensors["embeddings.position_embeddings"] = table[:, [0, 1, 2, 3, 4, 5, 6, 7, 8]]
    settings = {"image_size": [8, 16]}
    directory = image_encoders.save(tmp_path, "vit", tensors=tensors, settings=settings)
    encoder = LOAD(directory)
    assert encoder.grid == (2, 4)
    x = encoder.features(np.zeros((1, 8, 16, 3)))
    assert x.shape == (1, 9, HIDDEN) and np.isfinite(x).all()
    assert encoder.features(np.zeros((1, 16, 8, 3))).shape == (1, 9, HIDDEN)


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_other_dtypes_of_the_file(tmp_path, dtype):
    directory = image_encoders.save(tmp_path, "dinov2", dtype=dtype, colours=COLOURS)
    image = image_encoders.images(1, 8, 20)[0]
    expected = plain(directory, "dinov2").features(image / 255)
    np.testing.assert_allclose(
        LOAD(directory).features([image])[0], expected, rtol=0, atol=TOLERANCE
    )


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_storage(vit, tmp_path, storage):
    """Linear maps in half of the memory; weights that are such halves lose nothing."""
    kind = {"float16": "F16", "bfloat16": "BF16"}[storage]
    directory = image_encoders.save(tmp_path, "vit", dtype=kind, colours=COLOURS)
    images = image_encoders.images(2)
    halves = LOAD(directory, storage=storage)
    np.testing.assert_allclose(
        halves.features(images), LOAD(directory).features(images), rtol=0, atol=3e-6
    )
    assert halves.nbytes < 0.65 * vit.nbytes


def test_a_part_of_a_model_for_a_task(vit, tmp_path):
    """With a prefix, and tensors that are of no interest."""
    tensors = {f"vit.{name}": array for name, array in image_encoders.weights("vit").items()}
    tensors |= {"classifier.weight": np.zeros((7, 3)), "vit.pooler.dense.weight": np.zeros((3, 3))}
    directory = image_encoders.save(tmp_path, "vit", tensors=tensors, colours=COLOURS)
    images = image_encoders.images(2)
    assert_same_bits(LOAD(directory).encode(images), vit.encode(images))


def test_mean_of_timm(tmp_path):
    encoder = LOAD(image_encoders.save(tmp_path, "timm", settings={"global_pool": "avg"}))
    images = image_encoders.images(2)
    assert encoder.pooling == ("mean",)
    assert_same_bits(encoder.encode(images), encoder.encode(images, pooling="mean"))


# What is refused


def _image(*shape, dtype=np.uint8):
    return np.zeros(shape or (SIDE, SIDE, 3), dtype)


REFUSED = {
    "one image": (_image(), ValueError, r"images\[None\]"),
    "five axes": (_image(1, 1, 12, 12, 3), ValueError, r"\(n, height, width, channels\)"),
    "a path": ("cat.jpg", TypeError, r"use \[image\]"),
    "a number": (3, TypeError, "iterable"),
    "a dict": ({"image": _image()}, TypeError, "keys"),
    "shades of grey": ([_image(), _image(12, 12)], ValueError, r"images\[1\] .*numpy.stack"),
    "an alpha channel": ([_image(12, 12, 4)], ValueError, r"4 channels, .*3: .*image\[..., :3\]"),
    "channels first": (
        [_image(3, 12, 12)],
        ValueError,
        r"channels come last.*transpose\(1, 2, 0\)",
    ),
    "one channel": ([_image(12, 12, 1)], ValueError, "1 channels, the model takes 3$"),
    "no multiple": ([_image(12, 14, 3)], ValueError, r"multiples of 4.* 12 x 12.*resize"),
    "no pixels": ([_image(0, 12, 3)], ValueError, "multiples of 4, and not 0"),
    "int64": ([_image(dtype=np.int64)], TypeError, r"images\[0\] must be uint8.*got int64"),
    "bool": ([_image(dtype=bool)], TypeError, "got bool"),
    "complex": ([_image(dtype=complex)], TypeError, "got complex128"),
    "objects": ([[["a", "b"]]], TypeError, "must be uint8"),
    "ragged": ([[[1.0], [1.0, 2.0]]], ValueError, "is not an image"),
    "masked": ([np.ma.zeros((12, 12, 3))], TypeError, "masked"),
    "an image of images": ([image_encoders.images(2)], ValueError, "several images"),
    "numbers": (np.zeros(3), ValueError, r"got \(3,\)"),
    "floats to -255": ([-255 * np.ones((12, 12, 3))], ValueError, "as large as 255"),
    "floats to 255": (
        [_image(dtype=float), 255 * np.ones((12, 12, 3))],
        ValueError,
        "as large as 255",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(vit, case):
    images, error, message = REFUSED[case]
    for method in (vit.encode, vit.features):
        with pytest.raises(error, match=message) as caught:
            method(images)
        assert str(caught.value).startswith(method.__name__)


def test_refused_images_of_pillow(vit):
    image = pytest.importorskip("PIL.Image")
    assert vit.encode([image.new("RGB", (12, 12))]).shape == (1, HIDDEN)
    for mode in ("P", "CMYK", "L", "RGBA"):
        with pytest.raises(ValueError, match=rf"its mode is {mode}, use image.convert\('RGB'\)"):
            vit.encode([image.new(mode, (12, 12))])


def test_refused_options(vit):
    images = image_encoders.images(1)
    with pytest.raises(ValueError, match="pooling must be of cls, mean, max, got 'lasttoken'"):
        vit.encode(images, pooling="lasttoken")
    with pytest.raises(TypeError, match="pooling must be a string"):
        vit.encode(images, pooling=3)
    with pytest.raises(ValueError, match="batch_tokens must be at least 1"):
        vit.encode(images, batch_tokens=0)
    with pytest.raises(TypeError, match="normalize"):
        vit.encode(images, normalize="yes")
    with pytest.raises(
        ValueError, match=r"one size, got \(12, 12, 3\) and, images\[1\], \(8, 8, 3\)"
    ):
        vit.features([_image(), _image(8, 8, 3)])
    with pytest.raises(ValueError, match=r"layer = 2 is outside"):
        vit.attention_maps(images[0], 2)
    with pytest.raises(ValueError, match="head must be at least -3, got -4"):
        vit.attention_maps(images[0], 0, -4)
    with pytest.raises(ValueError, match=r"attention_maps: image must be \(height"):
        vit.attention_maps(images)
    with pytest.raises(TypeError, match=r"use ImageEncoder\.from_pretrained\(path\)"):
        ImageEncoder()


def test_an_iterable_that_raises(vit):
    def broken():
        yield _image()
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        vit.encode(broken())
