// SPDX-License-Identifier: MIT
#include "env.h"

const struct row deny_rows[] = {{0}};
