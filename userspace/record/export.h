/* SPDX-License-Identifier: MIT */
/* Records as JSON lines, for other programs. */
#ifndef TIDEGATE_RECORD_EXPORT_H
#define TIDEGATE_RECORD_EXPORT_H

#include "base/buf.h"
#include "record/reader.h"

/*
 * Appends one line: {"n": @number, "frame", "time", "wall_ns", "type", ...} and then
 * "data" (a record that is JSON), or "bytes" and "base64" (one that is not, or is broken).
 * 0 or negative errno; @out then has what it had.
 */
MUST_CHECK int export_jsonl(const struct reader_record *rec, uint64_t number, struct buf *out);

#endif
