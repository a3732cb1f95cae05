/* SPDX-License-Identifier: MIT */
/*
 * While keyd works its question's bytes are held; if keyd dies the inspector asks again. What
 * keyd tells is wiped as soon as it is on its way.
 */
#include "daemon/session_login.h"
#include "daemon/session_tls.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "ident/b64.h"
#include "ident/scram.h"
#include "inspect/pg_proof.h"

enum {
	NONCE_BYTES = 18,
	RETRY_MS = 250,	   /* keyd is being started again */
	LOGIN_MS = 20000,  /* keyd and the server together, beside program and connection */
	USER_MAX = 256,
	KEY_MAX = 320,
	WORDS_MAX = 256,
	SIGNED_MAX = 48 << 10, /* TLS 1.2 signs a whole handshake, with the server's certificates */
};

struct slogin {
	struct list link; /* w->logins */
	struct session *s;
	uint64_t id; /* of the question to keyd; 0: none */
	enum ipc_type type;
	bool answered;
	bool known; /* who it is; what follows is the certificate */
	int error; /* of the answer */
	uint64_t retry_boot_ns, until_boot_ns; /* 0: none */
	char user[USER_MAX];
	char key[KEY_MAX]; /* keyd's name for the secret */
	char words[WORDS_MAX];
	uint16_t reason; /* of the parent's denial; 0: of the error */
	char nonce[B64_TEXT(NONCE_BYTES)];
	size_t text_n, signature_n;
	char *text; /* a proof, a response or the password itself */
	char signature[64];
};

static void drop_text(struct slogin *l)
{
	if (l->text)
		explicit_bzero(l->text, l->text_n);
	free(l->text);
	l->text = NULL;
	l->text_n = 0;
}

void slogin_free(struct session *s)
{
	struct slogin *l = s->login;

	if (!l)
		return;
	list_del(&l->link);
	drop_text(l);
	explicit_bzero(l, sizeof(*l));
	free(l);
	s->login = NULL;
}

static struct slogin *get(struct session *s)
{
	const struct cfg_target *t = s->view->target;
	struct slogin *l = s->login;
	uint64_t wait_ms = LOGIN_MS + t->connect_timeout_ms + t->login->timeout_ms;

	if (l)
		return l;
	l = calloc(1, sizeof(*l));
	if (!l)
		return NULL;
	l->s = s;
	l->until_boot_ns = clock_boot_ns() + wait_ms * 1000000;
	list_init(&l->link);
	list_add_tail(&s->w->logins, &l->link);
	return s->login = l;
}

/* ------------------------------------------------------------- asking keyd */

static void ask(struct slogin *l, enum ipc_type type)
{
	l->id = ++l->s->w->next_ask;
	l->type = type;
	l->answered = false;
	ipc_begin(l->s->w->ipc, type, l->id);
}

/* Whether keyd knows by the credential's name alone who logs in, or the grant counts. */
static enum ipc_type who_type(const struct session *s)
{
	return cfg_credential_granted(s->view->target->login) ? IPC_GRANT_LOGIN : IPC_KEY_LOGIN;
}

static void ask_who(struct slogin *l)
{
	struct session *s = l->s;

	if (who_type(s) == IPC_GRANT_LOGIN)
		session_tell_login(s); /* a role may be made for its database */
	ask(l, who_type(s));
	if (l->type == IPC_GRANT_LOGIN)
		ipc_put_uuid(s->w->ipc, &s->uuid);
	ipc_put_str(s->w->ipc, s->view->target->credential);
	ipc_send(s->w->ipc);
}

static bool shows_certificate(const struct session *s)
{
	return s->view->target->login->key_file != NULL;
}

static void ask_certificate(struct slogin *l)
{
	ask(l, IPC_KEY_CERTIFICATE);
	ipc_put_str(l->s->w->ipc, l->key);
	ipc_send(l->s->w->ipc);
}

struct slice slogin_chain(const struct session *s)
{
	const struct slogin *l = s->login;

	return l && l->known ? slice_of(l->text, l->text_n) : slice_of("", 0);
}

void slogin_prove(struct session *s)
{
	const struct far_ask *q = tls_to_sign(s->tls);
	struct slogin *l = s->login;
	struct ipc *ipc = s->w->ipc;

	if (!l || q->text.n > SIGNED_MAX) {
		stls_signed(s, l ? -EMSGSIZE : -ENOENT, slice_of("", 0));
		return;
	}
	if (l->id || l->retry_boot_ns) /* it is being asked for */
		return;
	ask(l, IPC_KEY_PROVE);
	ipc_put_str(ipc, l->key);
	ipc_put_u32(ipc, q->scheme);
	ipc_put_str(ipc, q->digest);
	ipc_put_bytes(ipc, q->certificate);
	ipc_put_bytes(ipc, q->text);
	ipc_send(ipc);
	session_arm(s);
}

/* The answer, once; false: it is not there. */
static bool take(struct slogin *l, enum ipc_type type)
{
	if (!l->answered || l->type != type)
		return false;
	l->answered = false;
	return true;
}

enum insp_verdict slogin_user(struct session *s, struct slogin_who *ret)
{
	struct slogin *l = get(s);

	*ret = (struct slogin_who){.reason = TG_R_CREDENTIAL_MISSING, .words = ""};
	if (!l)
		return INSP_V_DENY;
	ret->user = l->user;
	ret->words = l->words;
	if (take(l, IPC_KEY_CERTIFICATE))
		return l->error || !l->text_n ? INSP_V_DENY : INSP_V_ALLOW;
	if (take(l, who_type(s))) {
		if (l->reason)
			ret->reason = l->reason;
		if (l->error || !l->user[0])
			return INSP_V_DENY;
		if (!shows_certificate(s))
			return INSP_V_ALLOW;
		l->known = true;
	}
	if (!l->id && !l->retry_boot_ns && l->known)
		ask_certificate(l);
	else if (!l->id && !l->retry_boot_ns)
		ask_who(l);
	session_arm(s);
	return INSP_V_WAIT;
}

static uint16_t reason_of(int error)
{
	switch (error) {
	case EACCES:	 /* the password itself */
	case ERANGE:	 /* too few or too many iterations */
	case EOPNOTSUPP: /* a password that SCRAM would have to normalise */
		return TG_R_CREDENTIAL_METHOD;
	case EBADMSG:
		return TG_R_CREDENTIAL_UNPROVED;
	default:
		return TG_R_CREDENTIAL_MISSING;
	}
}

static void question(struct slogin *l, const struct insp_challenge *c, enum ipc_type type)
{
	struct ipc *ipc = l->s->w->ipc;

	ask(l, type);
	ipc_put_str(ipc, l->key);
	if (type == IPC_KEY_MD5) {
		ipc_put_str(ipc, l->user);
		ipc_put_bytes(ipc, c->salt);
	} else if (type == IPC_KEY_SCRAM) {
		ipc_put_bytes(ipc, c->first);
		ipc_put_bytes(ipc, c->server);
		ipc_put_bytes(ipc, c->final);
	}
	ipc_send(ipc);
}

static enum insp_verdict give_nonce(struct slogin *l, struct insp_response *ret)
{
	uint8_t raw[NONCE_BYTES];

	if (!l->nonce[0]) {
		random_bytes(raw, sizeof(raw));
		(void)b64_encode(slice_of(raw, sizeof(raw)), l->nonce);
	}
	ret->text = slice_str(l->nonce);
	return INSP_V_ALLOW;
}

enum insp_verdict slogin_answer(void *ctx, const struct insp_challenge *c, struct insp_response *ret)
{
	static const enum ipc_type types[] = {
		[INSP_NEED_PASSWORD] = IPC_KEY_PASSWORD,
		[INSP_NEED_MD5] = IPC_KEY_MD5,
		[INSP_NEED_SCRAM] = IPC_KEY_SCRAM,
	};
	struct session *s = ctx;
	struct slogin *l = s->login;

	ret->reason = TG_R_CREDENTIAL_MISSING;
	if (!l)
		return INSP_V_DENY;
	if (c->need == INSP_NEED_NONCE)
		return give_nonce(l, ret);
	if (shows_certificate(s) && !s->view->target->login->password_file) {
		ret->reason = TG_R_CREDENTIAL_METHOD; /* the certificate is all there is */
		return INSP_V_DENY;
	}
	if (take(l, types[c->need])) {
		ret->reason = reason_of(l->error);
		ret->text = slice_of(l->text, l->text_n);
		ret->signature = slice_of(l->signature, l->signature_n);
		s->w->wipe = true;
		return l->error ? INSP_V_DENY : INSP_V_ALLOW;
	}
	if (!l->id && !l->retry_boot_ns)
		question(l, c, types[c->need]);
	session_arm(s);
	return INSP_V_WAIT;
}

/* ---------------------------------------------------------------- answers */

static bool keep_text(struct slogin *l, const void *p, size_t n)
{
	drop_text(l);
	l->text = malloc(n + 1);
	if (!l->text)
		return false;
	memcpy(l->text, p, n);
	l->text_n = n;
	return true;
}

/* Proof and signature are bytes; the server reads them as Base64. */
static bool keep_proof(struct slogin *l, struct slice text, struct slice signature)
{
	char proof[B64_TEXT(SCRAM_KEY)];

	if (text.n != SCRAM_KEY || signature.n != SCRAM_KEY)
		return false;
	l->signature_n = b64_encode(signature, l->signature);
	return keep_text(l, proof, b64_encode(text, proof));
}

static bool keep_user(struct slogin *l, struct slice user)
{
	if (!user.n || user.n >= sizeof(l->user))
		return false;
	memcpy(l->user, user.p, user.n);
	l->user[user.n] = '\0';
	return true;
}

static bool keep_answer(struct slogin *l, struct slice text, struct slice signature)
{
	const char *credential = l->s->view->target->credential;

	if (l->type == IPC_KEY_SCRAM)
		return keep_proof(l, text, signature);
	if (l->type == IPC_KEY_CERTIFICATE)
		return keep_text(l, text.p, text.n);
	if (l->type != IPC_KEY_LOGIN)
		return text.n <= PG_PROOF_PASSWORD_MAX && keep_text(l, text.p, text.n);
	if (!keep_user(l, text))
		return false;
	return (size_t)snprintf(l->key, sizeof(l->key), "@%s:%s", credential, l->user) <
	       sizeof(l->key);
}

static void answered(struct slogin *l, int error, struct slice text, struct slice signature)
{
	l->id = 0;
	if (error == ENOTCONN) { /* keyd is away */
		l->retry_boot_ns = clock_boot_ns() + RETRY_MS * 1000000ull;
		session_arm(l->s);
		return;
	}
	if (l->type == IPC_KEY_PROVE) {
		stls_signed(l->s, -error, text);
		return;
	}
	l->error = error;
	if (!error && l->type != IPC_GRANT_LOGIN && !keep_answer(l, text, signature))
		l->error = EINVAL;
	l->answered = true;
	session_go_on(l->s);
}

bool slogin_key_answer(struct worker *w, struct ipc_msg *m)
{
	list_each(it, &w->logins) {
		struct slogin *l = container_of(it, struct slogin, link);
		struct slice text, signature;
		uint32_t error;

		if (!l->id || l->id != m->id || l->type != m->type)
			continue;
		error = ipc_get_u32(m);
		text = ipc_get_bytes(m);
		signature = m->type == IPC_KEY_SCRAM ? ipc_get_bytes(m) : slice_of("", 0);
		if (!ipc_end(m))
			error = EPROTO;
		if (l->s->state < SESSION_END)
			answered(l, (int)error, text, signature);
		return true;
	}
	return false;
}

void slogin_grant_answer(struct session *s, struct ipc_msg *m)
{
	struct slogin *l = s->login;
	uint32_t error = ipc_get_u32(m), reason = ipc_get_u32(m);
	struct slice user = ipc_get_str(m), key = ipc_get_str(m), words = ipc_get_str(m);

	if (!ipc_end(m) || !l || !l->id || l->id != m->id || l->type != IPC_GRANT_LOGIN ||
	    s->state >= SESSION_END)
		return;
	if (!error && (!keep_user(l, user) || !key.n || key.n >= sizeof(l->key)))
		error = EINVAL;
	l->reason = (uint16_t)reason;
	(void)snprintf(l->key, sizeof(l->key), "%.*s", (int)key.n, (const char *)key.p);
	(void)snprintf(l->words, sizeof(l->words), "%.*s", (int)words.n, (const char *)words.p);
	answered(l, (int)error, slice_of("", 0), slice_of("", 0));
}

void slogins_keyd_gone(struct worker *w)
{
	list_each(it, &w->logins) {
		struct slogin *l = container_of(it, struct slogin, link);

		/* The parent says itself what becomes of its questions. */
		if (l->id && l->type != IPC_GRANT_LOGIN && l->s->state < SESSION_END)
			answered(l, ENOTCONN, slice_of("", 0), slice_of("", 0));
	}
}

uint64_t slogin_deadline(const struct session *s)
{
	const struct slogin *l = s->login;

	if (!l || s->state >= SESSION_END)
		return UINT64_MAX;
	return l->retry_boot_ns && l->retry_boot_ns < l->until_boot_ns ? l->retry_boot_ns
									: l->until_boot_ns;
}

void slogin_due(struct session *s)
{
	struct slogin *l = s->login;
	bool keyd = l->id || l->retry_boot_ns;

	if (clock_boot_ns() >= l->until_boot_ns) {
		session_end(s, keyd ? TG_R_CREDENTIAL_MISSING : TG_R_UPSTREAM_TIMEOUT,
			    keyd ? NULL : "the target did not finish the login in time");
		return;
	}
	l->retry_boot_ns = 0;
	if (s->tls && s->state == SESSION_CONNECT)
		slogin_prove(s);
	else
		session_go_on(s);
}

void slogin_refused(struct session *s, const struct event *ev)
{
	char code[32], message[512];

	(void)text_escape(ev->error.code, code, sizeof(code));
	(void)text_escape(ev->error.message, message, sizeof(message));
	log_warning("target %s does not accept credential %s: %s (%s)", s->view->target->name,
		    s->view->target->credential, message, code);
	if (who_type(s) == IPC_GRANT_LOGIN) {
		ipc_begin(s->w->ipc, IPC_GRANT_STALE, 0);
		ipc_put_uuid(s->w->ipc, &s->uuid);
	} else {
		ipc_begin(s->w->ipc, IPC_KEY_STALE, 0);
		ipc_put_str(s->w->ipc, s->view->target->credential);
	}
	ipc_send(s->w->ipc);
}
