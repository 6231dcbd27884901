/* Lists of hits: what stands apart from what, as relay/scan/find.py has it, which is the reference. */
#include "native.h"

#include <stdlib.h>

#define AT_START 2 /* of a hit */
#define AT_END 3

/* Where a hit stands, and its number in the list it is from. */
typedef struct {
    uint32_t start, end, number;
} Span;

/* A list of hits and where they stand. */
typedef struct {
    PyObject *list;
    Py_ssize_t count;
    Span *spans;
} Hits;

static int fail(const char *what)
{
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, what);
    return -1;
}

/* A place in a text of this size; -1 with an exception set where it is none. */
static Py_ssize_t place_in(PyObject *hit, Py_ssize_t which, Py_ssize_t size)
{
    if (!PyTuple_Check(hit) || PyTuple_Size(hit) <= which)
        return fail("a hit that is none");
    Py_ssize_t place = PyLong_AsSsize_t(PyTuple_GetItem(hit, which));
    return place < 0 || place > size ? fail("a hit beyond the text") : place;
}

/* Read where hits stand; -1 with an exception set. */
static int read_spans(Hits *hits, Py_ssize_t size)
{
    hits->count = PyList_Size(hits->list);
    hits->spans = PyMem_Malloc(((size_t)hits->count + 1) * sizeof(Span));
    if (hits->spans == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t number = 0; number < hits->count; number++) {
        PyObject *hit = PyList_GetItem(hits->list, number);
        Py_ssize_t start = place_in(hit, AT_START, size), end = start < 0 ? -1 : place_in(hit, AT_END, size);
        if (start < 0 || end < start)
            return fail("a hit that ends before it begins");
        hits->spans[number] = (Span){(uint32_t)start, (uint32_t)end, (uint32_t)number};
    }
    return 0;
}

/* Keep those that stand where nothing is spoken for yet; each speaks for its place. */
static void keep_first_come(Hits *hits, uint8_t *marks)
{
    Py_ssize_t kept = 0;
    for (Py_ssize_t number = 0; number < hits->count; number++) {
        Span span = hits->spans[number];
        if (span.start < span.end && memchr(marks + span.start, 1, span.end - span.start) != NULL)
            continue;
        memset(marks + span.start, 1, span.end - span.start);
        hits->spans[kept++] = span;
    }
    hits->count = kept;
}

/* Keep those that share no character with what the marks speak for. */
static void keep_apart(Hits *hits, const uint8_t *marks)
{
    Py_ssize_t kept = 0;
    for (Py_ssize_t number = 0; number < hits->count; number++) {
        Span span = hits->spans[number];
        if (memchr(marks + span.start, 1, span.end - span.start) == NULL)
            hits->spans[kept++] = span;
    }
    hits->count = kept;
}

static int by_place(const void *one, const void *other)
{
    const Span *first = one, *second = other;
    if (first->start != second->start)
        return first->start < second->start ? -1 : 1;
    return first->number < second->number ? -1 : first->number > second->number;
}

/* Both in one list, by place; of two that begin together one of the first stands before. */
static PyObject *merged(const Hits *first, const Hits *second)
{
    PyObject *result = PyList_New(first->count + second->count);
    for (Py_ssize_t one = 0, other = 0; result != NULL && one + other < first->count + second->count;) {
        int is_first = other == second->count ||
                       (one < first->count && first->spans[one].start <= second->spans[other].start);
        const Hits *from = is_first ? first : second;
        Py_ssize_t at = one + other;
        const Span *span = is_first ? &first->spans[one++] : &second->spans[other++];
        PyList_SetItem(result, at, Py_NewRef(PyList_GetItem(from->list, span->number)));
    }
    return result;
}

PyObject *hits_apart(PyObject *module, PyObject *args)
{
    Hits first = {0}, second = {0};
    Py_ssize_t size;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!n", &PyList_Type, &first.list, &PyList_Type, &second.list, &size))
        return NULL;
    if (size < 0 || size > LARGEST_TEXT) {
        fail("a text of no size");
        return NULL;
    }
    PyObject *result = NULL;
    uint8_t *marks = PyMem_Calloc((size_t)size + 1, 1);
    if (marks == NULL)
        PyErr_NoMemory();
    else if (read_spans(&first, size) == 0 && read_spans(&second, size) == 0) {
        keep_first_come(&first, marks);
        keep_apart(&second, marks);
        qsort(first.spans, (size_t)first.count, sizeof(Span), by_place);
        result = merged(&first, &second);
    }
    PyMem_Free(marks);
    PyMem_Free(first.spans);
    PyMem_Free(second.spans);
    return result;
}
