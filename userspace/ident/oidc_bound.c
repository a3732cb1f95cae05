/* SPDX-License-Identifier: MIT */
/* Tokens that are bound to a key of ours (RFC 7800, RFC 8705), and the certificate that binds them. */
#include <errno.h>

#include "ident/oidc_impl.h"
#include "ident/strict_json.h"
#include "ident/tls_sign.h"

int bound_use_certificate(struct oidc *o, struct slice chain)
{
	struct http_identity who = {.chain = chain, .sign = o->ops.sign, .ctx = o->ctx};
	char thumb[sizeof(o->thumb)];
	uint8_t md[TLS_THUMB];
	struct curl_loop *l;
	int err = tls_chain_thumb(chain, md);

	if (err)
		return err;
	(void)b64_url_encode(slice_of(md, sizeof(md)), thumb);
	if (o->tls && strcmp(thumb, o->thumb) == 0)
		return 0;
	err = curl_loop_new_as(o->http, &who, &l);
	if (err)
		return err;
	/* What is under way with the old one ends with it. */
	curl_loop_retire(o->tls);
	o->tls = l;
	memcpy(o->thumb, thumb, sizeof(thumb));
	return 0;
}

const char *bound_check(const struct oidc_grant *g, const json_t *claims)
{
	const json_t *cnf = json_object_get(claims, "cnf");
	const char *thumb = strict_json_string(cnf, "x5t#S256");

	if (!cnf)
		return NULL;
	if (json_object_size(cnf) != 1 || !thumb)
		return "the token is bound to a key (cnf) in a way that is not known here";
	return g->thumb[0] && strcmp(thumb, g->thumb) == 0
		       ? NULL
		       : "the token is bound to another certificate (cnf x5t#S256) than ours";
}
