"""Frequencies of rotary positions: mpmath by the published formulas, and numbers of transformers.

The golden numbers are what `modeling_rope_utils` of transformers 5.23 returns when its float32 is
replaced by float64.
"""

import math
import pickle

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf

from pyattn import positional
from pyattn.positional._angles import sines_cosines

CLOSE = 3e-16  # rounded once


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(50):
        yield


# The formulas, each from its paper or code.


def plain(theta, size):
    return [mpf(theta) ** (-mpf(2 * i) / size) for i in range(size // 2)]


def linear(base, size, s, **_):
    return [f / mpf(s["factor"]) for f in plain(base, size)], 1


def dynamic(base, size, s, most, length):
    """Another base: that of the reddit post, with the length of the sequence."""
    if "alpha" in s:
        grown = mpf(s["alpha"])
    else:
        factor, length = mpf(s["factor"]), max(length or 0, most)
        grown = factor * length / most - (factor - 1)
    return plain(mpf(base) * grown ** (mpf(size) / (size - 2)), size), 1


def yarn(base, size, s, most, **_):
    """Equations 23 to 25 of the paper, with the bounds in pairs as in the authors' code."""
    original = s.get("original_max_position_embeddings") or most
    factor = mpf(s.get("factor") or mpf(most) / original)

    def pair(turns):
        return size * mp.log(original / (turns * 2 * mp.pi)) / (2 * mp.log(base))

    low, high = pair(s.get("beta_fast", 32)), pair(s.get("beta_slow", 1))
    if s.get("truncate", True):
        low, high = mp.floor(low), mp.ceil(high)
    low, high = max(low, mpf(0)), min(high, mpf(size - 1))
    found = []
    for i, f in enumerate(plain(base, size)):
        kept = 1 - min(max((i - low) / (high - low or mpf("0.001")), 0), 1)
        found.append(kept * f + (1 - kept) * f / factor)

    def temperature(m):
        return 1 + m * mp.log(factor) / 10 if factor > 1 else mpf(1)

    ratio = temperature(1)
    if s.get("mscale") and s.get("mscale_all_dim"):
        ratio = temperature(mpf(s["mscale"])) / temperature(mpf(s["mscale_all_dim"]))
    return found, s.get("attention_factor") or ratio


def longrope(base, size, s, most, length):
    """Equation 2 of the paper, and the factor of Phi-3's code."""
    original = s.get("original_max_position_embeddings") or most
    kind = "long" if length is not None and length > original else "short"
    found = [f / mpf(e) for f, e in zip(plain(base, size), s[f"{kind}_factor"], strict=True)]
    grown = mpf(s["factor"]) if "factor" in s else mpf(most) / original
    ratio = mp.sqrt(1 + mp.log(grown) / mp.log(original)) if grown > 1 else mpf(1)
    return found, s.get("attention_factor") or s.get(f"{kind}_mscale") or ratio


def llama3(base, size, s, most, **_):
    """`apply_scaling` of Llama's repository."""
    old = s.get("original_max_position_embeddings") or most
    low, high, factor = s["low_freq_factor"], s["high_freq_factor"], mpf(s["factor"])
    found = []
    for f in plain(base, size):
        wavelength = 2 * mp.pi / f
        if wavelength < mpf(old) / high:
            found.append(f)
        elif wavelength > mpf(old) / low:
            found.append(f / factor)
        else:
            smooth = (old / wavelength - low) / (mpf(high) - low)
            found.append((1 - smooth) * f / factor + smooth * f)
    return found, 1


FORMULAS = {
    "default": lambda base, size, s, **_: (plain(base, size), 1),
    "mrope": lambda base, size, s, **_: (plain(base, size), 1),
    "linear": linear,
    "dynamic": dynamic,
    "yarn": yarn,
    "longrope": longrope,
    "su": longrope,
    "llama3": llama3,
}


def by_formula(head_dim, theta=10000.0, scaling=None, part=1.0, most=None, length=None):
    """Inverse frequencies and attention factor with 50 digits."""
    scaling = {k: v for k, v in (scaling or {"rope_type": "default"}).items() if v is not None}
    kind = scaling.get("rope_type") or scaling["type"]
    theta = scaling.get("rope_theta", theta)
    part = scaling.get("partial_rotary_factor", part)
    if kind == "proportional":
        whole = plain(theta, head_dim)
        used = int(head_dim * part) // 2
        return [f / mpf(scaling.get("factor", 1)) for f in whole[:used]] + [mpf(0)] * (
            len(whole) - used
        ), 1
    return FORMULAS[kind](theta, int(head_dim * part), scaling, most=most, length=length)


def assert_frequencies(found, expected, close=CLOSE):
    """The rounded frequencies, and with `close` below a double's the exact turns too."""
    exact, factor = expected
    assert len(found) == len(exact)
    np.testing.assert_allclose(found.inv_freq, [float(f) for f in exact], rtol=close, atol=0)
    assert type(found.attention_factor) is float
    assert math.isclose(found.attention_factor, factor, rel_tol=4e-16)
    assert found.inv_freq.dtype == np.float64 and not found.inv_freq.flags.writeable
    assert not found.decay.any()
    if close > CLOSE:
        return
    for f, high, low in zip(exact, found.turns.high, found.turns.low, strict=True):
        turns = mpf((int(high) << 64) + int(low)) / mpf(2) ** 128
        away = abs(turns - f / (2 * mp.pi) % 1)
        assert min(away, 1 - away) < mpf(2) ** -127  # cut off, not rounded


def same(a, b):
    for name in ("inv_freq", "axes", "decay"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    np.testing.assert_array_equal(a.turns.high, b.turns.high)
    np.testing.assert_array_equal(a.turns.low, b.turns.low)
    assert a.attention_factor == b.attention_factor


# Every scaling.

SHORT = [1 + 0.02 * i for i in range(48)]
LONG = [1 + 0.25 * i for i in range(48)]
LLAMA = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
DEEPSEEK = {
    "type": "yarn",
    "factor": 40,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.707,
    "original_max_position_embeddings": 4096,
}
GPT_OSS = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
PHI = {
    "rope_type": "longrope",
    "short_factor": SHORT,
    "long_factor": LONG,
    "original_max_position_embeddings": 4096,
}
NTK = {"rope_type": "dynamic", "factor": 2.0}
MSCALES = {"short_mscale": 1.243163121016122, "long_mscale": 1.25}


def no(name, scaling):
    return {k: v for k, v in scaling.items() if k != name}


# (head_dim, theta, scaling, partial_rotary_factor, max_position_embeddings, length)
SETTINGS = {
    "default": (128, 10000.0, None, 1.0, None, None),
    "default, named": (64, 500000.0, {"rope_type": "default"}, 1.0, 2048, 9999),
    "default, part": (80, 10000.0, {"type": "default"}, 0.4, None, None),
    "one pair": (2, 10000.0, None, 1.0, None, None),
    "theta below 1": (8, 0.3, None, 1.0, None, None),
    "mrope": (32, 1e6, {"type": "mrope"}, 1.0, None, None),
    "linear": (64, 10000.0, {"type": "linear", "factor": 2.5}, 1.0, None, None),
    "linear, part": (96, 1e4, {"rope_type": "linear", "factor": 4}, 0.75, None, None),
    "linear below 1": (16, 1e4, {"rope_type": "linear", "factor": 0.5}, 1.0, None, None),
    "dynamic, no length": (64, 10000.0, NTK, 1.0, 2048, None),
    "dynamic, short": (64, 10000.0, NTK, 1.0, 2048, 2047),
    "dynamic, at the limit": (64, 10000.0, NTK, 1.0, 2048, 2048),
    "dynamic, one more": (64, 10000.0, NTK, 1.0, 2048, 2049),
    "dynamic, long": (128, 500000.0, NTK | {"factor": 4.5}, 1.0, 4096, 30000),
    "dynamic, part": (64, 10000.0, NTK, 0.5, 2048, 8192),
    "dynamic, one pair": (4, 10000.0, NTK, 1.0, 2048, 8192),
    "dynamic, alpha": (128, 1e4, {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}, 1, 9, 99),
    "yarn": (128, 1e6, YARN, 1.0, 131072, None),
    "yarn, part": (128, 1e6, YARN, 0.25, None, 70000),
    "yarn, original elsewhere": (64, 1e4, {"type": "yarn", "factor": 16.0}, 1.0, 4096, None),
    "yarn, factor elsewhere": (64, 1e4, no("factor", YARN), 1.0, 100000, None),
    "yarn, original wins": (64, 1e4, YARN, 1.0, 2048, None),
    "yarn, attention factor": (64, 1e4, YARN | {"attention_factor": 0.8}, 1.0, None, None),
    "yarn, factor below 1": (64, 1e4, YARN | {"factor": 0.5}, 1.0, None, None),
    "yarn, betas": (64, 1e4, YARN | {"beta_fast": 16, "beta_slow": 2.5}, 1.0, None, None),
    "yarn, equal bounds": (64, 1e4, YARN | {"beta_fast": 4, "beta_slow": 3.9}, 1.0, None, None),
    "yarn, bounds outside": (
        16, 100.0, YARN | {"beta_fast": 1e6, "beta_slow": 1e-6}, 1.0, None, None,
    ),
    "yarn, one bound": (64, 1e4, YARN | {"beta_fast": 5000, "beta_slow": 4900}, 1.0, None, None),
    "yarn, mscale equal": (64, 10000.0, DEEPSEEK, 1.0, 163840, None),
    "yarn, mscale": (64, 10000.0, DEEPSEEK | {"mscale": 1.0}, 1.0, None, None),
    "yarn, one mscale": (64, 10000.0, no("mscale_all_dim", DEEPSEEK), 1.0, None, None),
    "yarn, mscale 0": (64, 10000.0, DEEPSEEK | {"mscale_all_dim": 0}, 1.0, None, None),
    "yarn, nulls": (
        64, 1e4, YARN | {"mscale": None, "beta_fast": None, "attention_factor": None}, 1.0, 1, None,
    ),
    "longrope, no length": (96, 10000.0, PHI, 1.0, 131072, None),
    "longrope, short": (96, 10000.0, PHI, 1.0, 131072, 4096),
    "longrope, long": (96, 10000.0, PHI, 1.0, 131072, 4097),
    "longrope, part": (128, 10000.0, PHI, 0.75, 131072, 4097),
    "longrope, not grown": (96, 10000.0, PHI, 1.0, 4096, None),
    "longrope, factor": (
        96, 1e4, no("original_max_position_embeddings", PHI) | {"factor": 3.0}, 1.0, 4096, 5000,
    ),
    "longrope, attention factor": (
        96, 1e4, PHI | {"attention_factor": 1.5}, 1.0, 131072, 5000,
    ),
    "longrope, short_mscale": (96, 1e4, PHI | MSCALES, 1.0, 131072, 4096),
    "longrope, long_mscale": (96, 1e4, PHI | MSCALES, 1.0, 131072, 4097),
    "su": (96, 1e4, no("rope_type", PHI) | {"type": "su"}, 1.0, 131072, 4097),
    "llama3": (128, 500000.0, LLAMA, 1.0, 131072, None),
    "llama3, part": (64, 10000.0, LLAMA | {"factor": 32}, 0.5, None, None),
    "llama3, original elsewhere": (
        64, 5e5, no("original_max_position_embeddings", LLAMA), 1.0, 4096, None,
    ),
    "llama3, all slow": (
        16, 1e4, LLAMA | {"original_max_position_embeddings": 2}, 1.0, None, None,
    ),
    "proportional": (64, 1e6, {"rope_type": "proportional"}, 1.0, None, None),
    "proportional, part": (64, 1e6, {"rope_type": "proportional"}, 0.25, None, None),
    "proportional, odd part": (
        64, 1e6, {"rope_type": "proportional", "factor": 8.0}, 0.3, None, None,
    ),
}  # fmt: skip


def of_settings(head_dim, theta, scaling, part, most, length):
    return positional.rope_frequencies(
        head_dim,
        theta,
        scaling=scaling,
        partial_rotary_factor=part,
        max_position_embeddings=most,
        length=length,
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_formula(name):
    found = of_settings(*SETTINGS[name])
    assert_frequencies(found, by_formula(*SETTINGS[name]))
    assert not found.axes.any()
    same(pickle.loads(pickle.dumps(found)), found)


SAME_BETA = 4096 / (2 * math.pi) * 1e4 ** (-9.95 / 32)  # just below pair 10


@pytest.mark.parametrize(
    "theta, betas",
    [(150000.0, (32.0, 1.0)), (1e4, (8, 3)), (1e6, (64, 2)), (1e4, (None, None)),
     (1e4, (SAME_BETA, SAME_BETA))],
)  # fmt: skip
def test_yarn_without_truncation(theta, betas):
    """Bounds that are no whole numbers of pairs are computed as doubles."""
    scaling = GPT_OSS | {"beta_fast": betas[0], "beta_slow": betas[1]}
    found = positional.rope_frequencies(64, theta, scaling=scaling)
    assert_frequencies(found, by_formula(64, theta, scaling), close=1e-14)


@pytest.mark.parametrize("scaling", [LLAMA, YARN, DEEPSEEK, NTK, {"rope_type": "proportional"}])
def test_entries_stand_in_for_arguments(scaling):
    """ "rope_theta" and "partial_rotary_factor" of the dict; arguments win."""
    inside = scaling | {"rope_theta": 123.5, "partial_rotary_factor": 0.5}
    expected = of_settings(64, 123.5, scaling, 0.5, 2048, 5000)
    same(of_settings(64, None, inside, None, 2048, 5000), expected)
    wrong = scaling | {"rope_theta": 7.0, "partial_rotary_factor": 0.25}
    same(of_settings(64, 123.5, wrong, 0.5, 2048, 5000), expected)
    assert inside["rope_theta"] == 123.5 and len(inside) == len(scaling) + 2


def test_numbers_of_numpy():
    scaling = {"rope_type": "dynamic", "factor": np.float32(2)}
    found = of_settings(np.int8(64), np.float32(123.5), scaling, np.float32(0.5), np.int16(99), 999)
    same(found, of_settings(64, 123.5, NTK, 0.5, 99, np.uint64(999)))


def test_both_names_of_the_type():
    one = positional.rope_frequencies(64, scaling=YARN)
    same(positional.rope_frequencies(64, scaling=YARN | {"type": "yarn"}), one)
    same(positional.rope_frequencies(64, scaling=no("rope_type", YARN) | {"type": "yarn"}), one)
    same(positional.rope_frequencies(64, scaling=YARN | {"type": None}), one)


# Real settings.


@pytest.mark.parametrize(
    "settings, golden, factor",
    [
        pytest.param(
            SETTINGS["llama3"],
            {1: 0.8146172338565447, 28: 0.0032114459947525913, 29: 0.002166570763503359,
             32: 0.0005248461609929547, 35: 9.556212353964683e-05, 63: 3.068925988914511e-07},
            1.0, id="Llama 3.1 8B"),
        pytest.param(
            SETTINGS["yarn"],
            {1: 0.8058421877614819, 23: 0.006978305848598663, 30: 0.0010643609812470017,
             39: 6.490394320837028e-05, 63: 3.102344401879299e-07},
            1.138629436111989, id="Qwen2.5 with YaRN"),
        pytest.param(
            SETTINGS["yarn, mscale equal"],
            {1: 0.7498942093324559, 10: 0.056234132519034905, 15: 0.008334508951020777,
             22: 0.0001778279410038922, 31: 3.33380358040831e-06},
            1.0, id="DeepSeek-V2"),
        pytest.param(
            SETTINGS["yarn, mscale"], {15: 0.008334508951020777}, 1.0857263992561355,
            id="DeepSeek-V2 with another mscale"),
        pytest.param(
            (64, 150000.0, GPT_OSS, 1.0, 131072, None),
            {1: 0.6890443058881633, 8: 0.050813274815461475, 10: 0.019335001126540362,
             12: 0.006794959489732219, 17: 0.00012931870124506317, 31: 3.0235114281192144e-07},
            1.3465735902799727, id="gpt-oss"),
        pytest.param(  # sizes and limits of Phi-3-mini-128k, the lists are simpler ones
            SETTINGS["longrope, short"],
            {1: 0.8092197894784495, 24: 0.006756756756756757, 47: 6.2449879310752e-05},
            1.1902380714238083, id="Phi-3, short"),
        pytest.param(
            SETTINGS["longrope, long"],
            {1: 0.6603233482144147, 24: 0.0014285714285714286, 47: 9.50217771473403e-06},
            1.1902380714238083, id="Phi-3, long"),
        pytest.param(
            (128, 10000.0, NTK, 1.0, 4096, 10000),
            {1: 0.8475170999915892, 32: 0.005020546862817429, 63: 2.9740863992002142e-05},
            1.0, id="Llama 2 with dynamic NTK"),
        pytest.param(
            (128, 10000.0, NTK, 1.0, 4096, 4000),
            {1: 0.8659643233600653, 32: 0.01, 63: 0.00011547819846894582},
            1.0, id="Llama 2 with dynamic NTK, short"),
        pytest.param(
            (256, 1e6, {"rope_type": "linear", "factor": 8.0}, 1.0, 131072, None),
            {0: 0.125, 1: 0.11221089155591428, 64: 0.000125, 127: 1.3924673249935028e-07},
            1.0, id="Gemma 3"),
        pytest.param(
            (512, 1e6, {"rope_type": "proportional", "partial_rotary_factor": 0.25}, None, None,
             None),
            {0: 1.0, 1: 0.9474635256553754, 63: 0.033376246942920386, 64: 0.0, 255: 0.0},
            1.0, id="Gemma 4"),
    ],
)  # fmt: skip
def test_golden(settings, golden, factor):
    found = of_settings(*settings)
    np.testing.assert_allclose(found.inv_freq[list(golden)], list(golden.values()), rtol=4e-15)
    assert math.isclose(found.attention_factor, factor, rel_tol=4e-16)


# Configurations.


def config(**entries):
    return {"architectures": ["SomeModel"], "vocab_size": 7, **entries}


LLAMA_4 = config(
    hidden_size=4096,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=131072,
    rope_theta=500000.0,
    rope_scaling=LLAMA,
)
GEMMA_4 = config(
    hidden_size=2560,
    head_dim=256,
    num_attention_heads=8,
    max_position_embeddings=131072,
    rope_theta=1000000.0,
    rope_local_base_freq=10000.0,
    rope_scaling={"factor": 8.0, "rope_type": "linear"},
    sliding_window=1024,
)
GEMMA_5 = config(
    head_dim=256,
    max_position_embeddings=131072,
    rope_parameters={
        "full_attention": {"factor": 8.0, "rope_type": "linear", "rope_theta": 1000000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
    },
)
BERT_4 = config(
    hidden_size=768, num_attention_heads=12, global_rope_theta=160000.0, local_rope_theta=10000.0
)
PHI_3 = config(
    hidden_size=3072,
    num_attention_heads=32,
    max_position_embeddings=131072,
    original_max_position_embeddings=4096,
    rope_theta=10000.0,
    rope_scaling=no("original_max_position_embeddings", PHI),
)
GPT_NEOX = config(
    hidden_size=2048,
    num_attention_heads=8,
    rotary_pct=0.25,
    rotary_emb_base=20000,
    max_position_embeddings=2048,
)
DEEPSEEK_V3 = config(
    hidden_size=7168,
    num_attention_heads=128,
    qk_nope_head_dim=128,
    qk_rope_head_dim=64,
    v_head_dim=128,
    max_position_embeddings=163840,
    rope_theta=10000,
    rope_scaling=DEEPSEEK | {"mscale": 1.0, "mscale_all_dim": 1.0},
)
WHOLE = {"head_dim": 64, "max_position_embeddings": 2048}

# name: (config, layer_type, length, the arguments of `by_formula`)
CONFIGS = {
    "nothing said": (config(head_dim=64), None, None, (64,)),
    "Llama 3.1": (LLAMA_4, None, None, (128, 500000.0, LLAMA)),
    "Llama 3.1, v5": (
        config(head_dim=128, hidden_size=4096, num_attention_heads=32, rope_theta=None,
               rope_parameters=LLAMA | {"rope_theta": 500000.0}, rope_scaling=None),
        None, None, (128, 500000.0, LLAMA)),
    "head_dim wins": (
        config(hidden_size=1024, num_attention_heads=16, head_dim=128, rope_theta=1e6),
        None, None, (128, 1e6)),
    "nulls": (
        config(hidden_size=1024, num_attention_heads=16, head_dim=None, qk_rope_head_dim=None,
               rope_scaling=None, rope_parameters=None, rope_theta=1e6, rotary_pct=None,
               partial_rotary_factor=None, rotary_dim=None, rope_local_base_freq=None,
               global_rope_theta=None, max_position_embeddings=None, rotary_emb_base=None),
        None, None, (64, 1e6)),
    "nulls in a scaling": (
        config(**WHOLE, rope_scaling={"rope_type": "linear", "type": None, "factor": 2.0,
               "rope_theta": None, "partial_rotary_factor": None, "mrope_section": None}),
        None, None, (64, 1e4, {"rope_type": "linear", "factor": 2.0})),
    "a null type": (
        config(**WHOLE, rope_scaling={"rope_type": None, "type": "linear", "factor": 2.0}),
        None, None, (64, 1e4, {"rope_type": "linear", "factor": 2.0})),
    "no type": (config(**WHOLE, rope_parameters={"rope_theta": 5e5}), None, None, (64, 5e5)),
    "empty scaling": (config(**WHOLE, rope_scaling={}), None, None, (64,)),
    "empty parameters": (
        config(**WHOLE, rope_parameters={}, rope_theta=77.0), None, None, (64, 77.0)),
    "Qwen2.5": (
        config(hidden_size=3584, num_attention_heads=28, max_position_embeddings=32768,
               rope_theta=1000000.0, rope_scaling=no("rope_type", YARN) | {"type": "yarn"}),
        None, None, (128, 1e6, YARN)),
    "Phi-3, short": (PHI_3, None, 4096, (96, 1e4, PHI, 1.0, 131072, 4096)),
    "Phi-3, long": (PHI_3, None, 4097, (96, 1e4, PHI, 1.0, 131072, 4097)),
    "Phi-3, su": (
        PHI_3 | {"rope_scaling": {"type": "su", "short_factor": SHORT, "long_factor": LONG}},
        None, 4097, (96, 1e4, PHI, 1.0, 131072, 4097)),
    "Phi-3, v5": (
        config(head_dim=96, max_position_embeddings=131072, rope_parameters=PHI | {
            "rope_theta": 10000.0, "partial_rotary_factor": 1.0}),
        None, 9999, (96, 1e4, PHI, 1.0, 131072, 9999)),
    "Phi-4-mini": (
        PHI_3 | {"num_attention_heads": 24, "partial_rotary_factor": 0.75}, None, None,
        (128, 1e4, PHI, 0.75, 131072)),
    "Gemma 3": (
        GEMMA_4, "full_attention", None, (256, 1e6, {"rope_type": "linear", "factor": 8.0})),
    "Gemma 3, local": (GEMMA_4, "sliding_attention", None, (256, 10000.0)),
    "Gemma 3, v5": (
        GEMMA_5, "full_attention", None, (256, 1e6, {"rope_type": "linear", "factor": 8.0})),
    "Gemma 3, v5, local": (GEMMA_5, "sliding_attention", None, (256, 10000.0)),
    "ModernBERT": (BERT_4, "full_attention", None, (64, 160000.0)),
    "ModernBERT, local": (BERT_4, "sliding_attention", None, (64, 10000.0)),
    "ModernBERT, one theta": (
        BERT_4 | {"local_rope_theta": None}, "sliding_attention", None, (64, 160000.0)),
    "GPT-NeoX": (GPT_NEOX, None, None, (256, 20000.0, None, 0.25)),
    "GPT-J": (
        config(n_embd=4096, n_head=16, rotary_dim=64, n_positions=2048), None, None,
        (256, 10000.0, None, 0.25)),
    "GPT-J, whole": (config(n_embd=64, n_head=4, rotary_dim=None), None, None, (16,)),
    "MiniMax": (
        config(head_dim=128, rotary_dim=64, rope_theta=5000000), None, None,
        (128, 5e6, None, 0.5)),
    "Phi-2": (
        config(hidden_size=2560, num_attention_heads=32, partial_rotary_factor=0.4), None, None,
        (80, 1e4, None, 0.4)),
    "part within": (
        config(head_dim=128, partial_rotary_factor=1.0,
               rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.5}),
        None, None, (128, 1e4, None, 0.5)),
    "DeepSeek-V3": (
        DEEPSEEK_V3, None, None, (64, 1e4, DEEPSEEK_V3["rope_scaling"], 1.0, 163840)),
    "DeepSeek-V3, v5": (
        DEEPSEEK_V3 | {"head_dim": 192, "rope_scaling": None, "rope_parameters":
                       DEEPSEEK_V3["rope_scaling"] | {"rope_type": "yarn", "rope_theta": 10000}},
        None, None, (64, 1e4, DEEPSEEK_V3["rope_scaling"], 1.0, 163840)),
    "dynamic": (
        config(**WHOLE, rope_scaling=NTK), None, 5000, (64, 1e4, NTK, 1.0, 2048, 5000)),
    "yarn of the whole length": (
        config(**WHOLE, rope_scaling={"type": "yarn", "factor": 4.0}), None, None,
        (64, 1e4, {"type": "yarn", "factor": 4.0}, 1.0, 2048)),
}  # fmt: skip


# Where configurations are easily misread.
SCOUT = LLAMA | {"factor": 16.0, "high_freq_factor": 1.0}
MIXED = {"full_attention": None, "sliding_attention": {"rope_type": "default", "rope_theta": 5e5}}
CONFIGS |= {
    "Llama 4 Scout": (  # no pair is between the two limits
        config(head_dim=128, rope_theta=500000.0, rope_scaling=SCOUT), None, None,
        (128, 500000.0, SCOUT)),
    "Gemma 4": (
        config(head_dim=256, global_head_dim=512, rope_parameters={
            "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25,
                               "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}),
        "full_attention", None, (512, 1e6, {"rope_type": "proportional"}, 0.25)),
    "theta beside parameters": (
        config(head_dim=64, rope_theta=5e5, rope_parameters={"rope_type": "default"}), None, None,
        (64, 5e5)),
    "theta beside parameters of layers": (
        config(head_dim=64, rope_theta=5e5, rope_parameters={"a": {"rope_type": "default"}}), "a",
        None, (64, 5e5)),
    "rotary_dim of an odd fraction": (
        config(head_dim=88, rotary_dim=60), None, None, (60,)),
    "null and su": (
        PHI_3 | {"rope_scaling": {"rope_type": None, "type": "su", "short_factor": SHORT,
                                  "long_factor": LONG}},
        None, 4097, (96, 1e4, PHI, 1.0, 131072, 4097)),
    "null and the original length beside": (
        PHI_3 | {"rope_scaling": PHI | {"original_max_position_embeddings": None}},
        None, 4097, (96, 1e4, PHI, 1.0, 131072, 4097)),
    "yarn with the original length beside": (
        config(**WHOLE, original_max_position_embeddings=256,
               rope_scaling={"rope_type": "yarn", "factor": 8.0}),
        None, None,
        (64, 1e4, YARN | {"factor": 8.0, "original_max_position_embeddings": 256})),
    "a layer without positions": (
        config(head_dim=64, rope_parameters=MIXED), "sliding_attention", None, (64, 5e5)),
    "mrope and default": (
        config(head_dim=64, rope_scaling={"type": "mrope", "rope_type": "default"}), None, None,
        (64,)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_config(name):
    given, layer_type, length, arguments = CONFIGS[name]
    before = repr(given)
    found = positional.rope_from_config(given, layer_type=layer_type, length=length)
    assert_frequencies(found, by_formula(*arguments))
    assert repr(given) == before


def test_layers_without_positions():
    given = config(head_dim=64, rope_parameters=MIXED)
    assert positional.rope_from_config(given, layer_type="full_attention") is None


def test_both_generations_have_the_same_bits():
    same(
        positional.rope_from_config(LLAMA_4),
        positional.rope_from_config(CONFIGS["Llama 3.1, v5"][0]),
    )
    for kind in ("full_attention", "sliding_attention"):
        same(
            positional.rope_from_config(GEMMA_4, layer_type=kind),
            positional.rope_from_config(GEMMA_5, layer_type=kind),
        )


def test_gpt_oss_config():
    given = config(
        head_dim=64, hidden_size=2880, num_attention_heads=64, rope_theta=150000,
        rope_scaling=GPT_OSS, layer_types=["sliding_attention", "full_attention"],
    )  # fmt: skip
    same(
        positional.rope_from_config(given),
        positional.rope_frequencies(64, 150000.0, scaling=GPT_OSS),
    )


AXES_2 = [0] * 16 + [1] * 24 + [2] * 24
AXES_3 = [0, 1, 2] * 20 + [0] * 4


@pytest.mark.parametrize(
    "theta, scaling, axes",
    [
        (1e6, {"type": "mrope", "mrope_section": [16, 24, 24]}, AXES_2),  # Qwen2-VL
        (1e6, {"rope_type": "default", "type": "default", "mrope_section": [16, 24, 24]}, AXES_2),
        (1e6, {"type": "mrope", "mrope_section": (16, 24, 24), "mrope_interleaved": False}, AXES_2),
        (5e6, {"rope_type": "default", "mrope_section": [24, 20, 20], "mrope_interleaved": True},
         AXES_3),  # Qwen3-VL
    ],
)  # fmt: skip
def test_several_axes(theta, scaling, axes):
    given = config(hidden_size=4096, num_attention_heads=32, rope_theta=theta, rope_scaling=scaling)
    found = positional.rope_from_config(given)
    assert_frequencies(found, by_formula(128, theta))
    np.testing.assert_array_equal(found.axes, np.array(axes), strict=True)
    assert not found.axes.flags.writeable
    same(found, positional.rope_frequencies(128, theta, scaling=scaling))
    flat = {k: v for k, v in given.items() if k not in ("rope_scaling", "rope_theta")}
    inside = {"rope_type": "default", **scaling, "type": None, "rope_theta": theta}
    same(found, positional.rope_from_config(flat | {"rope_parameters": inside}))


def test_axes_of_scaled_frequencies():
    """Qwen2.5-VL with YaRN; Qwen3.5, of whose head a quarter is turned."""
    scaling = YARN | {"mrope_section": [16, 24, 24]}
    found = positional.rope_frequencies(128, 1e6, scaling=scaling)
    assert_frequencies(found, by_formula(128, 1e6, YARN))
    assert found.axes.tolist() == AXES_2
    scaling = {"rope_type": "default", "mrope_section": [11, 11, 10], "mrope_interleaved": True,
               "partial_rotary_factor": 0.25, "rope_theta": 1e7}  # fmt: skip
    found = positional.rope_from_config(config(head_dim=256, rope_parameters=scaling))
    assert_frequencies(found, by_formula(256, 1e7, None, 0.25))
    assert found.axes.tolist() == [0, 1, 2] * 10 + [0, 1]


# More than doubles.


@pytest.mark.parametrize(
    "name", ["default", "linear", "dynamic, long", "yarn", "longrope, long", "llama3",
             "proportional, odd part", "theta below 1"],
)  # fmt: skip
def test_angles_at_large_positions(name):
    """Where a double's product with the position would be off by 1e-9, be the sine small or not."""
    exact, _ = by_formula(*SETTINGS[name])
    near_pi = [103993, 245850922, *(2549491779 + 411557987 * n for n in range(5))]  # multiples
    places = np.array([2**24, 2**24 - 1, -(2**24), 2**32 - 1, 12345678, *near_pi])
    sine, cosine = sines_cosines(places, of_settings(*SETTINGS[name]).turns)
    for p, s, c in zip(places, sine, cosine, strict=True):
        for f, ours in zip(exact, zip(s, c, strict=True), strict=True):
            for found, wanted in zip(ours, (mp.sin(int(p) * f), mp.cos(int(p) * f)), strict=True):
                assert abs(found - wanted) <= 4.5e-16 * abs(wanted)


# Laws.

THETAS = st.floats(1.5, 1e8)
FACTORS = st.floats(1, 100)


@pytest.mark.parametrize("kind", ["linear", "yarn", "llama3", "proportional", "dynamic"])
@settings(max_examples=10)
@given(theta=THETAS, length=st.integers(2, 10**6))
def test_factor_1_changes_nothing(kind, theta, length):
    scaling = LLAMA | {"rope_type": kind, "factor": 1, "original_max_position_embeddings": length}
    if kind == "dynamic":  # there a factor of 1 still means something for long sequences
        length = 4096
    found = of_settings(16, theta, scaling, 1.0, 4096, length)
    np.testing.assert_allclose(
        found.inv_freq, positional.rope_frequencies(16, theta).inv_freq, rtol=CLOSE
    )
    assert found.attention_factor == 1


@settings(max_examples=40)
@given(
    theta=THETAS,
    factor=FACTORS,
    kind=st.sampled_from(["default", "linear", "dynamic", "yarn", "llama3"]),
    length=st.integers(1, 10**6),
    truncate=st.booleans(),
)
def test_between_default_and_linear(theta, factor, kind, length, truncate):
    """Every scaling slows; none by more than the factor, but dynamic, which has no bound."""
    scaling = LLAMA | {"rope_type": kind, "factor": factor, "truncate": truncate}
    scaling["original_max_position_embeddings"] = 8 * length
    found = of_settings(16, theta, scaling, 1.0, 2048, length).inv_freq
    fast = positional.rope_frequencies(16, theta).inv_freq
    assert (found <= fast * (1 + 1e-15)).all() and (found > 0).all()
    assert (np.diff(found) < 0).all()
    if kind != "dynamic":
        assert (found * factor >= fast * (1 - 1e-15)).all()
    elif length <= 2048:
        np.testing.assert_array_equal(found, fast)


@settings(max_examples=20)
@given(theta=THETAS, size=st.integers(1, 12), more=st.integers(0, 12))
def test_a_part_is_a_smaller_head(theta, size, more):
    head = 2 * (size + more)
    part = np.nextafter(2 * size / head, 2) if more else 1.0  # a product is cut off
    found = positional.rope_frequencies(head, theta, partial_rotary_factor=float(part))
    same(found, positional.rope_frequencies(2 * size, theta))


# Errors, word for word.

KNOWN = "known are default, linear, dynamic, yarn, longrope, llama3, proportional, su, mrope"


def of(scaling, head_dim=16, **arguments):
    return lambda: positional.rope_frequencies(head_dim, scaling=scaling, **arguments)


def from_config(layer_type=None, **entries):
    return lambda: positional.rope_from_config(entries, layer_type=layer_type)


CASES = [
    (lambda: positional.rope_frequencies(16.0), TypeError,
     "rope_frequencies: head_dim must be an integer, got float"),
    (lambda: positional.rope_frequencies(0), ValueError,
     "rope_frequencies: head_dim must be at least 2, got 0"),
    (lambda: positional.rope_frequencies(7), ValueError,
     "rope_frequencies: the numbers that are turned must come in pairs: int(head_dim 7 * "
     "partial_rotary_factor 1) = 7"),
    (lambda: positional.rope_frequencies(16, "10"), TypeError,
     "rope_frequencies: theta must be a real number, got str"),
    (lambda: positional.rope_frequencies(16, 1), ValueError,
     "rope_frequencies: theta must be within [1e-9, 1e30], and not 1, got 1.0"),
    (lambda: positional.rope_frequencies(16, -1.0), ValueError,
     "rope_frequencies: theta must be positive and finite, got -1.0"),
    (lambda: positional.rope_frequencies(16, np.nan), ValueError,
     "rope_frequencies: theta must be positive and finite, got nan"),
    (lambda: positional.rope_frequencies(16, partial_rotary_factor=0.2), ValueError,
     "rope_frequencies: the numbers that are turned must come in pairs: int(head_dim 16 * "
     "partial_rotary_factor 0.2) = 3"),
    (lambda: positional.rope_frequencies(16, partial_rotary_factor=0.0), ValueError,
     "rope_frequencies: partial_rotary_factor must be positive and finite, got 0.0"),
    (lambda: positional.rope_frequencies(16, partial_rotary_factor=1.5), ValueError,
     "rope_frequencies: partial_rotary_factor must be within (0, 1], got 1.5"),
    (lambda: positional.rope_frequencies(16, partial_rotary_factor=0.05), ValueError,
     "rope_frequencies: the numbers that are turned must come in pairs: int(head_dim 16 * "
     "partial_rotary_factor 0.05) = 0"),
    (lambda: positional.rope_frequencies(16, length=0), ValueError,
     "rope_frequencies: length must be at least 1, got 0"),
    (lambda: positional.rope_frequencies(16, length=2.5), TypeError,
     "rope_frequencies: length must be an integer, got float"),
    (lambda: positional.rope_frequencies(16, max_position_embeddings="4096"), TypeError,
     "rope_frequencies: max_position_embeddings must be an integer, got str"),
    (of("linear"), TypeError,
     "rope_frequencies: scaling must be a dict as in a checkpoint's configuration, got str"),
    (of([("rope_type", "linear")]), TypeError,
     "rope_frequencies: scaling must be a dict as in a checkpoint's configuration, got list"),
    (of({}), ValueError,
     "rope_frequencies: scaling has no rope_type: " + KNOWN),
    (of({"factor": 2.0}), ValueError,
     "rope_frequencies: scaling has no rope_type: " + KNOWN),
    (of({"rope_type": None, "type": None}), ValueError,
     "rope_frequencies: scaling has no rope_type: " + KNOWN),
    (of({"rope_type": "ntk"}), ValueError,
     "rope_frequencies: rope_type 'ntk' is unknown: " + KNOWN),
    (of({"rope_type": 3}), ValueError,
     "rope_frequencies: rope_type '3' is unknown: " + KNOWN),
    (of({"rope_type": "linear", "type": "yarn", "factor": 2.0}), ValueError,
     "rope_frequencies: scaling has both 'linear' and 'yarn': " + KNOWN),
    (of({"rope_type": "linear", "factor": 2.0, "llama_4_scaling_beta": 1}), ValueError,
     "rope_frequencies: scaling has the unknown entries llama_4_scaling_beta, which may change the "
     "result: leave them out if they do not"),
    (of({"rope_type": "default", "rope_ratio": 2, 5: 6}), ValueError,
     "rope_frequencies: scaling has the unknown entries 5, rope_ratio, which may change the "
     "result: leave them out if they do not"),
    (of({"rope_type": "linear"}), ValueError,
     "rope_frequencies: rope_type 'linear' needs factor (in scaling)"),
    (of({"rope_type": "linear", "factor": None}), ValueError,
     "rope_frequencies: rope_type 'linear' needs factor (in scaling)"),
    (of({"rope_type": "linear", "factor": "2"}), TypeError,
     "rope_frequencies: factor must be a real number, got str"),
    (of({"rope_type": "linear", "factor": 0}), ValueError,
     "rope_frequencies: factor must be positive and finite, got 0.0"),
    (of({"rope_type": "linear", "factor": True}), TypeError,
     "rope_frequencies: factor must be a real number, got bool"),
    (of({"rope_type": "linear", "factor": np.inf}), ValueError,
     "rope_frequencies: factor must be positive and finite, got inf"),
    (of({"rope_type": "linear", "factor": 2.0, "rope_theta": 1.0}), ValueError,
     "rope_frequencies: theta must be within [1e-9, 1e30], and not 1, got 1.0"),
    (of({"rope_type": "default", "partial_rotary_factor": 2}), ValueError,
     "rope_frequencies: partial_rotary_factor must be within (0, 1], got 2.0"),
    (of({"rope_type": "dynamic", "factor": 2.0}), ValueError,
     "rope_frequencies: rope_type 'dynamic' needs max_position_embeddings (in the call)"),
    (of({"rope_type": "dynamic"}, max_position_embeddings=2048), ValueError,
     "rope_frequencies: rope_type 'dynamic' needs factor (in scaling)"),
    (of({"rope_type": "dynamic", "alpha": -1.0}), ValueError,
     "rope_frequencies: alpha must be positive and finite, got -1.0"),
    (of({"rope_type": "yarn", "factor": 2.0}), ValueError,
     "rope_frequencies: rope_type 'yarn' needs original_max_position_embeddings (in scaling)"),
    (of({"rope_type": "yarn", "original_max_position_embeddings": 4096}), ValueError,
     "rope_frequencies: rope_type 'yarn' needs factor (in scaling)"),
    (of(YARN | {"beta_fast": -1}), ValueError,
     "rope_frequencies: beta_fast must be positive and finite, got -1.0"),
    (of(YARN | {"attention_factor": 0.0}), ValueError,
     "rope_frequencies: attention_factor must be positive and finite, got 0.0"),
    (of(YARN | {"original_max_position_embeddings": 0}), ValueError,
     "rope_frequencies: original_max_position_embeddings must be positive and finite, got 0.0"),
    (of(no("short_factor", PHI), 96), ValueError,
     "rope_frequencies: rope_type 'longrope' needs short_factor (in scaling)"),
    (of(no("long_factor", PHI), 96, length=5000), ValueError,
     "rope_frequencies: rope_type 'longrope' needs long_factor (in scaling)"),
    (of(PHI), ValueError,
     "rope_frequencies: short_factor must have 8 numbers, one per pair, got (48,) of float64"),
    (of(PHI, 128), ValueError,
     "rope_frequencies: short_factor must have 64 numbers, one per pair, got (48,) of float64"),
    (of(PHI | {"short_factor": 2.0}, 96), ValueError,
     "rope_frequencies: short_factor must have 48 numbers, one per pair, got () of float64"),
    (of(PHI | {"short_factor": ["a"] * 48}, 96), ValueError,
     "rope_frequencies: short_factor must have 48 numbers, one per pair, got (48,) of <U1"),
    (of(PHI | {"long_factor": [1.0] * 47 + [0.0]}, 96, length=5000), ValueError,
     "rope_frequencies: long_factor[47] = 0.0 must be positive and finite"),
    (of(PHI | {"short_factor": [np.nan] * 48}, 96), ValueError,
     "rope_frequencies: short_factor[0] = nan must be positive and finite"),
    (of(PHI | {"short_mscale": -1}, 96), ValueError,
     "rope_frequencies: short_mscale must be positive and finite, got -1.0"),
    (of(no("original_max_position_embeddings", PHI), 96), ValueError,
     "rope_frequencies: rope_type 'longrope' needs original_max_position_embeddings (in "
     "scaling)"),
    (of(no("factor", LLAMA)), ValueError,
     "rope_frequencies: rope_type 'llama3' needs factor (in scaling)"),
    (of(no("low_freq_factor", LLAMA)), ValueError,
     "rope_frequencies: rope_type 'llama3' needs low_freq_factor (in scaling)"),
    (of(no("high_freq_factor", LLAMA)), ValueError,
     "rope_frequencies: rope_type 'llama3' needs high_freq_factor (in scaling)"),
    (of(no("original_max_position_embeddings", LLAMA)), ValueError,
     "rope_frequencies: rope_type 'llama3' needs original_max_position_embeddings (in scaling)"),
    (of(LLAMA | {"low_freq_factor": 5.0}), ValueError,
     "rope_frequencies: low_freq_factor must not be above high_freq_factor, got 5 and 4"),
    (of({"rope_type": "proportional"}, 15), ValueError,
     "rope_frequencies: head_dim must be a multiple of 2, got 15"),
    (of({"rope_type": "proportional", "factor": -2}), ValueError,
     "rope_frequencies: factor must be positive and finite, got -2.0"),
    (of({"type": "mrope", "mrope_section": [2, 3, 4]}), ValueError,
     "rope_sections: sections [2, 3, 4] have 9 pairs, the frequencies have 8"),
    (of({"type": "mrope", "mrope_section": [2.0, 3, 3]}), TypeError,
     "rope_sections: sections[0] must be an integer, got float"),
    (of({"type": "mrope", "mrope_section": 8}), TypeError,
     "rope_sections: sections must be a list of integers, got 8"),
    (of({"type": "mrope", "mrope_section": [2, 3, 3], "mrope_interleaved": True}), ValueError,
     "rope_sections: sections [2, 3, 3] cannot be interleaved: the last pair of axis 2 would "
     "be 8, there are 8"),
    (of({"type": "mrope", "mrope_section": [8, -1, 1]}), ValueError,
     "rope_sections: sections[1] must be at least 0, got -1"),
    (lambda: positional.rope_from_config("config.json"), TypeError,
     "rope_from_config: config must be a dict as in a checkpoint's configuration, got str"),
    (lambda: positional.rope_frequencies(16, 1e-300), ValueError,
     "rope_frequencies: theta must be within [1e-9, 1e30], and not 1, got 1e-300"),
    (of({"rope_type": "proportional", "partial_rotary_factor": 0.1}, 8), ValueError,
     "rope_frequencies: partial_rotary_factor is so small that no pair is turned"),
    (of({"rope_type": ["default"]}), ValueError,
     "rope_frequencies: rope_type \"['default']\" is unknown: " + KNOWN),
    (of({"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64,
         "truncate": "false"}), TypeError,
     "rope_frequencies: truncate must be True or False, got str"),
    (of({"rope_type": "longrope", "factor": 2.0, "original_max_position_embeddings": 1,
         "short_factor": [1.0] * 8}), ValueError,
     "rope_frequencies: original_max_position_embeddings must be above 1, got 1"),
    (from_config(hidden_size=64, num_attention_heads=0), ValueError,
     "rope_from_config: num_attention_heads must be at least 1, got 0"),
    (from_config(head_dim=8, rope_parameters=[1]), TypeError,
     "rope_from_config: rope_parameters must be a dict as in a checkpoint's configuration, "
     "got list"),
    (from_config(head_dim=8, rope_scaling="x"), TypeError,
     "rope_from_config: its scaling must be a dict as in a checkpoint's configuration, got str"),
    (from_config(rope_theta=10000.0), ValueError,
     "rope_from_config: the configuration has no head_dim, or hidden_size and heads"),
    (from_config(hidden_size=64), ValueError,
     "rope_from_config: the configuration has no head_dim, or hidden_size and heads"),
    (from_config(num_attention_heads=8), ValueError,
     "rope_from_config: the configuration has no head_dim, or hidden_size and heads"),
    (from_config(hidden_size=60, num_attention_heads=8), ValueError,
     "rope_frequencies: the numbers that are turned must come in pairs: int(head_dim 7 * "
     "partial_rotary_factor 1) = 7"),
    (from_config(head_dim=8, rotary_dim="4"), TypeError,
     "rope_from_config: rotary_dim must be an integer, got str"),
    (from_config(head_dim=8, rotary_dim=100), ValueError,
     "rope_from_config: rotary_dim 100 is more than head_dim 8"),
    (from_config(head_dim=8, position_embedding_type="absolute"), ValueError,
     "rope_from_config: the positions of this configuration are not rotary: absolute"),
    (from_config(head_dim=8, alibi=True), ValueError,
     "rope_from_config: the positions of this configuration are not rotary: alibi"),
    (from_config(kv_channels=8, rope_ratio=500), ValueError,
     "rope_from_config: rope_ratio is unknown: use rope_frequencies"),
    (from_config(text_config={}), ValueError,
     "rope_from_config: the configuration has no head_dim, or hidden_size and heads: give its "
     '"text_config"'),
    (from_config(head_dim=64.0), TypeError,
     "rope_from_config: head_dim must be an integer, got float"),
    (from_config(head_dim=80, rotary_dim=33), ValueError,
     "rope_frequencies: the numbers that are turned must come in pairs: int(head_dim 80 * "
     "partial_rotary_factor 0.4125) = 33"),
    (from_config(**GEMMA_4), ValueError,
     "rope_from_config: the layer types of this configuration have frequencies of their own "
     "('full_attention', 'sliding_attention'): give layer_type="),
    (from_config("local", **GEMMA_5), ValueError,
     "rope_from_config: the layer types of this configuration have frequencies of their own "
     "('full_attention', 'sliding_attention'): there is no layer_type 'local'"),
    (from_config("chunked_attention", **BERT_4), ValueError,
     "rope_from_config: the layer types of this configuration have frequencies of their own "
     "('full_attention', 'sliding_attention'): there is no layer_type 'chunked_attention'"),
    (from_config(head_dim=8, rope_scaling={"rope_type": "ntk"}), ValueError,
     "rope_from_config: rope_type 'ntk' is unknown: " + KNOWN),
    (from_config(head_dim=8, rope_scaling={"rope_type": "dynamic", "factor": 2.0}), ValueError,
     "rope_frequencies: rope_type 'dynamic' needs max_position_embeddings (in the call)"),
    (from_config(head_dim=8, max_position_embeddings=9, rope_scaling={"type": "linear"}),
     ValueError,
     "rope_frequencies: rope_type 'linear' needs factor (in scaling)"),
    (from_config(head_dim=8, rope_theta=0), ValueError,
     "rope_frequencies: theta must be positive and finite, got 0.0"),
]  # fmt: skip


@pytest.mark.parametrize("call, kind, message", CASES, ids=[c[2][:70] for c in CASES])
def test_error(call, kind, message):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert str(error.value) == message
    assert error.type is kind
