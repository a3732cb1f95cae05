/* SPDX-License-Identifier: MIT */
/* A recorded session, told again for people. */
#ifndef TIDEGATE_CTL_REPLAY_H
#define TIDEGATE_CTL_REPLAY_H

#include "base/buf.h"
#include "base/compiler.h"
#include "record/reader.h"

struct replay;

/* At most @rows rows of a result are shown. NULL: no memory. */
struct replay *replay_new(unsigned rows);
void replay_free(struct replay *r);
/*
 * One more record: appends its lines to @out, escaped for a terminal. 0 or negative
 * errno. @rec is not kept.
 */
MUST_CHECK int replay_record(struct replay *r, const struct reader_record *rec, struct buf *out);
/* The recording has ended, with or without an end record. */
MUST_CHECK int replay_end(struct replay *r, struct buf *out);

#endif
