"""`pyattn.dask.encode`: partitions in order, and one model per process however many threads ask."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

dask = pytest.importorskip("dask")
bag = pytest.importorskip("dask.bag")
pytest.importorskip("tokenizers")

import encoders  # noqa: E402

import pyattn.dask  # noqa: E402
from pyattn.dask import _encode  # noqa: E402
from pyattn.models import ModelError  # noqa: E402

TEXTS = [str(n) for n in range(23)]


class Numbers:
    """In place of a model: the embedding of "7" is [7, 7, 7]."""

    loaded = 0

    @classmethod
    def from_pretrained(cls, directory, *, storage=None):
        time.sleep(0.05)  # long enough for other threads to come
        cls.loaded += 1
        return cls()

    def encode(self, texts, **options):
        self.options = options
        return np.array([[float(text)] * 3 for text in texts], np.float32).reshape(-1, 3)


@pytest.fixture
def model(monkeypatch, tmp_path):
    monkeypatch.setattr(_encode, "TextEncoder", Numbers)
    monkeypatch.setattr(Numbers, "loaded", 0)
    _encode._loaded.cache_clear()
    encoders.add_modules(encoders.save(tmp_path), {"pooling_mode": "mean"})
    yield tmp_path
    _encode._loaded.cache_clear()


def encoded(model, texts, **options):
    lazy = pyattn.dask.encode(model, texts, dim=3, **options)
    assert lazy.shape[1] == 3
    assert np.isnan(lazy.shape[0])
    assert lazy.dtype == lazy._meta.dtype == np.float32
    got = lazy.compute(scheduler="threads")
    assert got.dtype == np.float32
    return got[:, 0].tolist()


NUMBERS = list(map(float, TEXTS))


@pytest.mark.parametrize("partitions", [1, 2, 7, 23])
def test_order(model, partitions):
    texts = bag.from_sequence(TEXTS, npartitions=partitions)
    assert encoded(model, texts) == NUMBERS
    assert Numbers.loaded == 1


def test_bags_that_were_worked_on(model):
    """Their partitions may be iterators, or empty."""
    texts = bag.from_sequence(range(23), npartitions=5).filter(lambda n: n > 11).map(str)
    assert encoded(model, texts) == NUMBERS[12:]
    assert encoded(model, bag.from_sequence(TEXTS).filter(lambda text: False)) == []


def test_columns(model):
    pandas = pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe")
    frame = frames.from_pandas(pandas.DataFrame({"text": TEXTS, "n": NUMBERS}), npartitions=4)
    assert encoded(model, frame["text"]) == NUMBERS
    assert encoded(model, frame[frame["n"] > 11]["text"].str.strip()) == NUMBERS[12:]


def test_one_task_per_partition(model):
    lazy = pyattn.dask.encode(model, bag.from_sequence(TEXTS, npartitions=4), dim=3)
    assert len(dict(lazy.dask)) == 8
    assert lazy.numblocks == (4, 1)
    assert Numbers.loaded == 0


def test_threads_wait_for_one_model(model):
    together = threading.Barrier(8, timeout=30)

    def ask(_):
        together.wait()
        return _encode.encoder(str(model), None)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(8)))) == 1
    assert Numbers.loaded == 1


def test_another_model(model):
    """In another directory, stored in another way, or written over the old one."""

    def load(storage=None):
        _encode.encoder(str(model), storage)
        return Numbers.loaded

    assert [load(), load(), load("bfloat16"), load(), load("bfloat16")] == [1, 1, 2, 2, 2]
    config = model / "1_Pooling" / "config.json"
    written = config.stat().st_mtime_ns
    config.write_text(config.read_text().replace("mean", "cls") + " ")  # as long as before
    os.utime(config, ns=(written, written + 1))
    assert load() == 3
    with open(model / "model.safetensors", "ab") as file:
        file.write(b" ")
    assert load() == 4
    assert _encode._loaded.cache_info().currsize == _encode.KEPT


def test_names_of_tasks(model):
    """The same for the same work, so that what is there already is not computed again."""
    texts = bag.from_sequence(TEXTS, npartitions=4)

    def name(**options):
        return pyattn.dask.encode(model, texts, dim=3, **options).name

    names = {name(), name(normalize=True), name(pooling="cls"), name(storage="bfloat16")}
    assert len(names) == 4
    assert {name(), name(normalize=True)} < names
    with open(model / "config.json", "a") as file:
        file.write(" ")
    assert name() not in names


def test_other_files_beside_a_model(model):
    """What is written there that the encoder does not read is not its business."""
    texts = bag.from_sequence(TEXTS, npartitions=4)
    before = _encode.encoder(str(model), None), pyattn.dask.encode(model, texts, dim=3).name
    for name in ("README.md", "embeddings.npy", "checkpoint-7/config.json"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text("{}")
    after = _encode.encoder(str(model), None), pyattn.dask.encode(model, texts, dim=3).name
    assert after == before


def test_a_broken_model_here(model):
    (model / "config.json").unlink()
    with pytest.raises(ModelError, match=r"config\.json"):
        pyattn.dask.encode(model, BAG, dim=3)


def test_options(model, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Numbers, "encode", lambda self, texts, **o: seen.append(o) or np.zeros((1, 3), np.float32)
    )
    texts = bag.from_sequence(["1"])
    encoded(model, texts)
    encoded(model, texts, batch_tokens=8, pooling=["cls", "mean"], normalize=False)
    default = {"pooling": None, "normalize": None}
    assert seen == [default, {"pooling": ("cls", "mean"), "normalize": False, "batch_tokens": 8}]


def test_dim_is_kept(model):
    lazy = pyattn.dask.encode(model, bag.from_sequence(["1"]), dim=4)
    with pytest.raises(ValueError, match=r"dim is 4, but the embeddings of .* have 3 numbers"):
        lazy.compute(scheduler="threads")


BAG = bag.from_sequence(TEXTS)


@pytest.mark.parametrize(
    "texts, options, kind, text",
    [
        (
            TEXTS,
            {},
            TypeError,
            "texts must be a dask Bag or a dask Series, got list: "
            "use dask.bag.from_sequence(texts)",
        ),
        (
            "text",
            {},
            TypeError,
            "texts must be a dask Bag or a dask Series, got str: use dask.bag.from_sequence(texts)",
        ),
        (BAG, {"normalize": 1}, TypeError, "normalize must be True or False, got int"),
        (BAG, {"batch_tokens": 0}, ValueError, "batch_tokens must be at least 1, got 0"),
        (BAG, {"dim": 1.5}, TypeError, "dim must be an integer, got float"),
        (
            BAG,
            {"storage": "int8"},
            ValueError,
            "storage must be None, 'float16' or 'bfloat16', got 'int8'",
        ),
        (BAG, {"dim": 0}, ValueError, "dim must be at least 1, got 0"),
        (
            BAG,
            {"pooling": "median"},
            ValueError,
            "pooling must be of mean, cls, max, mean_sqrt_len_tokens, weightedmean, lasttoken, "
            "got 'median'",
        ),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)
def test_errors(model, texts, options, kind, text):
    with pytest.raises(kind) as caught:
        pyattn.dask.encode(model, texts, **{"dim": 3} | options)
    assert str(caught.value) == "dask.encode: " + text


def test_a_frame_is_no_column(model):
    pandas = pytest.importorskip("pandas")
    frames = pytest.importorskip("dask.dataframe")
    frame = frames.from_pandas(pandas.DataFrame({"text": TEXTS}), npartitions=4)
    with pytest.raises(TypeError, match=r"got DataFrame: use frame\[name\]"):
        pyattn.dask.encode(model, frame, dim=3)


def test_no_model_here(tmp_path):
    """Then the size of its embeddings is not known, and nothing can be promised."""
    with pytest.raises(ModelError, match="there is no such directory"):
        pyattn.dask.encode(tmp_path / "elsewhere", BAG)
    lazy = pyattn.dask.encode(tmp_path / "elsewhere", BAG, dim=3)
    with pytest.raises(ModelError, match="there is no such directory"):
        lazy.compute(scheduler="threads")
