/* The module: its types, and the version that the Python side wants. */
#include "native.h"

#define VERSION 11

static PyTypeObject *added(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);
    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

static int module_exec(PyObject *module)
{
    State *state = PyModule_GetState(module);
    state->words_type = added(module, &words_spec);
    state->vocabulary_type = added(module, &vocabulary_spec);
    state->names_type = added(module, &names_spec);
    state->anchors_type = added(module, &anchors_spec);
    state->endings_type = added(module, &endings_spec);
    if (state->words_type == NULL || state->vocabulary_type == NULL || state->names_type == NULL ||
        state->anchors_type == NULL || state->endings_type == NULL)
        return -1;
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    State *state = PyModule_GetState(module);
    Py_VISIT(state->words_type);
    Py_VISIT(state->vocabulary_type);
    Py_VISIT(state->names_type);
    Py_VISIT(state->anchors_type);
    Py_VISIT(state->endings_type);
    return 0;
}

static int module_clear(PyObject *module)
{
    State *state = PyModule_GetState(module);
    Py_CLEAR(state->words_type);
    Py_CLEAR(state->vocabulary_type);
    Py_CLEAR(state->names_type);
    Py_CLEAR(state->anchors_type);
    Py_CLEAR(state->endings_type);
    return 0;
}

static PyMethodDef module_methods[] = {
    {"apart", hits_apart, METH_VARARGS, "What stands where nothing before it in both lists does, by place."},
    {"weighed", hits_weighed, METH_VARARGS, "Identifiers, and places and weights of what is said of health."},
    {"listed", hits_listed, METH_VARARGS, "What a verdict lists, each with how many more it stands for."},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "relay.scan._native",
    .m_doc = "What the scan does with every character and word of a text.",
    .m_size = sizeof(State),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
};

__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module_definition);
}
