/* What is in the octets of a message, all of it in one pass; and the module.
 *
 * Nothing is allocated and nothing recurses; no octet before the first or behind the last is looked at.
 */
#define _GNU_SOURCE /* memrchr */
#include "native.h"

#define VERSION 3
#define NEAR 16384 /* octets that stay in the processor's nearest cache for the second look */

/* As relay/core/octets.py has them. */
enum { NUL = 1, EIGHT_BIT = 2, BARE = 4, DOT = 8, LONG = 16 };

/* Octets looked at together; a comparison gives 0xff where it holds. */
typedef uint8_t Block __attribute__((vector_size(16)));
typedef uint64_t Halves __attribute__((vector_size(16)));
#define BLOCK ((ptrdiff_t)sizeof(Block))

static inline Block block_at(const uint8_t *octets)
{
    Block block;
    memcpy(&block, octets, sizeof block);
    return block;
}

static inline int is_any(Block block)
{
    Halves halves = (Halves)block;
    return (halves[0] | halves[1]) != 0;
}

/* What was seen so far: of each kind something that is not 0 once it was. */
typedef struct {
    Block all, nul, bare, dot;
} Seen;

/* Look at the octets of a block, each with the one before it. */
static inline void look(Seen *seen, Block here, Block before)
{
    seen->all |= here;
    seen->nul |= (Block)(here == 0);
    seen->bare |= (Block)(here == '\n') ^ (Block)(before == '\r');
    seen->dot |= (Block)(here == '.') & (Block)(before == '\n');
}

/* Look at octets; the one before the first may be looked at too. */
static void look_at(Seen *seen, const uint8_t *octets, const uint8_t *end)
{
    Seen now = *seen;
    for (; end - octets >= BLOCK; octets += BLOCK)
        look(&now, block_at(octets), block_at(octets - 1));
    for (; octets < end; octets++) { /* fewer than a block: one octet in a block that says nothing else */
        Block here = {0}, before = {0};
        here |= (uint8_t)1;
        here[0] = octets[0];
        before[0] = octets[-1];
        look(&now, here, before);
    }
    *seen = now;
}

/* Go from line end to line end, in steps as long as a line may be, while more than that lies before ``stop``; where the
 * last line begins that was come to, or NULL where one is longer. */
static const uint8_t *hop(const uint8_t *line, const uint8_t *stop, const uint8_t *end, size_t longest)
{
    while (line != NULL && stop - line > (ptrdiff_t)longest) {
        size_t reach = (size_t)(end - line) < longest + 2 ? (size_t)(end - line) : longest + 2;
        const uint8_t *last = memrchr(line, '\n', reach);
        line = last == NULL ? NULL : last + 1;
    }
    return line;
}

static int traits(const uint8_t *octets, size_t size, size_t longest)
{
    Seen seen = {{0}, {0}, {0}, {0}};
    const uint8_t *end = octets + size, *line = octets;
    if (size == 0)
        return 0;
    int bare = octets[0] == '\n' || end[-1] == '\r';
    int nul = octets[0] == 0, eight_bit = octets[0] & 0x80;
    for (const uint8_t *at = octets + 1, *stop; at < end; at = stop) {
        stop = end - at > NEAR ? at + NEAR : end;
        look_at(&seen, at, stop);
        line = hop(line, stop, end, longest);
    }
    line = hop(line, end, end, longest);
    for (size_t place = 0; place < sizeof(Block); place++)
        eight_bit |= seen.all[place] & 0x80;
    return (nul || is_any(seen.nul) ? NUL : 0) | (eight_bit ? EIGHT_BIT : 0) | (bare || is_any(seen.bare) ? BARE : 0) |
           (is_any(seen.dot) ? DOT : 0) | (line == NULL ? LONG : 0);
}

/* Where CRLF, dot, CRLF first stand from ``start`` on; -1: nowhere. */
static Py_ssize_t end_of_data(const uint8_t *octets, size_t size, size_t start)
{
    if (size < 5 || start > size - 5)
        return -1;
    const uint8_t *at = octets + start, *last = octets + size - 5; /* five octets from each place up to this one */
    while (at <= last) {
        ptrdiff_t places = last - at >= 2 * BLOCK ? BLOCK : 1; /* a block three places on is there */
        if (places == 1 || is_any((Block)(block_at(at + 2) == '.') & (Block)(block_at(at) == '\r')))
            for (ptrdiff_t place = 0; place < places; place++)
                if (memcmp(at + place, "\r\n.\r\n", 5) == 0)
                    return at + place - octets;
        at += places;
    }
    return -1;
}

/* Whether a literal stands in the octets: looked for by its first and last, a block at a time. */
static int holds(const uint8_t *octets, size_t size, const uint8_t *literal, size_t length)
{
    if (length == 0 || length > size)
        return length == 0;
    const uint8_t *at = octets, *last = octets + (size - length);
    Block first = {0}, end = {0};
    first |= literal[0];
    end |= literal[length - 1];
    for (; last - at >= BLOCK; at += BLOCK)
        if (is_any((Block)(block_at(at) == first) & (Block)(block_at(at + length - 1) == end)))
            for (ptrdiff_t place = 0; place < BLOCK; place++)
                if (memcmp(at + place, literal, length) == 0)
                    return 1;
    for (; at <= last; at++)
        if (memcmp(at, literal, length) == 0)
            return 1;
    return 0;
}

static PyObject *octets_holds(PyObject *self, PyObject *arguments)
{
    PyObject *text, *some;
    Py_buffer content, literal;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "OO", &text, &some))
        return NULL;
    if (PyUnicode_Check(text) != PyUnicode_Check(some)) {
        PyErr_SetString(PyExc_TypeError, "text in octets, or octets in text");
        return NULL;
    }
    if (PyUnicode_Check(text) &&
        (PyUnicode_AsUTF8AndSize(text, NULL) == NULL || PyUnicode_AsUTF8AndSize(some, NULL) == NULL)) {
        PyErr_Clear(); /* half of a pair of surrogates */
        int is_there = PyUnicode_Contains(text, some);
        return is_there < 0 ? NULL : PyBool_FromLong(is_there);
    }
    if (!PyArg_ParseTuple(arguments, "s*s*", &content, &literal))
        return NULL;
    int found = holds(content.buf, (size_t)content.len, literal.buf, (size_t)literal.len);
    PyBuffer_Release(&content);
    PyBuffer_Release(&literal);
    return PyBool_FromLong(found);
}

static PyObject *octets_traits(PyObject *self, PyObject *arguments)
{
    Py_buffer content;
    Py_ssize_t longest;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*n", &content, &longest))
        return NULL;
    int found = longest < 0 ? -1 : traits(content.buf, (size_t)content.len, (size_t)longest);
    PyBuffer_Release(&content);
    if (found < 0) {
        PyErr_SetString(PyExc_ValueError, "no line has fewer than no octets");
        return NULL;
    }
    return PyLong_FromLong(found);
}

static PyObject *octets_end_of_data(PyObject *self, PyObject *arguments)
{
    Py_buffer content;
    Py_ssize_t start;
    (void)self;
    if (!PyArg_ParseTuple(arguments, "y*n", &content, &start))
        return NULL;
    Py_ssize_t place = end_of_data(content.buf, (size_t)content.len, start < 0 ? 0 : (size_t)start);
    PyBuffer_Release(&content);
    return PyLong_FromSsize_t(place);
}

static PyMethodDef methods[] = {
    {"traits", octets_traits, METH_VARARGS, "What is in the content, and whether a line is longer than so many octets."},
    {"end_of_data", octets_end_of_data, METH_VARARGS, "Where CRLF, dot, CRLF first stand from a place on, or -1."},
    {"holds", octets_holds, METH_VARARGS, "Whether a literal stands in the content, both octets or both text."},
    {"cut", markup_cut, METH_O, "The different runs of tags, of each run which it is, where they stand."},
    {"joined", markup_joined, METH_VARARGS, "The text with marks in the place of runs of tags."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "relay.core._octets",
    .m_doc = "What is in the octets of a message.",
    .m_methods = methods,
    .m_slots = slots,
};

__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__octets(void)
{
    return PyModuleDef_Init(&definition);
}
