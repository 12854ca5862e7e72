# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The door between Python and csrc/: arrays become view structs, the GIL is released, a status
becomes an exception. No arithmetic, no defaults, no loops over the data. What is checked here, once
more, is only what would be memory-unsafe; the messages for people are worded in ``_check.py``."""

cimport numpy as cnp
from libc.stddef cimport size_t
from libc.stdint cimport int64_t

import os
import threading

cnp.import_array()


cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    unsigned long PyThread_get_thread_ident() noexcept


cdef extern from "pyattn.h" nogil:
    ctypedef enum pa_status:
        PA_OK, PA_NO_MEMORY, PA_INTERRUPTED
    ctypedef enum pa_type:
        PA_FLOAT32, PA_FLOAT64
    enum:
        PA_MAX_BATCH_AXES
    ctypedef struct pa_view:
        char *data
        int64_t *batch
        int64_t head, row, col
    ctypedef int (*pa_poll)() noexcept
    ctypedef struct pa_attention_call:
        pa_type type
        int batch_axes
        int64_t *batch
        int64_t heads, kv_heads, queries, keys, d, dv
        double scale
        int causal
        const int64_t *query_start
        const int64_t *key_lengths
        pa_view query, key, value, out, weights
        void *lse
        pa_poll poll
        size_t scratch_bytes
    pa_status pa_attention(pa_attention_call *call)
    const char *pa_isa_runnable(int index)
    const char *pa_isa_name()
    int pa_isa_select(const char *name)
    void pa_threads_set(int threads)
    int pa_threads_get()
    double pa_probe_fma(pa_type type, int64_t rounds)
    double pa_probe_read(const char *data, size_t bytes)


cdef unsigned long main_thread = threading.main_thread().ident


def _find_main_thread():
    """In the child of a fork the thread that forked is the main one."""
    global main_thread
    main_thread = threading.main_thread().ident


os.register_at_fork(after_in_child=_find_main_thread)


cdef int poll_signals() noexcept with gil:
    # A handler's exception stays set in this thread's state until `finish` returns to Python.
    return PyErr_CheckSignals()


cdef int reraise() except -1:
    return -1


cdef int refuse(str what) except -1:
    raise SystemError(f"pyattn._core: {what} (a bug in pyattn: please report it)")


cdef int expect(bint good, str what) except -1:
    if not good:
        refuse(what)
    return 0


cdef int fill_view(pa_view *view, cnp.ndarray a, int type_num, const cnp.npy_intp *shape,
                   int batch_axes, int64_t heads, int64_t rows, int64_t cols,
                   bint written) except -1:
    """Describe `a`, which must be (*shape[:batch_axes], heads, rows, cols)."""
    cdef int axis
    expect(cnp.PyArray_NDIM(a) == batch_axes + 3, "wrong number of axes")
    expect(cnp.PyArray_TYPE(a) == type_num and cnp.PyArray_ISNOTSWAPPED(a), "wrong dtype")
    expect(not written or cnp.PyArray_ISWRITEABLE(a), "output is read-only")
    for axis in range(batch_axes):
        expect(cnp.PyArray_DIM(a, axis) == shape[axis], "wrong leading extents")
        view.batch[axis] = cnp.PyArray_STRIDE(a, axis)
    expect(cnp.PyArray_DIM(a, batch_axes) == heads
           and cnp.PyArray_DIM(a, batch_axes + 1) == rows
           and cnp.PyArray_DIM(a, batch_axes + 2) == cols, "wrong extents")
    view.head = cnp.PyArray_STRIDE(a, batch_axes)
    view.row = cnp.PyArray_STRIDE(a, batch_axes + 1)
    view.col = cnp.PyArray_STRIDE(a, batch_axes + 2)
    view.data = cnp.PyArray_BYTES(a)
    return 0


cdef int64_t *per_batch(cnp.ndarray a, int64_t batch) except? NULL:
    expect(cnp.PyArray_TYPE(a) == cnp.NPY_INT64 and cnp.PyArray_IS_C_CONTIGUOUS(a)
           and cnp.PyArray_ISBEHAVED_RO(a) and cnp.PyArray_SIZE(a) == batch,
           "per-batch numbers must be contiguous int64")
    return <int64_t *> cnp.PyArray_DATA(a)


def attention(cnp.ndarray query not None, cnp.ndarray key not None, cnp.ndarray value,
              cnp.ndarray out, cnp.ndarray weights, cnp.ndarray lse,
              cnp.ndarray query_start, cnp.ndarray key_lengths, bint causal, double scale):
    """Run one call. Arrays are (*batch, heads, rows, cols), every extent at least 1.

    Either `value` and `out`, or `weights`, is given. See ``pa_attention_call`` in csrc/pyattn.h.
    """
    cdef pa_attention_call call
    cdef int axes = cnp.PyArray_NDIM(query) - 3
    cdef int axis, type_num = cnp.PyArray_TYPE(query)
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(query)
    cdef int64_t batch = 1, b
    cdef pa_status status

    expect(0 <= axes <= PA_MAX_BATCH_AXES and cnp.PyArray_NDIM(key) == axes + 3, "wrong rank")
    expect(type_num == cnp.NPY_FLOAT32 or type_num == cnp.NPY_FLOAT64, "wrong dtype")
    call.type = PA_FLOAT32 if type_num == cnp.NPY_FLOAT32 else PA_FLOAT64
    call.batch_axes = axes
    for axis in range(axes):
        call.batch[axis] = shape[axis]
        batch *= shape[axis]
    call.heads = shape[axes]
    call.queries = shape[axes + 1]
    call.d = shape[axes + 2]
    call.kv_heads = cnp.PyArray_DIM(key, axes)
    call.keys = cnp.PyArray_DIM(key, axes + 1)
    call.dv = 0
    expect(cnp.PyArray_SIZE(query) > 0 and cnp.PyArray_SIZE(key) > 0, "empty extent")
    expect(call.heads % call.kv_heads == 0, "heads cannot be grouped")
    fill_view(&call.query, query, type_num, shape, axes, call.heads, call.queries, call.d, False)
    fill_view(&call.key, key, type_num, shape, axes, call.kv_heads, call.keys, call.d, False)
    call.weights.data = NULL
    call.value.data = NULL
    call.out.data = NULL
    if weights is not None:
        fill_view(&call.weights, weights, type_num, shape, axes, call.heads, call.queries,
                  call.keys, True)
    else:
        expect(value is not None and out is not None, "no output")
        expect(cnp.PyArray_NDIM(value) == axes + 3 and cnp.PyArray_SIZE(value) > 0, "empty value")
        call.dv = cnp.PyArray_DIM(value, axes + 2)
        fill_view(&call.value, value, type_num, shape, axes, call.kv_heads, call.keys, call.dv,
                  False)
        fill_view(&call.out, out, type_num, shape, axes, call.heads, call.queries, call.dv, True)
    call.lse = NULL
    if lse is not None:
        expect(cnp.PyArray_TYPE(lse) == type_num and cnp.PyArray_ISCARRAY(lse)
               and cnp.PyArray_SIZE(lse) == batch * call.heads * call.queries, "wrong lse")
        call.lse = cnp.PyArray_DATA(lse)
    call.query_start = NULL if query_start is None else per_batch(query_start, batch)
    call.key_lengths = NULL if key_lengths is None else per_batch(key_lengths, batch)
    if call.key_lengths:
        for b in range(batch):
            expect(0 <= call.key_lengths[b] <= call.keys, "key length out of range")
    call.causal = causal
    call.scale = scale
    # Python delivers signals to the main thread only; others need not ask.
    call.poll = poll_signals if PyThread_get_thread_ident() == main_thread else <pa_poll> NULL

    with nogil:
        status = pa_attention(&call)
    if status == PA_INTERRUPTED:
        reraise()
    elif status == PA_NO_MEMORY:
        what = "attention" if weights is None else "attention_weights"
        raise MemoryError(f"{what}: no memory for {call.scratch_bytes} bytes of scratch")


def isa_runnable():
    """Names of the instruction sets this machine can run, best first."""
    names = []
    while pa_isa_runnable(len(names)) != NULL:
        names.append(pa_isa_runnable(len(names)).decode())
    return names


def isa_name():
    return pa_isa_name().decode()


def isa_select(str name not None):
    return pa_isa_select(name.encode()) == 0


def threads_set(int threads):
    pa_threads_set(threads)


def threads_get():
    return pa_threads_get()


def probe_fma(bint double_precision, int64_t rounds):
    """Floating-point operations made by `rounds` rounds of FMAs in registers on all threads."""
    cdef double operations
    cdef pa_type kind = PA_FLOAT64 if double_precision else PA_FLOAT32
    with nogil:
        operations = pa_probe_fma(kind, rounds)
    if operations < 0:
        raise MemoryError("no memory for the probe")
    return operations


def probe_read(const unsigned char[::1] data not None):
    """Read `data` once on all threads; returns the sum of it as doubles."""
    cdef double total
    cdef size_t size = <size_t> data.shape[0]
    if size == 0:
        return 0.0
    with nogil:
        total = pa_probe_read(<const char *> &data[0], size)
    return total
