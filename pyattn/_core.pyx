# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The door between Python and csrc/: arrays become view structs, the GIL is released, a status
becomes an exception. No arithmetic, no defaults, no loops over the data. What is checked here, once
more, is only what would be memory-unsafe; the messages for people are worded in ``_check.py``."""

cimport numpy as cnp
from libc.stddef cimport size_t
from libc.stdint cimport SIZE_MAX, int64_t
from libc.stdlib cimport free, malloc

import os
import threading

import numpy

cnp.import_array()


cdef extern from "Python.h":
    int PyErr_CheckSignals() noexcept
    unsigned long PyThread_get_thread_ident() noexcept


cdef extern from "pyattn.h" nogil:
    ctypedef enum pa_status:
        PA_OK, PA_NO_MEMORY, PA_INTERRUPTED, PA_FOREIGN
    ctypedef enum pa_type:
        PA_FLOAT32, PA_FLOAT64
    enum:
        PA_MAX_BATCH_AXES
        PA_MAX_TERMS
        PA_MAX_CLAUSES
        PA_UNLIMITED
    ctypedef struct pa_axis:
        int64_t inner, outer, stride
    ctypedef enum pa_term_kind:
        PA_SPAN, PA_MATCH, PA_TABLE, PA_SLOPES
    ctypedef enum pa_element:
        PA_ELEMENT_BOOL, PA_ELEMENT_FLOAT16, PA_ELEMENT_BFLOAT16, PA_ELEMENT_FLOAT32,
        PA_ELEMENT_FLOAT64, PA_ELEMENT_INT8
    ctypedef struct pa_term:
        pa_term_kind kind
        pa_element element
        int clause
        const char *data
        int64_t *batch
        int64_t head
        pa_axis row, col
    ctypedef struct pa_view:
        char *data
        int64_t *batch
        int64_t head, row, col
    ctypedef int (*pa_poll)() noexcept
    ctypedef struct pa_page:
        const char *key
        const char *value
        const float *key_scale
        const float *value_scale
    ctypedef struct pa_grid_axis:
        int64_t extent, step
        const int64_t *spans
    ctypedef struct pa_grid:
        pa_grid_axis lines, columns
    ctypedef struct pa_attention_call:
        pa_type type
        pa_element query_element, key_element
        int batch_axes
        int64_t *batch
        int64_t heads, kv_heads, queries, keys, d, dv
        double scale, softcap
        int64_t left, right
        const int64_t *query_start
        const int64_t *key_lengths
        const int64_t *query_offsets
        const int64_t *key_offsets
        const pa_grid *grid
        const double *sinks
        int term_count
        pa_term *terms
        pa_view query, key, value, out, weights, indices
        const pa_page *pages
        int64_t page_rows, page_count
        int64_t strongest
        void *lse
        pa_poll poll
        size_t scratch_bytes
    pa_status pa_attention(pa_attention_call *call)
    ctypedef struct pa_store_call:
        pa_element from_element, to_element
        int64_t heads, rows, cols
        const char *data
        int64_t head, row, col
        char *to
        int64_t to_head
        float *scale
        int64_t scale_head
    void pa_store(const pa_store_call *call)
    ctypedef struct pa_positions_call:
        pa_element element
        int batch_axes
        int64_t *batch
        int64_t heads, rows, cols
        pa_view x, out, index
        const char *table
        int64_t table_row, table_col
        int64_t pairs
        int interleaved
        pa_poll poll
    pa_status pa_rope(const pa_positions_call *call)
    pa_status pa_add_positions(const pa_positions_call *call)
    ctypedef enum pa_activation:
        PA_IDENTITY, PA_GELU, PA_GELU_TANH, PA_QUICK_GELU, PA_SILU, PA_RELU
    ctypedef struct pa_plane:
        char *data
        pa_axis row, col
    ctypedef struct pa_packing:
        pa_type type
        pa_element stored
        int64_t inputs, outputs
        pa_element element
        const char *weight
        int64_t weight_row, weight_col
        const void *bias
    size_t pa_linear_bytes(const pa_packing *packing)
    pa_status pa_linear_pack(const pa_packing *packing, void *packed, size_t size)
    int pa_linear_inspect(const void *packed, size_t bytes, pa_packing *packing)
    void pa_linear_unpack(const void *packed, void *weight, void *bias)
    enum:
        PA_MAX_LAYERS
    ctypedef struct pa_layer:
        const void *packed
        pa_activation activation
        pa_plane out, gate, residual
    ctypedef struct pa_linear_call:
        pa_type type
        int64_t rows, inputs
        pa_plane x
        int layer_count
        pa_layer *layers
        pa_poll poll
        size_t scratch_bytes
    pa_status pa_linear(pa_linear_call *call)
    ctypedef struct pa_norm_call:
        pa_type type
        int64_t rows, cols
        pa_plane x, residual, out
        const void *weight
        const void *bias
        double eps
        int centred
        pa_poll poll
    pa_status pa_norm(const pa_norm_call *call)
    ctypedef enum pa_feature:
        PA_FEATURE_IDENTITY, PA_FEATURE_ELU, PA_FEATURE_RELU
    ctypedef struct pa_linear_attention_call:
        pa_type type
        pa_element query_element, key_element
        int batch_axes
        int64_t *batch
        int64_t heads, kv_heads, queries, keys, d, dv
        pa_feature feature
        int causal, normalized
        double scale
        int64_t chunk
        const int64_t *key_lengths
        pa_view query, key, value, out, decay, beta, state, new_state
        int64_t decay_cols
        pa_poll poll
        size_t scratch_bytes
    pa_status pa_linear_attention(pa_linear_attention_call *call)
    const char *pa_isa_runnable(int index)
    const char *pa_isa_name()
    int pa_isa_select(const char *name)
    void pa_threads_set(int threads)
    int pa_threads_get()
    double pa_probe_fma(pa_type type, int64_t rounds)
    double pa_probe_read(const char *data, size_t bytes)
    int pa_probe_copy(char *to, const char *from_, size_t bytes)


cdef unsigned long main_thread = threading.main_thread().ident


def _find_main_thread():
    """In the child of a fork the thread that forked is the main one."""
    global main_thread
    main_thread = threading.main_thread().ident


os.register_at_fork(after_in_child=_find_main_thread)


cdef int poll_signals() noexcept with gil:
    # A handler's exception stays set in this thread's state until `finish` returns to Python.
    return PyErr_CheckSignals()


cdef pa_poll poll_of_this_thread() noexcept:
    # Python delivers signals to the main thread only; others need not ask.
    return poll_signals if PyThread_get_thread_ident() == main_thread else <pa_poll> NULL


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


cdef void *numbers(cnp.ndarray a, int type_num, int64_t count) except NULL:
    expect(cnp.PyArray_TYPE(a) == type_num and cnp.PyArray_ISCARRAY_RO(a)
           and cnp.PyArray_SIZE(a) == count, "wrong list of numbers")
    return cnp.PyArray_DATA(a)


cdef int check_offsets(const int64_t *offsets, int64_t count, int64_t end) except -1:
    cdef int64_t i
    expect(offsets[0] == 0 and offsets[count] <= end, "offsets out of range")
    for i in range(count):
        expect(offsets[i] <= offsets[i + 1], "offsets decrease")
    return 0


cdef int fill_axis(pa_axis *axis, cnp.ndarray a, int number, int64_t extent) except -1:
    """Axes `number` (outer) and `number + 1` (inner) of `a` are one axis of at least `extent`."""
    cdef int64_t outer = cnp.PyArray_DIM(a, number), inner = cnp.PyArray_DIM(a, number + 1)
    expect(inner > 0 and outer >= (extent + inner - 1) // inner, "term is too short")
    axis.inner = inner
    axis.outer = cnp.PyArray_STRIDE(a, number)
    axis.stride = cnp.PyArray_STRIDE(a, number + 1)
    return 0


cdef int fill_element(pa_element *element, int type_num) except -1:
    if type_num == cnp.NPY_BOOL:
        element[0] = PA_ELEMENT_BOOL
    elif type_num == cnp.NPY_FLOAT16:
        element[0] = PA_ELEMENT_FLOAT16
    elif type_num == cnp.NPY_UINT16:
        element[0] = PA_ELEMENT_BFLOAT16
    elif type_num == cnp.NPY_FLOAT32:
        element[0] = PA_ELEMENT_FLOAT32
    else:
        expect(type_num == cnp.NPY_FLOAT64, "wrong dtype of elements")
        element[0] = PA_ELEMENT_FLOAT64
    return 0


cdef int fill_term(pa_term *term, str kind, int clause, cnp.ndarray a,
                   pa_attention_call *call) except -1:
    """See ``pa_term`` in csrc/pyattn.h, and pyattn/_pieces.py for the shapes of `a`."""
    cdef int axes = call.batch_axes, axis, type_num = cnp.PyArray_TYPE(a)
    cdef int ndim = cnp.PyArray_NDIM(a)
    expect(-1 <= clause < PA_MAX_CLAUSES, "too many clauses")
    expect(cnp.PyArray_ISNOTSWAPPED(a), "term in foreign byte order")
    expect(ndim > axes and cnp.PyArray_DIM(a, axes) == call.heads, "wrong heads of a term")
    for axis in range(axes):
        expect(cnp.PyArray_DIM(a, axis) == call.batch[axis], "wrong batch of a term")
        term.batch[axis] = cnp.PyArray_STRIDE(a, axis)
    term.head = cnp.PyArray_STRIDE(a, axes)
    term.clause = clause
    term.data = cnp.PyArray_BYTES(a)
    if kind == "table":
        term.kind = PA_TABLE
        expect(ndim == axes + 5, "wrong rank of a table")
        fill_axis(&term.row, a, axes + 1, call.queries)
        fill_axis(&term.col, a, axes + 3, call.keys)
        fill_element(&term.element, type_num)
    elif kind == "span":
        term.kind = PA_SPAN
        expect(type_num == cnp.NPY_INT64 and ndim == axes + 3
               and cnp.PyArray_DIM(a, axes + 1) == call.queries
               and cnp.PyArray_DIM(a, axes + 2) == 2
               and cnp.PyArray_STRIDE(a, axes + 2) == sizeof(int64_t), "wrong span")
        term.row.stride = cnp.PyArray_STRIDE(a, axes + 1)
    elif kind == "match":
        term.kind = PA_MATCH
        expect(type_num == cnp.NPY_INT32 and ndim == axes + 2
               and cnp.PyArray_DIM(a, axes + 1) == call.queries + call.keys
               and (call.heads == 1 or term.head == 0)
               and cnp.PyArray_STRIDE(a, axes + 1) == sizeof(int), "wrong ids")
    else:
        expect(kind == "slopes", "unknown term")
        term.kind = PA_SLOPES
        expect(type_num == cnp.NPY_FLOAT64 and ndim == axes + 1, "wrong slopes")
    return 0


cdef int fill_grid_axis(pa_grid_axis *axis, cnp.ndarray spans, int64_t step) except -1:
    """See ``pa_grid_axis`` in csrc/pyattn.h."""
    expect(cnp.PyArray_NDIM(spans) == 2, "no spans")
    cdef int64_t place, extent = cnp.PyArray_DIM(spans, 0)
    cdef const int64_t *seen = <int64_t *> numbers(spans, cnp.NPY_INT64, 2 * extent)
    expect(0 < extent < 1 << 31 and 0 < step <= extent + 1, "wrong axis of a grid")
    for place in range(extent):
        expect(0 <= seen[2 * place] <= place < seen[2 * place + 1] <= extent
               and (place - seen[2 * place]) % step == 0, "wrong span of a grid")
        if place >= step:
            expect(seen[2 * (place - step)] <= seen[2 * place]
                   and seen[2 * (place - step) + 1] <= seen[2 * place + 1], "spans fall")
    axis.extent, axis.step, axis.spans = extent, step, seen
    return 0


cdef class Page:
    """Some keys and values of one sequence, in all key heads, and where they lie.

    `keys` and `values` are (heads, rows, size), contiguous, of one type: float32, float16, the bits
    of bfloat16 as uint16, or int8 with scales, (heads, rows) of float32. See ``pa_page``.
    """
    cdef readonly cnp.ndarray keys, values, key_scales, value_scales
    cdef pa_page place
    # As they were when the addresses were taken: an array may get another shape.
    cdef pa_element element
    cdef int64_t heads, rows, size, value_size, itemsize

    # Not __init__, which a subclass may leave out, and anybody may call again.
    def __cinit__(self, cnp.ndarray keys not None, cnp.ndarray values not None,
                  cnp.ndarray key_scales=None, cnp.ndarray value_scales=None):
        cdef int type_num = cnp.PyArray_TYPE(keys)
        expect(cnp.PyArray_NDIM(keys) == 3 and cnp.PyArray_NDIM(values) == 3
               and cnp.PyArray_DIM(keys, 0) == cnp.PyArray_DIM(values, 0)
               and cnp.PyArray_DIM(keys, 1) == cnp.PyArray_DIM(values, 1)
               and cnp.PyArray_SIZE(keys) > 0 and cnp.PyArray_SIZE(values) > 0
               and cnp.PyArray_DIM(keys, 1) % 64 == 0, "wrong shape of a page")
        expect(cnp.PyArray_TYPE(values) == type_num
               and cnp.PyArray_ISCARRAY(keys) and cnp.PyArray_ISCARRAY(values)
               and type_num in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT16, cnp.NPY_UINT16, cnp.NPY_INT8),
               "wrong arrays of a page")
        expect((type_num == cnp.NPY_INT8) == (key_scales is not None)
               and (key_scales is None) == (value_scales is None), "wrong scales of a page")
        self.keys, self.values = keys, values
        self.key_scales, self.value_scales = key_scales, value_scales
        self.place.key = cnp.PyArray_BYTES(keys)
        self.place.value = cnp.PyArray_BYTES(values)
        self.place.key_scale = self.place.value_scale = NULL
        self.heads, self.rows = cnp.PyArray_DIM(keys, 0), cnp.PyArray_DIM(keys, 1)
        self.size, self.value_size = cnp.PyArray_DIM(keys, 2), cnp.PyArray_DIM(values, 2)
        self.itemsize = cnp.PyArray_ITEMSIZE(keys)
        if type_num == cnp.NPY_INT8:
            self.element = PA_ELEMENT_INT8
        else:
            fill_element(&self.element, type_num)
        cdef int64_t rows = self.heads * self.rows
        if key_scales is not None:
            expect(cnp.PyArray_ISWRITEABLE(key_scales) and cnp.PyArray_ISWRITEABLE(value_scales),
                   "scales are read-only")
            self.place.key_scale = <float *> numbers(key_scales, cnp.NPY_FLOAT32, rows)
            self.place.value_scale = <float *> numbers(value_scales, cnp.NPY_FLOAT32, rows)

    cdef bint like(self, Page other):
        return (self.element == other.element and self.heads == other.heads
                and self.rows == other.rows and self.size == other.size
                and self.value_size == other.value_size)


cdef int fill_store(pa_store_call *call, cnp.ndarray rows, Page page, int64_t size,
                    int64_t first) except -1:
    """Describe rows (heads, n, size) and where in a page they go: all but the addresses there."""
    expect(cnp.PyArray_NDIM(rows) == 3 and cnp.PyArray_ISNOTSWAPPED(rows), "wrong rows")
    call.heads, call.rows, call.cols = (cnp.PyArray_DIM(rows, 0), cnp.PyArray_DIM(rows, 1),
                                        cnp.PyArray_DIM(rows, 2))
    expect(call.heads == page.heads and call.cols == size
           and 0 <= first <= page.rows - call.rows, "rows do not fit into the page")
    fill_element(&call.from_element, cnp.PyArray_TYPE(rows))
    expect(call.from_element == PA_ELEMENT_FLOAT32 or cnp.PyArray_ITEMSIZE(rows) == 2,
           "wrong dtype of rows")
    call.to_element = page.element
    call.data = cnp.PyArray_BYTES(rows)
    call.head, call.row, call.col = (cnp.PyArray_STRIDE(rows, 0), cnp.PyArray_STRIDE(rows, 1),
                                     cnp.PyArray_STRIDE(rows, 2))
    call.to_head = page.rows * size * page.itemsize
    call.scale_head = page.rows
    call.scale = NULL
    return 0


def store(Page page not None, int64_t first, cnp.ndarray keys not None,
          cnp.ndarray values not None):
    """Write `keys`, (heads, n, size), and `values` to rows first, first + 1, ... of a page.

    float32, float16 or the bits of bfloat16, any strides; rounded to the type of the page.
    """
    cdef pa_store_call of_keys, of_values
    cdef int64_t itemsize = page.itemsize
    fill_store(&of_keys, keys, page, page.size, first)
    fill_store(&of_values, values, page, page.value_size, first)
    expect(of_keys.rows == of_values.rows, "keys without values")
    of_keys.to = <char *> page.place.key + first * page.size * itemsize
    of_values.to = <char *> page.place.value + first * page.value_size * itemsize
    if page.element == PA_ELEMENT_INT8:
        of_keys.scale = <float *> page.place.key_scale + first
        of_values.scale = <float *> page.place.value_scale + first
    with nogil:
        pa_store(&of_keys)
        pa_store(&of_values)


cdef int fill_pages(pa_attention_call *call, list sequences, pa_page *pages,
                    int64_t page_count) except -1:
    """Describe the pages of each sequence, at least one in all; `pages` has room for `page_count`
    of each."""
    cdef Page page, first = None
    cdef list held
    cdef int64_t at = 0, n, itemsize
    for held in sequences:
        expect(held is not None, "no list of pages")
        n = at
        for page in held:
            expect(page is not None, "no page")
            if first is None:
                first = page
            expect(first.like(page) and n < at + page_count, "pages differ")
            pages[n] = page.place
            n += 1
        at += page_count
    expect(first is not None, "no page at all")
    expect(first.size == call.d, "wrong head size of the pages")
    itemsize = first.itemsize
    call.kv_heads, call.page_rows, call.dv = first.heads, first.rows, first.value_size
    call.key_element = first.element
    call.pages, call.page_count = pages, page_count
    call.keys = page_count * call.page_rows
    call.key.col = call.value.col = itemsize
    call.key.row, call.value.row = first.size * itemsize, first.value_size * itemsize
    call.key.head, call.value.head = (first.rows * call.key.row, first.rows * call.value.row)
    return 0


def attention(cnp.ndarray query not None, cnp.ndarray key not None, cnp.ndarray value,
              cnp.ndarray out, cnp.ndarray weights, cnp.ndarray indices, cnp.ndarray lse,
              cnp.ndarray query_start, cnp.ndarray key_lengths,
              cnp.ndarray query_offsets, cnp.ndarray key_offsets, grid, cnp.ndarray sinks,
              list terms not None, int64_t left, int64_t right, double scale, double softcap):
    """Run one call. Arrays are (*batch, heads, rows, cols), every extent at least 1.

    Either `value` and `out`, or `weights`, is given; with `indices`, `weights` are the strongest
    only, of the type that is computed in. With offsets the arrays have no batch axes. Terms are
    (kind, clause, array), see ``pa_term``; a `left` or `right` below 0 is no limit. Halves are
    float16 or the bits of bfloat16 as uint16. A grid is two axes with their `spans` and `step`. All
    of it: ``pa_attention_call`` in csrc/pyattn.h.
    """
    cdef pa_attention_call call
    call.terms = terms_room(terms)
    try:
        run(&call, query, key, value, None, NULL, 0, out, weights, indices, lse, query_start,
            key_lengths, query_offsets, key_offsets, grid, sinks, terms, left, right, scale, softcap)
    finally:
        free(call.terms)


def attention_pages(cnp.ndarray query not None, list sequences not None, cnp.ndarray out not None,
                    cnp.ndarray lse, cnp.ndarray query_start, cnp.ndarray key_lengths not None,
                    cnp.ndarray sinks, list terms not None, int64_t left, int64_t right,
                    double scale, double softcap):
    """Run one call over keys and values in pages: of each batch element, the only leading axis, a
    list of `Page`. Terms are those of as many keys as the longest of `key_lengths`."""
    cdef pa_attention_call call
    cdef int64_t page_count = max([len(held) for held in sequences], default=0)
    expect(page_count > 0, "no page at all")
    cdef pa_page *pages
    call.terms = NULL
    pages = <pa_page *> malloc(len(sequences) * page_count * sizeof(pa_page))
    try:
        if pages == NULL:
            raise MemoryError(f"attention: no memory for a table of {page_count} pages")
        call.terms = terms_room(terms)
        run(&call, query, None, None, sequences, pages, page_count, out, None, None, lse,
            query_start, key_lengths, None, None, None, sinks, terms, left, right, scale, softcap)
    finally:
        free(call.terms)
        free(pages)


cdef pa_term *terms_room(list terms) except? NULL:
    cdef pa_term *room
    expect(len(terms) <= PA_MAX_TERMS, "too many terms")
    if not terms:
        return NULL
    room = <pa_term *> malloc(len(terms) * sizeof(pa_term))
    if room == NULL:
        raise MemoryError(f"attention: no memory for {len(terms)} terms")
    return room


cdef int run(pa_attention_call *call, cnp.ndarray query, cnp.ndarray key, cnp.ndarray value,
             list sequences, pa_page *pages, int64_t page_count,
             cnp.ndarray out, cnp.ndarray weights, cnp.ndarray indices, cnp.ndarray lse,
             cnp.ndarray query_start, cnp.ndarray key_lengths, cnp.ndarray query_offsets,
             cnp.ndarray key_offsets, grid, cnp.ndarray sinks, list terms, int64_t left,
             int64_t right, double scale, double softcap) except -1:
    """Fill `call`, whose `terms` has room for all of them, and do it."""
    cdef int axes = cnp.PyArray_NDIM(query) - 3
    cdef int axis, type_num = cnp.PyArray_TYPE(query), key_type, real_type
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(query)
    cdef int64_t batch = 1, b, columns
    cdef pa_grid pixels
    cdef pa_status status

    expect(0 <= axes <= PA_MAX_BATCH_AXES, "wrong rank")
    fill_element(&call.query_element, type_num)
    call.type = PA_FLOAT64 if type_num == cnp.NPY_FLOAT64 else PA_FLOAT32
    real_type = cnp.NPY_FLOAT64 if type_num == cnp.NPY_FLOAT64 else cnp.NPY_FLOAT32
    expect(type_num == real_type or cnp.PyArray_ITEMSIZE(query) == 2, "wrong dtype")
    for axis in range(axes):
        call.batch[axis] = shape[axis]
        batch *= shape[axis]
    call.heads = shape[axes]
    call.queries = shape[axes + 1]
    call.d = shape[axes + 2]
    call.dv = 0
    call.weights.data = NULL
    call.key.data = NULL
    call.value.data = NULL
    call.out.data = NULL
    call.pages = NULL
    call.strongest = 0
    expect(cnp.PyArray_SIZE(query) > 0, "empty extent")
    fill_view(&call.query, query, type_num, shape, axes, call.heads, call.queries, call.d, False)
    if key is None:
        expect(axes == 1 and len(sequences) == batch and key_lengths is not None, "no keys")
        fill_pages(call, sequences, pages, page_count)
    else:
        expect(cnp.PyArray_NDIM(key) == axes + 3 and cnp.PyArray_SIZE(key) > 0, "empty extent")
        key_type = cnp.PyArray_TYPE(key)
        fill_element(&call.key_element, key_type)
        call.kv_heads = cnp.PyArray_DIM(key, axes)
        call.keys = cnp.PyArray_DIM(key, axes + 1)
        fill_view(&call.key, key, key_type, shape, axes, call.kv_heads, call.keys, call.d, False)
        if weights is None:
            expect(value is not None and out is not None, "no output")
            expect(cnp.PyArray_NDIM(value) == axes + 3 and cnp.PyArray_SIZE(value) > 0,
                   "empty value")
            call.dv = cnp.PyArray_DIM(value, axes + 2)
            fill_view(&call.value, value, key_type, shape, axes, call.kv_heads, call.keys, call.dv,
                      False)
    expect(call.key_element == call.query_element
           or (call.type == PA_FLOAT32 and call.key_element != PA_ELEMENT_FLOAT64
               and call.key_element != PA_ELEMENT_BOOL), "wrong dtypes together")
    expect(call.heads % call.kv_heads == 0, "heads cannot be grouped")
    if weights is not None:
        columns = call.keys
        if indices is not None:
            columns = call.strongest = cnp.PyArray_DIM(indices, cnp.PyArray_NDIM(indices) - 1)
            fill_view(&call.indices, indices, cnp.NPY_INT64, shape, axes, call.heads,
                      call.queries, columns, True)
            expect(columns > 0 and cnp.PyArray_ISCARRAY(indices)
                   and cnp.PyArray_ISCARRAY(weights), "wrong place for the strongest")
        fill_view(&call.weights, weights, type_num if indices is None else real_type, shape, axes,
                  call.heads, call.queries, columns, True)
    else:
        fill_view(&call.out, out, type_num, shape, axes, call.heads, call.queries, call.dv, True)
    call.lse = NULL
    if lse is not None:
        expect(cnp.PyArray_ISWRITEABLE(lse), "lse is read-only")
        call.lse = numbers(lse, real_type, batch * call.heads * call.queries)
    call.batch_axes = axes
    call.query_offsets = call.key_offsets = NULL
    if query_offsets is not None:
        # Sequences are the batch, and all of them begin in the same arrays.
        expect(axes == 0 and key_offsets is not None and weights is None, "not packed")
        batch = cnp.PyArray_SIZE(query_offsets) - 1
        expect(batch > 0, "no sequence")
        call.query_offsets = <int64_t *> numbers(query_offsets, cnp.NPY_INT64, batch + 1)
        call.key_offsets = <int64_t *> numbers(key_offsets, cnp.NPY_INT64, batch + 1)
        check_offsets(call.query_offsets, batch, call.queries)
        check_offsets(call.key_offsets, batch, call.keys)
        expect(key_lengths is None and query_start is None, "positions of packed sequences")
        call.batch_axes = 1
        call.batch[0] = batch
        call.query.batch[0] = call.key.batch[0] = call.value.batch[0] = call.out.batch[0] = 0
    call.grid = NULL
    if grid is not None:
        expect(query_offsets is None and weights is None and key is not None and key_lengths is None
               and query_start is None and left < 0 and right < 0, "positions beside a grid")
        # What is checked must stay so while others run: copies.
        (line_spans, line_step), (column_spans, column_step) = grid
        line_spans, column_spans = line_spans.copy(), column_spans.copy()
        fill_grid_axis(&pixels.lines, line_spans, line_step)
        fill_grid_axis(&pixels.columns, column_spans, column_step)
        expect(pixels.lines.extent * pixels.columns.extent == call.queries == call.keys,
               "wrong pixels")
        call.grid = &pixels
    call.query_start = call.key_lengths = NULL
    columns = 1
    if query_start is not None:
        call.query_start = <int64_t *> numbers(query_start, cnp.NPY_INT64, batch)
    if key_lengths is not None:
        call.key_lengths = <int64_t *> numbers(key_lengths, cnp.NPY_INT64, batch)
        for b in range(batch):
            expect(0 <= call.key_lengths[b] <= call.keys, "key length out of range")
            if key is None:
                expect(call.key_lengths[b] <= len(sequences[b]) * call.page_rows,
                       "key length past the pages")
                columns = max(columns, call.key_lengths[b])
        if key is None:  # the longest sequence is how long they all are for terms
            call.keys = columns
    call.sinks = NULL
    if sinks is not None:
        call.sinks = <double *> numbers(sinks, cnp.NPY_FLOAT64, call.heads)
    call.term_count = 0
    for kind, clause, array in terms:
        expect(array is not None, "no array of a term")
        fill_term(&call.terms[call.term_count], kind, clause, array, call)
        expect(call.query_offsets == NULL or kind == "slopes", "term of packed sequences")
        expect(grid is None or (kind == "table" and clause == -1), "term beside a grid")
        call.term_count += 1
    call.left = PA_UNLIMITED if left < 0 else left
    call.right = PA_UNLIMITED if right < 0 else right
    call.scale = scale
    call.softcap = softcap
    call.poll = poll_of_this_thread()

    with nogil:
        status = pa_attention(call)
    if status == PA_INTERRUPTED:
        reraise()
    elif status == PA_NO_MEMORY:
        what = "attention"
        if query_offsets is not None:
            what = "attention_varlen"
        elif weights is not None:
            what = "attention_weights" if indices is None else "attention_topk"
        raise MemoryError(f"{what}: no memory for {call.scratch_bytes} bytes of scratch")


cdef int check_index(cnp.ndarray index, int64_t rows) except -1:
    # Of what an axis repeats once is enough.
    once = tuple([slice(0, 1) if index.strides[axis] == 0 else slice(None)
                  for axis in range(index.ndim)])
    cdef cnp.flatiter places = cnp.PyArray_IterNew(index[once])
    cdef int64_t row
    while cnp.PyArray_ITER_NOTDONE(places):
        row = (<int64_t *> cnp.PyArray_ITER_DATA(places))[0]
        expect(0 <= row < rows, "index out of range")
        cnp.PyArray_ITER_NEXT(places)
    return 0


cdef int fill_positions(pa_positions_call *call, cnp.ndarray x, cnp.ndarray out,
                        cnp.ndarray index, cnp.ndarray table) except -1:
    """All of `call` but what only one of the operations looks at."""
    cdef int axes = cnp.PyArray_NDIM(x) - 3, axis, type_num = cnp.PyArray_TYPE(x)
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(x)
    expect(0 <= axes <= PA_MAX_BATCH_AXES and cnp.PyArray_SIZE(x) > 0, "wrong rank")
    fill_element(&call.element, type_num)
    expect(call.element != PA_ELEMENT_BOOL, "wrong dtype")
    call.batch_axes = axes
    for axis in range(axes):
        call.batch[axis] = shape[axis]
    call.heads, call.rows, call.cols = shape[axes], shape[axes + 1], shape[axes + 2]
    fill_view(&call.x, x, type_num, shape, axes, call.heads, call.rows, call.cols, False)
    fill_view(&call.out, out, type_num, shape, axes, call.heads, call.rows, call.cols, True)
    expect(cnp.PyArray_NDIM(index) == axes + 1 and cnp.PyArray_TYPE(index) == cnp.NPY_INT64
           and cnp.PyArray_ISBEHAVED_RO(index)
           and cnp.PyArray_DIM(index, axes) == call.rows, "wrong index")
    for axis in range(axes):
        expect(cnp.PyArray_DIM(index, axis) == shape[axis], "wrong leading extents of the index")
        call.index.batch[axis] = cnp.PyArray_STRIDE(index, axis)
    call.index.data = cnp.PyArray_BYTES(index)
    call.index.row = cnp.PyArray_STRIDE(index, axes)
    call.index.head = 0
    expect(cnp.PyArray_NDIM(table) == 2 and cnp.PyArray_ISNOTSWAPPED(table), "wrong table")
    check_index(index, cnp.PyArray_DIM(table, 0))
    call.table = cnp.PyArray_BYTES(table)
    call.table_row = cnp.PyArray_STRIDE(table, 0)
    call.table_col = cnp.PyArray_STRIDE(table, 1)
    # In place there is no way back from the middle: such a call is not interrupted.
    cdef bint in_place = cnp.PyArray_BYTES(x) == cnp.PyArray_BYTES(out)
    call.poll = <pa_poll> NULL if in_place else poll_of_this_thread()
    return 0


def rope(cnp.ndarray x not None, cnp.ndarray out not None, cnp.ndarray index not None,
         cnp.ndarray table not None, bint interleaved):
    """Turn the pairs of `x`, (*batch, heads, rows, cols), every extent at least 1.

    `index`, (*batch, rows), names rows of `table`, (n, 2 * pairs), and is aligned. See
    ``pa_positions_call`` in csrc/pyattn.h.
    """
    cdef pa_positions_call call
    cdef pa_status status
    fill_positions(&call, x, out, index, table)
    call.pairs = cnp.PyArray_DIM(table, 1) // 2
    call.interleaved = interleaved
    expect(cnp.PyArray_TYPE(table) == (cnp.NPY_FLOAT32 if cnp.PyArray_ITEMSIZE(x) == 2
                                       else cnp.NPY_FLOAT64)
           and cnp.PyArray_ISCARRAY_RO(table)
           and cnp.PyArray_DIM(table, 1) == 2 * call.pairs <= call.cols, "wrong table of angles")
    with nogil:
        status = pa_rope(&call)
    if status == PA_INTERRUPTED:
        reraise()


def add_positions(cnp.ndarray x not None, cnp.ndarray out not None, cnp.ndarray index not None,
                  cnp.ndarray table not None):
    """Add to each row of `x` the row of `table`, (n, cols), of the same type; as `rope`."""
    cdef pa_positions_call call
    cdef pa_status status
    fill_positions(&call, x, out, index, table)
    expect(cnp.PyArray_TYPE(table) == cnp.PyArray_TYPE(x)
           and cnp.PyArray_DIM(table, 1) == call.cols, "wrong table of positions")
    with nogil:
        status = pa_add_positions(&call)
    if status == PA_INTERRUPTED:
        reraise()


cdef int fill_plane(pa_plane *plane, cnp.ndarray a, int type_num, int64_t rows, int64_t cols,
                    bint written) except -1:
    """Describe `a`, (col // inner, row // inner, row % inner, col % inner)."""
    expect(a is not None, "no array")
    expect(cnp.PyArray_NDIM(a) == 4, "wrong number of axes")
    expect(cnp.PyArray_TYPE(a) == type_num and cnp.PyArray_ISNOTSWAPPED(a), "wrong dtype")
    expect(not written or cnp.PyArray_ISWRITEABLE(a), "output is read-only")
    expect(cnp.PyArray_DIM(a, 1) * cnp.PyArray_DIM(a, 2) == rows
           and cnp.PyArray_DIM(a, 0) * cnp.PyArray_DIM(a, 3) == cols
           and cnp.PyArray_SIZE(a) > 0, "wrong extents")
    plane.data = cnp.PyArray_BYTES(a)
    plane.row.inner, plane.col.inner = cnp.PyArray_DIM(a, 2), cnp.PyArray_DIM(a, 3)
    plane.row.outer, plane.col.outer = cnp.PyArray_STRIDE(a, 1), cnp.PyArray_STRIDE(a, 0)
    plane.row.stride, plane.col.stride = cnp.PyArray_STRIDE(a, 2), cnp.PyArray_STRIDE(a, 3)
    return 0


cdef int type_of(pa_type *kind, int type_num) except -1:
    expect(type_num == cnp.NPY_FLOAT32 or type_num == cnp.NPY_FLOAT64, "wrong dtype")
    kind[0] = PA_FLOAT32 if type_num == cnp.NPY_FLOAT32 else PA_FLOAT64
    return 0


def linear_pack(cnp.ndarray weight not None, cnp.ndarray bias not None,
                cnp.ndarray stored not None):
    """Pack `weight`, (outputs, inputs), both at least 1, and `bias` for `linear`.

    The type of the bias is that in which the layer computes; the type of `stored`, an empty array,
    is how weights are kept. Returns them as bytes, aligned to 64.
    """
    cdef pa_packing packing
    cdef pa_status status
    cdef size_t size
    cdef cnp.ndarray packed
    type_of(&packing.type, cnp.PyArray_TYPE(bias))
    fill_element(&packing.stored, cnp.PyArray_TYPE(stored))
    fill_element(&packing.element, cnp.PyArray_TYPE(weight))
    expect(packing.element != PA_ELEMENT_BOOL and cnp.PyArray_NDIM(weight) == 2
           and cnp.PyArray_ISNOTSWAPPED(weight) and cnp.PyArray_SIZE(weight) > 0, "wrong weight")
    expect(cnp.PyArray_TYPE(stored) == cnp.PyArray_TYPE(bias)
           or (cnp.PyArray_ITEMSIZE(stored) == 2 and packing.type == PA_FLOAT32), "wrong storage")
    packing.outputs, packing.inputs = cnp.PyArray_DIM(weight, 0), cnp.PyArray_DIM(weight, 1)
    packing.weight = cnp.PyArray_BYTES(weight)
    packing.weight_row = cnp.PyArray_STRIDE(weight, 0)
    packing.weight_col = cnp.PyArray_STRIDE(weight, 1)
    packing.bias = numbers(bias, cnp.PyArray_TYPE(bias), packing.outputs)
    status = PA_FOREIGN
    while status == PA_FOREIGN:  # another thread has just changed the instruction set
        size = pa_linear_bytes(&packing)
        if size == 0:
            raise MemoryError("Linear: no memory can hold these weights")
        packed = numpy.empty(size + 64, numpy.uint8)
        packed = packed[-packed.ctypes.data % 64:][:size]
        with nogil:
            status = pa_linear_pack(&packing, cnp.PyArray_BYTES(packed), size)
    if status == PA_NO_MEMORY:
        raise MemoryError("Linear: no memory to pack the weights")
    return packed


cdef int inspect_packed(cnp.ndarray packed, pa_packing *packing) except -1:
    expect(packed is not None, "no packed weights")
    expect(cnp.PyArray_TYPE(packed) == cnp.NPY_UINT8 and cnp.PyArray_ISCARRAY_RO(packed)
           and <size_t> cnp.PyArray_BYTES(packed) % 64 == 0, "wrong array of packed weights")
    expect(pa_linear_inspect(cnp.PyArray_BYTES(packed), cnp.PyArray_SIZE(packed), packing) >= 0,
           "no packed weights")
    return 0


def linear_unpack(cnp.ndarray packed not None, cnp.ndarray weight not None,
                  cnp.ndarray bias not None):
    """Fill `weight`, (outputs, inputs) as they are stored, and `bias`."""
    cdef pa_packing packing
    cdef pa_element element
    inspect_packed(packed, &packing)
    fill_element(&element, cnp.PyArray_TYPE(weight))
    expect(element == packing.stored and cnp.PyArray_ISCARRAY(weight)
           and cnp.PyArray_SIZE(weight) == packing.outputs * packing.inputs
           and cnp.PyArray_ISWRITEABLE(bias), "wrong place for weights")
    numbers(bias, cnp.NPY_FLOAT32 if packing.type == PA_FLOAT32 else cnp.NPY_FLOAT64,
            packing.outputs)
    with nogil:
        pa_linear_unpack(cnp.PyArray_BYTES(packed), cnp.PyArray_BYTES(weight),
                         cnp.PyArray_BYTES(bias))


def linear(cnp.ndarray x not None, list layers not None):
    """Run layers, each (packed, activation, out, gate or None, residual or None), over the rows of
    `x`. Activations are numbers, see ``pa_activation``; arrays have four axes, see `fill_plane`.

    Returns whether that was done: not if some weights are for another instruction set.
    """
    cdef pa_linear_call call
    cdef pa_packing packing
    cdef pa_layer *layer
    cdef pa_status status
    cdef int type_num = cnp.PyArray_TYPE(x)
    type_of(&call.type, type_num)
    expect(cnp.PyArray_NDIM(x) == 4 and 1 <= len(layers) <= PA_MAX_LAYERS, "wrong layers")
    call.rows = cnp.PyArray_DIM(x, 1) * cnp.PyArray_DIM(x, 2)
    call.inputs = cnp.PyArray_DIM(x, 0) * cnp.PyArray_DIM(x, 3)
    fill_plane(&call.x, x, type_num, call.rows, call.inputs, False)
    call.layer_count = 0
    for packed, activation, out, gate, residual in layers:
        layer = &call.layers[call.layer_count]
        inspect_packed(packed, &packing)
        expect(packing.type == call.type and packing.inputs == call.inputs, "wrong weights")
        expect(PA_IDENTITY <= activation <= PA_RELU, "unknown activation")
        layer.packed = cnp.PyArray_BYTES(packed)
        layer.activation = activation
        layer.gate.data = layer.residual.data = NULL
        fill_plane(&layer.out, out, type_num, call.rows, packing.outputs, True)
        if gate is not None:
            fill_plane(&layer.gate, gate, type_num, call.rows, packing.outputs, False)
        if residual is not None:
            fill_plane(&layer.residual, residual, type_num, call.rows, packing.outputs, False)
        call.layer_count += 1
    call.poll = poll_of_this_thread()
    with nogil:
        status = pa_linear(&call)
    if status == PA_INTERRUPTED:
        reraise()
    elif status == PA_NO_MEMORY:
        raise MemoryError(f"Linear: no memory for {call.scratch_bytes} bytes of scratch")
    return status == PA_OK


def norm(cnp.ndarray x not None, cnp.ndarray residual, cnp.ndarray out not None,
         cnp.ndarray weight, cnp.ndarray bias, double eps, bint centred):
    """Normalise the rows of `x`; arrays as for `linear`, with contiguous rows of one level."""
    cdef pa_norm_call call
    cdef pa_status status
    cdef int type_num = cnp.PyArray_TYPE(x)
    cdef cnp.ndarray a
    type_of(&call.type, type_num)
    expect(cnp.PyArray_NDIM(x) == 4, "wrong number of axes")
    call.rows, call.cols = cnp.PyArray_DIM(x, 1) * cnp.PyArray_DIM(x, 2), cnp.PyArray_DIM(x, 3)
    for a in (x, out) if residual is None else (x, out, residual):
        expect(cnp.PyArray_NDIM(a) == 4 and cnp.PyArray_DIM(a, 0) == 1
               and (call.cols == 1 or cnp.PyArray_STRIDE(a, 3) == cnp.PyArray_ITEMSIZE(a)),
               "row is not contiguous")
    fill_plane(&call.x, x, type_num, call.rows, call.cols, False)
    fill_plane(&call.out, out, type_num, call.rows, call.cols, True)
    call.residual.data = NULL
    if residual is not None:
        fill_plane(&call.residual, residual, type_num, call.rows, call.cols, False)
    call.weight = call.bias = NULL
    if weight is not None:
        call.weight = numbers(weight, type_num, call.cols)
    if bias is not None:
        call.bias = numbers(bias, type_num, call.cols)
    call.eps = eps
    call.centred = centred
    call.poll = poll_of_this_thread()
    with nogil:
        status = pa_norm(&call)
    if status == PA_INTERRUPTED:
        reraise()


def linear_attention(cnp.ndarray query not None, cnp.ndarray key not None,
                     cnp.ndarray value not None, cnp.ndarray out not None, cnp.ndarray state,
                     cnp.ndarray new_state, cnp.ndarray decay, cnp.ndarray beta,
                     cnp.ndarray key_lengths, int feature, bint causal, bint normalized,
                     double scale, int64_t chunk):
    """Run one call. Arrays are (*batch, heads, rows, cols), every extent at least 1; all of it:
    ``pa_linear_attention_call`` in csrc/pyattn.h. Features are numbers, see ``pa_feature``."""
    cdef pa_linear_attention_call call
    cdef int axes = cnp.PyArray_NDIM(query) - 3
    cdef int axis, type_num = cnp.PyArray_TYPE(query), key_type = cnp.PyArray_TYPE(key), real_type
    cdef const cnp.npy_intp *shape = cnp.PyArray_DIMS(query)
    cdef int64_t batch = 1, b, columns
    cdef pa_status status
    expect(0 <= axes <= PA_MAX_BATCH_AXES and cnp.PyArray_NDIM(key) == axes + 3
           and cnp.PyArray_NDIM(value) == axes + 3, "wrong rank")
    expect(cnp.PyArray_SIZE(query) > 0 and cnp.PyArray_SIZE(key) > 0
           and cnp.PyArray_SIZE(value) > 0, "empty extent")
    fill_element(&call.query_element, type_num)
    fill_element(&call.key_element, key_type)
    call.type = PA_FLOAT64 if type_num == cnp.NPY_FLOAT64 else PA_FLOAT32
    real_type = cnp.NPY_FLOAT64 if type_num == cnp.NPY_FLOAT64 else cnp.NPY_FLOAT32
    expect(type_num == real_type or cnp.PyArray_ITEMSIZE(query) == 2, "wrong dtype")
    expect(key_type == type_num
           or (type_num == cnp.NPY_FLOAT32 and cnp.PyArray_ITEMSIZE(key) == 2),
           "wrong dtypes together")
    call.batch_axes = axes
    for axis in range(axes):
        call.batch[axis] = shape[axis]
        batch *= shape[axis]
    call.heads, call.queries, call.d = shape[axes], shape[axes + 1], shape[axes + 2]
    call.kv_heads, call.keys = cnp.PyArray_DIM(key, axes), cnp.PyArray_DIM(key, axes + 1)
    call.dv = cnp.PyArray_DIM(value, axes + 2)
    expect(call.heads % call.kv_heads == 0, "heads cannot be grouped")
    expect(not causal or call.queries == call.keys, "as many queries as keys")
    expect(causal or (decay is None and beta is None), "gates without an order")
    expect(not normalized or beta is None, "a delta rule that is normalised")
    expect(1 <= chunk <= 64, "wrong chunk")
    expect(PA_FEATURE_IDENTITY <= feature <= PA_FEATURE_RELU, "unknown feature map")
    fill_view(&call.query, query, type_num, shape, axes, call.heads, call.queries, call.d, False)
    fill_view(&call.key, key, key_type, shape, axes, call.kv_heads, call.keys, call.d, False)
    fill_view(&call.value, value, key_type, shape, axes, call.kv_heads, call.keys, call.dv, False)
    fill_view(&call.out, out, type_num, shape, axes, call.heads, call.queries, call.dv, True)
    call.decay.data = call.beta.data = call.state.data = call.new_state.data = NULL
    call.decay_cols = 1
    if decay is not None:
        expect(cnp.PyArray_NDIM(decay) == axes + 3, "wrong rank of decay")
        call.decay_cols = cnp.PyArray_DIM(decay, axes + 2)
        expect(call.decay_cols == 1 or call.decay_cols == call.d, "wrong decay")
        fill_view(&call.decay, decay, real_type, shape, axes, call.kv_heads, call.keys,
                  call.decay_cols, False)
    if beta is not None:
        fill_view(&call.beta, beta, real_type, shape, axes, call.kv_heads, call.keys, 1, False)
    columns = call.dv + normalized
    if state is not None:
        fill_view(&call.state, state, real_type, shape, axes, call.kv_heads, call.d, columns, False)
    if new_state is not None:
        fill_view(&call.new_state, new_state, real_type, shape, axes, call.kv_heads, call.d,
                  columns, True)
    call.key_lengths = NULL
    if key_lengths is not None:
        call.key_lengths = <int64_t *> numbers(key_lengths, cnp.NPY_INT64, batch)
        for b in range(batch):
            expect(0 <= call.key_lengths[b] <= call.keys, "key length out of range")
    call.feature = <pa_feature> feature
    call.causal = causal
    call.normalized = normalized
    call.scale = scale
    call.chunk = chunk
    call.poll = poll_of_this_thread()
    with nogil:
        status = pa_linear_attention(&call)
    if status == PA_INTERRUPTED:
        reraise()
    elif status == PA_NO_MEMORY:
        size = f"{call.scratch_bytes} bytes of scratch"
        if call.scratch_bytes == SIZE_MAX:
            size = f"states of {call.d} x {call.dv}, {call.heads} query heads"
        raise MemoryError(f"linear_attention: no memory for {size}")


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


def probe_copy(unsigned char[::1] to not None, const unsigned char[::1] data not None):
    """Copy `data` to `to`, past the caches, on all threads."""
    cdef size_t size = <size_t> data.shape[0]
    cdef int failed
    expect(size > 0 and to.shape[0] == data.shape[0], "sizes differ")
    with nogil:
        failed = pa_probe_copy(<char *> &to[0], <const char *> &data[0], size)
    if failed:
        raise MemoryError("no memory for the probe")
