/* The scan's C part. Stable ABI of Python 3.11: one product serves every later version. */
#ifndef POSTERN_NATIVE_H
#define POSTERN_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>

#endif
