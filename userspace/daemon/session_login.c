/* SPDX-License-Identifier: MIT */
/*
 * While keyd works its question's bytes are held; if keyd dies the inspector asks again. What
 * keyd tells is wiped as soon as it is on its way.
 */
#include "daemon/session_login.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/vault.h"
#include "ident/b64.h"

enum {
	NONCE_BYTES = 18,
	RETRY_MS = 250,	   /* keyd is being started again */
	LOGIN_MS = 20000,  /* keyd and the server together, beside program and connection */
	USER_MAX = 256,
};

struct slogin {
	struct list link; /* w->logins */
	struct session *s;
	uint64_t id; /* of the question to keyd; 0: none */
	enum ipc_type type;
	bool answered;
	int error; /* of the answer */
	uint64_t retry_boot_ns, until_boot_ns; /* 0: none */
	char user[USER_MAX];
	char nonce[B64_TEXT(NONCE_BYTES)];
	size_t text_n, signature_n;
	char text[PASSWORD_MAX + 1], signature[64];
};

void slogin_free(struct session *s)
{
	struct slogin *l = s->login;

	if (!l)
		return;
	list_del(&l->link);
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

static void ask(struct slogin *l, enum ipc_type type, const char *credential)
{
	struct ipc *ipc = l->s->w->ipc;
	char target[USER_MAX + 80];

	l->id = ++l->s->w->next_ask;
	l->type = type;
	l->answered = false;
	ipc_begin(ipc, type, l->id);
	(void)snprintf(target, sizeof(target), "@%s:%s", credential, l->user);
	ipc_put_str(ipc, type == IPC_KEY_LOGIN ? credential : target);
}

/* The answer, once; false: it is not there. */
static bool take(struct slogin *l, enum ipc_type type)
{
	if (!l->answered || l->type != type)
		return false;
	l->answered = false;
	return true;
}

enum insp_verdict slogin_user(struct session *s, const char **ret_user)
{
	const char *name = s->view->target->credential;
	struct slogin *l = get(s);

	if (!l)
		return INSP_V_DENY;
	if (take(l, IPC_KEY_LOGIN)) {
		*ret_user = l->user;
		return l->error || !l->user[0] ? INSP_V_DENY : INSP_V_ALLOW;
	}
	if (!l->id && !l->retry_boot_ns) {
		ask(l, IPC_KEY_LOGIN, name);
		ipc_send(s->w->ipc);
	}
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

static void question(struct slogin *l, const struct insp_challenge *c)
{
	const char *name = l->s->view->target->credential;
	struct ipc *ipc = l->s->w->ipc;

	switch (c->need) {
	case INSP_NEED_NONCE:
		return;
	case INSP_NEED_PASSWORD:
		ask(l, IPC_KEY_PASSWORD, name);
		break;
	case INSP_NEED_MD5:
		ask(l, IPC_KEY_MD5, name);
		ipc_put_str(ipc, l->user);
		ipc_put_bytes(ipc, c->salt);
		break;
	case INSP_NEED_SCRAM:
		ask(l, IPC_KEY_SCRAM, name);
		ipc_put_bytes(ipc, c->first);
		ipc_put_bytes(ipc, c->server);
		ipc_put_bytes(ipc, c->final);
		break;
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
	if (take(l, types[c->need])) {
		ret->reason = reason_of(l->error);
		ret->text = slice_of(l->text, l->text_n);
		ret->signature = slice_of(l->signature, l->signature_n);
		s->w->wipe = true;
		return l->error ? INSP_V_DENY : INSP_V_ALLOW;
	}
	if (!l->id && !l->retry_boot_ns)
		question(l, c);
	session_arm(s);
	return INSP_V_WAIT;
}

/* ---------------------------------------------------------------- answers */

/* Proof and signature are bytes; the server reads them as Base64. */
static void keep_answer(struct slogin *l, struct slice text, struct slice signature)
{
	if (l->type == IPC_KEY_SCRAM && text.n == 32 && signature.n == 32) {
		l->text_n = b64_encode(text, l->text);
		l->signature_n = b64_encode(signature, l->signature);
	} else if (l->type == IPC_KEY_LOGIN && text.n && text.n < sizeof(l->user)) {
		memcpy(l->user, text.p, text.n);
		l->user[text.n] = '\0';
	} else if (l->type != IPC_KEY_SCRAM && l->type != IPC_KEY_LOGIN &&
		   text.n < sizeof(l->text)) {
		memcpy(l->text, text.p, text.n);
		l->text_n = text.n;
	} else {
		l->error = EINVAL;
	}
}

static void answered(struct slogin *l, int error, struct slice text, struct slice signature)
{
	l->id = 0;
	if (error == ENOTCONN) { /* keyd is away */
		l->retry_boot_ns = clock_boot_ns() + RETRY_MS * 1000000ull;
		session_arm(l->s);
		return;
	}
	l->error = error;
	if (!error)
		keep_answer(l, text, signature);
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

void slogins_keyd_gone(struct worker *w)
{
	list_each(it, &w->logins) {
		struct slogin *l = container_of(it, struct slogin, link);

		if (l->id && l->s->state < SESSION_END)
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
	session_go_on(s);
}

void slogin_refused(struct session *s, const struct event *ev)
{
	char code[32], message[512];

	(void)text_escape(ev->error.code, code, sizeof(code));
	(void)text_escape(ev->error.message, message, sizeof(message));
	log_warning("target %s does not accept credential %s: %s (%s)", s->view->target->name,
		    s->view->target->credential, message, code);
	ipc_begin(s->w->ipc, IPC_KEY_STALE, 0);
	ipc_put_str(s->w->ipc, s->view->target->credential);
	ipc_send(s->w->ipc);
}
