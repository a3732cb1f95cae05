/* SPDX-License-Identifier: MIT */
/*
 * What a PostgreSQL server said, for people: results as tables, errors, notices.
 * Tolerant where the inspector is strict: the bytes come from a recording, secrets
 * in it are overwritten and login messages left out. It decides nothing.
 */
#ifndef TIDEGATE_CTL_PGVIEW_H
#define TIDEGATE_CTL_PGVIEW_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"

struct pgview;

/* At most @rows rows of a result are shown. NULL: no memory. */
struct pgview *pgview_new(unsigned rows);
void pgview_free(struct pgview *v);
/*
 * The next bytes of the stream, cut anywhere. Appends lines to @out, escaped for
 * a terminal. 0 or negative errno (@out is full, or no memory).
 */
MUST_CHECK int pgview_feed(struct pgview *v, struct slice in, struct buf *out);
/* The stream has ended: what is left of a result. */
MUST_CHECK int pgview_end(struct pgview *v, struct buf *out);

#endif
