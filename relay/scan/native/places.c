/* Places in a text that its characters tell, words apart: runs of digits and what joins them. */
#include "native.h"

#define LARGEST_GAP 3   /* characters between groups of digits */
#define LARGEST_GROUP 3 /* digits of a group in the middle */
#define STUCK 3         /* letters before a digit */
#define GLUED 2         /* letters behind a digit */

enum { OTHER, DIGIT, LETTER, JOINT, CLOSED };

typedef struct {
    PyObject_HEAD
    uint8_t classes[256];
    PyObject *middle, *glued, *stuck, *coded; /* what is to be tried there; see relay/scan/shapes.py */
    int begins;                               /* whether something begins with digits that letters follow */
} Anchors;

typedef struct {
    const Anchors *anchors;
    const uint8_t *data, *lower;
    Py_ssize_t size;
    PyObject *found;
} Search;

static int class_at(const Search *search, Py_ssize_t place)
{
    return place >= 0 && place < search->size ? search->anchors->classes[search->data[place]] : OTHER;
}

/* Note that something is to be tried at a place; -1 with an exception set. */
static int note(const Search *search, Py_ssize_t place, PyObject *what)
{
    PyObject *pair = Py_BuildValue("(nO)", place, what);
    int result = pair == NULL ? -1 : PyList_Append(search->found, pair);
    Py_XDECREF(pair);
    return result;
}

/* Note what a table has for some characters in lower case, if the text has so many. */
static int note_known(const Search *search, PyObject *table, Py_ssize_t start, Py_ssize_t size, Py_ssize_t place)
{
    if (start < 0 || start + size > search->size)
        return 0;
    PyObject *key = PyBytes_FromStringAndSize((const char *)search->lower + start, size);
    if (key == NULL)
        return -1;
    PyObject *what = PyDict_GetItemWithError(table, key);
    Py_DECREF(key);
    if (what == NULL)
        return PyErr_Occurred() ? -1 : 0;
    return note(search, place, what);
}

/* How many digits the group between two others has, where the first ends; 0: there is none. */
static Py_ssize_t middle_group(const Search *search, Py_ssize_t end)
{
    Py_ssize_t start = end, stop, next;
    while (start - end < LARGEST_GAP && class_at(search, start) >= JOINT)
        start++;
    for (stop = start; stop - start <= LARGEST_GROUP && class_at(search, stop) == DIGIT;)
        stop++;
    for (next = stop; next - stop < LARGEST_GAP && class_at(search, next) == JOINT;)
        next++;
    int is_one = start > end && stop > start && stop - start <= LARGEST_GROUP && next > stop;
    return is_one && class_at(search, next) == DIGIT ? stop - start : 0;
}

/* Look at a run of digits; -1 with an exception set. */
static int visit_run(const Search *search, Py_ssize_t first, Py_ssize_t end)
{
    const Anchors *anchors = search->anchors;
    if (class_at(search, end) == LETTER) {
        if (note_known(search, anchors->glued, end, GLUED, end) < 0 ||
            (anchors->begins && note(search, end - 1, Py_None) < 0))
            return -1;
    } else {
        Py_ssize_t size = middle_group(search, end);
        PyObject *probes =
            size ? PyTuple_GetItem(PyTuple_GetItem(anchors->middle, size), search->data[end]) : NULL;
        if (probes != NULL && PyTuple_Size(probes) && note(search, end - 1, probes) < 0)
            return -1;
    }
    if (class_at(search, first - 1) != LETTER)
        return 0;
    int next = class_at(search, first + 1);
    if ((next == DIGIT || next == LETTER) && class_at(search, first + 2) == JOINT &&
        note(search, first - 1, anchors->coded) < 0)
        return -1;
    return note_known(search, anchors->stuck, first - STUCK, STUCK, first - STUCK);
}

static PyObject *anchors_digits(Anchors *self, PyObject *args)
{
    Search search = {.anchors = self};
    const char *data, *lower;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "y#y#", &data, &search.size, &lower, &size))
        return NULL;
    if (size != search.size) {
        PyErr_SetString(PyExc_ValueError, "a text and another in lower case");
        return NULL;
    }
    search.data = (const uint8_t *)data;
    search.lower = (const uint8_t *)lower;
    search.found = PyList_New(0);
    for (Py_ssize_t place = 0; search.found != NULL && place < size; place++) {
        if (self->classes[search.data[place]] != DIGIT)
            continue;
        Py_ssize_t first = place;
        while (class_at(&search, place) == DIGIT)
            place++;
        if (visit_run(&search, first, place) < 0)
            Py_CLEAR(search.found);
    }
    return search.found;
}

/* Whether it is a tuple for each size of a group, each with a tuple for each octet. */
static int is_middle(PyObject *middle)
{
    if (PyTuple_Size(middle) != LARGEST_GROUP + 1)
        return 0;
    for (Py_ssize_t size = 0; size <= LARGEST_GROUP; size++) {
        PyObject *joints = PyTuple_GetItem(middle, size);
        if (!PyTuple_Check(joints) || PyTuple_Size(joints) != 256)
            return 0;
        for (Py_ssize_t octet = 0; octet < 256; octet++)
            if (!PyTuple_Check(PyTuple_GetItem(joints, octet)))
                return 0;
    }
    return 1;
}

static PyObject *anchors_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"outline", "middle", "glued", "stuck", "coded", "begins", NULL};
    const char *outline;
    Py_ssize_t size;
    PyObject *middle, *glued, *stuck, *coded;
    int begins;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#O!O!O!O!p", names, &outline, &size, &PyTuple_Type, &middle,
                                     &PyDict_Type, &glued, &PyDict_Type, &stuck, &PyTuple_Type, &coded, &begins))
        return NULL;
    if (size != 256 || !is_middle(middle)) {
        PyErr_SetString(PyExc_ValueError, "an outline or a table of groups that is none");
        return NULL;
    }
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Anchors *self = (Anchors *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    for (int octet = 0; octet < 256; octet++) {
        char drawn = outline[octet];
        self->classes[octet] =
            drawn == '9' ? DIGIT : drawn == 'a' ? LETTER : drawn == '-' ? JOINT : drawn == ')' ? CLOSED : OTHER;
    }
    self->middle = Py_NewRef(middle);
    self->glued = Py_NewRef(glued);
    self->stuck = Py_NewRef(stuck);
    self->coded = Py_NewRef(coded);
    self->begins = begins;
    return (PyObject *)self;
}

static void anchors_dealloc(Anchors *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    Py_XDECREF(self->middle);
    Py_XDECREF(self->glued);
    Py_XDECREF(self->stuck);
    Py_XDECREF(self->coded);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef anchors_methods[] = {
    {"digits", (PyCFunction)anchors_digits, METH_VARARGS, "Places at runs of digits and what is to be tried there."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot anchors_slots[] = {
    {Py_tp_doc, "What runs of digits anchor."},
    {Py_tp_new, anchors_new},
    {Py_tp_dealloc, anchors_dealloc},
    {Py_tp_methods, anchors_methods},
    {0, NULL},
};

PyType_Spec anchors_spec = {
    .name = "relay.scan._native.Anchors",
    .basicsize = sizeof(Anchors),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = anchors_slots,
};
