/* SPDX-License-Identifier: MIT */
/*
 * Refusals. The client sees an ErrorResponse in its place; what the server has of
 * the same batch decides how.
 *
 * A denied Query: nothing of it is sent, and ReadyForQuery with the last true status
 * follows our error. A denied message of the extended protocol: our error, then
 * everything up to Sync falls, and Sync goes to the server, which gives the true
 * status. If statements of the same batch run already and would be committed by that
 * Sync, the batch has to fail as a server's own would: a message that cannot
 * succeed goes in place of the refused one, and our error in place of the
 * server's.
 */
#include "inspect/pg.h"

#include <stdlib.h>

/* Cannot be parsed, so nothing is prepared under its name. */
static const char poison_text[] = "refused by Tidegate";
static const char poison_name[] = "tidegate_refused";

const char *pg_sqlstate(const struct insp_answer *a)
{
	if (a->cancelled)
		return "57014"; /* query_canceled */
	switch (a->reason) {
	case TG_R_PROTO_LIMIT:
	case TG_R_SQL_TOO_LONG:
	case TG_R_SQL_TOO_DEEP:
	case TG_R_NO_MEMORY:
	case TG_R_OVERLOAD:
		return "54000"; /* program_limit_exceeded */
	case TG_R_SQL_UNPARSED:
	case TG_R_PROTO_UNSUPPORTED:
		return "0A000"; /* feature_not_supported */
	default:
		return "42501"; /* insufficient_privilege */
	}
}

static struct pg_local *refusal(const char *code, const struct insp_answer *a)
{
	struct slice message = a->message;

	if (a->cancelled)
		message = slice_str("canceling statement due to user request");
	else if (message.n == 0)
		message = slice_str(reason_what(a->reason));
	return pg_error_new("ERROR", code, message, a->detail, a->hint);
}

/* Statements of this batch run, and nothing but its end decides about them. */
static bool must_poison(const struct pg *st)
{
	bool block = st->status != PG_STATUS_IDLE && !st->syncs && !st->begins && !st->ends;

	return st->batch_runs && !block;
}

static void poison(struct pg *st, uint8_t type)
{
	size_t name = type == PG_F_PARSE ? sizeof(poison_name) : 0;
	size_t tail = type == PG_F_PARSE ? 2 : 0;
	size_t total = PG_HEAD + name + sizeof(poison_text) + tail;
	uint8_t *p = insp_out_make(pg_out(st, INSP_TO_SERVER), total);

	if (!p)
		return;
	memset(p, 0, total);
	p[0] = type;
	store_be32(p + 1, (uint32_t)(total - 1));
	memcpy(p + PG_HEAD, poison_name, name);
	memcpy(p + PG_HEAD + name, poison_text, sizeof(poison_text));
}

static void flush_before(struct pg *st)
{
	if (!st->unsynced)
		return;
	pg_make_empty(st, INSP_TO_SERVER, PG_F_FLUSH);
}

enum pg_step pg_refuse_query(struct pg *st, const char *code, const struct insp_answer *a)
{
	struct pg_local *l = refusal(code, a);
	struct pg_reply *r;

	if (!l)
		return pg_bad(st, TG_R_NO_MEMORY);
	st->denied++;
	if (must_poison(st)) {
		poison(st, PG_F_QUERY);
		r = pg_expect(st, PG_R_QUERY);
		pg_end_batch(st);
	} else {
		flush_before(st);
		r = pg_expect(st, PG_R_LOCAL);
		pg_flag(st, r, PG_RF_READY);
	}
	r->local = l;
	pg_send_local(st);
	return PG_OK;
}

enum pg_step pg_refuse_extended(struct pg *st, const char *code, const struct insp_answer *a)
{
	struct pg_local *l = refusal(code, a);
	struct pg_reply *r;

	if (!l)
		return pg_bad(st, TG_R_NO_MEMORY);
	st->denied++;
	if (must_poison(st)) {
		poison(st, PG_F_PARSE);
		r = pg_expect(st, PG_R_PARSE);
	} else {
		flush_before(st);
		r = pg_expect(st, PG_R_LOCAL);
	}
	r->local = l;
	st->skip = true;
	pg_send_local(st);
	return PG_OK;
}

enum pg_step pg_refuse_missing(struct pg *st, bool portal, struct slice name)
{
	struct insp_answer a = {.reason = TG_R_NONE};
	struct buf b;
	enum pg_step step;
	int rc;

	buf_init(&b, PG_SMALL_MAX + 64);
	if (name.n == 0 && !portal)
		rc = buf_printf(&b, "unnamed prepared statement does not exist");
	else
		rc = buf_printf(&b, "%s \"%.*s\" does not exist",
				portal ? "portal" : "prepared statement", (int)name.n,
				(const char *)name.p);
	a.message = buf_slice(&b);
	step = rc ? pg_bad(st, TG_R_NO_MEMORY) :
		    pg_refuse_extended(st, portal ? "34000" : "26000", &a);
	buf_done(&b);
	return step;
}
