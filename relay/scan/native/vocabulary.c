/* The words that matter, as tables that are read where they lie; whatever is an index in them is checked here. */
#include "native.h"

enum { ARENA, ENTRIES, FILTER, BESIDE = 5, PHRASES, PARTS, SIGNS, TABLES };

/* Check what each word is. */
static int check_entries(Vocabulary *self)
{
    for (Py_ssize_t number = 0; number < self->count; number++) {
        const Entry *entry = &self->entries[number];
        if ((size_t)entry->at + entry->size > (size_t)self->arena_size || entry->signs > self->sign_count ||
            entry->term > self->terms || (entry->traits & TERM && !entry->term) ||
            (size_t)entry->beside + entry->besides > (size_t)self->besides)
            return refuse("a word out of range");
        if (entry->size == 0)
            self->edge = (uint32_t)number + 1;
    }
    return 0;
}

/* Check the neighbours. */
static int check_beside(const Vocabulary *self)
{
    for (Py_ssize_t number = 0; number < self->besides; number++) {
        const Beside *beside = &self->beside[number];
        if (beside->word == 0 || beside->word > self->count || beside->pairs > (PAIR_BEFORE | PAIR_AFTER) ||
            (uint64_t)beside->first + beside->before + beside->after > (uint64_t)self->phrase_count)
            return refuse("a neighbour out of range");
    }
    return 0;
}

/* Check the phrases and the numbers of their words. */
static int check_phrases(const Vocabulary *self)
{
    for (Py_ssize_t number = 0; number < self->phrase_count; number++) {
        const Phrase *phrase = &self->phrases[number];
        if (phrase->before >= phrase->size || phrase->term == 0 || phrase->term > self->terms ||
            (uint64_t)phrase->parts + phrase->size > (uint64_t)self->part_count)
            return refuse("a phrase out of range");
    }
    for (Py_ssize_t number = 0; number < self->part_count; number++)
        if (self->parts[number] == 0 || self->parts[number] > self->count)
            return refuse("a phrase of unknown words");
    return 0;
}

/* Take the tables, and room for what is made of them once it is asked for. */
static int take(Vocabulary *self)
{
    const Py_buffer *tables = self->tables;
    self->arena = tables[ARENA].buf;
    self->arena_size = tables[ARENA].len;
    self->entries = tables[ENTRIES].buf;
    self->beside = tables[BESIDE].buf;
    self->phrases = tables[PHRASES].buf;
    self->parts = tables[PARTS].buf;
    self->signs = tables[SIGNS].buf;
    self->count = rows_of(&tables[ENTRIES], sizeof(Entry));
    self->besides = rows_of(&tables[BESIDE], sizeof(Beside));
    self->phrase_count = rows_of(&tables[PHRASES], sizeof(Phrase));
    self->part_count = rows_of(&tables[PARTS], sizeof(uint32_t));
    self->sign_count = rows_of(&tables[SIGNS], sizeof(*self->signs));
    if (self->count < 0 || self->besides < 0 || self->phrase_count < 0 || self->part_count < 0 ||
        self->sign_count < 0 || index_take(&self->index, &tables[FILTER], self->count) < 0 ||
        check_entries(self) < 0 || check_beside(self) < 0 || check_phrases(self) < 0)
        return -1;
    self->words = PyMem_Calloc((size_t)self->count + 1, sizeof(PyObject *));
    self->values = PyMem_Calloc((size_t)self->count + 1, sizeof(PyObject *));
    self->phrase_values = PyMem_Calloc((size_t)self->phrase_count + 1, sizeof(PyObject *));
    if (self->words == NULL || self->values == NULL || self->phrase_values == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static PyObject *vocabulary_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    Py_buffer tables[TABLES];
    PyObject *known, *phrase;
    Py_ssize_t terms;
    if (!PyArg_ParseTuple(args, "nOOy*y*y*y*y*y*y*y*y*", &terms, &known, &phrase, &tables[0], &tables[1], &tables[2],
                          &tables[3], &tables[4], &tables[5], &tables[6], &tables[7], &tables[8]))
        return NULL;
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Vocabulary *self = (Vocabulary *)allocate(type, 0);
    if (self == NULL) {
        for (int table = 0; table < TABLES; table++)
            PyBuffer_Release(&tables[table]);
        return NULL;
    }
    memcpy(self->tables, tables, sizeof(tables));
    self->terms = terms;
    self->known = Py_NewRef(known);
    self->phrase = Py_NewRef(phrase);
    if (take(self) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void drop(PyObject **made, Py_ssize_t count)
{
    for (Py_ssize_t number = 0; made != NULL && number < count; number++)
        Py_XDECREF(made[number]);
    PyMem_Free(made);
}

static void vocabulary_dealloc(Vocabulary *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    drop(self->words, self->count);
    drop(self->values, self->count);
    drop(self->phrase_values, self->phrase_count);
    Py_XDECREF(self->known);
    Py_XDECREF(self->phrase);
    for (int table = 0; table < TABLES; table++)
        PyBuffer_Release(&self->tables[table]);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

/* Keep what was made for a number, if nothing is kept yet; it, borrowed. */
static PyObject *keep(PyObject **room, PyObject *made)
{
    if (*room == NULL)
        *room = made;
    else
        Py_XDECREF(made);
    return *room;
}

PyObject *vocabulary_word(Vocabulary *self, uint32_t number)
{
    const Entry *entry = &self->entries[number - 1];
    PyObject **room = &self->words[number - 1];
    return *room ? *room : keep(room, PyBytes_FromStringAndSize((const char *)self->arena + entry->at, entry->size));
}

PyObject *vocabulary_known(Vocabulary *self, uint32_t number)
{
    PyObject **room = &self->values[number - 1];
    return *room ? *room : keep(room, PyObject_CallFunction(self->known, "I", (unsigned int)number));
}

PyObject *vocabulary_phrase(Vocabulary *self, uint32_t number)
{
    PyObject **room = &self->phrase_values[number - 1];
    return *room ? *room : keep(room, PyObject_CallFunction(self->phrase, "I", (unsigned int)number));
}

/* terms(words): the numbers of the words of a text that are terms. */
static PyObject *vocabulary_terms(Vocabulary *self, PyObject *args)
{
    PyObject *words, *found = NULL;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "On", &words, &size))
        return NULL;
    const State *state = PyType_GetModuleState(Py_TYPE((PyObject *)self));
    if (state == NULL || words_check(state, words, size) < 0)
        return NULL;
    Pass pass = {.vocabulary = self, .words = (const Words *)words};
    if (pass_begin(&pass) == 0)
        found = PySet_New(NULL);
    for (Py_ssize_t index = 0; found != NULL && index < pass.words->count; index++) {
        uint32_t number = pass.ids[index + 1];
        if (number == 0 || !(self->entries[number - 1].traits & TERM))
            continue;
        PyObject *told = PyLong_FromLong((long)number);
        if (told == NULL || PySet_Add(found, told) < 0)
            Py_CLEAR(found);
        Py_XDECREF(told);
    }
    PyMem_Free(pass.ids);
    return found;
}

static PyMethodDef vocabulary_methods[] = {
    {"found", (PyCFunction)vocabulary_found, METH_VARARGS, "What words tell in a text; see hits.c."},
    {"terms", (PyCFunction)vocabulary_terms, METH_VARARGS, "The numbers of the words of a text that are terms."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot vocabulary_slots[] = {
    {Py_tp_doc, "The words that matter; see relay/scan/vocabulary.py."},
    {Py_tp_new, vocabulary_new},
    {Py_tp_dealloc, vocabulary_dealloc},
    {Py_tp_methods, vocabulary_methods},
    {0, NULL},
};

PyType_Spec vocabulary_spec = {
    .name = "relay.scan._native.Vocabulary",
    .basicsize = sizeof(Vocabulary),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = vocabulary_slots,
};
