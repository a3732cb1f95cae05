// SPDX-License-Identifier: MIT
#include "env.h"

const struct row life_rows[] = {{0}};
