"""Wrong arguments of the multi-head layer: the right exception, its text word for word, and an
`out` left alone."""

import inspect

import numpy as np
import pytest

from pyattn import biases, positional
from pyattn.multihead import MultiHeadAttention

F = np.float32


def z(*shape, dtype=F):
    return np.zeros(shape, dtype)


# --- new layers

NEEDS_INTERLEAVED = (
    "rope= needs interleaved=, since a wrong one would not be noticed: False for half-split pairs "
    "(most on Hugging Face), True for neighbours (GPT-J, GGUF files of Llama's kind)"
)

RNG = "rng must be None, a seed of at least 0 or a Generator, got "

# What is said, of MultiHeadAttention(embed_dim, num_heads, **options), after its name.
NEW = [
    ([0, 1], {}, ValueError, "embed_dim must be at least 1, got 0"),
    ([8.0, 2], {}, TypeError, "embed_dim must be an integer, got float"),
    ([8, 0], {}, ValueError, "num_heads must be at least 1, got 0"),
    ([8, True], {}, TypeError, "num_heads must be an integer, got bool"),
    (
        [8, 3],
        {},
        ValueError,
        "embed_dim 8 is not a multiple of num_heads 3: give head_dim=",
    ),
    (
        [8, 4],
        {"kv_heads": 3},
        ValueError,
        "4 query heads cannot be grouped over 3 key/value heads (need num_heads % kv_heads == 0)",
    ),
    ([8, 4], {"kv_heads": 0}, ValueError, "kv_heads must be at least 1, got 0"),
    ([8, 4], {"head_dim": 0}, ValueError, "head_dim must be at least 1, got 0"),
    ([8, 4], {"kdim": 0}, ValueError, "kdim must be at least 1, got 0"),
    ([8, 4], {"vdim": "8"}, TypeError, "vdim must be an integer, got str"),
    ([8, 4], {"bias": 1}, TypeError, "bias must be True or False, got int"),
    ([8, 4], {"add_bias_kv": None}, TypeError, "add_bias_kv must be True or False, got NoneType"),
    ([8, 4], {"add_zero_attn": 0}, TypeError, "add_zero_attn must be True or False, got int"),
    ([8, 4], {"dtype": "f2"}, TypeError, "dtype must be float32 or float64, got 'f2'"),
    ([8, 4], {"scale": np.nan}, ValueError, "scale must be finite, got nan"),
    ([8, 4], {"softcap": "1"}, TypeError, "softcap must be a real number, got str"),
    (
        [8, 4],
        {"softcap": 0},
        ValueError,
        "softcap must be positive and within [1.2e-38, 1.7e+38] for float32, got 0.0",
    ),
    ([8, 4], {"rng": "seed"}, TypeError, RNG + "'seed'"),
    ([8, 4], {"rng": -1}, ValueError, RNG + "-1"),
    ([8, 4], {"rope": [1.0]}, ValueError, NEEDS_INTERLEAVED),
    (
        [8, 4],
        {"interleaved": True},
        ValueError,
        "interleaved= belongs to rope=, which is not given",
    ),
    (
        [8, 4],
        {"rope": [1.0], "interleaved": 0},
        TypeError,
        "interleaved must be True or False, got int",
    ),
    (
        [8, 4],
        {"rope": [1.0, 2.0], "interleaved": False},
        ValueError,
        "rope turns 4 numbers of a head, which has 2",
    ),
    (
        [8, 4],
        {"rope": positional.rope_table(positional.rope_frequencies(8), 3), "interleaved": False},
        ValueError,
        "rope turns 8 numbers of a head, which has 2",
    ),
    (
        [8, 4],
        {"rope": "yarn", "interleaved": False},
        TypeError,
        "frequencies must be of pyattn.positional.rope_frequencies, a RopeTable or an array of "
        "floats, got str of <U4",
    ),
]


@pytest.mark.parametrize("case", NEW, ids=[case[3][:60] for case in NEW])
def test_new(case):
    arguments, options, error, message = case
    with pytest.raises(error) as e:
        MultiHeadAttention(*arguments, **options)
    assert type(e.value) is error
    assert str(e.value) == f"MultiHeadAttention: {message}"


# --- given weights

W = {name: z(6, 6) for name in ("q_weight", "k_weight", "v_weight", "out_weight")}
KNOWN = (
    "q_weight, k_weight, v_weight, out_weight, q_bias, k_bias, v_bias, out_bias, bias_k, bias_v, "
    "q_norm, k_norm, sinks"
)

# What is said, of from_weights(weights, num_heads, **options), after its name.
GIVEN = [
    ([None, 2], {}, TypeError, "weights must be a mapping from names to arrays, got NoneType"),
    ([W | {"q": z(6)}, 2], {}, ValueError, f"weights has 'q': known are {KNOWN}"),
    ([{"q_weight": z(6, 6)}, 2], {}, ValueError, "weights has no 'k_weight'"),
    ([W | {"v_weight": None}, 2], {}, ValueError, "weights has no 'v_weight'"),
    (
        [W | {"v_weight": z(6, 6, dtype=int)}, 2],
        {},
        TypeError,
        "'v_weight' must be float16, bfloat16, float32 or float64, got int64",
    ),
    ([W | {"v_weight": z(6)}, 2], {}, ValueError, "v_weight must be (outputs, inputs), got (6,)"),
    (
        [W | {"k_weight": z(0, 6)}, 2],
        {},
        ValueError,
        "k_weight must be (outputs, inputs), got (0, 6)",
    ),
    (
        [W],
        {},
        ValueError,
        "num_heads= is needed: q_weight (6, 6) does not tell how many heads it has",
    ),
    ([W, 4], {}, ValueError, "q_weight (6, 6) cannot be divided into 4 query heads"),
    ([W, 2.0], {}, TypeError, "num_heads must be an integer, got float"),
    (
        [W | {"out_weight": z(6, 5)}, 2],
        {},
        ValueError,
        "out_weight (6, 5) must have 6 columns for 2 heads, as v_weight (6, 6) has 3 rows in each",
    ),
    ([W | {"k_bias": z(5)}, 2], {}, ValueError, "k_bias must have shape (6,), got (5,)"),
    ([W | {"q_norm": z(6)}, 2], {}, ValueError, "q_norm must have shape (3,), got (6,)"),
    ([W | {"sinks": z(3)}, 2], {}, ValueError, "sinks must have shape (2,), got (3,)"),
    (
        [W | {"sinks": np.full(2, np.inf, F)}, 2],
        {},
        ValueError,
        "sinks must be finite, at most 1.7e+38 for float32, or -inf (no sink), got inf",
    ),
    (
        [W | {"bias_k": z(6)}, 2],
        {},
        ValueError,
        "bias_k and bias_v go together, there is only bias_k",
    ),
    (
        [W | {"bias_k": z(1, 6), "bias_v": z(6)}, 2],
        {},
        ValueError,
        "bias_k must have shape (6,) or (1, 1, 6), got (1, 6)",
    ),
    ([W, 2], {"norm_eps": 0}, ValueError, "norm_eps must be positive and finite, got 0.0"),
    ([W, 2], {"dtype": int}, TypeError, "dtype must be float32 or float64, got <class 'int'>"),
    ([W, 2], {"rope": [1.0]}, ValueError, NEEDS_INTERLEAVED),
]


@pytest.mark.parametrize("case", GIVEN, ids=[case[3][:60] for case in GIVEN])
def test_given(case):
    arguments, options, error, message = case
    with pytest.raises(error) as e:
        MultiHeadAttention.from_weights(*arguments, **options)
    assert type(e.value) is error
    assert str(e.value) == f"MultiHeadAttention.from_weights: {message}"


TORCH = {"in_proj_weight": z(18, 6), "out_proj.weight": z(6, 6)}

# What is said, of from_torch(state_dict, num_heads, **options), after its name.
STATES = [
    (
        [{**TORCH, "linear1.weight": z(3)}, 2],
        {},
        ValueError,
        "'linear1.weight' is unknown in format 'torch', and may change the result: leave out of "
        "the mapping what does not",
    ),
    (
        [{"out_proj.weight": z(6, 6), "q_proj_weight": z(6, 6), "k_proj_weight": z(6, 5)}, 2],
        {},
        ValueError,
        "'v_proj_weight' is missing of format 'torch'; most like 'v_proj_weight': "
        "'q_proj_weight', 'k_proj_weight', 'out_proj.weight'",
    ),
    (
        [TORCH, 2],
        {"prefix": "layer"},
        ValueError,
        "no attention under 'layer.': looked for in_proj_weight (torch), q_proj_weight (torch); "
        "most like it: 'out_proj.weight', 'in_proj_weight'",
    ),
    (
        [TORCH, 4],
        {},
        ValueError,
        "q of 'in_proj_weight' (6, 6) cannot be divided into 4 query heads",
    ),
    (
        [{**TORCH, "in_proj_weight": z(17, 6)}, 2],
        {},
        ValueError,
        "'in_proj_weight' (17, 6) cannot be divided into three equal parts of rows",
    ),
    (
        [{**TORCH, "bias_v": z(1, 1, 6)}, 2],
        {},
        ValueError,
        "bias_k and bias_v go together, there is only 'bias_v'",
    ),
]


@pytest.mark.parametrize("case", STATES, ids=[case[3][:60] for case in STATES])
def test_states(case):
    arguments, options, error, message = case
    with pytest.raises(error) as e:
        MultiHeadAttention.from_torch(*arguments, **options)
    assert type(e.value) is error
    assert str(e.value) == f"MultiHeadAttention.from_torch: {message}"


# --- calls

LAYER = MultiHeadAttention(6, 2, rng=0)
WIDE = MultiHeadAttention(6, 2, kdim=4, vdim=5, rng=0)
ROTARY = MultiHeadAttention(6, 2, head_dim=4, rope=[1.0, 0.1], interleaved=False, rng=0)
GRID = MultiHeadAttention(6, 2, head_dim=4, rope=positional.rope_axial(4), interleaved=False, rng=0)
X, Y = z(3, 5, 6), z(3, 7, 6)
PACKED = "is not possible with cu_seqlens=: call with one sequence at a time, or with padded ones"
NEEDS = "need_weights must be False, 'average' or 'per_head', got "

# What is said, of layer(*arrays, **options), after "MultiHeadAttention: ".
CALLS = [
    # inputs
    (
        LAYER,
        [X.astype(int)],
        {},
        TypeError,
        "query must be float32 or float64, got int64: use query.astype(numpy.float32)",
    ),
    (
        LAYER,
        [X.astype("f2")],
        {},
        NotImplementedError,
        "query is float16; half precision is not supported here: use query.astype(numpy.float32)",
    ),
    (
        LAYER,
        [X.astype("f8")],
        {},
        TypeError,
        "query is float64, but the layer float32: use query.astype(numpy.float32)",
    ),
    (
        LAYER,
        [X, X.astype("f8")],
        {},
        TypeError,
        "query, key and value must have the same dtype: query float32, key float64, value float64",
    ),
    (
        LAYER,
        [np.ma.masked_array(X)],
        {},
        TypeError,
        "query is a masked array; its mask would be ignored. Fill it (x.filled(0)) and hide keys "
        "with key_lengths",
    ),
    (LAYER, [z(6)], {}, ValueError, "query must be (..., length, 6), got (6,)"),
    (LAYER, [z(3, 5, 7)], {}, ValueError, "query must be (..., length, 6), got (3, 5, 7)"),
    (LAYER, [X, z(3, 7, 5)], {}, ValueError, "key must be (..., length, 6), got (3, 7, 5)"),
    (LAYER, [X, Y, z(3, 7, 5)], {}, ValueError, "value must be (..., length, 6), got (3, 7, 5)"),
    (WIDE, [X], {}, ValueError, "key (which is query) must be (..., length, 4), got (3, 5, 6)"),
    (
        WIDE,
        [X, z(3, 7, 4)],
        {},
        ValueError,
        "value (which is key) must be (..., length, 5), got (3, 7, 4)",
    ),
    (LAYER, [X], {"value": Y}, ValueError, "value= needs key= too"),
    (
        LAYER,
        [X, Y, X],
        {},
        ValueError,
        "key and value must have the same length (axis -2): key (3, 7, 6) has 7, value (3, 5, 6) "
        "has 5",
    ),
    (
        LAYER,
        [X, z(2, 7, 6)],
        {},
        ValueError,
        "leading axes do not broadcast: query (3, 5, 6), key (2, 7, 6), value (2, 7, 6)",
    ),
    # packed
    (
        LAYER,
        [X],
        {"cu_seqlens": [0, 5]},
        ValueError,
        "query must be (tokens, size) with cu_seqlens=, got (3, 5, 6)",
    ),
    (
        LAYER,
        [X[0], Y],
        {"cu_seqlens": [0, 5]},
        ValueError,
        "key must be (tokens, size) with cu_seqlens=, got (3, 7, 6)",
    ),
    (LAYER, [X], {"cu_seqlens_k": [0, 5]}, ValueError, "cu_seqlens_k= needs cu_seqlens= too"),
    (
        LAYER,
        [X[0]],
        {"cu_seqlens": [0, 4]},
        ValueError,
        "cu_seqlens must end with the 5 tokens there are: 4",
    ),
    (
        LAYER,
        [X[0]],
        {"cu_seqlens": [0.0, 5.0]},
        TypeError,
        "cu_seqlens must be integers, got float64",
    ),
    (
        LAYER,
        [X[0], Y[0]],
        {"cu_seqlens": [0, 5]},
        ValueError,
        "cu_seqlens_k is needed: query and key have different lengths",
    ),
    (
        LAYER,
        [X[0], Y[0]],
        {"cu_seqlens": [0, 5], "cu_seqlens_k": [0, 3, 7]},
        ValueError,
        "cu_seqlens and cu_seqlens_k must have the same length: 2 and 3",
    ),
    (LAYER, [X[0]], {"cu_seqlens": [0, 5], "mask": z(5) > 0}, ValueError, f"mask= {PACKED}"),
    (
        LAYER,
        [X[0]],
        {"cu_seqlens": [0, 5], "query_start": 0},
        ValueError,
        f"query_start= {PACKED}",
    ),
    (
        LAYER,
        [X[0]],
        {"cu_seqlens": [0, 5], "key_lengths": 5},
        ValueError,
        f"key_lengths= {PACKED}",
    ),
    (
        LAYER,
        [X[0]],
        {"cu_seqlens": [0, 5], "need_weights": "average"},
        ValueError,
        f"need_weights= {PACKED}",
    ),
    # what is asked for
    (LAYER, [X], {"need_weights": True}, ValueError, NEEDS + "True"),
    (LAYER, [X], {"need_weights": "heads"}, ValueError, NEEDS + "'heads'"),
    (LAYER, [X], {"need_weights": z(2)}, ValueError, NEEDS + "array([0., 0.], dtype=float32)"),
    (
        LAYER,
        [X],
        {"residual": z(3, 5, 5)},
        ValueError,
        "residual (3, 5, 5) does not broadcast to the result (3, 5, 6)",
    ),
    (
        LAYER,
        [X],
        {"residual": X.astype("f8")},
        TypeError,
        "residual is float64, the result is float32",
    ),
    (LAYER, [X], {"out": z(3, 5)}, ValueError, "out must have shape (3, 5, 6), got (3, 5)"),
    (
        LAYER,
        [X],
        {"out": X.astype("f8")},
        ValueError,
        "out must have dtype float32, got float64",
    ),
    (LAYER, [X], {"out": [1]}, TypeError, "out must be a NumPy array, got list"),
    (
        LAYER,
        [X],
        {"out": np.broadcast_to(z(1, 1, 6), (3, 5, 6))},
        ValueError,
        "out is read-only",
    ),
    # options
    (LAYER, [X], {"sinks": z(3)}, ValueError, "sinks must have shape (2,), one per head: (3,)"),
    (
        LAYER,
        [X],
        {"positions": [0, 1]},
        ValueError,
        "positions= is for layers with rope=, this one has none",
    ),
    (
        LAYER,
        [X],
        {"key_positions": [0, 1]},
        ValueError,
        "key_positions= is for layers with rope=, this one has none",
    ),
    (
        ROTARY,
        [X],
        {"query_start": [0, 1]},
        ValueError,
        "query_start (2,) does not broadcast to the batch (3,)",
    ),
    (ROTARY, [X], {"query_start": 0.5}, TypeError, "query_start must be integers, got float64"),
    (
        GRID,
        [X],
        {},
        ValueError,
        "positions are needed: these frequencies turn with 2 of them each",
    ),
]


@pytest.mark.parametrize("case", CALLS, ids=[case[4][:60] for case in CALLS])
def test_calls(case):
    layer, arrays, options, error, message = case
    with pytest.raises(error) as e:
        layer(*arrays, **options)
    assert type(e.value) is error
    assert str(e.value) == f"MultiHeadAttention: {message}"


# Options that go on to attention and rope, whose messages they are.
INSIDE = [
    (
        LAYER,
        {"mask": z(5, 4) > 0},
        ValueError,
        "attention: mask (5, 4) does not broadcast to the scores (3, 2, 5, 5) "
        "[batch, heads, queries, keys]",
    ),
    (LAYER, {"causal": 1}, TypeError, "attention: causal must be True or False, got int"),
    (LAYER, {"key_lengths": 6}, ValueError, "attention: key_lengths[0] = 6 is outside [0, 5]"),
    (LAYER, {"scale": "1"}, TypeError, "attention: scale must be a real number, got str"),
    (
        ROTARY,
        {"positions": np.arange(4)},
        ValueError,
        "rope: positions (4,) do not broadcast to (3, 5) [..., length] of x (3, 5, 2, 4)",
    ),
]


@pytest.mark.parametrize("case", INSIDE, ids=[case[3][:60] for case in INSIDE])
def test_out_is_untouched(case):
    layer, options, error, message = case
    out = np.full_like(X, 7)
    with pytest.raises(error) as e:
        layer(X, out=out, **options)
    assert str(e.value) == message
    assert (out == 7).all()


def test_out_is_untouched_packed():
    out = np.full_like(X[0], 7)
    bias = biases.dense(z(5, 5))
    with pytest.raises(TypeError, match="of packed sequences bias can only be"):
        LAYER(X[0], cu_seqlens=[0, 5], bias=bias, out=out)
    assert (out == 7).all()


def test_unknown_words():
    """Python's own messages name what was called."""
    for call in (
        lambda: MultiHeadAttention(6, 2, heads=1),
        lambda: MultiHeadAttention.from_weights(W, 2, heads=1),
        lambda: MultiHeadAttention.from_torch(TORCH, 2, heads=1),
        lambda: MultiHeadAttention.from_tensors(TORCH, heads=1),
        lambda: LAYER(X, heads=1),
    ):
        with pytest.raises(TypeError, match=r"unexpected keyword argument 'heads'"):
            call()


def test_wild_arguments():
    """Any argument may be anything: exceptions of the documented kinds, with a text."""
    wild = [
        None, True, -1, 0, 3, 2**63, 1.5, np.nan, "text", b"", (), [], {}, object(), [1, [2]],
        z(0), z(6), z(5, 6), z(3, 5, 6), z(3, 5, 0), z(5, 6, dtype=">f8"), z(5, 6, dtype=complex),
        np.full((5, 6), np.nan, F), np.arange(5), np.array([0, 5]), np.array("text"), LAYER,
        np.ma.zeros((5, 6)), (1, None), lambda: None, biases.alibi([1.0, 2.0]),
    ]  # fmt: skip
    words = [name for name in inspect.signature(LAYER.__call__).parameters if name != "query"]
    settings = [name for name in inspect.signature(MultiHeadAttention).parameters]
    tensors = {**TORCH, "bias_k": z(6), "bias_v": z(6)}
    calls = [lambda a: LAYER(a), lambda a: LAYER(X[0], a, a), lambda a: ROTARY(X[0], X[0], a)]
    for word in words:
        calls += [
            lambda a, w=word: LAYER(X[0], **{w: a}),
            lambda a, w=word: ROTARY(X, **{w: a}),
            lambda a, w=word: LAYER(X[0], **{"cu_seqlens": [0, 2, 5], w: a}),
        ]
    for word in settings:
        calls += [lambda a, w=word: MultiHeadAttention(**{"embed_dim": 6, "num_heads": 2, w: a})]
    for word in inspect.signature(MultiHeadAttention.from_weights).parameters:
        calls += [
            lambda a, w=word: MultiHeadAttention.from_weights(
                **{"weights": W, "num_heads": 2, w: a}
            )
        ]
    for word in inspect.signature(MultiHeadAttention.from_tensors).parameters:
        calls += [
            lambda a, w=word: MultiHeadAttention.from_tensors(
                **{"tensors": tensors, "num_heads": 2, w: a}
            )
        ]
    for name in (*W, "q_bias", "q_norm", "sinks", "bias_k"):
        calls += [lambda a, n=name: MultiHeadAttention.from_weights(W | {n: a}, 2)]
    for name in tensors:
        calls += [lambda a, n=name: MultiHeadAttention.from_torch(tensors | {n: a}, 2)]
    right = 0
    for call in calls:
        for a in wild:
            try:
                with np.errstate(all="ignore"):
                    call(a)
                right += 1
            except (TypeError, ValueError, NotImplementedError) as e:
                assert str(e), (call, a)
    assert 0 < right < len(calls) * len(wild) / 2
