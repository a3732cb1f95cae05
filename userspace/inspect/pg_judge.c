/* SPDX-License-Identifier: MIT */
/*
 * What a text is and what the host says to it.
 *
 * How a text is read depends on settings that an earlier statement may change
 * (standard_conforming_strings: what a backslash means; client_encoding: what
 * bytes over 0x7f mean). The server reports a change with the next
 * ReadyForQuery. A text that could be read in two ways therefore waits until
 * everything before it is answered; where that cannot be waited for (no Sync
 * yet) both readings must agree.
 *
 * EXECUTE and FETCH do what the statement does that they name: the host is given
 * both. What they name must be the same at Parse and at Execute.
 */
#include "inspect/pg.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

const struct sql_info pg_unknown_info = {
	.effects = SQL_UNKNOWN,
	.flags = SQL_F_ROWS,
	.why = TG_R_SQL_UNPARSED,
	.nstatements = 1,
};

bool pg_has_high(struct slice s)
{
	uint8_t any = 0;

	for (size_t i = 0; i < s.n; i++)
		any |= s.p[i];
	return any & 0x80;
}

static bool same_reading(const struct sql_info *a, const struct sql_info *b)
{
	return a->shape == b->shape && a->effects == b->effects && a->flags == b->flags &&
	       a->nstatements == b->nstatements && a->naccess == b->naccess;
}

const struct sql_info *pg_info_ref(const struct sql_info *info)
{
	return info == &pg_unknown_info ? info : sql_info_ref(info);
}

void pg_info_unref(const struct sql_info *info)
{
	if (info && info != &pg_unknown_info)
		sql_info_unref(info);
}

/* Waits for the server's answers, which a Flush makes it give before a Sync. */
enum pg_step pg_stall(struct pg *st)
{
	if (st->unsynced && !st->flushed) {
		pg_make_empty(st, INSP_TO_SERVER, PG_F_FLUSH);
		st->flushed = true;
	}
	return PG_STALL;
}

/*
 * What the server has not answered up to ReadyForQuery may change settings, or end those of a
 * transaction: by running, and within a block by failing, too.
 */
static bool may_change(const struct pg *st)
{
	return st->running || st->batch_runs || st->syncs ||
	       (st->q.n && st->status != PG_STATUS_IDLE);
}

enum pg_step pg_check_name(struct pg *st, const struct pg_msg *m, struct slice name)
{
	struct insp_answer a = {
		.reason = TG_R_PROTO_UNSUPPORTED,
		.message = SLICE_LIT("the name of a prepared statement or portal is not ASCII, "
				     "and not in UTF-8 on both sides"),
		.hint = SLICE_LIT("use another name, or SET client_encoding = 'UTF8'"),
	};
	enum pg_step step;

	if (!pg_has_high(name))
		return PG_OK;
	if (may_change(st) && st->shaky && !st->batch_runs)
		return pg_stall(st);
	if (!(st->lexer & SQL_LEX_FOREIGN) && !st->shaky)
		return PG_OK;
	step = pg_refuse_extended(st, "0A000", &a);
	return step == PG_OK ? pg_drop(st, INSP_C2S, m) : step;
}

enum pg_step pg_classify(struct pg *st, struct slice text, const struct sql_info **ret)
{
	bool open = may_change(st);
	bool backslash = open && text.n && memchr(text.p, '\\', text.n);
	bool high = open && pg_has_high(text);
	const struct sql_info *info, *other;

	if ((backslash || high) && !st->batch_runs)
		return pg_stall(st);
	info = sql_classify(st->env->sql, text, st->lexer);
	if (backslash) {
		other = sql_classify(st->env->sql, text, st->lexer ^ SQL_LEX_BACKSLASH);
		if (!same_reading(info, other)) {
			sql_info_unref(info);
			info = NULL;
		}
		sql_info_unref(other);
	}
	if (high && st->shaky && info) {
		sql_info_unref(info);
		info = NULL;
	}
	*ret = info ? info : &pg_unknown_info;
	return PG_OK;
}

/* ------------------------------------------------- statements that name others */

enum pg_step pg_resolve(struct pg *st, struct pg_stmt *stmt)
{
	const struct sql_info *info = stmt->info;
	bool execute = info->flags & SQL_F_EXECUTE;
	struct pg_names *t = execute ? &st->stmts : &st->portals;
	struct pg_slot *slot;
	struct pg_obj *o;
	struct pg_stmt *via;

	if (!pg_names_another(info))
		return PG_OK;
	slot = pg_name_find(t, info->handle);
	if (info->handle.n && pg_name_unsure(st, t, slot))
		return pg_stall(st);
	o = info->handle.n ? pg_name_cur(st, t, slot) : NULL;
	/* "DECLARE c ...; FETCH c": only what the text itself makes can be meant. */
	if (!o && info->handle.n && (info->flags & SQL_F_MULTI) &&
	    (info->flags & (execute ? SQL_F_PREPARE : SQL_F_DECLARE)))
		return PG_OK;
	if (!o || (info->flags & SQL_F_MULTI)) {
		stmt->unresolved = true;
		return PG_OK;
	}
	via = execute ? (struct pg_stmt *)o : ((struct pg_portal *)o)->stmt;
	/* Names behind names are not followed: a FETCH from one that Bind made of a FETCH. */
	stmt->behind = pg_names_another(via->info);
	if (stmt->behind || (execute && (via->info->flags & (SQL_F_DEALLOCATE | SQL_F_DECLARE)))) {
		stmt->unresolved = true;
		return PG_OK;
	}
	pg_obj_unref(st, (struct pg_obj *)stmt->via);
	stmt->via = (struct pg_stmt *)pg_obj_ref(&via->obj);
	return PG_OK;
}

const struct sql_info *pg_result_info(const struct pg_stmt *stmt)
{
	if (!stmt)
		return NULL;
	if (stmt->via)
		return stmt->via->info;
	return stmt->unresolved ? NULL : stmt->info;
}

static int name_cmp(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;
	int c = memcmp(x->p, y->p, min_size(x->n, y->n));

	return c ? c : (x->n > y->n) - (x->n < y->n);
}

/* Both statements as one: accesses and names of the two. NULL: memory. */
static struct sql_info *combine(const struct sql_info *a, const struct sql_info *b)
{
	size_t nacc = (size_t)a->naccess + b->naccess, nnames = (size_t)a->nnames + b->nnames,
	       n = 0;
	struct sql_info *ret;
	struct sql_access *acc;
	struct slice *names;

	if (nacc > UINT16_MAX)
		return NULL;
	ret = malloc(sizeof(*ret) + nacc * sizeof(*acc) + nnames * sizeof(*names));
	if (!ret)
		return NULL;
	acc = (struct sql_access *)(ret + 1);
	names = (struct slice *)(acc + nacc);
	*ret = *a;
	ret->effects |= b->effects;
	ret->flags |= b->flags;
	if (!(a->effects & SQL_UNKNOWN))
		ret->why = b->why;
	if (a->naccess)
		memcpy(acc, a->access, a->naccess * sizeof(*acc));
	if (b->naccess)
		memcpy(acc + a->naccess, b->access, b->naccess * sizeof(*acc));
	if (a->nnames)
		memcpy(names, a->names, a->nnames * sizeof(*names));
	if (b->nnames)
		memcpy(names + a->nnames, b->names, b->nnames * sizeof(*names));
	if (nnames)
		qsort(names, nnames, sizeof(*names), name_cmp);
	for (size_t i = 0; i < nnames; i++)
		if (n == 0 || !slice_eq(names[n - 1], names[i]))
			names[n++] = names[i];
	ret->access = acc;
	ret->naccess = (uint16_t)nacc;
	ret->names = names;
	ret->nnames = (uint32_t)n;
	ret->shape = 0; /* it is nobody else's, nor can it be referenced */
	return ret;
}

/* The portal that FETCH names, with parameters that it was bound to; NULL: there are none. */
static const struct pg_portal *named_portal(const struct pg *st, const struct pg_stmt *stmt)
{
	const struct pg_slot *slot;
	const struct pg_portal *p;

	if (!(stmt->info->flags & SQL_F_FETCH))
		return NULL;
	slot = pg_name_find(&st->portals, stmt->info->handle);
	p = (const struct pg_portal *)pg_name_cur(st, &st->portals, slot);
	return p && p->by_bind && p->stmt == stmt->via ? p : NULL;
}

/*
 * FETCH runs what its cursor is made of. DECLARE was asked about; a portal that Bind
 * made was not, if it waits for its Execute. An unknown cursor is judged
 * by FETCH alone: its rows are masked as of unknown origin.
 */
static const struct sql_info *other_info(const struct pg *st, const struct pg_stmt *stmt)
{
	const struct pg_portal *p;

	if (stmt->behind || (stmt->unresolved && (stmt->info->flags & SQL_F_EXECUTE)))
		return &pg_unknown_info;
	if (stmt->via && (stmt->info->flags & SQL_F_EXECUTE))
		return stmt->via->info;
	if (stmt->via && stmt->via->at_execute)
		return stmt->via->info;
	/* Bound before the rules changed, and not begun. */
	p = stmt->via ? named_portal(st, stmt) : NULL;
	return p && !p->approved && p->rules != st->env->rules ? p->stmt->info : NULL;
}

/* As make_digest(), over all that the name stands for besides. */
static bool named_digest(struct slice text, const struct pg_stmt *via, const struct pg_portal *own,
			 const struct pg_portal *named, uint8_t ret[32])
{
	static const char label[] = "tidegate-named-1";
	static const uint8_t none[32];
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t n[12];
	bool ok;

	store_be32(n, (uint32_t)text.n);
	store_be32(n + 4, via->text_n);
	store_be32(n + 8, via->types_n);
	ok = ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) &&
	     EVP_DigestUpdate(ctx, label, sizeof(label)) && EVP_DigestUpdate(ctx, n, sizeof(n)) &&
	     EVP_DigestUpdate(ctx, text.p, text.n) &&
	     EVP_DigestUpdate(ctx, via->bytes, (size_t)via->text_n + via->types_n) &&
	     EVP_DigestUpdate(ctx, own ? own->digest : none, sizeof(none)) &&
	     EVP_DigestUpdate(ctx, named ? named->digest : none, sizeof(none)) &&
	     EVP_DigestFinal_ex(ctx, ret, NULL);
	EVP_MD_CTX_free(ctx);
	return ok;
}

/* Who decides about "EXECUTE x" decides about x: its text is shown, and is in the digest. */
static bool tell_named(struct pg *st, const struct pg_stmt *stmt, const struct pg_portal *own,
		       struct event *ev)
{
	const struct pg_portal *named = named_portal(st, stmt);
	const struct pg_stmt *via = stmt->via;

	ev->statement.named = slice_of(via->bytes, via->text_n);
	ev->statement.named_info = via->info;
	if (named && !ev->statement.params.n)
		ev->statement.params =
			slice_str(named->has_digest ? named->params : PG_PARAMS_UNSEEN);
	ev->statement.has_digest = true;
	return named_digest(ev->statement.text, via, own, named, ev->statement.digest);
}

enum insp_verdict pg_ask_statement(struct pg *st, enum event_kind kind, struct slice text,
				   struct pg_stmt *stmt, const struct pg_portal *portal,
				   bool simple, struct insp_answer *ret)
{
	const struct sql_info *other = pg_names_another(stmt->info) ? other_info(st, stmt) : NULL;
	struct sql_info *both = other ? combine(stmt->info, other) : NULL;
	struct event ev = {.kind = kind};
	enum insp_verdict v;

	ev.statement.info = both ? both : other ? &pg_unknown_info : stmt->info;
	ev.statement.text = text;
	ev.statement.simple = simple;
	/* Conservative: what is on its way may have opened a transaction. */
	ev.statement.in_transaction = st->status != PG_STATUS_IDLE || st->begins || st->batch_runs;
	if (kind == EV_EXECUTE) {
		ev.statement.statement_seq = stmt->seq;
		ev.statement.has_digest = true;
		ev.statement.params = slice_str(portal->params);
		memcpy(ev.statement.digest, portal->digest, sizeof(ev.statement.digest));
	}
	if (other && stmt->via && !tell_named(st, stmt, portal, &ev)) {
		free(both);
		*ret = (struct insp_answer){.verdict = INSP_V_DENY,
					    .reason = TG_R_NO_MEMORY,
					    .message = slice_str(reason_what(TG_R_NO_MEMORY))};
		return INSP_V_DENY;
	}
	v = pg_ask(st, &ev, ret);
	if (kind == EV_STATEMENT)
		stmt->seq = ev.seq;
	free(both);
	return v;
}
