/* SPDX-License-Identifier: MIT */
/*
 * From the first byte to the first ReadyForQuery. Nothing reaches the server
 * before the host has let the session in; authentication messages of both
 * sides pass and are secret.
 *
 * Sessions are of protocol 3.0. What a client asks for beyond it (a later minor version, which
 * has longer cancel keys; options whose names begin with "_pq_.") does not reach the server, and is
 * declined with a NegotiateProtocolVersion of ours, as a server does that knows no more.
 */
#include "inspect/pg.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "inspect/pg_proof.h"
#include "inspect/sql/settings.h"

/* A refusal before or during login; the flow ends with it. */
static enum pg_step refuse_login(struct pg *st, const char *code, const struct insp_answer *a)
{
	struct pg_local *l = pg_error_new("FATAL", code, a->message, a->detail, a->hint);

	if (l)
		insp_out_copy(pg_out(st, INSP_TO_CLIENT), slice_of(l->bytes, l->n));
	free(l);
	return pg_end(st, a->reason);
}

static enum pg_step refuse_unsupported(struct pg *st, const char *what)
{
	struct insp_answer a = {
		.reason = TG_R_PROTO_UNSUPPORTED,
		.message = slice_str(what),
	};

	return refuse_login(st, "0A000", &a);
}

static enum pg_step encryption_request(struct pg *st, uint32_t length, bool *asked,
				       size_t *ret_used)
{
	uint8_t *p;

	if (length != 8 || *asked)
		return pg_bad(st, TG_R_PROTO_BAD);
	p = insp_out_make(pg_out(st, INSP_TO_CLIENT), 1);
	if (p)
		*p = 'N';
	*asked = true;
	*ret_used = 8;
	return PG_OK;
}

static enum pg_step cancel_request(struct pg *st, struct slice in, uint32_t length,
				   size_t *ret_used)
{
	struct event ev = {.kind = EV_CANCEL};

	/* 16 bytes up to protocol 3.1; longer keys came with 3.2, which no session has. */
	if (length != 16)
		return pg_bad(st, length > 16 ? TG_R_PROTO_UNSUPPORTED : TG_R_PROTO_BAD);
	if (in.n < 16)
		return PG_NEED;
	ev.backend.pid = load_be32(in.p + 8);
	ev.backend.key = load_be32(in.p + 12);
	*ret_used = 16;
	st->env->host->secret(st->env->ctx, slice_of(in.p + 12, 4));
	pg_tell(st, INSP_C2S, &ev);
	return pg_end(st, TG_R_NONE);
}

/* What PostgreSQL's parse_bool takes for false; anything else opens a walsender. */
static bool is_false(struct slice v)
{
	static const char *const words[] = {"f", "fa", "fal", "fals", "false",
					    "n", "no", "of",  "off",  "0"};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (v.n == strlen(words[i]) && !strncasecmp((const char *)v.p, words[i], v.n))
			return true;
	return false;
}

/* What of a startup message a server of 3.0 would decline. */
struct beyond {
	bool any;
	uint32_t noptions;
	size_t names_n; /* bytes of their names */
};

static bool is_extension(struct slice name)
{
	return name.n >= 5 && memcmp(name.p, "_pq_.", 5) == 0;
}

static void note_beyond(struct beyond *b, struct slice name)
{
	if (!is_extension(name))
		return;
	b->any = true;
	b->noptions++;
	b->names_n += name.n + 1;
}

static void decline(struct pg *st, struct slice msg, const struct beyond *b)
{
	size_t total = PG_HEAD + 8 + b->names_n, n = PG_HEAD + 8;
	uint8_t *p = insp_out_make(pg_out(st, INSP_TO_CLIENT), total);
	struct cursor c = cur_of(slice_from(msg, 8));

	if (!p)
		return; /* the outputs know */
	p[0] = PG_B_NEGOTIATE_PROTOCOL_VERSION;
	store_be32(p + 1, (uint32_t)(total - 1));
	store_be32(p + PG_HEAD, PG_VERSION_3_0);
	store_be32(p + PG_HEAD + 4, b->noptions);
	for (;;) {
		struct slice name = cur_cstr(&c);

		if (name.n == 0)
			break;
		(void)cur_cstr(&c);
		if (!is_extension(name))
			continue;
		memcpy(p + n, name.p, name.n + 1);
		n += name.n + 1;
	}
}

/* A startup message that is made anew. */
struct startup {
	size_t n;
	bool full;
	uint8_t bytes[PG_STARTUP_MAX];
};

static void put_string(struct startup *m, struct slice s)
{
	if (s.n + 1 > sizeof(m->bytes) - m->n) {
		m->full = true;
		return;
	}
	if (s.n)
		memcpy(m->bytes + m->n, s.p, s.n);
	m->bytes[m->n + s.n] = 0;
	m->n += s.n + 1;
}

/*
 * What the server is told: no options beyond 3.0 and, where the login is ours, our user. The
 * database keeps its name also where it had that of the client's user.
 */
static enum pg_step send_startup(struct pg *st, struct slice msg, const struct event *login,
				 struct slice login_as)
{
	struct startup m = {.n = 8};
	struct cursor c = cur_of(slice_from(msg, 8));

	for (;;) {
		struct slice name = cur_cstr(&c), value;

		if (name.n == 0)
			break;
		value = cur_cstr(&c);
		if (is_extension(name) || (login_as.n && slice_eq_str(name, "database")))
			continue;
		put_string(&m, name);
		put_string(&m, login_as.n && slice_eq_str(name, "user") ? login_as : value);
	}
	if (login_as.n) {
		put_string(&m, SLICE_LIT("database"));
		put_string(&m, login->login.database);
	}
	put_string(&m, SLICE_LIT(""));
	if (m.full)
		return pg_bad(st, TG_R_PROTO_LIMIT);
	store_be32(m.bytes, (uint32_t)m.n);
	store_be32(m.bytes + 4, PG_VERSION_3_0);
	insp_out_copy(pg_out(st, INSP_TO_SERVER), slice_of(m.bytes, m.n));
	return PG_OK;
}

/* The host has let the session in. */
static enum pg_step let_in(struct pg *st, struct slice msg, const struct event *login,
			   const struct beyond *beyond, struct slice login_as)
{
	enum pg_step step = PG_OK;

	if (login_as.n) {
		st->own = arena_alloc(st->env->arena, sizeof(*st->own));
		if (!st->own)
			return pg_bad(st, TG_R_NO_MEMORY);
	}
	if (beyond->any || login_as.n)
		step = send_startup(st, msg, login, login_as);
	else
		insp_out_pass(pg_out(st, INSP_TO_SERVER), msg);
	if (step == PG_OK && beyond->any)
		decline(st, msg, beyond);
	if (step == PG_OK)
		st->phase = PG_LOGIN;
	return step;
}

/* @seen ends in @name, in any case, and that is not the end of another name. */
static bool ends_in(const char *seen, size_t n, const char *name)
{
	size_t len = strlen(name);
	unsigned char before = n > len ? (unsigned char)seen[n - len - 1] : ' ';

	if (n < len || before == '.' || before == '_' || (isalnum(before) && before != 'c'))
		return false;
	/* In --session-authorization the server reads '_' for '-'. */
	for (size_t i = 0; i < len; i++) {
		char c = seen[n - len + i] == '-' ? '_' : seen[n - len + i];

		if (tolower((unsigned char)c) != name[i])
			return false;
	}
	return true;
}

/*
 * "-c role=x", "-crole=x", "--role=x": also with backslashes, which the server takes out. A setting
 * of an extension has a dot before its name.
 */
static bool options_set_role(struct slice options)
{
	char seen[32];
	size_t n = 0;

	for (size_t i = 0; i < options.n; i++) {
		if (options.p[i] == '\\')
			continue;
		if (n == sizeof(seen))
			memmove(seen, seen + 1, --n);
		seen[n++] = (char)options.p[i];
		if (ends_in(seen, n, "role=") || ends_in(seen, n, "session_authorization="))
			return true;
	}
	return false;
}

/* SET ROLE is a statement, and rules judge it; in a startup message it would be none. */
static bool sets_role(struct slice name, struct slice value)
{
	if (slice_eq_str(name, "options"))
		return options_set_role(value);
	return sql_setting((const char *)name.p) & SETTING_PRIVILEGE;
}

static enum pg_step startup_message(struct pg *st, struct slice msg)
{
	struct event ev = {.kind = EV_LOGIN};
	struct cursor c = cur_of(slice_from(msg, 8));
	struct beyond beyond = {.any = load_be32(msg.p + 4) != PG_VERSION_3_0};
	struct insp_answer a;
	bool replication = false, role = false;

	for (;;) {
		struct slice name = cur_cstr(&c), value;

		if (c.bad || name.n == 0)
			break;
		value = cur_cstr(&c);
		note_beyond(&beyond, name);
		if (slice_eq_str(name, "user"))
			ev.login.user = value;
		else if (slice_eq_str(name, "database"))
			ev.login.database = value;
		else if (slice_eq_str(name, "application_name"))
			ev.login.application = value;
		else if (slice_eq_str(name, "replication"))
			replication = !is_false(value);
		role |= sets_role(name, value);
	}
	if (!cur_end(&c) || ev.login.user.n == 0)
		return pg_bad(st, TG_R_PROTO_BAD);
	if (replication)
		return refuse_unsupported(st,
					  "replication connections are not supported by Tidegate");
	if (role)
		return refuse_unsupported(st, "a connection does not begin with another role: "
					      "SET ROLE after it is judged by the rules");
	if (ev.login.database.n == 0)
		ev.login.database = ev.login.user;
	ev.login.unencrypted_only = st->ssl_asked || st->gss_asked;
	switch (pg_ask(st, &ev, &a)) {
	case INSP_V_WAIT:
		return PG_WAIT;
	case INSP_V_DENY:
		return refuse_login(st, a.cancelled ? "57014" : "28000", &a);
	case INSP_V_ALLOW:
		break;
	}
	return let_in(st, msg, &ev, &beyond, a.login_as);
}

enum pg_step pg_startup(struct pg *st, struct slice in, size_t *ret_used)
{
	uint32_t length, code;
	enum pg_step step;

	/* The first bytes tell what can never be a startup; do not wait for more of it. */
	if (in.p[0] != 0)
		return pg_bad(st, TG_R_PROTO_BAD);
	if (in.n < 4)
		return PG_NEED;
	length = load_be32(in.p);
	if (length < 8 || length > PG_STARTUP_MAX)
		return pg_bad(st, length < 8 ? TG_R_PROTO_BAD : TG_R_PROTO_LIMIT);
	if (in.n < 8)
		return PG_NEED;
	code = load_be32(in.p + 4);
	if (code == PG_SSL_REQUEST)
		return encryption_request(st, length, &st->ssl_asked, ret_used);
	if (code == PG_GSSENC_REQUEST)
		return encryption_request(st, length, &st->gss_asked, ret_used);
	if (code == PG_CANCEL_REQUEST)
		return cancel_request(st, in, length, ret_used);
	if (in.n < length)
		return PG_NEED;
	if (code >> 16 != 3)
		step = refuse_unsupported(st, "unsupported frontend protocol: Tidegate speaks 3.0");
	else
		step = startup_message(st, slice_of(in.p, length));
	if (step == PG_OK || step == PG_END)
		*ret_used = length;
	return step;
}

/* ------------------------------------------------------------------ login */

enum pg_step pg_login_client(struct pg *st, const struct pg_msg *m)
{
	/* What is pipelined behind the login waits: how it is read depends on the server's
	 * settings. */
	if (m->type != PG_F_PASSWORD)
		return m->type == PG_F_TERMINATE ? pg_end(st, TG_R_CLIENT_CLOSED) : PG_STALL;
	if (!st->auth_due)
		return PG_STALL;
	if (!m->whole)
		return PG_NEED;
	st->env->host->secret(st->env->ctx, m->body);
	st->auth_due = false;
	return pg_pass(st, INSP_C2S, m);
}

static bool is_bound(struct slice mechanism)
{
	return mechanism.n > 5 && memcmp(mechanism.p + mechanism.n - 5, "-PLUS", 5) == 0;
}

/* Bytes of a list of mechanisms without those that are bound to a channel; @dst may be NULL. */
static size_t copy_unbound(struct slice list, uint8_t *dst)
{
	struct cursor c = cur_of(list);
	size_t n = 0;

	while (cur_left(&c)) {
		struct slice name = cur_cstr(&c);

		if (c.bad)
			return 0;
		if (is_bound(name))
			continue;
		if (dst)
			memcpy(dst + n, name.p, name.n + 1);
		n += name.n + 1;
	}
	return n;
}

/*
 * The client's leg is never TLS: what is bound to the server's is not offered to him. libpq would
 * give up, others would bind to a certificate that they never saw.
 */
static enum pg_step offer_mechanisms(struct pg *st, const struct pg_msg *m)
{
	struct slice list = slice_from(m->body, 4);
	size_t n = copy_unbound(list, NULL);
	uint8_t *p;

	if (n == list.n || st->env->replay) {
		st->env->host->secret(st->env->ctx, list);
		return pg_pass(st, INSP_S2C, m);
	}
	if (n <= 1) /* the end of the list alone, or not even that */
		return pg_bad(st, n ? TG_R_PROTO_UNSUPPORTED : TG_R_PROTO_BAD);
	p = insp_out_make(pg_out(st, INSP_TO_CLIENT), PG_HEAD + 4 + n);
	if (p) {
		memcpy(p, m->all.p, PG_HEAD + 4);
		store_be32(p + 1, (uint32_t)n + 8);
		(void)copy_unbound(list, p + PG_HEAD + 4);
	}
	return pg_drop(st, INSP_S2C, m);
}

static enum pg_step authentication(struct pg *st, const struct pg_msg *m)
{
	uint32_t kind;

	if (m->body.n < 4 || st->auth_ok)
		return pg_bad(st, TG_R_PROTO_BAD);
	kind = load_be32(m->body.p);
	switch (kind) {
	case PG_AUTH_OK:
		/* Asking and not waiting for the answer is not asking. */
		if ((!st->auth_seen || st->auth_due) && st->env->server_socket &&
		    !st->env->socket_trust)
			return pg_bad(st, TG_R_SERVER_UNASKED_AUTH);
		st->auth_ok = true;
		st->auth_due = false;
		break;
	case PG_AUTH_CLEARTEXT:
	case PG_AUTH_MD5:
	case PG_AUTH_GSS:
	case PG_AUTH_GSS_CONTINUE:
	case PG_AUTH_SSPI:
	case PG_AUTH_SASL_CONTINUE:
		st->auth_seen = st->auth_due = true;
		break;
	case PG_AUTH_SASL:
		st->auth_seen = st->auth_due = true;
		return offer_mechanisms(st, m);
	case PG_AUTH_SASL_FINAL:
		if (!st->auth_seen)
			return pg_bad(st, TG_R_PROTO_BAD);
		break;
	default:
		return pg_bad(st, TG_R_PROTO_UNSUPPORTED);
	}
	if (m->body.n > 4)
		st->env->host->secret(st->env->ctx, slice_from(m->body, 4));
	return pg_pass(st, INSP_S2C, m);
}

static enum pg_step backend_key(struct pg *st, const struct pg_msg *m)
{
	struct event ev = {.kind = EV_BACKEND_KEY};

	if (m->body.n != 8)
		return pg_bad(st, TG_R_PROTO_UNSUPPORTED);
	ev.backend.pid = load_be32(m->body.p);
	ev.backend.key = load_be32(m->body.p + 4);
	pg_tell(st, INSP_S2C, &ev);
	/* Whoever has the key can cancel: it is the client's, not the recording's. */
	st->env->host->secret(st->env->ctx, slice_from(m->body, 4));
	return pg_pass(st, INSP_S2C, m);
}

static void encoding_is(struct pg *st, bool client, struct slice value)
{
	static const char *const unsafe[] = {"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "GB18030",
					     "UHC",  "JOHAB"};
	bool utf8 = slice_eq_str(value, "UTF8") || slice_eq_str(value, "UNICODE");

	if (client) {
		st->lexer &= ~(uint32_t)SQL_LEX_UNSAFE;
		for (size_t i = 0; i < ARRAY_SIZE(unsafe); i++)
			if (slice_eq_str(value, unsafe[i]))
				st->lexer |= SQL_LEX_UNSAFE;
		/* To SQL_ASCII nothing is converted. */
		st->client_utf8 = utf8 || slice_eq_str(value, "SQL_ASCII");
	} else {
		st->server_utf8 = utf8;
	}
	st->lexer &= ~(uint32_t)SQL_LEX_FOREIGN;
	if (!st->client_utf8 || !st->server_utf8)
		st->lexer |= SQL_LEX_FOREIGN;
}

enum pg_step pg_parameter_status(struct pg *st, const struct pg_msg *m)
{
	struct cursor c = cur_of(m->body);
	struct slice name = cur_cstr(&c), value = cur_cstr(&c);

	if (!cur_end(&c))
		return pg_bad(st, TG_R_PROTO_BAD);
	if (slice_eq_str(name, "standard_conforming_strings")) {
		st->lexer &= ~(uint32_t)SQL_LEX_BACKSLASH;
		if (!slice_eq_str(value, "on"))
			st->lexer |= SQL_LEX_BACKSLASH;
	} else if (slice_eq_str(name, "client_encoding")) {
		encoding_is(st, true, value);
	} else if (slice_eq_str(name, "server_encoding")) {
		encoding_is(st, false, value);
	} else if (slice_eq_str(name, "server_version")) {
		(void)text_escape(value, st->server_version, sizeof(st->server_version));
	}
	return pg_pass(st, INSP_S2C, m);
}

enum pg_step pg_login_server(struct pg *st, const struct pg_msg *m)
{
	struct event ev = {.kind = EV_READY};
	enum pg_step step;

	if (!m->whole)
		return PG_NEED;
	if (!st->auth_ok && (m->type == PG_B_READY_FOR_QUERY || m->type == PG_B_BACKEND_KEY_DATA))
		return pg_bad(st, TG_R_PROTO_BAD);
	switch (m->type) {
	case PG_B_AUTHENTICATION:
		return st->own ? pg_own_auth(st, m) : authentication(st, m);
	case PG_B_BACKEND_KEY_DATA:
		return backend_key(st, m);
	case PG_B_PARAMETER_STATUS:
		return pg_parameter_status(st, m);
	case PG_B_NEGOTIATE_PROTOCOL_VERSION:
		return pg_pass(st, INSP_S2C, m);
	case PG_B_ERROR_RESPONSE:
		if (st->own && pg_own_refused(st, m, &step))
			return step;
		return pg_text(st, m, NULL, false);
	case PG_B_NOTICE_RESPONSE:
		return pg_text(st, m, NULL, false);
	case PG_B_READY_FOR_QUERY:
		if (m->body.n != 1 || m->body.p[0] != PG_STATUS_IDLE)
			return pg_bad(st, TG_R_PROTO_BAD);
		st->phase = PG_READY;
		pg_tell(st, INSP_S2C, &ev);
		return pg_pass(st, INSP_S2C, m);
	default:
		return pg_bad(st, TG_R_PROTO_BAD);
	}
}
