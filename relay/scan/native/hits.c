/* Terms, phrases and names in a text: what words tell, as relay/scan/terms.py has it, which is the reference. */
#include "native.h"

#define SAID_AGAIN 25 /* words: a term said again so soon adds nothing to any window */
#define AT_START 2    /* of a hit */
#define AT_END 3
#define PARTS_OF_HIT 7

enum { KNOWN_WORD, KNOWN_TERM, KNOWN_LABEL = 4 }; /* of what is known of a word */
enum { TOLD_KIND, TOLD_WEIGHT, TOLD_SENSITIVE };  /* of a term */

/* ``said``: of each word whether it is a term that was found there. */
typedef struct {
    Pass pass;
    uint8_t *said;
    PyObject *tokens, *at, *labelled, *group; /* what finds persons, and the group of terms */
    PyTypeObject *hit_type;
    PyObject *hits, *tried;
} Search;

static int fail(const char *what)
{
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_ValueError, what);
    return -1;
}

/* A part of a tuple, borrowed; NULL with an exception set where it is no tuple of so many. */
static PyObject *part_of(PyObject *value, Py_ssize_t number)
{
    if (PyTuple_Check(value) && PyTuple_Size(value) > number)
        return PyTuple_GetItem(value, number);
    fail("what is known of a word, a phrase or a person is not whole");
    return NULL;
}

/* Where a hit begins or ends; -1 with an exception set. */
static Py_ssize_t place_of(PyObject *hit, Py_ssize_t which)
{
    PyObject *place = part_of(hit, which);
    Py_ssize_t number = place == NULL ? -1 : PyLong_AsSsize_t(place);
    return number < 0 ? fail("a person before the text") : number;
}

static PyObject *last_of(PyObject *list)
{
    Py_ssize_t size = PyList_Size(list);
    return size ? PyList_GetItem(list, size - 1) : NULL;
}

/* Append a new object, which this takes; -1 with an exception set. */
static int take(PyObject *list, PyObject *object)
{
    int result = object == NULL ? -1 : PyList_Append(list, object);
    Py_XDECREF(object);
    return result;
}

/* The hit of a term, told by its kind, weight and specially protected kind. */
static PyObject *hit_of(const Search *search, PyObject *told, uint32_t start, uint32_t end, PyObject *norm)
{
    PyObject *kind = part_of(told, TOLD_KIND), *weight = part_of(told, TOLD_WEIGHT);
    PyObject *sensitive = part_of(told, TOLD_SENSITIVE);
    if (kind == NULL || weight == NULL || sensitive == NULL)
        return NULL;
    PyObject *first = PyLong_FromLong((long)start), *last = PyLong_FromLong((long)end);
    PyObject *hit = first && last ? PyType_GenericAlloc(search->hit_type, PARTS_OF_HIT) : NULL;
    if (hit == NULL) {
        Py_XDECREF(first);
        Py_XDECREF(last);
        return NULL;
    }
    PyObject *parts[PARTS_OF_HIT] = {Py_NewRef(kind), Py_NewRef(search->group), first, last, Py_NewRef(weight),
                                     Py_NewRef(norm), Py_NewRef(sensitive)};
    for (int part = 0; part < PARTS_OF_HIT; part++)
        PyTuple_SetItem(hit, part, parts[part]);
    return hit;
}

/* Add a hit of several words, which this takes, unless it begins within the one before. */
static int add(const Search *search, PyObject *hit)
{
    PyObject *last = last_of(search->hits);
    Py_ssize_t start = hit == NULL ? -1 : place_of(hit, AT_START);
    Py_ssize_t end = start >= 0 && last != NULL ? place_of(last, AT_END) : 0;
    if (start < 0 || end < 0 || end > start) {
        Py_XDECREF(hit);
        return start < 0 || end < 0 ? -1 : 0;
    }
    return take(search->hits, hit);
}

/* Add a phrase, for its words that stood for themselves until now; the word behind it, or -1 with an exception set. */
static Py_ssize_t add_phrase(const Search *search, Py_ssize_t index, uint32_t number)
{
    Vocabulary *self = search->pass.vocabulary;
    const Phrase *phrase = &self->phrases[number - 1];
    const Word *first = &search->pass.words->words[index - phrase->before], *last = first + phrase->size - 1;
    PyObject *value = vocabulary_phrase(self, number), *before;
    PyObject *norm = value ? part_of(value, 0) : NULL, *told = value ? part_of(value, 1) : NULL;
    if (norm == NULL || told == NULL)
        return -1;
    while ((before = last_of(search->hits)) != NULL) {
        Py_ssize_t size = PyList_Size(search->hits), start = place_of(before, AT_START);
        if (start < 0)
            return -1;
        if (start < (Py_ssize_t)first->start - 1)
            break;
        if (PyList_SetSlice(search->hits, size - 1, size, NULL) < 0)
            return -1;
    }
    if (add(search, hit_of(search, told, first->start - 1, last->end - 1, norm)) < 0)
        return -1;
    return index - phrase->before + phrase->size;
}

/* Whether the term at ``index`` was found shortly before. */
static int was_said(const Search *search, Py_ssize_t index)
{
    const uint32_t *id = search->pass.ids + 1 + index;
    for (Py_ssize_t back = 1; back < SAID_AGAIN && back <= index; back++)
        if (id[-back] == *id && search->said[index - back])
            return 1;
    return 0;
}

/* Add a term, and whom it labels; the word behind both, or -1 with an exception set. */
static Py_ssize_t add_term(const Search *search, Py_ssize_t index, PyObject *known, PyObject *told)
{
    const Word *word = &search->pass.words->words[index];
    PyObject *norm = part_of(known, KNOWN_WORD), *is_label = part_of(known, KNOWN_LABEL);
    if (was_said(search, index))
        return index + 1;
    search->said[index] = 1;
    if (norm == NULL || is_label == NULL ||
        take(search->hits, hit_of(search, told, word->start - 1, word->end - 1, norm)) < 0)
        return -1;
    if (is_label != Py_True)
        return index + 1;
    PyObject *name =
        PyObject_CallFunction(search->labelled, "OnI", search->tokens, index, (unsigned int)word->end - 1);
    int is_named = name != NULL && name != Py_None;
    int result = name == NULL ? -1 : is_named ? PyList_Append(search->hits, name) : 0;
    Py_XDECREF(name);
    return result < 0 ? -1 : index + 1 + is_named;
}

/* Add the person named at ``index``, if one is; the word behind, or -1 with an exception set. */
static Py_ssize_t add_name(const Search *search, Py_ssize_t index)
{
    const Words *words = search->pass.words;
    unsigned int place = words->words[index].start - 1;
    PyObject *name = PyObject_CallFunction(search->at, "OnI", search->tokens, index, place);
    if (name == NULL || name == Py_None) {
        int result = name == NULL ? -1 : 0;
        Py_XDECREF(name);
        return result < 0 ? -1 : index + 1;
    }
    Py_ssize_t end = place_of(name, AT_END);
    if (end < 0) {
        Py_DECREF(name);
        return -1;
    }
    if (add(search, name) < 0)
        return -1;
    while (index < words->count && (Py_ssize_t)words->words[index].start <= end)
        index++;
    return index;
}

/* Note the word at ``index`` as one at which more is to be tried; -1 with an exception set. */
static int note(const Search *search, Py_ssize_t index, int why, PyObject *known)
{
    const Pass *pass = &search->pass;
    PyObject *beside[2];
    for (int side = 0; side < 2; side++) {
        uint32_t number = pass->ids[index + 2 * side];
        beside[side] = number ? vocabulary_word(pass->vocabulary, number) : Py_None;
        if (beside[side] == NULL)
            return -1;
    }
    PyObject *reason = PyLong_FromLong(why), *place = PyLong_FromLong((long)pass->words->words[index].start - 1);
    PyObject *noted = reason && place ? PyTuple_Pack(5, reason, place, known, beside[0], beside[1]) : NULL;
    Py_XDECREF(reason);
    Py_XDECREF(place);
    return take(search->tried, noted);
}

/* Look at the word at ``index``, which is of the vocabulary; before ``upto`` all is spoken for. The first word that is
 * not, or -1 with an exception set. */
static Py_ssize_t visit(const Search *search, Py_ssize_t index, Py_ssize_t upto)
{
    Vocabulary *self = search->pass.vocabulary;
    Event event;
    if (!pass_event(&search->pass, index, &event))
        return upto;
    PyObject *known = vocabulary_known(self, search->pass.ids[index + 1]);
    if (known == NULL)
        return -1;
    if (event.why & (BECAUSE_PAIR | BECAUSE_PROBES | BECAUSE_SIGN) && note(search, index, event.why, known) < 0)
        return -1;
    if (index < upto)
        return upto;
    if (event.phrase)
        return add_phrase(search, index, event.phrase);
    if (event.why & BECAUSE_TERM) {
        PyObject *told = part_of(known, KNOWN_TERM);
        return told == NULL ? -1 : add_term(search, index, known, told);
    }
    return event.why & BECAUSE_NAME ? add_name(search, index) : upto;
}

/* Look at all words, so many known ones at most; -1 with an exception set. */
static int visit_all(const Search *search, Py_ssize_t limit)
{
    const Pass *pass = &search->pass;
    Py_ssize_t upto = 0;
    for (Py_ssize_t index = 0; index < pass->words->count && limit > 0; index++) {
        uint32_t number = pass->ids[index + 1];
        if (number == 0 || !(pass->vocabulary->entries[number - 1].traits & KNOWN))
            continue;
        limit--;
        upto = visit(search, index, upto);
        if (upto < 0)
            return -1;
    }
    return 0;
}

/* found(tokens, words, data, limit, hit type, group, at, labelled): the hits, and where more is to be tried. */
PyObject *vocabulary_found(Vocabulary *self, PyObject *args)
{
    Search search = {.pass = {.vocabulary = self}};
    PyObject *words, *hit_type, *result = NULL;
    const char *data;
    Py_ssize_t size, limit;
    if (!PyArg_ParseTuple(args, "OOy#nO!OOO", &search.tokens, &words, &data, &size, &limit, &PyType_Type, &hit_type,
                          &search.group, &search.at, &search.labelled))
        return NULL;
    const State *state = PyType_GetModuleState(Py_TYPE((PyObject *)self));
    if (state == NULL || words_check(state, words, size) < 0)
        return NULL;
    search.hit_type = (PyTypeObject *)hit_type;
    if (!PyType_IsSubtype(search.hit_type, &PyTuple_Type)) {
        PyErr_SetString(PyExc_TypeError, "a type of hits that are no tuples");
        return NULL;
    }
    search.pass.words = (const Words *)words;
    search.pass.data = (const uint8_t *)data;
    search.pass.size = (uint32_t)size;
    search.said = PyMem_Calloc((size_t)search.pass.words->count + 1, 1);
    search.hits = PyList_New(0);
    search.tried = PyList_New(0);
    if (search.said == NULL)
        PyErr_NoMemory();
    else if (search.hits != NULL && search.tried != NULL && pass_begin(&search.pass) == 0 &&
             visit_all(&search, limit) == 0)
        result = PyTuple_Pack(2, search.hits, search.tried);
    PyMem_Free(search.pass.ids);
    PyMem_Free(search.said);
    Py_XDECREF(search.hits);
    Py_XDECREF(search.tried);
    return result;
}
