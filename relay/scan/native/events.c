/* One pass over a text: which of its words matter, and why. */
#include "native.h"

#define SIGN_REACH 4   /* characters behind a word in which its sign stands */
#define CAPITALS_END 91

/* A pass over one text. ``ids`` are the words' numbers, the edge before and after them. */
typedef struct {
    const Vocabulary *vocabulary;
    const Words *words;
    const uint8_t *data;
    uint32_t size;
    const uint32_t *ids;
} Pass;

/* The number of a word of a text, from 1; 0: it is not of the vocabulary. */
static inline uint32_t find_word(const Vocabulary *self, const Words *words, Py_ssize_t index)
{
    uint32_t start = words->words[index].start, size = words->words[index].end - start;
    const uint8_t *word = words->text + start;
    uint64_t hash = hash_of(word, size, (size_t)words->size - start);
    uint32_t bit = (uint32_t)hash & self->filter_mask;
    if (!(self->filter[bit >> 6] >> (bit & 63) & 1))
        return 0;
    uint16_t print = print_of(hash);
    for (uint32_t slot = (uint32_t)(hash >> 16) & self->mask; self->prints[slot]; slot = (slot + 1) & self->mask) {
        if (self->prints[slot] != print)
            continue;
        const Entry *entry = &self->entries[self->slots[slot] - 1];
        if (entry->size == size && memcmp(self->arena + entry->at, word, size) == 0)
            return self->slots[slot];
    }
    return 0;
}

static const Beside *find_beside(const Vocabulary *self, const Entry *entry, uint32_t word)
{
    if (word == 0)
        return NULL;
    const Beside *first = self->beside + entry->beside, *last = first + entry->besides;
    while (first < last) {
        const Beside *middle = first + (last - first) / 2;
        if (middle->word == word)
            return middle;
        if (middle->word < word)
            first = middle + 1;
        else
            last = middle;
    }
    return NULL;
}

static int stands(const Pass *pass, const Phrase *phrase, Py_ssize_t index)
{
    Py_ssize_t first = index - phrase->before;
    if (first < 0 || first + phrase->size > pass->words->count)
        return 0;
    return memcmp(pass->ids + 1 + first, pass->vocabulary->parts + phrase->parts, phrase->size * sizeof(uint32_t)) == 0;
}

/* The number of the longest phrase around the word at ``index``, from 1; 0: none. As Phrases.around has it. */
static uint32_t phrase_around(const Pass *pass, Py_ssize_t index, const Beside *before, const Beside *after)
{
    const Phrase *phrases = pass->vocabulary->phrases;
    uint32_t found = 0;
    for (uint32_t number = 0; before && !found && number < before->before; number++)
        if (stands(pass, &phrases[before->first + number], index))
            found = before->first + number + 1;
    for (uint32_t number = 0; after && number < after->after; number++) {
        uint32_t place = after->first + after->before + number;
        if (found && phrases[found - 1].rank < phrases[place].rank)
            break;
        if (stands(pass, &phrases[place], index))
            return place + 1;
    }
    return found;
}

static int holds_digit(const Pass *pass, uint32_t place, const Entry *entry)
{
    uint32_t start = place > entry->near ? place - entry->near : 0;
    uint32_t end = pass->size - place > entry->far ? place + entry->far : pass->size;
    for (; start < end; start++)
        if ((uint8_t)(pass->data[start] - '0') < 10)
            return 1;
    return 0;
}

static int is_signed(const Pass *pass, uint32_t end, const Entry *entry)
{
    const uint8_t *signs = pass->vocabulary->signs[entry->signs - 1];
    for (uint32_t place = end; place < pass->size && place < end + SIGN_REACH; place++)
        if (signs[pass->data[place] >> 3] >> (pass->data[place] & 7) & 1)
            return 1;
    return 0;
}

/* Why the word at ``index`` matters by itself, or beside another as a pair. */
static int reasons(const Pass *pass, Py_ssize_t index, const Entry *entry, const Beside *before, const Beside *after)
{
    const Word *word = &pass->words->words[index];
    uint32_t place = word->start - 1;
    int why = 0;
    if ((before && before->pairs & PAIR_BEFORE) || (after && after->pairs & PAIR_AFTER))
        why |= BECAUSE_PAIR;
    if (entry->traits & FREE || (entry->traits & TOLD && holds_digit(pass, place, entry)) ||
        (entry->signs && is_signed(pass, word->end - 1, entry)))
        why |= BECAUSE_PROBES;
    if (entry->traits & TERM)
        why |= BECAUSE_TERM;
    if (entry->traits & SIGN)
        why |= BECAUSE_SIGN;
    if (entry->traits & NAME) {
        uint32_t previous = pass->ids[index];
        if (pass->data[place] < CAPITALS_END ||
            (previous && pass->vocabulary->entries[previous - 1].traits & NAMED))
            why |= BECAUSE_NAME;
    }
    return why;
}

/* The word of this number, or None for one that is not of the vocabulary. */
static PyObject *value_of(PyObject *values, uint32_t number)
{
    return Py_NewRef(number ? PyTuple_GetItem(values, number - 1) : Py_None);
}

static PyObject *event(const Pass *pass, Py_ssize_t index, int why, uint32_t phrase)
{
    const Vocabulary *self = pass->vocabulary;
    PyObject *parts[] = {
        PyLong_FromLong(why),
        PyLong_FromSsize_t(index),
        PyLong_FromSsize_t((Py_ssize_t)pass->words->words[index].start - 1),
        value_of(self->values, pass->ids[index + 1]),
        value_of(self->words, pass->ids[index]),
        value_of(self->words, pass->ids[index + 2]),
        value_of(self->phrase_values, phrase),
    };
    PyObject *made = PyTuple_New(7);
    for (int part = 0; part < 7; part++) {
        if (made != NULL && parts[part] != NULL)
            PyTuple_SetItem(made, part, parts[part]);
        else {
            Py_XDECREF(parts[part]);
            Py_CLEAR(made);
        }
    }
    return made;
}

/* Add the event of the word at ``index``, if it is one; -1 with an exception set. */
static int visit(const Pass *pass, Py_ssize_t index, PyObject *events)
{
    const Vocabulary *self = pass->vocabulary;
    const Entry *entry = &self->entries[pass->ids[index + 1] - 1];
    const Beside *before = NULL, *after = NULL;
    uint32_t phrase = 0;
    if (entry->besides) {
        before = find_beside(self, entry, pass->ids[index]);
        after = find_beside(self, entry, pass->ids[index + 2]);
        phrase = phrase_around(pass, index, before, after);
    }
    int why = reasons(pass, index, entry, before, after);
    if (!why && !phrase)
        return 0;
    PyObject *made = event(pass, index, why, phrase);
    int result = made == NULL ? -1 : PyList_Append(events, made);
    Py_XDECREF(made);
    return result;
}

PyObject *vocabulary_events(Vocabulary *self, const Words *words, const uint8_t *data, uint32_t size, Py_ssize_t limit)
{
    uint32_t *ids = PyMem_Malloc(((size_t)words->count + 2) * sizeof(uint32_t));
    PyObject *events = ids == NULL ? PyErr_NoMemory() : PyList_New(0);
    if (events == NULL) {
        PyMem_Free(ids);
        return NULL;
    }
    ids[0] = ids[words->count + 1] = self->edge;
    for (Py_ssize_t index = 0; index < words->count; index++)
        ids[index + 1] = find_word(self, words, index);
    Pass pass = {self, words, data, size, ids};
    for (Py_ssize_t index = 0; index < words->count && limit > 0; index++) {
        uint32_t number = ids[index + 1];
        if (number == 0 || !(self->entries[number - 1].traits & KNOWN))
            continue;
        limit--;
        if (visit(&pass, index, events) < 0) {
            Py_CLEAR(events);
            break;
        }
    }
    PyMem_Free(ids);
    return events;
}
