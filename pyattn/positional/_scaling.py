"""Frequencies as checkpoints have them: scaled for longer contexts, found in configurations."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from pyattn import _check, _check_encodings, _check_numbers, _check_positions
from pyattn.positional._angles import PRECISE, TWO_PI
from pyattn.positional._frequencies import (
    RopeFrequencies,
    frequencies_of,
    geometric,
    rope_sections,
)

Scaled = tuple[list[Decimal], float]  # inverse frequencies, attention factor


@dataclass(frozen=True)
class Request:
    """What a scaling is computed from."""

    kind: str
    head_dim: int
    part: float  # of the head that is turned
    theta: float
    options: Mapping[str, Any]  # the entries of the dict
    most: int | None  # max_position_embeddings
    length: int | None  # of the sequence

    @property
    def size(self) -> int:
        """How many numbers of a head are turned."""
        return _check_positions.rotary_size("rope_frequencies", self.head_dim, self.part)

    def plain(self) -> list[Decimal]:
        return geometric(self.theta, self.size)

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number; it must be there if there is no default."""
        value = self.options.get(name)
        if value is None:
            value = _check_positions.needed("rope_frequencies", self.kind, name, default)
        return _check_encodings.positive("rope_frequencies", name, value)

    def original(self) -> float:
        """Positions before the scaling."""
        if self.options.get(ORIGINAL) is None and self.most is not None:
            return float(self.most)
        return self.number(ORIGINAL)

    def growth(self, original: float, default: float | None = None) -> float:
        """How many times longer than the original the sequences may be."""
        if self.options.get("factor") is None and self.most is not None:
            return self.most / original
        return self.number("factor", default)

    def attention_factor(self, default: float) -> float:
        return self.number("attention_factor", default)


def _default(request: Request) -> Scaled:
    return request.plain(), 1.0


def _linear(request: Request) -> Scaled:
    factor = Decimal(request.number("factor"))
    return [f / factor for f in request.plain()], 1.0


def _dynamic(request: Request) -> Scaled:
    """The base grows with the sequence, once that is longer than those of the training."""
    size = request.size
    if request.options.get("alpha") is not None:  # Hunyuan: as if the factor were known
        ratio = Decimal(request.number("alpha"))
    else:
        most = Decimal(
            _check_positions.needed(
                "rope_frequencies", "dynamic", "max_position_embeddings", request.most, "the call"
            )
        )
        length = max(Decimal(request.length or 0), most)
        factor = Decimal(request.number("factor"))
        ratio = factor * length / most - (factor - 1)
    # theta' ** (-2 i / size), where theta' = theta * ratio ** (size / (size - 2))
    return [
        f * (-ratio.ln() * 2 * i / max(size - 2, 1)).exp() for i, f in enumerate(request.plain())
    ], 1.0


def _yarn(request: Request) -> Scaled:
    """Slow pairs are interpolated, fast ones stay, those between are blended."""
    options, size, original = request.options, request.size, request.original()
    factor = request.growth(original)

    def scale(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1 if factor > 1 else 1.0

    ratio = scale(1.0)
    if options.get("mscale") and options.get("mscale_all_dim"):  # DeepSeek
        ratio = scale(request.number("mscale")) / scale(request.number("mscale_all_dim"))

    def pair_of(turns: float) -> Decimal:
        """The pair that makes so many turns within the original length."""
        ratio = Decimal(original) / (Decimal(turns) * TWO_PI)
        return size * ratio.ln() / (2 * Decimal(request.theta).ln())

    low = pair_of(request.number("beta_fast", 32))
    high = pair_of(request.number("beta_slow", 1))
    if _check.flag("rope_frequencies", "truncate", options.get("truncate", True)):
        low, high = Decimal(math.floor(low)), Decimal(math.ceil(high))
    low, high = max(low, Decimal(0)), min(high, Decimal(size - 1))
    width = high - low if high != low else Decimal("0.001")
    found = []
    for i, f in enumerate(request.plain()):
        ramp = min(max((i - low) / width, Decimal(0)), Decimal(1))
        found.append(f / Decimal(factor) * ramp + f * (1 - ramp))
    return found, request.attention_factor(ratio)


def _longrope(request: Request) -> Scaled:
    """A factor per pair, one list for short sequences and one for long ones."""
    options, original = request.options, request.original()
    factor = request.growth(original, 1.0)
    long = request.length is not None and request.length > original
    kind = "long" if long else "short"
    given = _check_positions.needed(
        "rope_frequencies", "longrope", f"{kind}_factor", options.get(f"{kind}_factor")
    )
    each = _check_positions.factors("rope_frequencies", f"{kind}_factor", given, request.size // 2)
    _check_positions.above_one("rope_frequencies", ORIGINAL, original)
    ratio = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
    ratio = request.attention_factor(ratio)
    found = [f / Decimal(float(e)) for f, e in zip(request.plain(), each, strict=True)]
    return found, request.number(f"{kind}_mscale", ratio)  # the last one in Phi-3.5-MoE


def _llama3(request: Request) -> Scaled:
    """By the wavelength: long ones are interpolated, short ones stay, those between are blended."""
    factor = Decimal(request.number("factor"))
    low = Decimal(request.number("low_freq_factor"))
    high = Decimal(request.number("high_freq_factor"))
    original = Decimal(request.original())
    _check_positions.not_falling(
        "rope_frequencies", "low_freq_factor", low, "high_freq_factor", high
    )
    found = []
    for f in request.plain():
        turns = original * f / TWO_PI  # within the original length
        between = low < turns < high
        smooth = (turns - low) / (high - low) if between else Decimal(int(turns >= high))
        found.append((1 - smooth) * f / factor + smooth * f)
    return found, 1.0


def _proportional(request: Request) -> Scaled:
    """The frequencies of the whole head, of which only the first part is used; the rest stays."""
    factor = Decimal(request.number("factor", 1.0))
    head_dim = _check_positions.multiple("rope_frequencies", "head_dim", request.head_dim, 2)
    used = _check_positions.some_pairs("rope_frequencies", int(request.part * head_dim // 2))
    frequencies = geometric(request.theta, head_dim)
    return [f / factor if i < used else Decimal(0) for i, f in enumerate(frequencies)], 1.0


SCALINGS: dict[str, Callable[[Request], Scaled]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
    "proportional": _proportional,
}
OLD_NAMES = {"su": "longrope", "mrope": "default"}
ORIGINAL = "original_max_position_embeddings"
ENTRIES = {
    "max_position_embeddings", "finetuned",  # which says nothing about the frequencies
    "rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "alpha",
    ORIGINAL, "attention_factor", "beta_fast", "beta_slow", "mscale",
    "mscale_all_dim", "truncate", "short_factor", "long_factor", "short_mscale", "long_mscale",
    "low_freq_factor", "high_freq_factor", "mrope_section", "mrope_interleaved",
}  # fmt: skip


def rope_frequencies(
    head_dim: int,
    theta: float | None = None,
    *,
    scaling: Mapping[str, Any] | None = None,
    partial_rotary_factor: float | None = None,
    max_position_embeddings: int | None = None,
    length: int | None = None,
) -> RopeFrequencies:
    """The frequencies of rotary position embeddings, with the scalings of checkpoints.

    Pair i has the inverse frequency ``theta ** (-2 i / d)``, d numbers being turned, before it is
    scaled.

    Parameters
    ----------
    head_dim : int
        D, the size of a head.
    theta : float, optional
        Default: the scaling's "rope_theta", or 10000.
    scaling : dict, optional
        ``rope_scaling`` (transformers 4) or ``rope_parameters`` (transformers 5) of a checkpoint's
        configuration, with "rope_type" or "type": "default", "linear", "dynamic" (NTK), "yarn",
        "longrope" (or "su"), "llama3", "proportional", "mrope". Entries that are not known are
        refused, since they may mean something. "mrope_section" makes frequencies of several axes,
        as of `rope_sections`.
    partial_rotary_factor : float, optional
        The part of the head that is turned, within (0, 1]. Default: the scaling's, or 1. In
        "proportional" the frequencies are those of the whole head, and those past the part are 0.
    max_position_embeddings : int, optional
        Of the configuration. Needed by "dynamic"; the others use it where the scaling does not say
        "original_max_position_embeddings" or "factor".
    length : int, optional
        Of the longest sequence, padding not counted, on which "dynamic" and "longrope" depend. By
        default short.

    Returns
    -------
    RopeFrequencies

    Raises
    ------
    TypeError
        A scaling that is no dict; sizes that are not integers.
    ValueError
        An odd rotary size; a scaling that is unknown, or lacks an entry.

    Notes
    -----
    Su et al. 2021, arXiv 2104.09864. Linear: Chen et al. 2023, arXiv 2306.15595. YaRN: Peng et al.
    2023, arXiv 2309.00071; its `attention_factor` multiplies cosines and sines. LongRoPE: Ding et
    al. 2024, arXiv 2402.13753. llama3: the code of Llama 3.1; dynamic NTK and all that these leave
    open: `modeling_rope_utils` of transformers, whose formulas these are.

    Examples
    --------
    >>> from pyattn import positional
    >>> positional.rope_frequencies(8).inv_freq
    array([1.   , 0.1  , 0.01 , 0.001])
    >>> scaling = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    >>> positional.rope_frequencies(8, scaling=scaling).inv_freq
    array([0.25   , 0.025  , 0.0025 , 0.00025])
    """
    function = "rope_frequencies"
    head_dim = _check_numbers.whole(function, "head_dim", head_dim, 2)
    given = {"rope_type": "default"} if scaling is None else _without_nulls(
        _check_positions.mapping(function, "scaling", scaling)
    )  # fmt: skip
    _check_positions.known_keys(function, given, ENTRIES)
    kind = _check_positions.scaling_type(function, given, SCALINGS, OLD_NAMES)
    theta = _first(theta, given.get("rope_theta"), 10000.0)
    part = _first(partial_rotary_factor, given.get("partial_rotary_factor"), 1.0)
    most = _first(max_position_embeddings, given.get("max_position_embeddings"), None)
    request = Request(
        kind,
        head_dim,
        _check_positions.part(function, part),
        _check_positions.base(function, "theta", theta),
        given,
        _optional_size(function, "max_position_embeddings", most),
        _optional_size(function, "length", length),
    )
    with localcontext(PRECISE):
        frequencies = frequencies_of(*SCALINGS[kind](request))
    if given.get("mrope_section") is not None:
        turns = given.get("mrope_interleaved", False)
        turns = _check.flag(function, "mrope_interleaved", turns)
        frequencies = rope_sections(frequencies, given["mrope_section"], interleaved=turns)
    return frequencies


def _without_nulls(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _first(*values: Any) -> Any:
    return next((v for v in values if v is not None), None)


def _optional_size(function: str, name: str, value: Any) -> int | None:
    return None if value is None else _check_numbers.whole(function, name, value, 1)


def rope_from_config(
    config: Mapping[str, Any], *, layer_type: str | None = None, length: int | None = None
) -> RopeFrequencies | None:
    """The frequencies that a checkpoint's ``config.json`` asks for, of either generation.

    Parameters
    ----------
    config : dict
        Of a Hugging Face checkpoint, or its "text_config" where it has one. Looked at: "head_dim"
        (or "qk_rope_head_dim", or "hidden_size" and "num_attention_heads"), "rope_parameters", or
        "rope_theta", "rope_scaling" and "partial_rotary_factor" with the names that they have in
        GPT-NeoX, GPT-J, Gemma 3 and ModernBERT; "max_position_embeddings".
    layer_type : str, optional
        Such as "sliding_attention", for models whose layers differ; others ignore it.
    length : int, optional
        As of `rope_frequencies`.

    Returns
    -------
    RopeFrequencies or None
        None if the layers of that type have no rotary positions.

    Raises
    ------
    TypeError, ValueError
        As `rope_frequencies`; a configuration without a head size; a `layer_type` that is needed
        or unknown.

    Examples
    --------
    >>> from pyattn import positional
    >>> config = {"hidden_size": 64, "num_attention_heads": 8, "rope_theta": 10000.0}
    >>> positional.rope_from_config(config).inv_freq
    array([1.   , 0.1  , 0.01 , 0.001])
    """
    function = "rope_from_config"
    config = _without_nulls(_check_positions.mapping(function, "config", config))
    _check_positions.rotary_config(function, config)
    scaling, theta = _rope_of_layer(function, config, layer_type)
    if scaling is None:
        return None
    scaling = _without_nulls(_check_positions.mapping(function, "its scaling", scaling))
    if "rope_type" not in scaling and "type" not in scaling:
        scaling["rope_type"] = "default"
    kind = _check_positions.scaling_type(function, scaling, SCALINGS, OLD_NAMES)
    if kind in ("longrope", "yarn", "llama3") and ORIGINAL in config:  # beside the scaling: Phi-3
        scaling[ORIGINAL] = config[ORIGINAL]
    part = scaling.pop("partial_rotary_factor", None)
    part = _first(part, config.get("partial_rotary_factor"), config.get("rotary_pct"))
    head_dim = _head_dim(function, config, layer_type, part is not None)
    if part is None and "rotary_dim" in config:  # GPT-J
        # The next larger number, since the quotient times head_dim may fall short of rotary_dim.
        rotary_dim = _check_numbers.whole(function, "rotary_dim", config["rotary_dim"], 2)
        _check_positions.at_most(function, "rotary_dim", rotary_dim, "head_dim", head_dim)
        part = min(1.0, math.nextafter(rotary_dim / head_dim, 2))
    return rope_frequencies(
        head_dim,
        _first(scaling.pop("rope_theta", None), theta),
        scaling=scaling,
        partial_rotary_factor=part,
        max_position_embeddings=config.get("max_position_embeddings"),
        length=length,
    )


def _head_dim(
    function: str, config: Mapping[str, Any], layer_type: str | None, partial: bool
) -> int:
    if layer_type == "full_attention" and "global_head_dim" in config:  # Gemma 4
        return _check_numbers.whole(function, "global_head_dim", config["global_head_dim"], 2)
    names = ["qk_rope_head_dim", "head_dim", "attention_head_dim", "kv_channels"]
    if partial:  # of the whole head
        names = [*names[1:], names[0]]
    found = _first(*(config.get(name) for name in names))
    if found is None:
        width = _first(config.get("hidden_size"), config.get("n_embd"))
        heads = _first(config.get("num_attention_heads"), config.get("n_head"))
        found = _check_positions.head_size(function, width, heads, "text_config" in config)
    return _check_numbers.whole(function, "head_dim", found, 2)


def _rope_of_layer(
    function: str, config: Mapping[str, Any], layer_type: str | None
) -> tuple[Any, float | None]:
    """The scaling and the theta of a layer; a scaling of None: none of them is turned."""
    theta = _first(config.get("rope_theta"), config.get("rotary_emb_base"))
    parameters = config.get("rope_parameters", {})
    _check_positions.mapping(function, "rope_parameters", parameters)
    plain: dict[str, Any] = {}
    if any(isinstance(v, Mapping) for v in parameters.values()):
        per_type = {name: (own, theta) for name, own in parameters.items()}
    elif parameters:
        return parameters, theta
    elif "rope_local_base_freq" in config:  # Gemma 3
        per_type = {
            "full_attention": (config.get("rope_scaling", plain), theta),
            "sliding_attention": (plain, config["rope_local_base_freq"]),
        }
    elif "global_rope_theta" in config:  # ModernBERT
        every = config["global_rope_theta"]
        per_type = {
            "full_attention": (plain, every),
            "sliding_attention": (plain, config.get("local_rope_theta", every)),
        }
    else:
        return config.get("rope_scaling", plain), theta
    if layer_type not in per_type:
        _check_positions.several_layer_types(function, list(per_type), layer_type)
    return per_type[layer_type]
