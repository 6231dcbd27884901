/* What a list of hits comes to: what a verdict weighs, as relay/scan/weigh.py has it, and what it lists, as
 * relay/scan/judge.py has it, which are the references. */
#include "native.h"

#include <stdlib.h>

enum { HIT_KIND, HIT_GROUP, HIT_START, HIT_WEIGHT = 4, HIT_NORM, HIT_SENSITIVE, PARTS_OF_HIT };

/* A term: where it stands, its number in the order in which it came, and both as they are told. */
typedef struct {
    Py_ssize_t start, number;
    PyObject *place, *weight;
} Said;

/* Hits that are weighed. All but ``last`` is borrowed from the hits and the table, which nothing here changes. */
typedef struct {
    PyObject *hits, *identifiers, *last;
    Said *said;
    Py_ssize_t count, distance;
} Weighing;

/* Whether these are hits; sets an exception where not. */
static int are_hits(PyObject *hits)
{
    for (Py_ssize_t number = 0; number < PyTuple_Size(hits); number++) {
        PyObject *hit = PyTuple_GetItem(hits, number);
        if (!PyTuple_Check(hit) || PyTuple_Size(hit) != PARTS_OF_HIT || !PyUnicode_Check(PyTuple_GetItem(hit, HIT_KIND)) ||
            !PyBytes_Check(PyTuple_GetItem(hit, HIT_NORM)) || !PyUnicode_Check(PyTuple_GetItem(hit, HIT_SENSITIVE))) {
            PyErr_SetString(PyExc_ValueError, "a hit that is none");
            return 0;
        }
    }
    return 1;
}

/* Add a term unless it says again what was said less than the distance before; -1 with an exception set. */
static int say(Weighing *all, PyObject *hit, PyObject *weight)
{
    PyObject *norm = PyTuple_GetItem(hit, HIT_NORM), *place = PyTuple_GetItem(hit, HIT_START);
    Py_ssize_t start = PyLong_AsSsize_t(place);
    if (start == -1 && PyErr_Occurred())
        return -1;
    PyObject *before = PyDict_GetItemWithError(all->last, norm);
    if (before == NULL && PyErr_Occurred())
        return -1;
    if (before != NULL && start - PyLong_AsSsize_t(before) <= all->distance)
        return 0;
    all->said[all->count] = (Said){start, all->count, place, weight};
    all->count++;
    return PyDict_SetItem(all->last, norm, place);
}

static int take_identifiers(const Weighing *all, PyObject *group)
{
    for (Py_ssize_t number = 0; number < PyTuple_Size(all->hits); number++) {
        PyObject *hit = PyTuple_GetItem(all->hits, number);
        if (PyTuple_GetItem(hit, HIT_GROUP) != group)
            continue;
        double weight = PyFloat_AsDouble(PyTuple_GetItem(hit, HIT_WEIGHT));
        if ((weight == -1 && PyErr_Occurred()) || (weight > 0 && PyList_Append(all->identifiers, hit) < 0))
            return -1;
    }
    return 0;
}

/* Take the terms, then what identifiers tell of health by themselves. */
static int take_said(Weighing *all, PyObject *group, PyObject *implied)
{
    for (Py_ssize_t number = 0; number < PyTuple_Size(all->hits); number++) {
        PyObject *hit = PyTuple_GetItem(all->hits, number);
        if (PyTuple_GetItem(hit, HIT_GROUP) == group && say(all, hit, PyTuple_GetItem(hit, HIT_WEIGHT)) < 0)
            return -1;
    }
    for (Py_ssize_t number = 0; number < PyList_Size(all->identifiers); number++) {
        PyObject *hit = PyList_GetItem(all->identifiers, number);
        PyObject *weight = PyDict_GetItemWithError(implied, PyTuple_GetItem(hit, HIT_KIND));
        if ((weight == NULL && PyErr_Occurred()) || (weight != NULL && say(all, hit, weight) < 0))
            return -1;
    }
    return 0;
}

static int by_place(const void *one, const void *other)
{
    const Said *first = one, *second = other;
    if (first->start != second->start)
        return first->start < second->start ? -1 : 1;
    return first->number < second->number ? -1 : first->number > second->number;
}

/* The identifiers, and places and weights of the terms by place. */
static PyObject *weighed(const Weighing *all)
{
    PyObject *places = PyList_New(all->count), *weights = PyList_New(all->count);
    for (Py_ssize_t number = 0; places && weights && number < all->count; number++) {
        PyList_SetItem(places, number, Py_NewRef(all->said[number].place));
        PyList_SetItem(weights, number, Py_NewRef(all->said[number].weight));
    }
    PyObject *result = places && weights ? PyTuple_Pack(3, all->identifiers, places, weights) : NULL;
    Py_XDECREF(places);
    Py_XDECREF(weights);
    return result;
}

PyObject *hits_weighed(PyObject *module, PyObject *args)
{
    Weighing all = {0};
    PyObject *hits, *identifier, *health, *implied, *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO!n", &hits, &identifier, &health, &PyDict_Type, &implied, &all.distance))
        return NULL;
    all.hits = PySequence_Tuple(hits);
    if (all.hits == NULL || !are_hits(all.hits)) {
        Py_XDECREF(all.hits);
        return NULL;
    }
    all.identifiers = PyList_New(0);
    all.last = PyDict_New();
    all.said = PyMem_Malloc((2 * (size_t)PyTuple_Size(all.hits) + 1) * sizeof(Said));
    if (all.said == NULL)
        PyErr_NoMemory();
    else if (all.identifiers && all.last && take_identifiers(&all, identifier) == 0 &&
             (PyList_Size(all.identifiers) == 0 || take_said(&all, health, implied) == 0)) {
        qsort(all.said, (size_t)all.count, sizeof(Said), by_place);
        result = weighed(&all);
    }
    PyMem_Free(all.said);
    Py_XDECREF(all.last);
    Py_XDECREF(all.identifiers);
    Py_DECREF(all.hits);
    return result;
}

/* A kind of health context: how many there are, and which of the listed stands for more. */
typedef struct {
    Py_ssize_t count, last;
} Kind;

/* What is listed. ``first``: of each value the kind that had it first; ``others``: those of another kind. */
typedef struct {
    PyObject *hits, *first, *others, *numbers, *listed;
    Kind *kinds;
    Py_ssize_t alike;
} Listing;

/* Whether a value of a kind is new; it is noted. -1 with an exception set. */
static int is_new(const Listing *all, PyObject *hit)
{
    PyObject *norm = PyTuple_GetItem(hit, HIT_NORM), *kind = PyTuple_GetItem(hit, HIT_KIND);
    PyObject *before = PyDict_GetItemWithError(all->first, norm);
    if (before == NULL)
        return PyErr_Occurred() || PyDict_SetItem(all->first, norm, kind) < 0 ? -1 : 1;
    if (before == kind || PyUnicode_Compare(before, kind) == 0)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *both = PyTuple_Pack(2, kind, norm);
    int is_known = both == NULL ? -1 : PySet_Contains(all->others, both);
    if (is_known == 0 && PySet_Add(all->others, both) < 0)
        is_known = -1;
    Py_XDECREF(both);
    return is_known < 0 ? -1 : !is_known;
}

/* The kind of a term, made where it is new; NULL with an exception set. */
static Kind *kind_of(const Listing *all, PyObject *hit)
{
    PyObject *kind = PyTuple_GetItem(hit, HIT_KIND), *sensitive = PyTuple_GetItem(hit, HIT_SENSITIVE);
    PyObject *key = PyUnicode_GetLength(sensitive) ? PyTuple_Pack(2, kind, sensitive) : Py_NewRef(kind);
    PyObject *known = key == NULL ? NULL : PyDict_GetItemWithError(all->numbers, key);
    Py_ssize_t number = known != NULL ? PyLong_AsSsize_t(known) : PyDict_Size(all->numbers);
    if (known == NULL && !PyErr_Occurred()) {
        PyObject *made = PyLong_FromSsize_t(number);
        if (made == NULL || PyDict_SetItem(all->numbers, key, made) < 0)
            number = -1;
        Py_XDECREF(made);
    }
    Py_XDECREF(key);
    return number < 0 || PyErr_Occurred() ? NULL : &all->kinds[number];
}

/* List a hit with how many more it stands for, at ``place`` or, where that is -1, behind all; -1 with an exception. */
static int put(const Listing *all, Py_ssize_t place, PyObject *hit, Py_ssize_t more)
{
    PyObject *number = PyLong_FromSsize_t(more);
    PyObject *pair = number == NULL ? NULL : PyTuple_Pack(2, hit, number);
    Py_XDECREF(number);
    if (pair == NULL)
        return -1;
    if (place >= 0)
        return PyList_SetItem(all->listed, place, pair);
    int result = PyList_Append(all->listed, pair);
    Py_DECREF(pair);
    return result;
}

static int list_one(const Listing *all, PyObject *hit, PyObject *health)
{
    int is_one = is_new(all, hit);
    if (is_one <= 0)
        return is_one;
    if (PyTuple_GetItem(hit, HIT_GROUP) == health) {
        Kind *kind = kind_of(all, hit);
        if (kind == NULL)
            return -1;
        if (++kind->count > all->alike)
            return 0;
        if (kind->count == all->alike)
            kind->last = PyList_Size(all->listed) + 1;
    }
    return put(all, -1, hit, 0);
}

static int list_all(const Listing *all, PyObject *health)
{
    for (Py_ssize_t number = 0; number < PyTuple_Size(all->hits); number++)
        if (list_one(all, PyTuple_GetItem(all->hits, number), health) < 0)
            return -1;
    for (Py_ssize_t number = 0; number < PyDict_Size(all->numbers); number++) {
        const Kind *kind = &all->kinds[number];
        if (kind->last && put(all, kind->last - 1, PyTuple_GetItem(PyList_GetItem(all->listed, kind->last - 1), 0),
                              kind->count - all->alike) < 0)
            return -1;
    }
    return 0;
}

PyObject *hits_listed(PyObject *module, PyObject *args)
{
    Listing all = {0};
    PyObject *hits, *health, *result = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "OnO", &hits, &all.alike, &health))
        return NULL;
    all.hits = PySequence_Tuple(hits);
    if (all.hits == NULL || !are_hits(all.hits)) {
        Py_XDECREF(all.hits);
        return NULL;
    }
    all.first = PyDict_New();
    all.others = PySet_New(NULL);
    all.numbers = PyDict_New();
    all.listed = PyList_New(0);
    all.kinds = PyMem_Calloc((size_t)PyTuple_Size(all.hits) + 1, sizeof(Kind));
    if (all.kinds == NULL)
        PyErr_NoMemory();
    else if (all.first && all.others && all.numbers && all.listed && list_all(&all, health) == 0)
        result = Py_NewRef(all.listed);
    PyMem_Free(all.kinds);
    Py_XDECREF(all.first);
    Py_XDECREF(all.others);
    Py_XDECREF(all.numbers);
    Py_XDECREF(all.listed);
    Py_DECREF(all.hits);
    return result;
}
