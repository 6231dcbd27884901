/* One pass over a text: which of its words matter, and why. */
#define _GNU_SOURCE /* memrchr */
#include "native.h"

#define SIGN_REACH 4   /* characters behind a word in which its sign stands */
#define CAPITALS_END 91
#define LONG_WORD 40 /* characters before a word in which the one before it begins */

/* The number of a word of a text, from 1; 0: it is not of the vocabulary. */
static inline uint32_t find_word(const Vocabulary *self, const Words *words, Py_ssize_t index)
{
    uint32_t start = words->words[index].start, size = words->words[index].end - start, number;
    const uint8_t *word = words->text + start;
    uint64_t hash = hash_of(word, size, (size_t)words->size - start);
    if (!index_may(&self->index, hash))
        return 0;
    uint32_t slot = index_slot(&self->index, hash);
    uint16_t print = print_of(hash);
    while ((number = index_next(&self->index, &slot, print)) != 0) {
        const Entry *entry = &self->entries[number - 1];
        if (entry->size == size && memcmp(self->arena + entry->at, word, size) == 0)
            return number;
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

/* Whether a line of at most so many characters on either side of ``place`` may stand there, blanks at its end apart. */
static int is_in_short_line(const Pass *pass, uint32_t place, uint32_t most)
{
    uint32_t first = place > most ? place - most : 0, end = pass->size - place > most ? place + most : pass->size;
    if (memchr(pass->data + place, '\n', end - place) == NULL && end < pass->size && pass->data[end] != ' ' &&
        pass->data[end] != '\t' && pass->data[end] != '\n')
        return 0;
    return first == 0 || memrchr(pass->data + first, '\n', place - first) != NULL;
}

/* Whether the word before the one at ``place`` begins with a capital; as ShapeSearch has it, a space will do. */
static int follows_capital(const Pass *pass, uint32_t place)
{
    uint32_t first = place > 2 ? place - 2 : 0, least = place > LONG_WORD ? place - LONG_WORD : 0;
    while (first > least && pass->data[first - 1] != ' ')
        first--;
    uint8_t octet = pass->data[first > least ? first : 0];
    return (octet >= 'A' && octet <= 'Z') || (octet >= 0xc0 && octet <= 0xde) || octet == ' ' ||
           (octet >= '\t' && octet <= '\r');
}

/* Why the word at ``index`` matters by itself, or beside another as a pair. */
static int reasons(const Pass *pass, Py_ssize_t index, const Entry *entry, const Beside *before, const Beside *after)
{
    const Word *word = &pass->words->words[index];
    uint32_t place = word->start - 1;
    int why = 0;
    if ((before && before->pairs & PAIR_BEFORE) || (after && after->pairs & PAIR_AFTER))
        why |= BECAUSE_PAIR;
    if ((entry->traits & FREE && (!(entry->traits & CAPITAL) || follows_capital(pass, place))) ||
        (entry->traits & TOLD && holds_digit(pass, place, entry)) ||
        (entry->signs && is_signed(pass, word->end - 1, entry)))
        why |= BECAUSE_PROBES;
    if (entry->traits & TERM)
        why |= BECAUSE_TERM;
    if (entry->traits & SIGN && (entry->traits & TOLD || !entry->near || is_in_short_line(pass, place, entry->near)))
        why |= BECAUSE_SIGN;
    if (entry->traits & NAME) {
        uint32_t previous = pass->ids[index];
        if (pass->data[place] < CAPITALS_END ||
            (previous && pass->vocabulary->entries[previous - 1].traits & NAMED))
            why |= BECAUSE_NAME;
    }
    return why;
}

int pass_event(const Pass *pass, Py_ssize_t index, Event *event)
{
    const Vocabulary *self = pass->vocabulary;
    const Entry *entry = &self->entries[pass->ids[index + 1] - 1];
    const Beside *before = NULL, *after = NULL;
    event->phrase = 0;
    if (entry->besides) {
        before = find_beside(self, entry, pass->ids[index]);
        after = find_beside(self, entry, pass->ids[index + 2]);
        event->phrase = phrase_around(pass, index, before, after);
    }
    event->why = reasons(pass, index, entry, before, after);
    return event->why || event->phrase;
}

int pass_begin(Pass *pass)
{
    const Vocabulary *self = pass->vocabulary;
    Py_ssize_t count = pass->words->count;
    pass->ids = PyMem_Malloc(((size_t)count + 2) * sizeof(uint32_t));
    if (pass->ids == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pass->ids[0] = pass->ids[count + 1] = self->edge;
    for (Py_ssize_t index = 0; index < count; index++)
        pass->ids[index + 1] = find_word(self, pass->words, index);
    return 0;
}
