/* The words of a folded text: where they stand; each becomes an object only when somebody asks for it. */
#include "native.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define BLOCK 64 /* octets looked at together */
#define MOST_ASKED 64
#define SLOTS 256 /* for those asked for: no more than a quarter is taken */

/* A word that is asked for. */
typedef struct {
    const uint8_t *octets;
    Py_ssize_t size;
} Some;

/* Of a block, a bit for each octet that is no space. */
static inline uint64_t letters_of(const uint8_t *text, Py_ssize_t size)
{
    uint64_t letters = 0;
#ifdef __SSE2__
    if (size >= BLOCK) {
        for (int part = 0; part < BLOCK; part += 16) {
            __m128i octets = _mm_loadu_si128((const __m128i *)(text + part));
            int spaces = _mm_movemask_epi8(_mm_cmpeq_epi8(octets, _mm_set1_epi8(' ')));
            letters |= (uint64_t)(~spaces & 0xffff) << part;
        }
        return letters;
    }
#endif
    for (Py_ssize_t place = 0; place < size && place < BLOCK; place++)
        letters |= (uint64_t)(text[place] != ' ') << place;
    return letters;
}

/* Make room for the edges of another block; -1 where there is none. */
static int make_room(Words *self, size_t *room, size_t edges)
{
    if (edges + BLOCK <= *room)
        return 0;
    *room = *room ? *room * 2 : 1024;
    Word *more = PyMem_Realloc(self->words, *room / 2 * sizeof(Word));
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    self->words = more;
    return 0;
}

/* Find where the words begin and end, which are the edges in turn: the text ends with a space. */
static int words_split(Words *self)
{
    size_t room = 0, count = 0;
    uint64_t last = 0;
    for (Py_ssize_t base = 0; base < self->size; base += BLOCK) {
        if (make_room(self, &room, count) < 0)
            return -1;
        uint32_t *edges = (uint32_t *)self->words;
        uint64_t letters = letters_of(self->text + base, self->size - base);
        uint64_t changes = letters ^ (letters << 1 | last);
        for (last = letters >> (BLOCK - 1); changes; changes &= changes - 1)
            edges[count++] = (uint32_t)base + (uint32_t)__builtin_ctzll(changes);
    }
    self->count = (Py_ssize_t)(count / 2);
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
    self->size = size;
    if (words_split(self) < 0) {
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
    if (Py_IS_TYPE(words, state->words_type) && ((Words *)words)->size == size + 2)
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
    return PyBytes_FromStringAndSize((const char *)self->text + word->start, word->end - word->start);
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

/* The place of a word among some, from 1; 0: it is none of them. ``slots`` has their places by hash. */
static unsigned place_among(const Words *self, const Word *word, const uint8_t *slots, const Some *some)
{
    uint32_t size = word->end - word->start;
    const uint8_t *text = self->text + word->start;
    uint64_t hash = hash_of(text, size, (size_t)self->size - word->start);
    for (uint32_t slot = (uint32_t)hash % SLOTS; slots[slot]; slot = (slot + 1) % SLOTS) {
        const Some *one = &some[slots[slot] - 1];
        if (one->size == (Py_ssize_t)size && memcmp(one->octets, text, size) == 0)
            return slots[slot];
    }
    return 0;
}

/* Take the words that are asked for; how many, or -1 with an exception set. */
static Py_ssize_t take_some(PyObject *asked, uint8_t *slots, Some *some)
{
    Py_ssize_t count = PyTuple_Size(asked);
    if (count > MOST_ASKED) {
        PyErr_SetString(PyExc_ValueError, "too many words are asked for");
        return -1;
    }
    for (Py_ssize_t number = 0; number < count; number++) {
        char *octets;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(asked, number), &octets, &some[number].size) < 0)
            return -1;
        some[number].octets = (const uint8_t *)octets;
        uint64_t hash = hash_of(some[number].octets, (size_t)some[number].size, (size_t)some[number].size);
        uint32_t slot = (uint32_t)hash % SLOTS;
        while (slots[slot])
            slot = (slot + 1) % SLOTS;
        slots[slot] = (uint8_t)(number + 1);
    }
    return count;
}

/* among(some): those of some words, a tuple without repetition, that are in the text, in the tuple's order. */
static PyObject *words_among(Words *self, PyObject *asked)
{
    uint8_t slots[SLOTS] = {0}, is_there[MOST_ASKED + 1] = {0};
    Some some[MOST_ASKED];
    if (!PyTuple_Check(asked)) {
        PyErr_SetString(PyExc_TypeError, "words that are no tuple");
        return NULL;
    }
    Py_ssize_t count = take_some(asked, slots, some);
    PyObject *found = count < 0 ? NULL : PyList_New(0);
    for (Py_ssize_t index = 0; found != NULL && index < self->count; index++)
        is_there[place_among(self, &self->words[index], slots, some)] = 1;
    for (Py_ssize_t number = 0; found != NULL && number < count; number++)
        if (is_there[number + 1] && PyList_Append(found, PyTuple_GetItem(asked, number)) < 0)
            Py_CLEAR(found);
    return found;
}

static PyMethodDef words_methods[] = {
    {"among", (PyCFunction)words_among, METH_O, "Those of some words that are in the text."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot words_slots[] = {
    {Py_tp_doc, "The words of a folded text, which has a space before and after; in order."},
    {Py_tp_new, words_new},
    {Py_tp_dealloc, words_dealloc},
    {Py_tp_iter, words_iter},
    {Py_tp_methods, words_methods},
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
