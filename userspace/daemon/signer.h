/* SPDX-License-Identifier: MIT */
/* keyd's own key, which signs receipts: made at the first start, root's alone. */
#ifndef TIDEGATE_DAEMON_SIGNER_H
#define TIDEGATE_DAEMON_SIGNER_H

#include "base/buf.h"
#include "record/receipt.h"

#define SIGNER_FILE "receipts.key" /* in state_dir */

struct signer {
	EVP_PKEY *key; /* NULL: there is none, and nothing can be signed */
	char name[RECEIPT_KEY_NAME];
};

/* Reads it, or makes it if there is none. Negative errno and words for the log. */
MUST_CHECK int signer_load(const char *state_dir, struct signer *ret, const char **ret_why);
void signer_done(struct signer *s);
/* The public part in PEM form. */
MUST_CHECK int signer_public(const struct signer *s, struct buf *ret);

#endif
