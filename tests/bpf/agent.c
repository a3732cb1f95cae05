// SPDX-License-Identifier: MIT
#include "env.h"

const struct row agent_rows[] = {{0}};
