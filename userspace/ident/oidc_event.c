/* SPDX-License-Identifier: MIT */
/* Events that the provider sends: verified with its keys, as its tokens are. */
#include <errno.h>

#include "ident/oidc_impl.h"

static int check(struct oidc *o, struct slice token, const char *audience, struct secevent *ret,
		 struct oidc_event_error *e, enum jwt_status *ret_status)
{
	struct jwt_expect want = {
		.issuer = o->cfg.issuer,
		.audience = audience,
		.algorithms = o->cfg.algorithms,
		.types = secevent_types,
		.event = true,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = o->cfg.skew_ms / 1000,
	};
	struct secevent_error why = {"invalid_request", ""};
	json_t *claims = NULL;
	bool ok;

	*ret_status = jwt_verify(token, o->keys, &want, &claims, e->words, sizeof(e->words));
	e->code = *ret_status == JWT_UNKNOWN_KEY ? "invalid_key" : "invalid_request";
	if (*ret_status != JWT_OK)
		return -EBADMSG;
	ok = secevent_read(claims, o->cfg.issuer, want.now_s, want.skew_s, ret, &why);
	json_decref(claims);
	if (ok)
		return 0;
	e->code = why.code;
	(void)snprintf(e->words, sizeof(e->words), "%s", why.words);
	return -EBADMSG;
}

int oidc_event(struct oidc *o, struct slice token, const char *audience, bool *keys_tried,
	       struct secevent *ret, struct oidc_event_error *ret_error)
{
	enum jwt_status status;
	int err;

	if (o->keys_doc.transfer || oidc_docs_ready(o) != 1)
		return -EAGAIN; /* nobody may have needed them so far */
	err = check(o, token, audience, ret, ret_error, &status);
	if (!err || status != JWT_UNKNOWN_KEY || *keys_tried)
		return err;
	*keys_tried = true;
	return oidc_keys_again(o) ? err : -EAGAIN;
}
