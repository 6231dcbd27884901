/* The words that matter, as one compact table, made once; whatever is an index in it is checked here. */
#include "native.h"

static int refuse(const char *what)
{
    PyErr_SetString(PyExc_ValueError, what);
    return -1;
}

static void *cleared(Py_ssize_t count, size_t size)
{
    void *room = PyMem_Calloc(count ? (size_t)count : 1, size);
    if (room == NULL)
        PyErr_NoMemory();
    return room;
}

/* Copy the words into the arena. */
static int take_words(Vocabulary *self)
{
    size_t total = 0;
    for (Py_ssize_t number = 0; number < self->count; number++) {
        PyObject *word = PyTuple_GetItem(self->words, number);
        if (!PyBytes_Check(word) || PyBytes_Size(word) > UINT16_MAX)
            return refuse("a word that is none");
        total += (size_t)PyBytes_Size(word);
    }
    self->arena = total < UINT32_MAX ? cleared((Py_ssize_t)total, 1) : NULL;
    self->entries = cleared(self->count, sizeof(Entry));
    if (self->arena == NULL || self->entries == NULL)
        return PyErr_Occurred() ? -1 : refuse("too many words");
    self->arena_size = (uint32_t)total;
    uint32_t at = 0;
    for (Py_ssize_t number = 0; number < self->count; number++) {
        PyObject *word = PyTuple_GetItem(self->words, number);
        uint32_t size = (uint32_t)PyBytes_Size(word);
        memcpy(self->arena + at, PyBytes_AsString(word), size);
        self->entries[number].at = at;
        self->entries[number].size = size;
        at += size;
    }
    return 0;
}

#define FILTER_BITS 16 /* of the filter for each word, at least */

/* Fill the slots, at least twice as many as words, so that there is always an empty one; and the filter. */
static int take_slots(Vocabulary *self)
{
    uint32_t room = 16;
    while (room < 2 * (size_t)self->count + 2)
        room *= 2;
    self->mask = room - 1;
    self->filter_mask = room * (FILTER_BITS / 2) - 1;
    self->filter = cleared(room * (FILTER_BITS / 2) / 64, sizeof(uint64_t));
    self->prints = cleared(room, sizeof(uint16_t));
    self->slots = cleared(room, sizeof(uint32_t));
    if (self->filter == NULL || self->prints == NULL || self->slots == NULL)
        return -1;
    for (Py_ssize_t number = 0; number < self->count; number++) {
        const Entry *entry = &self->entries[number];
        if (entry->size == 0) {
            self->edge = (uint32_t)number + 1;
            continue;
        }
        uint64_t hash = hash_of(self->arena + entry->at, entry->size, self->arena_size - entry->at);
        uint32_t bit = (uint32_t)hash & self->filter_mask, slot = (uint32_t)(hash >> 16) & self->mask;
        self->filter[bit >> 6] |= (uint64_t)1 << (bit & 63);
        while (self->prints[slot])
            slot = (slot + 1) & self->mask;
        self->prints[slot] = print_of(hash);
        self->slots[slot] = (uint32_t)number + 1;
    }
    return 0;
}

/* Numbers in rows, as array("I") has them. */
typedef struct {
    const char *octets;
    Py_ssize_t size;
} Rows;

/* How many rows of so many numbers there are; -1 with an exception set where they do not come out even. */
static Py_ssize_t rows_of(const Rows *rows, Py_ssize_t width)
{
    Py_ssize_t row = width * (Py_ssize_t)sizeof(uint32_t);
    if (rows->size % row == 0 && rows->size / row < INT32_MAX)
        return rows->size / row;
    return refuse("rows that do not come out even");
}

static void read_row(const Rows *rows, Py_ssize_t number, Py_ssize_t width, uint32_t *row)
{
    memcpy(row, rows->octets + number * width * (Py_ssize_t)sizeof(uint32_t), (size_t)width * sizeof(uint32_t));
}

/* Take what each word is: traits, near, far, signs, neighbours from, neighbours. */
static int take_facts(Vocabulary *self, const Rows *facts)
{
    if (rows_of(facts, 6) != self->count || PyTuple_Size(self->values) != self->count)
        return refuse("facts or values do not match the words");
    for (Py_ssize_t number = 0; number < self->count; number++) {
        Entry *entry = &self->entries[number];
        uint32_t row[6];
        read_row(facts, number, 6, row);
        if (row[0] > UINT8_MAX || row[1] > UINT16_MAX || row[2] > UINT16_MAX || row[3] > UINT8_MAX ||
            row[3] > self->sign_count || row[5] > self->besides || row[4] > self->besides - row[5])
            return refuse("a fact out of range");
        entry->traits = (uint8_t)row[0];
        entry->near = (uint16_t)row[1];
        entry->far = (uint16_t)row[2];
        entry->signs = (uint8_t)row[3];
        entry->beside = row[4];
        entry->besides = row[5];
    }
    return 0;
}

/* Take the neighbours: number of the word, pairs, first phrase, phrases before, phrases after. */
static int take_beside(Vocabulary *self, const Rows *beside)
{
    self->besides = rows_of(beside, 5);
    self->beside = self->besides < 0 ? NULL : cleared(self->besides, sizeof(Beside));
    if (self->beside == NULL)
        return -1;
    for (Py_ssize_t number = 0; number < self->besides; number++) {
        uint32_t row[5];
        read_row(beside, number, 5, row);
        if (row[0] >= self->count || row[1] > (PAIR_BEFORE | PAIR_AFTER) || row[3] > UINT16_MAX ||
            row[4] > UINT16_MAX || (uint64_t)row[2] + row[3] + row[4] > (uint64_t)self->phrase_count)
            return refuse("a neighbour out of range");
        self->beside[number] = (Beside){row[0] + 1, row[2], (uint16_t)row[3], (uint16_t)row[4], (uint8_t)row[1]};
    }
    return 0;
}

/* Take the numbers of the phrases' words. */
static int take_parts(Vocabulary *self, const Rows *parts)
{
    self->part_count = rows_of(parts, 1);
    self->parts = self->part_count < 0 ? NULL : cleared(self->part_count, sizeof(uint32_t));
    if (self->parts == NULL)
        return -1;
    for (Py_ssize_t number = 0; number < self->part_count; number++) {
        uint32_t word;
        read_row(parts, number, 1, &word);
        if (word >= self->count)
            return refuse("a phrase of unknown words");
        self->parts[number] = word + 1;
    }
    return 0;
}

/* Take the phrases: rank, words before the anchor, first part, parts. */
static int take_phrases(Vocabulary *self, const Rows *phrases)
{
    self->phrase_count = rows_of(phrases, 4);
    self->phrases = self->phrase_count < 0 ? NULL : cleared(self->phrase_count, sizeof(Phrase));
    if (self->phrases == NULL)
        return -1;
    if (PyTuple_Size(self->phrase_values) != self->phrase_count)
        return refuse("values do not match the phrases");
    for (Py_ssize_t number = 0; number < self->phrase_count; number++) {
        uint32_t row[4];
        read_row(phrases, number, 4, row);
        if (row[0] > UINT16_MAX || row[3] > UINT16_MAX || row[1] >= row[3] ||
            (uint64_t)row[2] + row[3] > (uint64_t)self->part_count)
            return refuse("a phrase out of range");
        self->phrases[number] = (Phrase){row[2], (uint16_t)row[0], (uint16_t)row[1], (uint16_t)row[3]};
    }
    return 0;
}

/* Take the sets of signs, each as octets. */
static int take_signs(Vocabulary *self, PyObject *signs)
{
    self->sign_count = PyTuple_Size(signs);
    self->signs = cleared(self->sign_count, sizeof(*self->signs));
    if (self->signs == NULL)
        return -1;
    for (Py_ssize_t number = 0; number < self->sign_count; number++) {
        char *octets;
        Py_ssize_t size;
        if (PyBytes_AsStringAndSize(PyTuple_GetItem(signs, number), &octets, &size) < 0)
            return -1;
        for (Py_ssize_t place = 0; place < size; place++)
            self->signs[number][(uint8_t)octets[place] >> 3] |= (uint8_t)(1 << (octets[place] & 7));
    }
    return 0;
}

static PyObject *vocabulary_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"words", "values", "facts", "beside", "phrases", "parts", "phrase_values", "signs", NULL};
    PyObject *words, *values, *phrase_values, *signs;
    Rows facts, beside, phrases, parts;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!y#y#y#y#O!O!", names, &PyTuple_Type, &words, &PyTuple_Type,
                                     &values, &facts.octets, &facts.size, &beside.octets, &beside.size, &phrases.octets,
                                     &phrases.size, &parts.octets, &parts.size, &PyTuple_Type, &phrase_values,
                                     &PyTuple_Type, &signs))
        return NULL;
    allocfunc allocate = PyType_GetSlot(type, Py_tp_alloc);
    Vocabulary *self = (Vocabulary *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    self->words = Py_NewRef(words);
    self->values = Py_NewRef(values);
    self->phrase_values = Py_NewRef(phrase_values);
    self->count = PyTuple_Size(words);
    if (self->count > INT32_MAX / 64 || take_words(self) < 0 || take_slots(self) < 0 || take_signs(self, signs) < 0 ||
        take_parts(self, &parts) < 0 || take_phrases(self, &phrases) < 0 || take_beside(self, &beside) < 0 ||
        take_facts(self, &facts) < 0) {
        if (!PyErr_Occurred())
            refuse("too many words");
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void vocabulary_dealloc(Vocabulary *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    void *tables[] = {self->filter, self->prints, self->slots, self->arena, self->entries,
                      self->beside, self->phrases, self->parts, self->signs};
    for (size_t number = 0; number < sizeof(tables) / sizeof(*tables); number++)
        PyMem_Free(tables[number]);
    Py_XDECREF(self->words);
    Py_XDECREF(self->values);
    Py_XDECREF(self->phrase_values);
    freefunc release = PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
}

static PyMethodDef vocabulary_methods[] = {
    {"found", (PyCFunction)vocabulary_found, METH_VARARGS, "What words tell in a text; see hits.c."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot vocabulary_slots[] = {
    {Py_tp_doc, "The words that matter, made once; see relay/scan/vocabulary.py."},
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
