/* The module: its types, and the version that the Python side wants. */
#include "native.h"

#define VERSION 1

static int module_exec(PyObject *module)
{
    return PyModule_AddIntConstant(module, "VERSION", VERSION);
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "relay.scan._native",
    .m_doc = "What the scan does with every character and word of a text.",
    .m_size = 0,
    .m_slots = module_slots,
};

__attribute__((visibility("default"))) PyMODINIT_FUNC PyInit__native(void)
{
    return PyModuleDef_Init(&module_definition);
}
