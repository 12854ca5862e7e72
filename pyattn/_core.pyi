import numpy as np

from pyattn.masks._mask import Axis

def attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray | None,
    out: np.ndarray | None,
    weights: np.ndarray | None,
    indices: np.ndarray | None,
    lse: np.ndarray | None,
    query_start: np.ndarray | None,
    key_lengths: np.ndarray | None,
    query_offsets: np.ndarray | None,
    key_offsets: np.ndarray | None,
    grid: tuple[Axis, Axis] | None,
    sinks: np.ndarray | None,
    terms: list[tuple[str, int, np.ndarray]],
    left: int,
    right: int,
    scale: float,
    softcap: float,
) -> None: ...

class Page:
    keys: np.ndarray
    values: np.ndarray
    key_scales: np.ndarray | None
    value_scales: np.ndarray | None
    def __init__(
        self,
        keys: np.ndarray,
        values: np.ndarray,
        key_scales: np.ndarray | None = None,
        value_scales: np.ndarray | None = None,
    ) -> None: ...

def store(page: Page, first: int, keys: np.ndarray, values: np.ndarray) -> None: ...
def attention_pages(
    query: np.ndarray,
    sequences: list[list[Page]],
    out: np.ndarray,
    lse: np.ndarray | None,
    query_start: np.ndarray | None,
    key_lengths: np.ndarray,
    sinks: np.ndarray | None,
    terms: list[tuple[str, int, np.ndarray]],
    left: int,
    right: int,
    scale: float,
    softcap: float,
) -> None: ...
def rope(
    x: np.ndarray, out: np.ndarray, index: np.ndarray, table: np.ndarray, interleaved: bool
) -> None: ...
def add_positions(x: np.ndarray, out: np.ndarray, index: np.ndarray, table: np.ndarray) -> None: ...
def linear_pack(weight: np.ndarray, bias: np.ndarray, stored: np.ndarray) -> np.ndarray: ...
def linear_unpack(packed: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None: ...
def linear(
    x: np.ndarray,
    layers: list[tuple[np.ndarray, int, np.ndarray, np.ndarray | None, np.ndarray | None]],
) -> bool: ...
def norm(
    x: np.ndarray,
    residual: np.ndarray | None,
    out: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    eps: float,
    centred: bool,
) -> None: ...
def linear_attention(
    query: np.ndarray,
    key: np.ndarray,
    value: np.ndarray,
    out: np.ndarray,
    state: np.ndarray | None,
    new_state: np.ndarray | None,
    decay: np.ndarray | None,
    beta: np.ndarray | None,
    key_lengths: np.ndarray | None,
    feature: int,
    causal: bool,
    normalized: bool,
    scale: float,
    chunk: int,
) -> None: ...
def isa_runnable() -> list[str]: ...
def isa_name() -> str: ...
def isa_select(name: str) -> bool: ...
def threads_set(threads: int) -> None: ...
def threads_get() -> int: ...
def probe_fma(double_precision: bool, rounds: int) -> float: ...
def probe_read(data: memoryview | np.ndarray) -> float: ...
def probe_copy(to: memoryview | np.ndarray, data: memoryview | np.ndarray) -> None: ...
