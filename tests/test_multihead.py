"""The multi-head layer: against its twin, against PyTorch, and the laws that it must keep."""

import copy
import pickle
import threading

import numpy as np
import pytest
from cases import chooser, disguised
from hypothesis import given
from hypothesis import strategies as st
from support import FEW_ROWS, FLOATS, OPTIONS, assert_same_bits, options_for

import pyattn
from pyattn import biases, masks, positional, reference
from pyattn.layers import Linear
from pyattn.multihead import MultiHeadAttention

F = np.float32


def random_weights(
    rng, heads=3, kv_heads=None, size=4, value_dim=None, embed=10, kdim=None, vdim=None, out=None,
    bias=True, extra=False, norms=False, sinks=False, dtype=F,
):  # fmt: skip
    """Weights as `from_weights` takes them; results are of order 1."""
    kv_heads, value_dim = kv_heads or heads, value_dim or size
    kdim, vdim, out = kdim or embed, vdim or embed, out or embed
    rows = {"q": heads * size, "k": kv_heads * size, "v": kv_heads * value_dim, "out": out}
    columns = {"q": embed, "k": kdim, "v": vdim, "out": heads * value_dim}
    weights = {
        f"{n}_weight": rng.normal(0, columns[n] ** -0.5, (rows[n], columns[n])) for n in rows
    }
    if bias:
        weights |= {f"{n}_bias": rng.normal(0, 0.5, rows[n]) for n in rows}
    if extra:
        weights |= {"bias_k": rng.normal(size=rows["k"]), "bias_v": rng.normal(size=rows["v"])}
    if norms:
        weights |= {n: rng.uniform(0.5, 1.5, size) for n in ("q_norm", "k_norm")}
    if sinks:
        weights["sinks"] = rng.normal(size=heads)
    return {name: a.astype(dtype) for name, a in weights.items()}


def normal(rng, *shape, dtype=F):
    return rng.standard_normal(shape).astype(dtype)


def assert_close(got, expected):
    """Up to rounding, of numbers of order 1."""
    np.testing.assert_allclose(got, expected, rtol=0, atol=100 * np.finfo(got.dtype).eps)


# --- the twin


def test_twin_by_formula(rng):
    """The specification is the formula of the paper, head by head."""
    w = random_weights(rng, heads=2, size=3, value_dim=4, embed=5, kdim=6, vdim=7, dtype=np.float64)
    x, y, z = (normal(rng, n, size, dtype=np.float64) for n, size in ((4, 5), (3, 6), (3, 7)))
    out, weights = reference.multi_head_attention(w, 2, x, y, z)
    q = (x @ w["q_weight"].T + w["q_bias"]).reshape(4, 2, 3)
    k = (y @ w["k_weight"].T + w["k_bias"]).reshape(3, 2, 3)
    v = (z @ w["v_weight"].T + w["v_bias"]).reshape(3, 2, 4)
    p = np.exp(np.einsum("ihd,jhd->hij", q, k) / np.sqrt(3))
    p /= p.sum(axis=-1, keepdims=True)
    expected = np.einsum("hij,jhe->ihe", p, v).reshape(4, 8) @ w["out_weight"].T + w["out_bias"]
    np.testing.assert_allclose(weights, p, atol=1e-14)
    np.testing.assert_allclose(out, expected, atol=1e-14)


SIZES = {
    "plain": {"heads": 2, "size": 5, "embed": 10},
    "groups": {"heads": 6, "kv_heads": 2, "size": 4, "embed": 24},
    "one key head, wide heads": {"heads": 3, "kv_heads": 1, "size": 16, "embed": 8},
    "other sizes": {
        "heads": 2, "size": 3, "value_dim": 5, "embed": 9, "kdim": 4, "vdim": 7, "out": 11
    },
    "no bias": {"heads": 2, "bias": False},
    "extra keys": {"heads": 4, "kv_heads": 2, "extra": True},
    "norms": {"heads": 2, "norms": True},
    "sinks": {"heads": 4, "sinks": True},
    "all of it": {"heads": 4, "kv_heads": 2, "extra": True, "norms": True, "sinks": True},
    "ones": {"heads": 1, "size": 1, "embed": 1},
}  # fmt: skip


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_against_the_twin(isa, sizes, dtype, zero, rng):
    w = random_weights(rng, **sizes, dtype=dtype)
    heads = sizes["heads"]
    layer = MultiHeadAttention.from_weights(w, heads, add_zero_attn=zero)
    assert layer.dtype == dtype
    x = normal(rng, 2, 7, layer.embed_dim, dtype=dtype)
    y = normal(rng, 2, 9, layer.kdim, dtype=dtype)
    z = normal(rng, 2, 9, layer.vdim, dtype=dtype)
    calls = [(x, y, z)]
    if layer.embed_dim == layer.kdim == layer.vdim:
        calls += [(x,), (x, y), (x, x, y[:, :7]), (x, y, y)]
    for arrays in calls:
        for options in ({}, {"causal": True, "query_start": [0, -2], "key_lengths": [7, 3]}):
            got = layer(*arrays, **options, need_weights="per_head")
            expected = reference.multi_head_attention(
                w, heads, *arrays, **options, add_zero_attn=zero
            )
            for a, b in zip(got, expected, strict=True):
                assert a.dtype == dtype
                assert a.shape == b.shape
                assert_close(a, b)
            assert_same_bits(layer(*arrays, **options), got[0])
            assert_close(layer(*arrays, **options, need_weights="average")[1], got[1].mean(axis=1))


@pytest.mark.parametrize("extra", [False, True], ids=["", "extra keys"])
@pytest.mark.parametrize("name, keys", [(n, s) for s in (33, 70) for n in options_for(33, s)])
def test_every_option(name, keys, extra, rng):
    """They mean what they mean to `attention`; extra keys are seen whatever they say."""
    w = random_weights(rng, heads=6, kv_heads=3, extra=extra, dtype=np.float64)
    layer = MultiHeadAttention.from_weights(w, 6, add_zero_attn=extra)
    x, y = normal(rng, 2, 33, 10, dtype=np.float64), normal(rng, 2, keys, 10, dtype=np.float64)
    arrays = (x,) if keys == 33 else (x, y)
    options = OPTIONS[name](2, 6, 33, keys)
    got = layer(*arrays, **options, need_weights="per_head")
    expected = reference.multi_head_attention(w, 6, *arrays, **options, add_zero_attn=extra)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@st.composite
def layers_and_calls(draw):
    def choose(items):
        return draw(st.sampled_from(list(items)))

    kv_heads, group = choose([1, 2, 3]), choose([1, 2, 4])
    some = [1, 2, 3, 5, 8, 17]
    sizes = {
        "heads": kv_heads * group, "kv_heads": kv_heads, "size": choose(some),
        "value_dim": choose(some), "embed": choose(some), "out": choose(some),
        "bias": choose([True, False]), "extra": choose([False, False, True]),
        "norms": choose([False, False, True]), "sinks": choose([False, False, True]),
        "dtype": choose(FLOATS),
    }  # fmt: skip
    cross = choose([False, True])
    sizes["kdim"] = choose(some) if cross else sizes["embed"]
    sizes["vdim"] = sizes["kdim"]
    leading = choose([(), (1,), (2,), (2, 3), (0,), (1, 2, 1, 2)])
    queries = choose([0, 1, 2, 9, 33])
    keys = choose([0, 1, 7, 70]) if cross else queries
    options = {}
    if choose([False, True]):
        options["causal"] = True
        options["window"] = choose([None, (3, None), (0, 0), (None, 2)])
    if choose([False, False, True]):
        options["mask"] = np.arange(keys) % 3 > 0
    if choose([False, False, True]):
        options["key_lengths"] = keys // 2
    if choose([False, False, True]):
        options["query_start"] = choose([-3, 0, 5])
    if choose([False, False, True]):
        options["softcap"] = 1.5
    if choose([False, False, True]):
        options["scale"] = -0.4
    if sizes["size"] > 1 and choose([False, True]):
        options["rope"] = choose([True, False])
    return sizes, cross, (*leading, queries), (*leading, keys), options, choose([False, True])


@given(layers_and_calls(), st.integers(0, 2**32 - 1))
def test_any_layer(call, seed):
    rng = np.random.default_rng(seed)
    sizes, cross, queries, keys, options, zero = call
    interleaved = options.pop("rope", None)
    w = random_weights(rng, **sizes)
    dtype, rope = sizes["dtype"], None
    if interleaved is not None:
        rope = 1.0 / 3.0 ** np.arange(sizes["size"] // 2)
    layer = MultiHeadAttention.from_weights(
        w, sizes["heads"], add_zero_attn=zero, rope=rope, interleaved=interleaved
    )
    x = normal(rng, *queries, sizes["embed"], dtype=dtype)
    y = normal(rng, *keys, sizes["kdim"], dtype=dtype) if cross else None
    residual = normal(rng, *queries, sizes["out"], dtype=dtype)
    choose = chooser(rng)
    got = layer(
        disguised(choose, x),
        None if y is None else disguised(choose, y),
        residual=disguised(choose, residual),
        need_weights="per_head",
        **options,
    )
    expected = reference.multi_head_attention(
        w, sizes["heads"], x, y, residual=residual, frequencies=rope,
        interleaved=bool(interleaved), add_zero_attn=zero, **options,
    )  # fmt: skip
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        assert_close(a, b)
    assert_same_bits(layer(x, y, residual=residual, **options), got[0])


# --- PyTorch


TORCH = {
    "plain": {},
    "no bias": {"bias": False},
    "bias_k": {"add_bias_kv": True},
    "zero": {"add_zero_attn": True},
    "both": {"add_bias_kv": True, "add_zero_attn": True},
    "kdim": {"kdim": 5},
    "kdim, vdim": {"kdim": 5, "vdim": 7, "add_bias_kv": True},
    "kdim, vdim, no bias": {"kdim": 6, "vdim": 7, "bias": False, "add_zero_attn": True},
}


def torch_layer(torch, heads, **options):
    torch.set_num_threads(1)  # small layers: others would only be waited for
    torch.manual_seed(1)
    layer = torch.nn.MultiheadAttention(12, heads, batch_first=True, **options).eval()
    for parameter in layer.parameters():  # biases too: they begin as zeros
        torch.nn.init.normal_(parameter, std=0.3)
    return layer


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("options", TORCH.values(), ids=TORCH)
def test_torch(options, heads, rng):
    torch = pytest.importorskip("torch")
    theirs = torch_layer(torch, heads, **options)
    ours = MultiHeadAttention.from_torch(
        theirs.state_dict(), heads, add_zero_attn=options.get("add_zero_attn", False)
    )
    q, k, v = (normal(rng, 3, n, s) for n, s in ((6, 12), (9, ours.kdim), (9, ours.vdim)))
    hidden = np.arange(9) >= np.array([9, 4, 1])[:, None]
    blocked = rng.random((6, 9)) < 0.4
    blocked[:, 0] = False  # PyTorch has NaN where nothing is seen
    added = normal(rng, 3 * heads, 6, 9)
    for their_options, our_options in (
        ({}, {}),
        ({"key_padding_mask": hidden}, {"key_lengths": [9, 4, 1]}),
        ({"key_padding_mask": hidden}, {"mask": ~hidden[:, None, None]}),
        ({"attn_mask": blocked}, {"mask": ~blocked}),
        ({"attn_mask": added}, {"bias": added.reshape(3, heads, 6, 9)}),
        (
            {"attn_mask": np.triu(np.ones((6, 9), bool), 1), "key_padding_mask": hidden},
            {"causal": True, "query_start": 0, "key_lengths": [9, 4, 1]},
        ),
    ):
        arguments = {name: torch.from_numpy(a) for name, a in their_options.items()}
        for average in (True, False):
            with torch.no_grad():
                expected = theirs(
                    *map(torch.from_numpy, (q, k, v)), **arguments, average_attn_weights=average
                )
            kind = "average" if average else "per_head"
            got = ours(q, k, v, **our_options, need_weights=kind)
            for a, b in zip(got, expected, strict=True):
                assert_close(a, b.numpy())
    with torch.no_grad():  # neither has a batch axis
        expected = theirs(*map(torch.from_numpy, (q[0], k[0], v[0])))
    for a, b in zip(ours(q[0], k[0], v[0], need_weights="average"), expected, strict=True):
        assert_close(a, b.numpy())


def test_torch_sees_nothing(rng):
    """All keys hidden: PyTorch has NaN, here the heads are 0, and the result is the bias."""
    torch = pytest.importorskip("torch")
    layer = MultiHeadAttention.from_torch(torch_layer(torch, 3).state_dict(), 3)
    out, weights = layer(normal(rng, 2, 4, 12), key_lengths=[4, 0], need_weights="per_head")
    assert_same_bits(out[1], np.tile(layer.out_bias, (4, 1)))
    assert not weights[1].any()


def test_torch_tensors(rng):
    """Those that NumPy has a dtype for; of others the message says what to do."""
    torch = pytest.importorskip("torch")
    theirs = torch_layer(torch, 3)
    layer = MultiHeadAttention.from_torch(theirs.double().state_dict(), 3)
    assert layer.dtype == np.float64
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    with torch.no_grad():
        assert_close(layer(x), theirs(x, x, x)[0].numpy())
    half = MultiHeadAttention.from_torch(theirs.half().state_dict(), 3)
    assert half.dtype == F
    assert_same_bits(half.q_weight, theirs.state_dict()["in_proj_weight"].numpy()[:12].astype(F))
    state = theirs.bfloat16().state_dict()
    with pytest.raises(TypeError) as e:
        MultiHeadAttention.from_torch(state, 3)
    assert str(e.value) == (
        "MultiHeadAttention.from_torch: 'in_proj_weight' cannot be read as an array (Got "
        "unsupported ScalarType BFloat16): of a PyTorch tensor give .detach().float().cpu().numpy()"
    )


def test_torch_prefixes(rng):
    torch = pytest.importorskip("torch")
    module = torch.nn.TransformerDecoderLayer(12, 3, dim_feedforward=8, batch_first=True)
    state = {f"decoder.{name}": a for name, a in module.state_dict().items()}
    for prefix, theirs in (
        ("decoder", module.self_attn),
        ("decoder.self_attn.", module.self_attn),
        ("decoder.multihead_attn", module.multihead_attn),
    ):
        layer = MultiHeadAttention.from_torch(state, 3, prefix=prefix)
        weight = theirs.in_proj_weight.detach().numpy()
        assert_same_bits(np.concatenate([layer.q_weight, layer.k_weight, layer.v_weight]), weight)


def test_fresh_weights_as_torch():
    """The same distributions: bounds and spreads agree."""
    torch = pytest.importorskip("torch")
    for options in ({}, {"kdim": 40, "vdim": 90}):
        torch.manual_seed(0)
        theirs = torch.nn.MultiheadAttention(60, 3, add_bias_kv=True, **options)
        theirs = MultiHeadAttention.from_torch(theirs.state_dict(), 3).weights
        ours = MultiHeadAttention(60, 3, add_bias_kv=True, rng=0, **options).weights
        assert list(ours) == list(theirs)
        for name, a in ours.items():
            b = theirs[name]
            assert a.shape == b.shape
            assert a.std() == pytest.approx(b.std(), rel=0.3 if a.ndim == 1 else 0.03), name
            if a.ndim == 2:
                assert abs(a).max() == pytest.approx(abs(b).max(), rel=0.01), name


# --- the same bits


LAYER = {"heads": 6, "kv_heads": 2, "size": 8, "embed": 33, "extra": True, "norms": True}
FREQUENCIES = positional.rope_frequencies(8)


def rich_layer(rng, dtype=F, **more):
    w = random_weights(rng, **LAYER | more, dtype=dtype)
    return MultiHeadAttention.from_weights(
        w, 6, add_zero_attn=True, rope=FREQUENCIES, interleaved=False
    )


@pytest.mark.parametrize("dtype", FLOATS)
def test_row_alone(isa, dtype, rng):
    """A sequence has the bits that it has alone, a query those that it has among others."""
    layer = rich_layer(rng, dtype)
    x, y = normal(rng, 5, 40, 33, dtype=dtype), normal(rng, 5, 70, 33, dtype=dtype)
    lengths = np.array([70, 3, 0, 69, 64])
    whole = layer(x, y, key_lengths=lengths, causal=True, need_weights="per_head")
    for b in range(5):
        alone = layer(x[b], y[b], key_lengths=lengths[b], causal=True, need_weights="per_head")
        assert_same_bits(alone, tuple(a[b] for a in whole))
    for i in (0, 17, 31):  # some queries, though not so few that other kernels compute
        some = np.s_[:, i : i + FEW_ROWS + 1]
        alone = layer(x[some], y, key_lengths=lengths, causal=True, query_start=30 + i)
        assert_same_bits(alone, whole[0][some])
    for b in (1, 4):  # without the keys that nobody sees
        alone = layer(x[b], y[b, : lengths[b]], causal=True, query_start=30)
        assert_same_bits(alone, whole[0][b])


def test_threads(isa, threads, rng):
    layer = rich_layer(rng)
    x = normal(rng, 3, 130, 33)
    got = layer(x, causal=True, need_weights="average", residual=x)
    pyattn.set_num_threads(1)
    assert_same_bits(got, layer(x, causal=True, need_weights="average", residual=x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("rope", [False, True])
def test_packed(isa, dtype, rope, rng):
    """Every packed sequence has the bits that it has alone."""
    turning = {"rope": FREQUENCIES, "interleaved": True} if rope else {}
    for more in ({}, {"extra": True, "sinks": True}):
        w = random_weights(rng, heads=4, kv_heads=2, size=8, dtype=dtype, **more)
        layer = MultiHeadAttention.from_weights(w, 4, add_zero_attn=bool(more), **turning)
        ends = np.array([0, 5, 5, 75, 76, 110])
        key_ends = np.array([0, 2, 9, 9, 75, 140])
        x, y = normal(rng, 110, 10, dtype=dtype), normal(rng, 140, 10, dtype=dtype)
        residual = normal(rng, 110, 10, dtype=dtype)
        for key, cu_k in ((None, None), (y, key_ends)):
            for options in (
                {},
                {"causal": True, "window": (20, None), "softcap": 2.0, "scale": 0.5},
                {"bias": biases.alibi(np.linspace(0, 1, 4)), "sinks": np.arange(4.0)},
            ):
                packed = {"cu_seqlens": ends, "cu_seqlens_k": cu_k, "residual": residual}
                got = layer(x, key, **packed, **options)
                for n in range(5):
                    rows = slice(ends[n], ends[n + 1])
                    keys = None if key is None else key[cu_k[n] : cu_k[n + 1]]
                    alone = layer(x[rows], keys, residual=residual[rows], **options)
                    assert_same_bits(got[rows], alone)


def test_layouts(rng):
    """Strides do not matter, nor where results go."""
    layer = rich_layer(rng)
    x, y = normal(rng, 2, 3, 9, 33), normal(rng, 2, 3, 12, 33)
    expected = layer(x, y, residual=x)
    for seed in range(20):
        choose = chooser(np.random.default_rng(seed))
        out = disguised(choose, np.zeros_like(x))
        arrays = [disguised(choose, a) for a in (x, y, x)]
        if not out.flags.writeable:
            out = None
        got = layer(*arrays[:2], residual=arrays[2], out=out)
        assert out is None or got is out
        assert_same_bits(np.ascontiguousarray(got), expected)


def test_out_is_an_input(rng):
    """A layer with a residual may be computed in place."""
    layer = rich_layer(rng)
    x = normal(rng, 2, 20, 33)
    expected = layer(x, residual=x, causal=True)
    for form in ("query", "residual"):
        query, residual = x.copy(), x.copy()
        out = query if form == "query" else residual
        assert layer(query, residual=residual, causal=True, out=out) is out
        assert_same_bits(out, expected)
    both = x.copy()
    assert layer(both, residual=both, causal=True, out=both) is both
    assert_same_bits(both, expected)
    shifted = np.zeros((2, 21, 33), F)  # overlaps, a row further
    shifted[:, :20] = x
    layer(shifted[:, :20], residual=shifted[:, :20], causal=True, out=shifted[:, 1:])
    assert_same_bits(shifted[:, 1:].copy(), expected)


def test_weights_are_made_before_anything_is_written(rng):
    """`out` may share memory with an option, and is untouched if there is no room for weights."""
    layer = MultiHeadAttention(2, 1, rng=0)
    memory = normal(rng, 9, 9)
    x, bias, out = normal(rng, 9, 2), memory[:, :], memory[:, :2]
    expected = layer(x, bias=bias.copy(), need_weights="average")
    got = layer(x, bias=bias, need_weights="average", out=out)
    assert_same_bits(tuple(map(np.ascontiguousarray, got)), expected)
    many = np.ones((400_000, 2), F)  # whose weights would take 600 GB
    with pytest.raises(MemoryError):
        layer(many, window=(0, 0), need_weights="average", residual=many, out=many)
    assert (many == 1).all()


def test_masked_rows_cannot_be_seen(isa, rng):
    """NaN in the input of keys that are hidden changes no bit, though it is projected."""
    layer = rich_layer(rng)
    x, y = normal(rng, 2, 9, 33), normal(rng, 2, 70, 33)
    expected = layer(x, y, key_lengths=[50, 0])
    y[0, 50:], y[1] = np.nan, np.inf
    assert_same_bits(layer(x, y, key_lengths=[50, 0]), expected)


def test_many_python_threads(rng):
    """One layer, eight threads at a time."""
    layer = rich_layer(rng)
    inputs = [normal(rng, 2, n, 33) for n in (3, 20, 65, 130) * 2]
    expected = [layer(x, causal=True) for x in inputs]
    results = [None] * len(inputs)

    def work(n):
        for _ in range(20):
            results[n] = layer(inputs[n], causal=True)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(len(inputs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for got, want in zip(results, expected, strict=True):
        assert_same_bits(got, want)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("storage", [None, "bfloat16"])
def test_copies(again, storage, rng):
    w = random_weights(rng, **LAYER, sinks=True)
    layer = MultiHeadAttention.from_weights(
        w, 6, rope=FREQUENCIES, interleaved=True, scale=0.3, softcap=5, storage=storage
    )
    x = normal(rng, 2, 9, 33)
    other = again(layer)
    assert other is not layer
    assert repr(other) == repr(layer)
    assert other.nbytes == layer.nbytes
    assert_same_bits(other(x), layer(x))


def test_memory_mapped_weights(tmp_path, rng):
    w = random_weights(rng, **LAYER)
    for name, a in w.items():
        np.save(tmp_path / f"{name}.npy", a)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in w}
    x = normal(rng, 2, 9, 33)
    got = MultiHeadAttention.from_weights(mapped, 6)
    assert_same_bits(got(x), MultiHeadAttention.from_weights(w, 6)(x))


# --- positions


def rotary(rng, frequencies, interleaved=False, **sizes):
    w = random_weights(rng, **{"heads": 4, "kv_heads": 2, "size": 8, **sizes}, dtype=np.float64)
    layer = MultiHeadAttention.from_weights(w, 4, rope=frequencies, interleaved=interleaved)
    twin = {"frequencies": frequencies, "interleaved": interleaved}

    def check(*arrays, expected=None, **options):
        got = layer(*arrays, need_weights="per_head", **options)
        expected = expected or reference.multi_head_attention(w, 4, *arrays, **options, **twin)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
        return got

    return check


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_by_hand(interleaved, rng):
    """The twin, in turn, against turning by hand what the projections give."""
    w = random_weights(rng, heads=2, size=8, dtype=np.float64)
    layer = MultiHeadAttention.from_weights(w, 2, rope=FREQUENCIES, interleaved=interleaved)
    x = normal(rng, 3, 10, dtype=np.float64)
    q, k, v = (
        (x @ w[f"{n}_weight"].T + w[f"{n}_bias"]).reshape(3, 2, 8).swapaxes(0, 1) for n in "qkv"
    )
    for a in (q, k):
        for position in range(3):
            turn = np.exp(1j * position * FREQUENCIES.inv_freq)
            row = a[:, position]
            pairs = (row[:, 0::2], row[:, 1::2]) if interleaved else (row[:, :4], row[:, 4:])
            z = (pairs[0] + 1j * pairs[1]) * turn
            pairs[0][...], pairs[1][...] = z.real, z.imag
    heads = pyattn.attention(q, k, v).swapaxes(0, 1).reshape(3, 16)
    expected = heads @ w["out_weight"].T + w["out_bias"]
    np.testing.assert_allclose(layer(x), expected, atol=1e-13)


def test_default_positions(rng):
    """Queries stand where `query_start` says, by default at the last keys."""
    check = rotary(rng, FREQUENCIES)
    x, y = normal(rng, 3, 5, 10, dtype=np.float64), normal(rng, 3, 9, 10, dtype=np.float64)
    check(x)
    out, _ = check(x, y, causal=True)
    again, _ = check(x, y, causal=True, positions=np.arange(4, 9))
    assert_same_bits(out, again)
    out, _ = check(x, y, query_start=[0, 100, -7])
    again, _ = check(x, y, positions=np.array([[0], [100], [-7]]) + np.arange(5))
    assert_same_bits(out, again)
    # The last rows of a sequence are those of all of it: what a cache needs.
    whole, _ = check(y, causal=True)
    last, _ = check(y[:, 4:], y, causal=True)
    assert_same_bits(np.ascontiguousarray(whole[:, 4:]), last)


def test_given_positions(rng):
    check = rotary(rng, FREQUENCIES, interleaved=True)
    x, y = normal(rng, 2, 5, 10, dtype=np.float64), normal(rng, 2, 9, 10, dtype=np.float64)
    places, key_places = rng.integers(0, 50, (2, 5)), rng.integers(0, 50, 9)
    first, _ = check(x, positions=places)
    same, _ = check(x, x, x, positions=places)
    assert_same_bits(first, same)
    moved, _ = check(x, positions=places + 11)  # differences alone count
    np.testing.assert_allclose(moved, first, atol=1e-12)
    check(x, y, positions=places)
    check(x, y, key_positions=key_places)
    check(x, y, positions=places / 3, key_positions=key_places / 7)
    check(x, x.copy(), positions=places)  # keys of another array are counted


def test_positions_differ_within_a_batch_of_keys(rng):
    """The queries, or keys, of all elements are the same, but not where they stand."""
    check = rotary(rng, FREQUENCIES)
    x, y = normal(rng, 5, 10, dtype=np.float64), normal(rng, 2, 7, 10, dtype=np.float64)
    check(x, y, query_start=[2, 0])
    check(x, y, positions=rng.integers(0, 50, (2, 5)))
    check(y, x, key_positions=rng.integers(0, 50, (2, 5)))


def test_kinds_of_frequencies(rng):
    """Plain numbers, a table, and several axes."""
    x = normal(rng, 2, 6, 10, dtype=np.float64)
    w = random_weights(rng, heads=4, kv_heads=2, size=8, dtype=np.float64)

    def layer(rope):
        return MultiHeadAttention.from_weights(w, 4, rope=rope, interleaved=False)

    expected = layer(FREQUENCIES)(x)
    np.testing.assert_allclose(layer(FREQUENCIES.inv_freq)(x), expected, atol=1e-13)
    np.testing.assert_allclose(layer(list(FREQUENCIES.inv_freq))(x), expected, atol=1e-13)
    assert_same_bits(layer(positional.rope_table(FREQUENCIES, 6))(x), expected)
    grid = layer(positional.rope_axial(8))
    places = positional.grid_positions((2, 3))
    twin, _ = reference.multi_head_attention(
        w, 4, x, frequencies=grid.rope, interleaved=False, positions=places
    )
    np.testing.assert_allclose(grid(x, positions=places), twin, atol=1e-13)
    part = layer(FREQUENCIES.inv_freq[:1])  # of partial RoPE
    assert abs(part(x) - expected).max() > 1e-3


# --- edges


@pytest.mark.parametrize("packed", [False, True])
def test_nothing(packed, rng):
    layer = rich_layer(rng)
    empty, some = np.zeros((0, 33), F), normal(rng, 4, 33)
    if packed:
        assert layer(empty, cu_seqlens=[0, 0]).shape == (0, 33)
        assert layer(empty, cu_seqlens=[0]).shape == (0, 33)
        assert layer(empty, some, cu_seqlens=[0, 0], cu_seqlens_k=[0, 4]).shape == (0, 33)
        got = layer(some, empty, cu_seqlens=[0, 4], cu_seqlens_k=[0, 0])
        assert_same_bits(got, layer(some, empty))
        return
    for leading in ((), (2,), (0,), (0, 3)):
        x = np.zeros((*leading, 0, 33), F)
        out, weights = layer(x, need_weights="per_head")
        assert out.shape == x.shape
        assert weights.shape == (*leading, 6, 0, 2)
    # Without keys there are the extra ones, and without these nothing but the bias.
    out, weights = layer(some, empty, need_weights="average")
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-6)
    plain = MultiHeadAttention(33, 3, rng=0)
    assert_same_bits(plain(some, empty), np.zeros((4, 33), F))


def test_leading_axes_broadcast(rng):
    layer = MultiHeadAttention.from_weights(random_weights(rng, extra=True), 3)
    x, y = normal(rng, 2, 1, 5, 10), normal(rng, 4, 7, 10)
    out, weights = layer(x, y, need_weights="per_head", key_lengths=[7, 3, 0, 1])
    assert out.shape == (2, 4, 5, 10)
    assert weights.shape == (2, 4, 3, 5, 8)
    alone = layer(x[1, 0], y[3], need_weights="per_head", key_lengths=1)
    assert_same_bits(alone, (out[1, 3], weights[1, 3]))


# --- the rest


def test_one_pass_over_each_input(monkeypatch, rng):
    passes, many = [], Linear.many

    def counted(layers, x, outs=None):
        passes.append((len(layers), x))
        return many(layers, x, outs)

    monkeypatch.setattr(Linear, "many", staticmethod(counted))
    layer = MultiHeadAttention.from_weights(random_weights(rng), 3)
    x, y, z = (normal(rng, 4, 10) for _ in range(3))
    for arrays, expected in (
        ((x,), [(3, x)]),
        ((x, x, x), [(3, x)]),
        ((x, y), [(1, x), (2, y)]),
        ((x, y, y), [(1, x), (2, y)]),
        ((x, x, y), [(2, x), (1, y)]),
        ((x, y, x), [(2, x), (1, y)]),
        ((x, y, z), [(1, x), (1, y), (1, z)]),
    ):
        passes.clear()
        layer(*arrays)
        assert len(passes) == len(expected)
        for (count, got), (wanted, source) in zip(passes, expected, strict=True):
            assert count == wanted
            assert got is source
    passes.clear()
    layer(x.astype(">f4"))  # converted once
    assert [count for count, _ in passes] == [3]


def test_defaults_of_the_layer(rng):
    """Its scale, softcap and sinks hold unless a call gives others."""
    w = random_weights(rng, sinks=True)
    layer = MultiHeadAttention.from_weights(w, 3, scale=0.7, softcap=1.5)
    plain = MultiHeadAttention.from_weights({n: a for n, a in w.items() if n != "sinks"}, 3)
    x = normal(rng, 2, 5, 10)
    own = {"scale": 0.7, "softcap": 1.5, "sinks": w["sinks"]}
    assert_same_bits(layer(x), plain(x, **own))
    other = {"scale": -0.2, "softcap": 3.0, "sinks": np.array([1.0, -np.inf, 0.0])}
    assert_same_bits(layer(x, **other), plain(x, **other))


def test_weights_can_be_read(rng):
    w = random_weights(rng, **LAYER, sinks=True)
    layer = MultiHeadAttention.from_weights(w, 6)
    assert sorted(layer.weights) == sorted(w)
    for name, a in w.items():
        read = getattr(layer, name)
        np.testing.assert_array_equal(read, a)
        assert np.array_equal(layer.weights[name], a)
    again = MultiHeadAttention.from_weights(layer.weights, 6)
    x = normal(rng, 5, 33)
    assert_same_bits(again(x), layer(x))
    layer.q_weight[...] = 0  # a copy
    assert_same_bits(again(x), layer(x))
    assert layer.nbytes >= 4 * sum(w[f"{n}_weight"].size for n in ("q", "k", "v", "out"))
    lean = MultiHeadAttention.from_weights(random_weights(rng, bias=False), 3)
    assert lean.bias_k is lean.q_norm is lean.sinks is None
    assert not lean.k_bias.any()


def test_a_layer_does_not_change(rng):
    layer = rich_layer(rng)
    for name in ("bias_k", "bias_v", "q_norm", "k_norm"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(layer, name)[...] = 9


def test_heads_are_told(rng):
    w = random_weights(rng, heads=6, kv_heads=2, size=4, norms=True, sinks=True)
    bare = {n: a for n, a in w.items() if n not in ("q_norm", "k_norm", "sinks")}
    for part, arguments in (
        (bare, {"num_heads": 6}),
        (bare, {"head_dim": 4}),
        (bare, {"num_heads": 6, "kv_heads": 2, "head_dim": 4}),
        (bare | {"k_norm": w["k_norm"]}, {}),
        (bare | {"sinks": w["sinks"]}, {}),
        (w, {}),
    ):
        layer = MultiHeadAttention.from_weights(part, **arguments)
        assert (layer.num_heads, layer.kv_heads, layer.head_dim, layer.value_dim) == (6, 2, 4, 4)


def test_dtypes(rng):
    w = random_weights(rng)
    for weights, dtype, expected in (
        (w, None, F),
        (w, np.float64, np.float64),
        ({n: a.astype(np.float64) for n, a in w.items()}, None, np.float64),
        ({n: a.astype(np.float64) for n, a in w.items()}, "float32", F),
        ({n: a.astype(np.float16) for n, a in w.items()}, None, F),
        ({n: a.astype(">f8") for n, a in w.items()}, None, np.float64),
    ):
        layer = MultiHeadAttention.from_weights(weights, 3, dtype=dtype)
        assert layer.dtype == expected
        assert layer(np.ones((2, 10), expected)).dtype == expected


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_storage(storage, rng):
    w = random_weights(rng, embed=64, heads=4, size=16)
    layer = MultiHeadAttention.from_weights(w, 4, storage=storage)
    assert layer.nbytes < 0.6 * MultiHeadAttention.from_weights(w, 4).nbytes
    x = normal(rng, 2, 9, 64)
    expected, _ = reference.multi_head_attention(layer.weights, 4, x)
    assert_close(layer(x), expected)
    assert abs(layer.q_weight - w["q_weight"]).max() < 2**-8


def test_seeds():
    first = MultiHeadAttention(16, 4, rng=7)
    assert_same_bits(first.q_weight, MultiHeadAttention(16, 4, rng=7).q_weight)
    assert (first.q_weight != MultiHeadAttention(16, 4, rng=8).q_weight).any()
    assert (first.q_weight != MultiHeadAttention(16, 4).q_weight).any()
    generator = np.random.default_rng(7)
    assert_same_bits(first.q_weight, MultiHeadAttention(16, 4, rng=generator).q_weight)


def test_sizes_of_a_new_layer():
    layer = MultiHeadAttention(
        10, 6, kv_heads=2, head_dim=4, kdim=5, vdim=7, bias=False, dtype=np.float64, rng=0
    )
    shapes = {name: a.shape for name, a in layer.weights.items() if name.endswith("_weight")}
    expected = {
        "q_weight": (24, 10), "k_weight": (8, 5), "v_weight": (8, 7), "out_weight": (10, 24)
    }  # fmt: skip
    assert shapes == expected
    assert layer.dtype == layer.q_weight.dtype == np.float64


def test_repr(rng):
    w = random_weights(rng, heads=1, size=8, value_dim=2, kdim=5, vdim=6, out=7, extra=True)
    layer = MultiHeadAttention.from_weights(w, 1)
    assert repr(layer) == (
        "<MultiHeadAttention 10 -> 1 head of 8 (values 2) -> 7, kdim 5, vdim 6, bias_k, float32>"
    )
    w = random_weights(rng, heads=4, kv_heads=2, size=8, norms=True, sinks=True, dtype=np.float64)
    layer = MultiHeadAttention.from_weights(
        w, 4, scale=1.0, softcap=50, rope=FREQUENCIES, interleaved=False, add_zero_attn=True
    )
    assert repr(layer) == (
        "<MultiHeadAttention 10 -> 4 heads of 8 -> 10, 2 key heads, zero key, norms, rope, "
        "scale 1.0, softcap 50.0, sinks, float64>"
    )


def test_structured_masks(rng):
    layer = MultiHeadAttention.from_weights(random_weights(rng), 3)
    x = normal(rng, 2, 30, 10)
    mask = masks.documents([0, 10, 17, 30])
    bits = layer(x, mask=mask)
    assert_same_bits(bits, layer(x, mask=np.asarray(mask)))
    for a, b in ((0, 10), (10, 17), (17, 30)):
        np.testing.assert_allclose(bits[:, a:b], layer(x[:, a:b]), atol=1e-6)
