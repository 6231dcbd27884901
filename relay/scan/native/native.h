/* The scan's C part. Stable ABI of Python 3.11: one product serves every later version.
 *
 * What is bounded by what: Words keeps a record a word of its text; an event is made of a word of the vocabulary, up to
 * the limit that the caller sets. Nothing recurses. All that is an index into a table was checked when the table was
 * taken.
 */
#ifndef POSTERN_NATIVE_H
#define POSTERN_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LARGEST_TEXT INT32_MAX

/* A word of a text: where it begins in the padded text, and where it ends. */
typedef struct {
    uint32_t start, end;
} Word;

typedef struct {
    PyObject_HEAD
    PyObject *padded; /* the folded text with a space before and after, bytes */
    const uint8_t *text;
    Py_ssize_t size;
    Word *words;
    Py_ssize_t count;
    PyObject *list; /* the words as a list, once somebody has gone over them all */
} Words;

/* What a word of the vocabulary is (traits), as relay/scan/vocabulary.py has it. */
enum { KNOWN = 1, TERM = 2, SIGN = 4, NAME = 8, NAMED = 16, TOLD = 32, FREE = 64, CAPITAL = 128 };
/* Why a word is an event. */
enum { BECAUSE_TERM = 1, BECAUSE_SIGN = 2, BECAUSE_NAME = 4, BECAUSE_PROBES = 8, BECAUSE_PAIR = 16 };
/* Beside which words the shapes of a word stand. */
enum { PAIR_BEFORE = 1, PAIR_AFTER = 2 };

/* Tables are read where they lie: in a file that all processes map, or in memory (relay/scan/compiled.py). */
typedef struct {
    uint32_t at;               /* the word in the arena */
    uint32_t beside;           /* its neighbours, in order of their number */
    uint16_t size, besides;
    uint16_t near, far;        /* how far before and behind it a digit must stand; of a sign without, near: a line's ends */
    uint16_t term;             /* what it is as a term, from 1 */
    uint8_t traits, signs;     /* signs: which set of them, from 1; 0: none */
} Entry;

/* A word that matters beside another: phrases from ``first`` on, those that it stands in before the other, then those
 * that it stands in after it. */
typedef struct {
    uint32_t word, first;
    uint16_t before, after;
    uint8_t pairs, unused[3];
} Beside;

typedef struct {
    uint32_t parts; /* its words' numbers */
    uint16_t rank, before, size, term;
} Phrase;

/* A name: where it lies, and the lists that it is on, as bits. */
typedef struct {
    uint32_t at;
    uint16_t size, lists;
} Listed;

_Static_assert(sizeof(Entry) == 20 && sizeof(Beside) == 16 && sizeof(Phrase) == 12 && sizeof(Listed) == 8,
               "rows as relay/scan/compiled.py writes them");

/* Where words are found by their hash. */
typedef struct {
    const uint64_t *filter; /* a bit for each word, by its hash: most words of a text are known to be none at one look */
    const uint16_t *prints; /* of each slot a part of the hash, 0: empty */
    const uint32_t *slots;  /* of each slot the word's number, from 1 */
    uint32_t mask, filter_mask;
} Index;

typedef struct {
    PyObject_HEAD
    Index index;
    uint32_t edge;    /* the number of the empty word, which stands before the first and after the last; or 0 */
    const uint8_t *arena;
    const Entry *entries;
    const Beside *beside;
    const Phrase *phrases;
    const uint32_t *parts;
    const uint8_t (*signs)[32];
    Py_ssize_t arena_size, count, besides, phrase_count, part_count, sign_count, terms;
    PyObject *known, *phrase; /* called with a number make what is handed on, once each */
    PyObject **words, **values, **phrase_values;
    Py_buffer tables[9];
} Vocabulary;

/* A word by its number from 1, what is known of it, a phrase: borrowed; NULL with an exception set. */
PyObject *vocabulary_word(Vocabulary *self, uint32_t number);
PyObject *vocabulary_known(Vocabulary *self, uint32_t number);
PyObject *vocabulary_phrase(Vocabulary *self, uint32_t number);

/* Set an exception; -1. */
int refuse(const char *what);
/* How many rows of this size a table has; -1 with an exception set where they do not come out even or lie unaligned. */
Py_ssize_t rows_of(const Py_buffer *table, size_t size);
/* Take the three tables of an index over so many words; -1 with an exception set. */
int index_take(Index *index, const Py_buffer *tables, Py_ssize_t count);

typedef struct {
    PyTypeObject *words_type, *vocabulary_type, *names_type, *anchors_type, *endings_type;
} State;

extern PyType_Spec words_spec, vocabulary_spec, names_spec, anchors_spec, endings_spec;

/* Whether they are words of a text of this size; -1 with an exception set where not. */
int words_check(const State *state, PyObject *words, Py_ssize_t size);

/* A pass over one text. ``ids`` are the words' numbers, the edge before and after them; whoever begins it frees them. */
typedef struct {
    Vocabulary *vocabulary;
    const Words *words;
    const uint8_t *data;
    uint32_t size;
    uint32_t *ids;
} Pass;

/* Why a word matters; the phrase around it by number, from 1, or 0. */
typedef struct {
    int why;
    uint32_t phrase;
} Event;

/* Number the words; -1 with an exception set. */
int pass_begin(Pass *pass);
/* Whether the word at ``index``, which is of the vocabulary, matters, and why. */
int pass_event(const Pass *pass, Py_ssize_t index, Event *event);

/* apart(first, listed, size): those that stand where nothing before them in both lists does, by place. */
PyObject *hits_apart(PyObject *module, PyObject *args);
/* weighed(hits, identifier, health, implied, distance): identifiers, and terms by place, none said again too soon. */
PyObject *hits_weighed(PyObject *module, PyObject *args);
/* listed(hits, alike, health): what a verdict lists, each with how many more it stands for. */
PyObject *hits_listed(PyObject *module, PyObject *args);
PyObject *vocabulary_found(Vocabulary *self, PyObject *args);

/* Up to eight octets as a number, the first the lowest; ``room``: how many may be read. */
static inline uint64_t octets_at(const uint8_t *place, size_t size, size_t room)
{
    uint64_t number = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (room >= 8) {
        memcpy(&number, place, 8);
        return size >= 8 ? number : number & (((uint64_t)1 << (8 * size)) - 1);
    }
#else
    (void)room;
#endif
    for (size_t index = 0; index < size && index < 8; index++)
        number |= (uint64_t)place[index] << (8 * index);
    return number;
}

/* The part of a hash that is kept in a slot, never 0. */
static inline uint16_t print_of(uint64_t hash)
{
    return (uint16_t)(hash >> 48) ? (uint16_t)(hash >> 48) : 1;
}

/* The hash of a word by its first and last eight octets and its size; ``room``: how many octets may be read. */
static inline uint64_t hash_of(const uint8_t *word, size_t size, size_t room)
{
    uint64_t hash = octets_at(word, size, room) * 0x9e3779b97f4a7c15u + size;
    if (size > 8)
        hash ^= octets_at(word + size - 8, 8, 8) * 0xc2b2ae3d27d4eb4fu;
    hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93u;
    return hash ^ (hash >> 32);
}

/* The number of the word at ``word``, from 1, of which the next slot tells that it may be it; 0: none. The search begins
 * at *slot with the word's hash there. */
static inline uint32_t index_next(const Index *index, uint32_t *slot, uint16_t print)
{
    for (; index->prints[*slot]; *slot = (*slot + 1) & index->mask)
        if (index->prints[*slot] == print) {
            uint32_t number = index->slots[*slot];
            *slot = (*slot + 1) & index->mask;
            return number;
        }
    return 0;
}

/* Whether a word of this hash may be there at all. */
static inline int index_may(const Index *index, uint64_t hash)
{
    uint32_t bit = (uint32_t)hash & index->filter_mask;
    return (int)(index->filter[bit >> 6] >> (bit & 63) & 1);
}

static inline uint32_t index_slot(const Index *index, uint64_t hash)
{
    return (uint32_t)(hash >> 16) & index->mask;
}

#endif
