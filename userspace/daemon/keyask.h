/* SPDX-License-Identifier: MIT */
/* What authd asks of keyd, through the parent: proofs of who Tidegate is. */
#ifndef TIDEGATE_DAEMON_KEYASK_H
#define TIDEGATE_DAEMON_KEYASK_H

#include <uv.h>

#include "daemon/ipc.h"
#include "ident/oidc.h"

struct keyask;

struct keyask *keyask_new(uv_loop_t *loop, struct ipc *ipc);
/* What is asked from here on is for @o (NULL: nobody); what another asked for is dropped. */
void keyask_for(struct keyask *k, struct oidc *o);
/* As the functions of struct oidc_ops. */
void keyask_credential(struct keyask *k, uint64_t id, const char *audience);
void keyask_proof(struct keyask *k, uint64_t id, const char *url, const char *nonce);
MUST_CHECK int keyask_sign(struct keyask *k, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX],
			   size_t *ret_n);
/* IPC_KEY_CLIENT and IPC_KEY_DPOP */
void keyask_answer(struct keyask *k, struct ipc_msg *m);

#endif
