/* SPDX-License-Identifier: MIT */
/*
 * The client's messages after login: each is judged, goes on or is refused, and
 * leaves the entries in the queue that its answers will be matched with.
 */
#include "inspect/pg.h"

#include <openssl/evp.h>

static const char digest_label[] = "tidegate-execute-1";

/* A string that fills @s but for its terminator. */
static bool whole_string(struct slice s, struct slice *ret)
{
	if (s.n == 0 || memchr(s.p, 0, s.n) != s.p + s.n - 1)
		return false;
	*ret = slice_of(s.p, s.n - 1);
	return true;
}

static void report_secrets(struct pg *st, const struct sql_info *info, struct slice text)
{
	for (uint16_t i = 0; i < info->nsecrets; i++) {
		struct slice s = slice_from(text, info->secrets[i].off);

		s.n = min_size(s.n, info->secrets[i].n);
		st->env->host->secret(st->env->ctx, s);
	}
}

static struct insp_answer limit_answer(const char *what)
{
	return (struct insp_answer){
		.verdict = INSP_V_DENY,
		.reason = TG_R_PROTO_LIMIT,
		.message = slice_str(what),
		.hint = slice_str(reason_todo(TG_R_PROTO_LIMIT)),
	};
}

/* ---------------------------------------------------- what running changes */

/*
 * SQL-level PREPARE, DEALLOCATE and DECLARE share the protocol's namespaces. A
 * text with several statements names one handle only (others are unknown), and its
 * info covers all of them: where PREPARE is among them, the name gets that info.
 */
static bool change_names(struct pg *st, struct pg_reply *r, struct pg_stmt *stmt)
{
	const struct sql_info *info = stmt->info;
	struct pg_slot *slot = NULL;
	struct pg_portal *p;

	if ((info->flags & SQL_F_DEALLOCATE) && info->handle.n == 0) {
		pg_flag(st, r, PG_RF_FORGET);
	} else if ((info->flags & SQL_F_PREPARE) && info->handle.n) {
		slot = pg_name_get(st, &st->stmts, info->handle);
		if (!slot)
			return false;
		pg_change(st, r, slot, &stmt->obj);
	} else if ((info->flags & SQL_F_CLOSE) && info->handle.n == 0) {
		pg_flag(st, r, PG_RF_CLOSE_ALL);
	} else if (info->flags & SQL_F_DEALLOCATE) {
		slot = pg_name_find(&st->stmts, info->handle);
		if (slot)
			pg_change(st, r, slot, NULL);
	} else if ((info->flags & SQL_F_DECLARE) && info->handle.n) {
		p = pg_portal_new(st, stmt, 0);
		slot = p ? pg_name_get(st, &st->portals, info->handle) : NULL;
		if (slot)
			pg_change(st, r, slot, &p->obj);
		pg_obj_unref(st, (struct pg_obj *)p);
		return slot;
	} else if (info->flags & SQL_F_CLOSE) {
		/* Code of the server may open another one of that name. */
		slot = pg_name_find(&st->portals, info->handle);
		if (slot)
			pg_change(st, r, slot, NULL);
	}
	return true;
}

/* Notes on the entry what the statement may do once it runs. */
static bool note_run(struct pg *st, struct pg_reply *r, struct pg_stmt *stmt)
{
	const uint32_t follow =
		SQL_F_TX_BEGIN | SQL_F_TX_END | SQL_F_COPY_IN | SQL_F_LEXER | SQL_F_USER_FUNCTION;
	const uint32_t code = SQL_PROCEDURE | SQL_PROGRAM | SQL_UNKNOWN;
	uint32_t effects = stmt->info->effects, flags = stmt->info->flags, f = 0;

	if (stmt->via) {
		effects |= stmt->via->info->effects;
		flags |= stmt->via->info->flags & follow;
	}
	if (stmt->unresolved && (flags & SQL_F_EXECUTE))
		effects |= SQL_UNKNOWN;
	if ((flags & SQL_F_TX_BEGIN) || (effects & SQL_UNKNOWN))
		f |= PG_RF_TX_BEGIN;
	if ((flags & SQL_F_TX_END) || (effects & SQL_UNKNOWN))
		f |= PG_RF_TX_END;
	if (flags & SQL_F_COPY_IN)
		f |= PG_RF_COPY_IN;
	if (flags & SQL_F_MULTI)
		f |= PG_RF_MULTI;
	if ((flags & (SQL_F_LEXER | SQL_F_USER_FUNCTION)) || (effects & code))
		f |= PG_RF_SHAKY;
	if ((flags & SQL_F_USER_FUNCTION) || (effects & (code | SQL_DDL)))
		f |= PG_RF_DDL;
	pg_flag(st, r, f);
	r->stmt = (struct pg_stmt *)pg_obj_ref(&stmt->obj);
	if (f & PG_RF_COPY_IN) {
		st->await_copy = true;
		st->await = st->q.serial + st->q.n - 1;
	}
	return change_names(st, r, stmt);
}

/* ------------------------------------------------------------- simple query */

static enum pg_step judge_query(struct pg *st, const struct pg_msg *m, struct pg_stmt *stmt,
				struct slice text)
{
	struct insp_answer a;
	struct pg_reply *r;
	enum pg_step step = pg_resolve(st, stmt);

	if (step != PG_OK)
		return step;
	switch (pg_ask_statement(st, EV_STATEMENT, text, stmt, NULL, true, &a)) {
	case INSP_V_WAIT:
		return PG_WAIT;
	case INSP_V_DENY:
		return pg_refuse_query(st, pg_sqlstate(&a), &a);
	case INSP_V_ALLOW:
		break;
	}
	st->queries++;
	r = pg_expect(st, PG_R_QUERY);
	if (!note_run(st, r, stmt)) {
		pg_unexpect(st);
		a = limit_answer("too many prepared statements and cursors in this session");
		return pg_refuse_query(st, "54000", &a);
	}
	pg_end_batch(st);
	return pg_pass(st, INSP_C2S, m);
}

static enum pg_step query(struct pg *st, const struct pg_msg *m)
{
	const struct sql_info *info;
	struct insp_answer a;
	struct pg_stmt *stmt;
	struct slice text;
	enum pg_step step;

	if (m->total - PG_HEAD > pg_message_max(st)) {
		a = limit_answer("the statement is longer than Tidegate holds");
		step = pg_refuse_query(st, "54000", &a);
		return step == PG_OK ? pg_drop(st, INSP_C2S, m) : step;
	}
	if (!m->whole)
		return PG_NEED;
	if (!whole_string(m->body, &text))
		return pg_bad(st, TG_R_PROTO_BAD);
	step = pg_classify(st, text, &info);
	if (step != PG_OK)
		return step;
	report_secrets(st, info, text);
	/* What is given a name is shown to who has to approve of running it. */
	stmt = pg_stmt_new(st, info, info->flags & (SQL_F_PREPARE | SQL_F_DECLARE) ? text : (struct slice){0},
			   (struct slice){0});
	pg_info_unref(info);
	if (!stmt && st->q.n)
		return pg_stall(st); /* what is in flight holds statements too */
	if (!stmt) {
		a = limit_answer("too many prepared statements in this session");
		return pg_refuse_query(st, "54000", &a);
	}
	step = judge_query(st, m, stmt, text);
	pg_obj_unref(st, &stmt->obj);
	return step;
}

/* ----------------------------------------------------------------- extended */

static enum pg_step accept_parse(struct pg *st, const struct pg_msg *m, struct slice name,
				 struct pg_stmt *stmt)
{
	struct pg_slot *slot = pg_name_get(st, &st->stmts, name);
	struct insp_answer a;
	struct pg_reply *r;

	if (!slot) {
		a = limit_answer("too many prepared statements in this session");
		return pg_refuse_extended(st, "54000", &a);
	}
	r = pg_expect(st, PG_R_PARSE);
	if (name.n == 0)
		pg_flag(st, r, PG_RF_UNNAMED);
	pg_change(st, r, slot, &stmt->obj);
	return pg_pass(st, INSP_C2S, m);
}

static enum pg_step judge_parse(struct pg *st, const struct pg_msg *m, struct pg_stmt *stmt,
				struct slice name, struct slice text)
{
	enum pg_step step = pg_resolve(st, stmt);
	struct insp_answer a;

	if (step != PG_OK)
		return step;
	switch (pg_ask_statement(st, EV_STATEMENT, text, stmt, NULL, false, &a)) {
	case INSP_V_WAIT:
		return PG_WAIT;
	case INSP_V_DENY:
		return pg_refuse_extended(st, pg_sqlstate(&a), &a);
	case INSP_V_ALLOW:
		break;
	}
	st->queries++;
	stmt->at_execute = a.at_execute;
	stmt->rules = st->env->rules;
	return accept_parse(st, m, name, stmt);
}

static enum pg_step parse(struct pg *st, const struct pg_msg *m)
{
	const struct sql_info *info;
	struct slice name, text, types;
	struct insp_answer a;
	struct pg_stmt *stmt;
	struct cursor c;
	enum pg_step step;

	if (m->total - PG_HEAD > pg_message_max(st)) {
		a = limit_answer("the statement is longer than Tidegate holds");
		step = pg_refuse_extended(st, "54000", &a);
		return step == PG_OK ? pg_drop(st, INSP_C2S, m) : step;
	}
	if (!m->whole)
		return PG_NEED;
	c = cur_of(m->body);
	name = cur_cstr(&c);
	text = cur_cstr(&c);
	types = cur_take(&c, (size_t)cur_be16(&c) * 4);
	if (!cur_end(&c))
		return pg_bad(st, TG_R_PROTO_BAD);
	step = pg_check_name(st, m, name);
	if (step != PG_OK || st->skip)
		return step;
	step = pg_classify(st, text, &info);
	if (step != PG_OK)
		return step;
	report_secrets(st, info, text);
	stmt = pg_stmt_new(st, info, text, types);
	pg_info_unref(info);
	if (!stmt && st->q.n)
		return pg_stall(st);
	if (!stmt) {
		a = limit_answer("too many prepared statements in this session");
		return pg_refuse_extended(st, "54000", &a);
	}
	step = judge_parse(st, m, stmt, name, text);
	pg_obj_unref(st, &stmt->obj);
	return step;
}

/* A function call is its number and its arguments, as sent. */
static bool call_digest(struct slice body, uint8_t ret[32])
{
	static const char label[] = "tidegate-call-1";
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
		  EVP_DigestUpdate(ctx, label, sizeof(label)) &&
		  EVP_DigestUpdate(ctx, body.p, body.n) && EVP_DigestFinal_ex(ctx, ret, NULL);

	EVP_MD_CTX_free(ctx);
	return ok;
}

/* SHA-256 over the text, the parameters' types and, as sent, their formats and values. */
static bool make_digest(const struct pg_stmt *s, struct slice params, uint8_t ret[32])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t n[8];
	bool ok;

	store_be32(n, s->text_n);
	store_be32(n + 4, s->types_n);
	ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
	     EVP_DigestUpdate(ctx, digest_label, sizeof(digest_label)) &&
	     EVP_DigestUpdate(ctx, n, sizeof(n)) &&
	     EVP_DigestUpdate(ctx, s->bytes, (size_t)s->text_n + s->types_n) &&
	     EVP_DigestUpdate(ctx, params.p, params.n) && EVP_DigestFinal_ex(ctx, ret, NULL);
	EVP_MD_CTX_free(ctx);
	return ok;
}

/* The part of Bind behind the names. PG_OK: @p has formats and digest. */
static bool read_bind(struct cursor *c, struct pg *st, struct pg_stmt *s, struct pg_portal **ret)
{
	const uint8_t *start = c->p;
	struct pg_portal *p;
	struct slice params, formats;
	uint16_t n;

	(void)cur_take(c, (size_t)cur_be16(c) * 2);
	n = cur_be16(c);
	for (uint16_t i = 0; i < n && !c->bad; i++) {
		uint32_t length = cur_be32(c);

		if (length != UINT32_MAX)
			(void)cur_take(c, length);
	}
	params = slice_of(start, (size_t)(c->p - start));
	n = cur_be16(c);
	formats = cur_take(c, (size_t)n * 2);
	if (!cur_end(c))
		return false;
	p = pg_portal_new(st, s, n);
	*ret = p;
	if (!p)
		return true;
	p->bound = true;
	for (uint16_t i = 0; i < n; i++)
		p->formats[i] = load_be16(formats.p + (size_t)i * 2) != 0;
	if (!s->at_execute)
		return true;
	p->params = pg_params_preview(params);
	p->has_digest = true;
	if (!make_digest(s, params, p->digest)) {
		pg_obj_unref(st, &p->obj);
		*ret = NULL;
	}
	return true;
}

static enum pg_step bind(struct pg *st, const struct pg_msg *m)
{
	struct cursor c = cur_of(m->body);
	struct slice portal = cur_cstr(&c), name = cur_cstr(&c);
	struct pg_slot *slot;
	struct pg_portal *p;
	struct insp_answer a;
	struct pg_stmt *s;
	enum pg_step step;

	if (c.bad) {
		if (m->whole)
			return pg_bad(st, TG_R_PROTO_BAD);
		return m->body.n > PG_SMALL_MAX ? pg_bad(st, TG_R_PROTO_LIMIT) : PG_NEED;
	}
	step = pg_check_name(st, m, name);
	if (step == PG_OK && !st->skip)
		step = pg_check_name(st, m, portal);
	if (step != PG_OK || st->skip)
		return step;
	slot = pg_name_find(&st->stmts, name);
	if (pg_name_unsure(st, &st->stmts, slot))
		return pg_stall(st);
	s = (struct pg_stmt *)pg_name_cur(st, &st->stmts, slot);
	if (!s) {
		step = pg_refuse_missing(st, false, name);
		return step == PG_OK ? pg_drop(st, INSP_C2S, m) : step;
	}
	/* Judged by rules that are not in force any more: asked about at each Execute from now on. */
	if (s->rules != st->env->rules)
		s->at_execute = true;
	if (!st->env->masking && !s->at_execute) {
		p = pg_portal_new(st, s, 0);
	} else if (m->total - PG_HEAD > pg_message_max(st)) {
		a = limit_answer("the parameters are longer than Tidegate holds");
		step = pg_refuse_extended(st, "54000", &a);
		return step == PG_OK ? pg_drop(st, INSP_C2S, m) : step;
	} else if (!m->whole) {
		return PG_NEED;
	} else if (!read_bind(&c, st, s, &p)) {
		return pg_bad(st, TG_R_PROTO_BAD);
	}
	slot = p ? pg_name_get(st, &st->portals, portal) : NULL;
	if (!slot && st->q.n) {
		pg_obj_unref(st, (struct pg_obj *)p);
		return pg_stall(st);
	}
	if (!slot) {
		pg_obj_unref(st, (struct pg_obj *)p);
		a = limit_answer("too many portals in this session");
		step = pg_refuse_extended(st, "54000", &a);
		return step == PG_OK ? pg_drop(st, INSP_C2S, m) : step;
	}
	p->by_bind = true;
	p->rules = st->env->rules;
	pg_change(st, pg_expect(st, PG_R_BIND), slot, &p->obj);
	pg_obj_unref(st, &p->obj);
	return pg_pass(st, INSP_C2S, m);
}

/* Describe and Close name a statement or a portal. */
static bool read_target(const struct pg_msg *m, bool *ret_portal, struct slice *ret_name)
{
	struct cursor c = cur_of(m->body);
	uint8_t kind = cur_u8(&c);

	*ret_name = cur_cstr(&c);
	*ret_portal = kind == 'P';
	return cur_end(&c) && (kind == 'P' || kind == 'S');
}

static enum pg_step describe(struct pg *st, const struct pg_msg *m)
{
	struct pg_names *t;
	struct pg_slot *slot;
	struct pg_reply *r;
	struct pg_obj *o;
	enum pg_step step;
	struct slice name;
	bool portal;

	if (!m->whole)
		return PG_NEED;
	if (!read_target(m, &portal, &name))
		return pg_bad(st, TG_R_PROTO_BAD);
	step = pg_check_name(st, m, name);
	if (step != PG_OK || st->skip)
		return step;
	t = portal ? &st->portals : &st->stmts;
	slot = pg_name_find(t, name);
	if (pg_name_unsure(st, t, slot))
		return pg_stall(st);
	o = pg_name_cur(st, t, slot);
	if (!o)
		return pg_refuse_missing(st, portal, name);
	r = pg_expect(st, portal ? PG_R_DESCRIBE_PORTAL : PG_R_DESCRIBE_STATEMENT);
	if (portal) {
		struct pg_portal *p = (struct pg_portal *)pg_obj_ref(o);

		r->portal = p;
		r->stmt = (struct pg_stmt *)pg_obj_ref(&p->stmt->obj);
		p->described = true;
		p->desc_batch = st->batch;
	} else {
		r->stmt = (struct pg_stmt *)pg_obj_ref(o);
		r->stmt->described = true;
		r->stmt->desc_batch = st->batch;
	}
	return pg_pass(st, INSP_C2S, m);
}

static enum pg_step close_object(struct pg *st, const struct pg_msg *m)
{
	struct pg_slot *slot;
	struct pg_reply *r;
	enum pg_step step;
	struct slice name;
	bool portal;

	if (!m->whole)
		return PG_NEED;
	if (!read_target(m, &portal, &name))
		return pg_bad(st, TG_R_PROTO_BAD);
	step = pg_check_name(st, m, name);
	if (step != PG_OK || st->skip)
		return step;
	slot = pg_name_find(portal ? &st->portals : &st->stmts, name);
	r = pg_expect(st, PG_R_CLOSE);
	if (slot)
		pg_change(st, r, slot, NULL);
	return pg_pass(st, INSP_C2S, m);
}

/* ------------------------------------------------------------------ execute */

/* The portal of a FETCH that was parsed when its name meant another cursor, or none. */
static enum pg_step fetch_from(struct pg *st, struct pg_portal *p, struct pg_stmt *now)
{
	struct pg_stmt *old = p->stmt, *s;
	struct insp_answer a;

	s = pg_stmt_new(st, old->info, slice_of(old->bytes, old->text_n),
			slice_of(old->bytes + old->text_n, old->types_n));
	if (!s && st->q.n)
		return pg_stall(st);
	if (!s) {
		a = limit_answer("too many prepared statements in this session");
		return pg_refuse_extended(st, "54000", &a);
	}
	s->at_execute = old->at_execute;
	s->rules = old->rules;
	s->seq = old->seq;
	s->unresolved = !now;
	if (now)
		s->via = (struct pg_stmt *)pg_obj_ref(&now->obj);
	p->stmt = s;
	pg_obj_unref(st, &old->obj);
	return PG_OK;
}

/* What EXECUTE or FETCH names is still what it was at Parse. */
static enum pg_step check_target(struct pg *st, struct pg_portal *p)
{
	const struct pg_stmt *s = p->stmt;
	bool execute = s->info->flags & SQL_F_EXECUTE;
	struct pg_names *t = execute ? &st->stmts : &st->portals;
	struct insp_answer a = {
		.reason = TG_R_SQL_UNPARSED,
		.message = SLICE_LIT("what the statement names has changed since it was parsed"),
		.hint = SLICE_LIT("parse it again"),
	};
	struct pg_slot *slot = pg_name_find(t, s->info->handle);
	struct pg_stmt *now;
	struct pg_obj *o;

	if (pg_name_unsure(st, t, slot))
		return pg_stall(st);
	o = pg_name_cur(st, t, slot);
	now = o && o->portal ? ((struct pg_portal *)o)->stmt : (struct pg_stmt *)o;
	if (now == s->via || (execute && s->unresolved))
		return PG_OK;
	/* Cursors come and go: the rows are those of the one that is there now. */
	if (!execute && !(now && (now->at_execute || pg_names_another(now->info))))
		return fetch_from(st, p, now);
	return pg_refuse_extended(st, "0A000", &a);
}

static bool needs_describe(const struct pg *st, const struct pg_portal *p)
{
	const struct pg_stmt *s = p->stmt;
	bool names = pg_names_another(s->info);

	if (!st->env->masking || st->env->replay)
		return false;
	if (!(s->info->flags & SQL_F_ROWS) && !(s->info->effects & SQL_UNKNOWN))
		return false;
	if (p->described && p->desc_batch == st->batch)
		return false;
	if (names)
		return true;
	if (s->described && s->desc_batch == st->batch)
		return false;
	return !s->desc || st->ddls || s->desc->epoch != st->epoch ||
	       s->desc->generation != st->env->generation;
}

static void inject_describe(struct pg *st, struct pg_portal *p, struct slice name)
{
	size_t total = PG_HEAD + 1 + name.n + 1;
	uint8_t *b = insp_out_make(pg_out(st, INSP_TO_SERVER), total);
	struct pg_reply *r = pg_expect(st, PG_R_DESCRIBE_PORTAL);

	pg_flag(st, r, PG_RF_INJECTED);
	r->portal = (struct pg_portal *)pg_obj_ref(&p->obj);
	r->stmt = (struct pg_stmt *)pg_obj_ref(&p->stmt->obj);
	p->described = true;
	p->desc_batch = st->batch;
	if (!b)
		return;
	b[0] = PG_F_DESCRIBE;
	store_be32(b + 1, (uint32_t)(total - 1));
	b[PG_HEAD] = 'P';
	if (name.n)
		memcpy(b + PG_HEAD + 1, name.p, name.n);
	b[total - 1] = 0;
}

static enum pg_step run_portal(struct pg *st, const struct pg_msg *m, struct pg_portal *p,
			       struct slice name)
{
	struct insp_answer a;
	struct pg_reply *r;

	if (needs_describe(st, p))
		inject_describe(st, p, name);
	r = pg_expect(st, PG_R_EXECUTE);
	r->portal = (struct pg_portal *)pg_obj_ref(&p->obj);
	if (!note_run(st, r, p->stmt)) {
		pg_unexpect(st);
		a = limit_answer("too many prepared statements and cursors in this session");
		return pg_refuse_extended(st, "54000", &a);
	}
	p->approved = true;
	return pg_pass(st, INSP_C2S, m);
}

/* It has not begun, and was not asked about for good. */
static bool is_to_be_asked(const struct pg *st, const struct pg_portal *p)
{
	return p->by_bind && !p->approved && (p->has_digest || p->rules != st->env->rules);
}

/* Bound when nobody had to be asked about it: what it was given is not known any more. */
static bool describe_unseen(struct pg_portal *p)
{
	if (p->has_digest)
		return true;
	p->params = strdup(PG_PARAMS_UNSEEN);
	p->has_digest = p->params && make_digest(p->stmt, slice_of(NULL, 0), p->digest);
	return p->has_digest;
}

static enum pg_step execute(struct pg *st, const struct pg_msg *m)
{
	struct cursor c = cur_of(m->body);
	struct slice name = cur_cstr(&c);
	struct pg_slot *slot;
	struct pg_portal *p;
	struct insp_answer a;
	enum pg_step step;

	if (!m->whole)
		return PG_NEED;
	(void)cur_be32(&c);
	if (!cur_end(&c))
		return pg_bad(st, TG_R_PROTO_BAD);
	step = pg_check_name(st, m, name);
	if (step != PG_OK || st->skip)
		return step;
	slot = pg_name_find(&st->portals, name);
	if (pg_name_unsure(st, &st->portals, slot))
		return pg_stall(st);
	p = (struct pg_portal *)pg_name_cur(st, &st->portals, slot);
	if (!p)
		return pg_refuse_missing(st, true, name);
	if (!p->approved && pg_names_another(p->stmt->info)) {
		step = check_target(st, p);
		if (step != PG_OK || st->skip)
			return step;
	}
	if (is_to_be_asked(st, p)) {
		struct slice text = slice_of(p->stmt->bytes, p->stmt->text_n);

		if (!describe_unseen(p))
			return pg_bad(st, TG_R_NO_MEMORY);
		switch (pg_ask_statement(st, EV_EXECUTE, text, p->stmt, p, false, &a)) {
		case INSP_V_WAIT:
			return PG_WAIT;
		case INSP_V_DENY:
			return pg_refuse_extended(st, pg_sqlstate(&a), &a);
		case INSP_V_ALLOW:
			break;
		}
	}
	return run_portal(st, m, p, name);
}

/* ------------------------------------------------------------- all the rest */

static enum pg_step function_call(struct pg *st, const struct pg_msg *m)
{
	struct insp_answer a = limit_answer("the function call is longer than Tidegate holds");
	struct sql_access access = {.effect = SQL_PROCEDURE, .kind = SQL_OBJ_FUNCTION};
	struct sql_info info = {
		.effects = SQL_PROCEDURE | SQL_UNKNOWN,
		.why = TG_R_PROTO_UNSUPPORTED,
		/* Its arguments may be a statement that puts somewhere what it reads. */
		.flags = SQL_F_ROWS | SQL_F_USER_FUNCTION | SQL_F_STAR | SQL_F_CARRIES,
		.access = &access,
		.naccess = 1,
		.nstatements = 1,
	};
	struct event ev = {.kind = EV_STATEMENT};
	enum insp_verdict v;
	char text[48], *arguments;
	int n;

	if (m->total - PG_HEAD > pg_message_max(st)) {
		enum pg_step step = pg_refuse_query(st, "54000", &a);

		return step == PG_OK ? pg_drop(st, INSP_C2S, m) : step;
	}
	if (!m->whole)
		return PG_NEED;
	if (m->body.n < 10)
		return pg_bad(st, TG_R_PROTO_BAD);
	n = snprintf(text, sizeof(text), "FunctionCall %u", load_be32(m->body.p));
	access.name = slice_of(text + strlen("FunctionCall "), (size_t)n - strlen("FunctionCall "));
	ev.statement.info = &info;
	ev.statement.text = slice_of(text, (size_t)n);
	ev.statement.simple = true;
	ev.statement.in_transaction = st->status != PG_STATUS_IDLE || st->begins || st->batch_runs;
	ev.statement.has_digest = true;
	if (!call_digest(m->body, ev.statement.digest))
		return pg_bad(st, TG_R_NO_MEMORY);
	/* Formats and values stand as in Bind. */
	arguments = pg_params_preview(slice_from(m->body, 4));
	ev.statement.params = slice_str(arguments);
	v = pg_ask(st, &ev, &a);
	free(arguments);
	switch (v) {
	case INSP_V_WAIT:
		return PG_WAIT;
	case INSP_V_DENY:
		return pg_refuse_query(st, pg_sqlstate(&a), &a);
	case INSP_V_ALLOW:
		break;
	}
	pg_flag(st, pg_expect(st, PG_R_FUNCTION), PG_RF_SHAKY | PG_RF_DDL);
	pg_end_batch(st);
	return pg_pass(st, INSP_C2S, m);
}

static enum pg_step sync(struct pg *st, const struct pg_msg *m)
{
	if (m->body.n || !m->whole)
		return pg_bad(st, TG_R_PROTO_BAD);
	st->skip = false;
	(void)pg_expect(st, PG_R_SYNC);
	pg_end_batch(st);
	return pg_pass(st, INSP_C2S, m);
}

static enum pg_step terminate(struct pg *st, const struct pg_msg *m)
{
	insp_out_pass(pg_out(st, INSP_TO_SERVER), m->all);
	st->said_terminate = true;
	if (!st->q.n)
		return pg_end(st, TG_R_NONE);
	/* The server answers what came before, then closes. */
	st->phase = PG_DONE;
	return PG_OK;
}

/* While the server takes COPY data it reads nothing else. */
static enum pg_step copy_message(struct pg *st, const struct pg_msg *m)
{
	const struct pg_reply *h = pg_head(st);

	switch (m->type) {
	case PG_F_COPY_DATA:
		st->sync_in_hand = false;
		return pg_pass(st, INSP_C2S, m);
	case PG_F_COPY_DONE:
	case PG_F_COPY_FAIL:
		st->sync_in_hand = false;
		st->copy_in = false;
		/* A further COPY of the same text may follow. */
		if (h && h->kind == PG_R_QUERY && (h->flags & PG_RF_MULTI)) {
			st->await_copy = true;
			st->await = st->q.serial;
		}
		return pg_pass(st, INSP_C2S, m);
	case PG_F_FLUSH:
		return pg_drop(st, INSP_C2S, m);
	case PG_F_SYNC:
		st->sync_in_hand = h && h->kind == PG_R_EXECUTE;
		return pg_drop(st, INSP_C2S, m);
	default:
		return pg_bad(st, TG_R_PROTO_BAD);
	}
}

enum pg_step pg_client_message(struct pg *st, const struct pg_msg *m)
{
	if (m->type == PG_F_TERMINATE && !st->copy_in)
		return m->whole ? terminate(st, m) : PG_NEED;
	if (st->copy_in)
		return copy_message(st, m);
	if (st->await_copy)
		return PG_STALL;
	if (st->skip && m->type != PG_F_SYNC)
		return pg_drop(st, INSP_C2S, m);
	if (!pg_can_expect(st))
		return pg_queue_synced(st) ? PG_STALL : pg_bad(st, TG_R_PROTO_LIMIT);
	switch ((enum pg_frontend)m->type) {
	case PG_F_QUERY:
		return query(st, m);
	case PG_F_PARSE:
		return parse(st, m);
	case PG_F_BIND:
		return bind(st, m);
	case PG_F_DESCRIBE:
		return describe(st, m);
	case PG_F_EXECUTE:
		return execute(st, m);
	case PG_F_CLOSE:
		return close_object(st, m);
	case PG_F_SYNC:
		return sync(st, m);
	case PG_F_FLUSH:
		return pg_pass(st, INSP_C2S, m);
	case PG_F_FUNCTION_CALL:
		return function_call(st, m);
	case PG_F_COPY_DATA:
	case PG_F_COPY_DONE:
	case PG_F_COPY_FAIL:
		/* What is left of a COPY that failed: a server ignores it too. */
		return pg_drop(st, INSP_C2S, m);
	case PG_F_PASSWORD:
	case PG_F_TERMINATE:
		break;
	}
	return pg_bad(st, TG_R_PROTO_BAD);
}
