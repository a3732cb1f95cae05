/* SPDX-License-Identifier: MIT */
/* The accelerator, by target. */
#ifndef TIDEGATE_DAEMON_ACCEL_H
#define TIDEGATE_DAEMON_ACCEL_H

#include "daemon/parent.h"

/* Starts the self-test if a target wants it and it was not run yet. */
void accel_start(struct parent *p);
/* TG_TARGET_ACCEL_*, as far as is known now. */
uint8_t accel_flags(const struct parent *p, const struct cfg_target *t);
/* For `status`. */
json_t *accel_json(struct parent *p);

#endif
