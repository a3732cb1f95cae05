/* SPDX-License-Identifier: MIT */
/* The bypass matrix: every attempt of attacks.h, its hook, and what came of it. */
#ifndef TIDEGATE_TESTS_BPF_MATRIX_H
#define TIDEGATE_TESTS_BPF_MATRIX_H

#include <stdbool.h>

enum matrix_form { MATRIX_TEST, MATRIX_TABLE, MATRIX_JSON };

/* Adds to the counts. False: it could not be set up. */
bool matrix_run(enum matrix_form form, const char *only, int *passed, int *failed);

#endif
