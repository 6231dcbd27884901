/* Where tags stand in a text, as relay/core/markup.py has it, which is the reference.
 *
 * Memory: eight octets for each run of tags, and each run takes two of the text at least. Runs are told apart by
 * Python's dictionaries, whose hashes nobody outside can guess; in front of them the latest run of a slot is compared,
 * as a table repeats a few. Nothing recurses.
 */
#include "native.h"

#define SLOTS 256
#define END 8 /* octets of a run's end by which its slot is told */

typedef struct {
    uint32_t start, end;
} Run;

/* What is told of a text while it is gone through. */
typedef struct {
    const char *text;
    size_t size, count, room;
    Run *runs;
    PyObject *different, *order, *numbers;
    struct {
        Run run;
        PyObject *number; /* borrowed of ``numbers`` */
    } latest[SLOTS];
} Cut;

static int is_blank(char octet)
{
    return octet == ' ' || (octet >= '\t' && octet <= '\r');
}

static int is_of_word(uint8_t octet)
{
    uint8_t small = octet | 0x20;
    return octet >= 0x80 || octet == '_' || (octet >= '0' && octet <= '9') || (small >= 'a' && small <= 'z');
}

/* Whether the tag that begins there is a style's or title's: it stands alone. */
static int is_alone(const char *text, size_t size, size_t at)
{
    static const char *names[] = {"style", "title"};
    at += at + 1 < size && text[at + 1] == '/' ? 2 : 1;
    for (int number = 0; number < 2 && size - at >= 5; number++) {
        int same = 0;
        while (same < 5 && (text[at + (size_t)same] | 0x20) == names[number][same])
            same++;
        if (same == 5)
            return size - at == 5 || !is_of_word((uint8_t)text[at + 5]);
    }
    return 0;
}

/* Where a tag that begins there ends; 0: nowhere. */
static size_t tag_end(const char *text, size_t size, size_t at)
{
    const char *end = memchr(text + at, '>', size - at);
    return end ? (size_t)(end - text) + 1 : 0;
}

/* Where the run of tags that begins there ends; 0: its first has no end. */
static size_t run_end(const char *text, size_t size, size_t at)
{
    size_t end = tag_end(text, size, at);
    while (end && !is_alone(text, size, at)) {
        for (at = end; at < size && is_blank(text[at]);)
            at++;
        size_t next = at < size && text[at] == '<' && !is_alone(text, size, at) ? tag_end(text, size, at) : 0;
        if (!next)
            break;
        end = next;
    }
    return end;
}

/* The number of a run that was not the latest of its slot, a new one where it is new; borrowed, NULL with an exception. */
static PyObject *number_of(Cut *cut, Run run)
{
    PyObject *text = PyUnicode_DecodeUTF8(cut->text + run.start, (Py_ssize_t)(run.end - run.start), NULL), *number = NULL;
    if (text != NULL && (number = PyDict_GetItemWithError(cut->numbers, text)) == NULL && !PyErr_Occurred()) {
        PyObject *next = PyLong_FromSsize_t(PyList_Size(cut->different));
        if (next != NULL && PyDict_SetItem(cut->numbers, text, next) == 0 && PyList_Append(cut->different, text) == 0)
            number = next; /* held by the dictionary */
        Py_XDECREF(next);
    }
    Py_XDECREF(text);
    return number;
}

static int note(Cut *cut, Run run)
{
    if (cut->count == cut->room) {
        size_t room = cut->room ? cut->room * 2 : 256;
        Run *more = PyMem_Realloc(cut->runs, room * sizeof(Run));
        if (more == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        cut->runs = more;
        cut->room = room;
    }
    cut->runs[cut->count++] = run;
    uint32_t size = run.end - run.start;
    uint64_t hash = size;
    for (uint32_t octet = 1; octet <= END && octet <= size; octet++)
        hash = hash * 31 + (uint8_t)cut->text[run.end - octet];
    uint32_t slot = (uint32_t)(hash * 0x9e3779b97f4a7c15u >> 56);
    Run known = cut->latest[slot].run;
    if (known.end - known.start != size || memcmp(cut->text + known.start, cut->text + run.start, size) != 0) {
        PyObject *number = number_of(cut, run);
        if (number == NULL)
            return -1;
        cut->latest[slot].run = run;
        cut->latest[slot].number = number;
    }
    return PyList_Append(cut->order, cut->latest[slot].number);
}

/* 1: the text is cut; 0: a tag has no end; -1 with an exception set. */
static int cut_all(Cut *cut)
{
    for (size_t place = 0; place < cut->size;) {
        const char *found = memchr(cut->text + place, '<', cut->size - place);
        if (found == NULL)
            break;
        size_t start = (size_t)(found - cut->text);
        place = run_end(cut->text, cut->size, start);
        if (place == 0)
            return 0;
        if (note(cut, (Run){(uint32_t)start, (uint32_t)place}) < 0)
            return -1;
    }
    return 1;
}

PyObject *markup_cut(PyObject *self, PyObject *source)
{
    Cut cut = {0};
    Py_ssize_t size;
    PyObject *result = NULL;
    (void)self;
    cut.text = PyUnicode_AsUTF8AndSize(source, &size);
    if (cut.text == NULL)
        return NULL;
    if (size > INT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a text of 2 GB or more");
        return NULL;
    }
    cut.size = (size_t)size;
    cut.different = PyList_New(0);
    cut.order = PyList_New(0);
    cut.numbers = PyDict_New();
    int done = cut.different && cut.order && cut.numbers ? cut_all(&cut) : -1;
    if (done > 0)
        result = Py_BuildValue("(OOy#)", cut.different, cut.order, cut.count ? (const char *)cut.runs : "",
                               (Py_ssize_t)(cut.count * sizeof(Run)));
    else if (done == 0)
        result = Py_NewRef(Py_None);
    PyMem_Free(cut.runs);
    Py_XDECREF(cut.different);
    Py_XDECREF(cut.order);
    Py_XDECREF(cut.numbers);
    return result;
}

static int refused(void)
{
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, "marks, or places, that are not those of the text");
    return -1;
}

/* The mark of the run by this number in the order, as octets: no longer than the run; NULL with an exception set. */
static const char *mark_of(PyObject *order, PyObject *marks, Py_ssize_t place, Py_ssize_t most, Py_ssize_t *size)
{
    PyObject *item = PyList_GetItem(order, place);
    Py_ssize_t number = item ? PyLong_AsSsize_t(item) : -1;
    PyObject *mark = number >= 0 ? PyList_GetItem(marks, number) : NULL;
    const char *octets = mark ? PyUnicode_AsUTF8AndSize(mark, size) : NULL;
    if (octets == NULL || *size > most)
        return refused() < 0 ? NULL : octets;
    return octets;
}

/* Write the text with marks in the place of runs; how much that is, or -1 with an exception set. */
static Py_ssize_t write_all(char *out, const char *text, size_t size, const char *places, size_t count, PyObject *lists[3])
{
    char *end = out;
    size_t last = 0;
    Py_ssize_t dropping = 0, dropped = PyList_Size(lists[2]), next = -1;
    int is_dropped = 0;
    for (size_t number = 0; number <= count; number++) {
        Run run = {(uint32_t)size, (uint32_t)size};
        if (number < count)
            memcpy(&run, places + number * sizeof run, sizeof run);
        if (run.start < last || run.end < run.start || run.end > size)
            return refused();
        if (!is_dropped) {
            memcpy(end, text + last, run.start - last);
            end += run.start - last;
        }
        last = run.end;
        if (number == count)
            break;
        Py_ssize_t length;
        const char *mark = mark_of(lists[0], lists[1], (Py_ssize_t)number, (Py_ssize_t)(run.end - run.start), &length);
        if (mark == NULL)
            return -1;
        memcpy(end, mark, (size_t)length);
        end += length;
        if (dropping < dropped && next < (Py_ssize_t)number) {
            next = PyLong_AsSsize_t(PyList_GetItem(lists[2], dropping++));
            if (next < (Py_ssize_t)number)
                return refused();
        }
        is_dropped = next == (Py_ssize_t)number;
    }
    return end - out;
}

PyObject *markup_joined(PyObject *self, PyObject *args)
{
    PyObject *source, *lists[3], *result = NULL;
    const char *places;
    Py_ssize_t octets, size;
    (void)self;
    if (!PyArg_ParseTuple(args, "UO!y#O!O!", &source, &PyList_Type, &lists[0], &places, &octets, &PyList_Type, &lists[1],
                          &PyList_Type, &lists[2]))
        return NULL;
    const char *text = PyUnicode_AsUTF8AndSize(source, &size);
    if (text == NULL)
        return NULL;
    if (octets % (Py_ssize_t)sizeof(Run) || octets / (Py_ssize_t)sizeof(Run) != PyList_Size(lists[0])) {
        refused();
        return NULL;
    }
    char *out = PyMem_Malloc((size_t)size + 1);
    if (out == NULL)
        return PyErr_NoMemory();
    Py_ssize_t written = write_all(out, text, (size_t)size, places, (size_t)octets / sizeof(Run), lists);
    if (written >= 0)
        result = PyUnicode_DecodeUTF8(out, written, NULL);
    PyMem_Free(out);
    return result;
}
