/* The words of a folded text: where they stand; each becomes an object only when somebody asks for it. */
#include "native.h"

static Word *grown(Word *words, size_t *room)
{
    *room = *room ? *room * 2 : 256;
    return PyMem_Realloc(words, *room * sizeof(Word));
}

/* Find the words; -1 where there is no memory. */
static int words_split(Words *self, Py_ssize_t size)
{
    const uint8_t *text = self->text;
    size_t room = 0, count = 0;
    for (Py_ssize_t place = 0; place < size;) {
        if (text[place] == ' ') {
            place++;
            continue;
        }
        if (count == room) {
            Word *more = grown(self->words, &room);
            if (more == NULL) {
                PyErr_NoMemory();
                return -1;
            }
            self->words = more;
        }
        Py_ssize_t start = place;
        uint32_t hash = HASH_SEED;
        do {
            hash = HASH_STEP(hash, text[place]);
            place++;
        } while (place < size && text[place] != ' ');
        self->words[count++] = (Word){(uint32_t)start, (uint32_t)(place - start), hash_end(hash)};
    }
    self->count = (Py_ssize_t)count;
    return 0;
}

static PyObject *words_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"padded", NULL};
    PyObject *padded;
    char *text;
    Py_ssize_t size;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "S", names, &padded) ||
        PyBytes_AsStringAndSize(padded, &text, &size) < 0)
        return NULL;
    if (size > LARGEST_TEXT) {
        PyErr_SetString(PyExc_OverflowError, "a text of 2 GB or more");
        return NULL;
    }
    if (size < 2 || text[0] != ' ' || text[size - 1] != ' ') {
        PyErr_SetString(PyExc_ValueError, "a text without a space before and after");
        return NULL;
    }
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Words *self = (Words *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    self->padded = Py_NewRef(padded);
    self->text = (const uint8_t *)text;
    if (words_split(self, size) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void words_dealloc(Words *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->words);
    Py_XDECREF(self->list);
    Py_XDECREF(self->padded);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

int words_check(const State *state, PyObject *words, Py_ssize_t size)
{
    if (Py_IS_TYPE(words, state->words_type) && PyBytes_Size(((Words *)words)->padded) == size + 2)
        return 0;
    PyErr_SetString(PyExc_ValueError, "words that are not those of the text");
    return -1;
}

static Py_ssize_t words_length(Words *self)
{
    return self->count;
}

static PyObject *words_item(Words *self, Py_ssize_t index)
{
    if (index < 0 || index >= self->count) {
        PyErr_SetString(PyExc_IndexError, "no such word");
        return NULL;
    }
    const Word *word = &self->words[index];
    return PyBytes_FromStringAndSize((const char *)self->text + word->start, word->size);
}

static PyObject *words_iter(Words *self)
{
    if (self->list == NULL) {
        PyObject *list = PyList_New(self->count);
        for (Py_ssize_t index = 0; list != NULL && index < self->count; index++) {
            PyObject *word = words_item(self, index);
            if (word == NULL || PyList_SetItem(list, index, word) < 0)
                Py_CLEAR(list);
        }
        self->list = list;
        if (list == NULL)
            return NULL;
    }
    return PyObject_GetIter(self->list);
}

static PyType_Slot words_slots[] = {
    {Py_tp_doc, "The words of a folded text, which has a space before and after; in order."},
    {Py_tp_new, words_new},
    {Py_tp_dealloc, words_dealloc},
    {Py_tp_iter, words_iter},
    {Py_sq_length, words_length},
    {Py_sq_item, words_item},
    {0, NULL},
};

PyType_Spec words_spec = {
    .name = "relay.scan._native.Words",
    .basicsize = sizeof(Words),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = words_slots,
};
