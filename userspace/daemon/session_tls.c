/* SPDX-License-Identifier: MIT */
#include "daemon/session_tls.h"

#include "base/text.h"
#include "daemon/session_login.h"
#include "daemon/session_rec.h"

static void refuse(struct session *s, uint16_t reason, const char *why)
{
	char words[256];

	(void)snprintf(words, sizeof(words), "cannot speak TLS with target %s: %s",
		       s->view->target->name, why);
	session_end(s, reason, words);
}

/* Who it is and what it says of it is known: the protocol begins. */
static void is_up(struct session *s)
{
	struct insp_channel *c = arena_alloc(&s->arena, sizeof(*c));

	if (!c) {
		session_end(s, TG_R_NO_MEMORY, NULL);
		return;
	}
	c->end_point = tls_binding(s->tls);
	c->certified = tls_showed_certificate(s->tls);
	s->env.channel = c;
	if (!srec_tls(s)) {
		session_end(s, TG_R_RECORD_FAILED, NULL);
		return;
	}
	session_running(s);
}

void stls_go_on(struct session *s)
{
	switch (tls_step(s->tls)) {
	case TLS_STEP_WAIT:
		return;
	case TLS_STEP_SIGN:
		slogin_prove(s);
		return;
	case TLS_STEP_UP:
		is_up(s);
		return;
	case TLS_STEP_FAILED:
		session_end(s, tls_reason(s->tls), tls_why(s->tls));
		return;
	}
}

void stls_begin(struct session *s)
{
	struct trust_start start;
	const char *why;
	int rc = trust_start(s->conf->trust, s->view->target, s->upstream, &start, &why);

	if (rc) {
		refuse(s, TG_R_UPSTREAM_CERTIFICATE, why);
		return;
	}
	start.tls.chain = slogin_chain(s);
	rc = tls_new(&start.tls, s->leg[INSP_S2C].fd, &s->tls);
	if (rc == -EINVAL)
		refuse(s, TG_R_CREDENTIAL_MISSING, "its client certificate cannot be used");
	else if (rc)
		session_end(s, TG_R_NO_MEMORY, NULL);
	else
		stls_go_on(s);
}

void stls_signed(struct session *s, int error, struct slice sig)
{
	if (!s->tls || !tls_to_sign(s->tls))
		return;
	tls_signed(s->tls, error, sig);
	stls_go_on(s);
	if (s->state < SESSION_END)
		session_resume(s);
	else if (s->state != SESSION_DEAD)
		session_after_end(s);
}

void stls_broken(struct session *s)
{
	session_end(s, tls_reason(s->tls), tls_why(s->tls));
}

void stls_describe(const struct session *s, struct jsonw *j)
{
	char hex[2 * TLS_CERTIFICATE_HASH + 1];

	text_hex(tls_certificate_hash(s->tls), TLS_CERTIFICATE_HASH, hex);
	jsonw_kv_string(j, "version", tls_version(s->tls));
	jsonw_kv_string(j, "cipher", tls_cipher(s->tls));
	jsonw_kv_string(j, "certificate_sha256", hex);
}
