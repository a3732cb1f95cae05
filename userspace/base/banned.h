/* SPDX-License-Identifier: MIT */
/* Calls that cannot be used safely are made compile errors. */
#ifndef TIDEGATE_BASE_BANNED_H
#define TIDEGATE_BASE_BANNED_H

/* The declarations must come before the names are poisoned. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* With clang, _FORTIFY_SOURCE makes macros of these two, which cannot be poisoned. */
#undef sprintf
#undef vsprintf

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf gets strtok atoi atol asctime ctime

#endif
