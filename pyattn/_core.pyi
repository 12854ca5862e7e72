import numpy as np

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
    sinks: np.ndarray | None,
    terms: list[tuple[str, int, np.ndarray]],
    left: int,
    right: int,
    scale: float,
    softcap: float,
) -> None: ...
def isa_runnable() -> list[str]: ...
def isa_name() -> str: ...
def isa_select(name: str) -> bool: ...
def threads_set(threads: int) -> None: ...
def threads_get() -> int: ...
def probe_fma(double_precision: bool, rounds: int) -> float: ...
def probe_read(data: memoryview | np.ndarray) -> float: ...
