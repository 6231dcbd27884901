/* What the files of this part share. Stable ABI of Python 3.11, as the scan's C part. */
#ifndef POSTERN_OCTETS_H
#define POSTERN_OCTETS_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* cut(source): the different runs of tags, of each run which it is, where they stand; None: a tag has no end. */
PyObject *markup_cut(PyObject *module, PyObject *source);
/* joined(source, order, places, marks, dropped): the text with marks in the place of runs. */
PyObject *markup_joined(PyObject *module, PyObject *args);

#endif
