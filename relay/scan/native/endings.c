/* Words by their endings: which words of a text end as one of a list, behind three letters at least. */
#include "native.h"

#define BEFORE_ENDING 3
#define KEY 3 /* letters by which an ending is found */
#define LETTERS 26
#define NO_KEY UINT32_MAX

typedef struct {
    uint32_t key, size;
    const uint8_t *octets;
} Ending;

/* ``keys``: of every three letters whether an ending ends so, as bits. */
typedef struct {
    PyObject_HEAD
    uint8_t keys[(LETTERS * LETTERS * LETTERS + 7) / 8], is_word[256];
    Ending *endings;
    Py_ssize_t count;
    PyObject *values; /* tuple of the bytes that the endings lie in */
} Endings;

/* 0 to 25 for a letter of ASCII, else more. */
static inline uint8_t letter(uint8_t octet)
{
    return (uint8_t)((octet | 0x20) - 'a');
}

static int is_word(uint8_t octet)
{
    return letter(octet) < LETTERS || (uint8_t)(octet - '0') < 10 || octet == '_';
}

/* The last letters before ``end`` as a number; NO_KEY where one of them is none. */
static inline uint32_t key_of(const uint8_t *end)
{
    uint32_t first = letter(end[-3]), second = letter(end[-2]), third = letter(end[-1]);
    int are_letters = (first < LETTERS) & (second < LETTERS) & (third < LETTERS);
    return are_letters ? (first * LETTERS + second) * LETTERS + third : NO_KEY;
}

/* How many letters stand before a place, counted up to ``most``. */
static uint32_t letters_before(const uint8_t *start, const uint8_t *place, uint32_t most)
{
    uint32_t count = 0;
    while (count < most && place - count > start && letter(place[-1 - (ptrdiff_t)count]) < LETTERS)
        count++;
    return count;
}

/* Whether the word that ends at ``end`` ends as one of the list, behind enough letters. */
static int ends_so(const Endings *self, const uint8_t *start, const uint8_t *end)
{
    if (end - start < KEY)
        return 0;
    uint32_t key = key_of(end);
    if (key == NO_KEY || !(self->keys[key >> 3] >> (key & 7) & 1))
        return 0;
    for (Py_ssize_t number = 0; number < self->count; number++) {
        const Ending *ending = &self->endings[number];
        uint32_t wanted = ending->size + BEFORE_ENDING, same = 0;
        if (ending->key != key || letters_before(start, end, wanted) < wanted)
            continue;
        while (same < ending->size && letter(end[same - (ptrdiff_t)ending->size]) == letter(ending->octets[same]))
            same++;
        if (same == ending->size)
            return 1;
    }
    return 0;
}

/* Note where a word ends, if it ends as one of the list; -1 with an exception set. */
static int visit(const Endings *self, const uint8_t *data, const uint8_t *end, PyObject *found)
{
    if (!ends_so(self, data, end))
        return 0;
    PyObject *place = PyLong_FromSsize_t(end - data);
    int result = place == NULL ? -1 : PyList_Append(found, place);
    Py_XDECREF(place);
    return result;
}

/* Look at all characters: beyond ASCII a word may end for the list and go on for whoever folded it. */
static int visit_characters(const Endings *self, const uint8_t *data, Py_ssize_t size, PyObject *found)
{
    const uint8_t *stop = data + size;
    for (const uint8_t *place = data; place < stop;) {
        while (place < stop && !self->is_word[*place])
            place++;
        while (place < stop && self->is_word[*place])
            place++;
        if (visit(self, data, place, found) < 0)
            return -1;
    }
    return 0;
}

static int visit_words(const Endings *self, const Words *words, const uint8_t *data, Py_ssize_t size, PyObject *found)
{
    for (Py_ssize_t index = 0; index < words->count; index++) {
        const Word *word = &words->words[index];
        Py_ssize_t end = (Py_ssize_t)word->end - 1;
        if (word->end - word->start >= BEFORE_ENDING + KEY && (end == size || data[end] != '_') &&
            visit(self, data, data + end, found) < 0)
            return -1;
    }
    return 0;
}

static int is_ascii(const uint8_t *data, Py_ssize_t size)
{
    uint8_t every = 0;
    for (Py_ssize_t place = 0; place < size; place++)
        every |= data[place];
    return every < 128;
}

static PyObject *endings_find(Endings *self, PyObject *args)
{
    PyObject *words;
    const char *octets;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "Oy#", &words, &octets, &size))
        return NULL;
    const State *state = PyType_GetModuleState(Py_TYPE((PyObject *)self));
    if (state == NULL || words_check(state, words, size) < 0)
        return NULL;
    const uint8_t *data = (const uint8_t *)octets;
    PyObject *found = PyList_New(0);
    if (found == NULL)
        return NULL;
    int result = is_ascii(data, size) ? visit_words(self, (const Words *)words, data, size, found)
                                      : visit_characters(self, data, size, found);
    if (result < 0)
        Py_CLEAR(found);
    return found;
}

/* Take an ending; -1 with an exception set. */
static int take_ending(Endings *self, Py_ssize_t number, PyObject *value)
{
    Py_ssize_t size = PyBytes_Check(value) ? PyBytes_Size(value) : 0;
    const uint8_t *octets = size ? (const uint8_t *)PyBytes_AsString(value) : NULL;
    if (size < KEY || size > UINT16_MAX || letters_before(octets, octets + size, (uint32_t)size) < size) {
        PyErr_SetString(PyExc_ValueError, "an ending that is no three letters or more");
        return -1;
    }
    uint32_t key = key_of(octets + size);
    self->keys[key >> 3] |= (uint8_t)(1 << (key & 7));
    self->endings[number] = (Ending){key, (uint32_t)size, octets};
    return 0;
}

static PyObject *endings_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"endings", NULL};
    PyObject *endings;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!", names, &PyTuple_Type, &endings))
        return NULL;
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Endings *self = (Endings *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    for (int octet = 0; octet < 256; octet++)
        self->is_word[octet] = (uint8_t)is_word((uint8_t)octet);
    self->values = Py_NewRef(endings);
    self->count = PyTuple_Size(endings);
    self->endings = PyMem_Calloc(self->count ? (size_t)self->count : 1, sizeof(Ending));
    int problem = self->endings == NULL ? -1 : 0;
    if (problem)
        PyErr_NoMemory();
    for (Py_ssize_t number = 0; !problem && number < self->count; number++)
        problem = take_ending(self, number, PyTuple_GetItem(endings, number));
    if (problem)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void endings_dealloc(Endings *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    PyMem_Free(self->endings);
    Py_XDECREF(self->values);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef endings_methods[] = {
    {"find", (PyCFunction)endings_find, METH_VARARGS, "Where words that end so end, in order."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot endings_slots[] = {
    {Py_tp_doc, "Endings of words, each of three letters of ASCII or more."},
    {Py_tp_new, endings_new},
    {Py_tp_dealloc, endings_dealloc},
    {Py_tp_methods, endings_methods},
    {0, NULL},
};

PyType_Spec endings_spec = {
    .name = "relay.scan._native.Endings",
    .basicsize = sizeof(Endings),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = endings_slots,
};
