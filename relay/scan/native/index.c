/* Tables of words where they lie: how they are taken, and the lists of names. */
#include "native.h"

int refuse(const char *what)
{
    PyErr_SetString(PyExc_ValueError, what);
    return -1;
}

Py_ssize_t rows_of(const Py_buffer *table, size_t size)
{
    if (table->len % (Py_ssize_t)size == 0 && (uintptr_t)table->buf % 8 == 0 && table->len / (Py_ssize_t)size < INT32_MAX)
        return table->len / (Py_ssize_t)size;
    return refuse("rows that do not come out even");
}

static int is_power(Py_ssize_t number)
{
    return number > 0 && (number & (number - 1)) == 0;
}

int index_take(Index *index, const Py_buffer *tables, Py_ssize_t count)
{
    Py_ssize_t filter = rows_of(&tables[0], sizeof(uint64_t)), prints = rows_of(&tables[1], sizeof(uint16_t));
    Py_ssize_t slots = rows_of(&tables[2], sizeof(uint32_t)), empty = 0;
    if (filter < 0 || prints < 0 || slots < 0)
        return -1;
    if (!is_power(filter) || filter > INT32_MAX / 64 || !is_power(prints) || prints != slots)
        return refuse("an index of another size");
    index->filter = tables[0].buf;
    index->prints = tables[1].buf;
    index->slots = tables[2].buf;
    index->filter_mask = (uint32_t)filter * 64 - 1;
    index->mask = (uint32_t)slots - 1;
    for (Py_ssize_t slot = 0; slot < slots; slot++) {
        if (index->slots[slot] > (size_t)count || (index->prints[slot] && !index->slots[slot]))
            return refuse("a slot of no word");
        empty += !index->prints[slot];
    }
    return empty ? 0 : refuse("an index without an empty slot"); /* a search ends there */
}

enum { ARENA, ROWS, FILTER, TABLES = 5 };

/* Words on lists; whether a word is on one of those wanted is asked with ``in``. */
typedef struct {
    PyObject_HEAD
    Index index;
    const uint8_t *arena;
    const Listed *listed;
    unsigned int wanted;
    Py_buffer tables[TABLES];
} Names;

static int names_take(Names *self)
{
    Py_ssize_t count = rows_of(&self->tables[ROWS], sizeof(Listed)), size = self->tables[ARENA].len;
    if (count < 0 || index_take(&self->index, &self->tables[FILTER], count) < 0)
        return -1;
    self->arena = self->tables[ARENA].buf;
    self->listed = self->tables[ROWS].buf;
    for (Py_ssize_t number = 0; number < count; number++)
        if ((size_t)self->listed[number].at + self->listed[number].size > (size_t)size)
            return refuse("a name that lies outside");
    return 0;
}

static PyObject *names_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    (void)kwargs;
    Py_buffer tables[TABLES];
    unsigned int wanted;
    if (!PyArg_ParseTuple(args, "Iy*y*y*y*y*", &wanted, &tables[0], &tables[1], &tables[2], &tables[3], &tables[4]))
        return NULL;
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Names *self = (Names *)allocate(type, 0);
    if (self == NULL) {
        for (int table = 0; table < TABLES; table++)
            PyBuffer_Release(&tables[table]);
        return NULL;
    }
    memcpy(self->tables, tables, sizeof(tables));
    self->wanted = wanted;
    if (names_take(self) < 0)
        Py_CLEAR(self);
    return (PyObject *)self;
}

static void names_dealloc(Names *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    for (int table = 0; table < TABLES; table++)
        PyBuffer_Release(&self->tables[table]);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static int names_contains(Names *self, PyObject *asked)
{
    if (!PyBytes_Check(asked))
        return 0;
    const uint8_t *word = (const uint8_t *)PyBytes_AsString(asked);
    size_t size = (size_t)PyBytes_Size(asked);
    uint64_t hash = hash_of(word, size, size);
    if (!index_may(&self->index, hash))
        return 0;
    uint32_t slot = index_slot(&self->index, hash), number;
    uint16_t print = print_of(hash);
    while ((number = index_next(&self->index, &slot, print)) != 0) {
        const Listed *listed = &self->listed[number - 1];
        if (listed->size == size && memcmp(self->arena + listed->at, word, size) == 0)
            return (listed->lists & self->wanted) != 0;
    }
    return 0;
}

static PyType_Slot names_slots[] = {
    {Py_tp_doc, "Names on some of the lists; see relay/scan/names.py."},
    {Py_tp_new, names_new},
    {Py_tp_dealloc, names_dealloc},
    {Py_sq_contains, names_contains},
    {0, NULL},
};

PyType_Spec names_spec = {
    .name = "relay.scan._native.Names",
    .basicsize = sizeof(Names),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = names_slots,
};
