/* SPDX-License-Identifier: MIT */
/* The receipts in a recording: signed by whom, and do they say what the records say? */
#ifndef TIDEGATE_CTL_PROOFS_H
#define TIDEGATE_CTL_PROOFS_H

#include "base/compiler.h"
#include "record/reader.h"

struct proofs;

/*
 * The keys are taken from @key_file alone, or (NULL) from the folder of @recording, by name.
 * 0, or -errno: @key_file is none.
 */
MUST_CHECK int proofs_new(const char *key_file, const char *recording, struct proofs **ret);
void proofs_free(struct proofs *p);

/* One after another, all records. NULL, or what is wrong with the receipt in it. */
const char *proofs_record(struct proofs *p, const struct reader_record *rec);

struct proofs_counts {
	uint64_t good, bad;
	uint64_t none; /* decisions of people or providers without a receipt */
	const char *key; /* the last that a good one was signed with, or NULL */
};
struct proofs_counts proofs_counts(const struct proofs *p);

#endif
