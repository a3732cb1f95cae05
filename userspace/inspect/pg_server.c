/* SPDX-License-Identifier: MIT */
/*
 * The server's messages after login. Each must fit the reply that is due;
 * notices, parameters and notifications may come at any time.
 */
#include "inspect/pg.h"

#include <stdlib.h>
#include <string.h>

enum { PG_KNOWN = 8, PG_KNOWN_RAW_MAX = 2048 };

/* The description that a shape of a simple query had last. */
struct pg_known {
	const struct sql_info *info; /* referenced */
	struct pg_desc *desc;
};

static enum pg_step unfit(struct pg *st)
{
	return pg_bad(st, TG_R_PROTO_BAD);
}

/* A message without content that completes the head of the queue. */
static enum pg_step complete(struct pg *st, const struct pg_msg *m, enum pg_reply_kind kind)
{
	struct pg_reply *h = pg_head(st);

	/* Our own Parse that stands for a refusal cannot succeed. */
	if (!h || h->kind != kind || h->local || m->total != PG_HEAD)
		return unfit(st);
	(void)pg_pass(st, INSP_S2C, m);
	pg_pop(st, PG_DONE_OK);
	return PG_OK;
}

/* ---------------------------------------------------------------- results */

static bool defines(const struct pg_stmt *s)
{
	return s &&
	       (s->info->effects | (s->via ? s->via->info->effects : 0)) & (SQL_DDL | SQL_UNKNOWN);
}

static void command_event(struct pg *st, const struct pg_reply *h, struct slice tag)
{
	struct event ev = {.kind = EV_RESULT};
	uint64_t rows = 0, unit = 1;

	/* Of a text with several commands the later ones see what this one has done. */
	st->unsettled |= !!(h->flags & PG_RF_DDL);
	ev.result.defines = defines(h->stmt);
	st->defined |= ev.result.defines;
	ev.result.tag = tag;
	ev.result.statement_seq = h->stmt ? h->stmt->seq : 0;
	ev.result.plan = st->rows.plan;
	st->rows.plan = 0;
	/* The last word, if it is a number, counts rows: "INSERT 0 5", "SELECT 3", "BEGIN". */
	for (size_t i = tag.n; i > 0; i--) {
		uint8_t c = tag.p[i - 1];

		if (c < '0' || c > '9') {
			ev.result.rows = c == ' ' ? rows : 0;
			break;
		}
		rows += (uint64_t)(c - '0') * unit;
		unit *= 10;
	}
	pg_tell(st, INSP_S2C, &ev);
}

static enum pg_step command_complete(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);
	struct cursor c = cur_of(m->body);
	struct slice tag;

	if (!m->whole)
		return m->total > PG_SMALL_MAX ? unfit(st) : PG_NEED;
	if (!h || (h->kind != PG_R_QUERY && h->kind != PG_R_EXECUTE) || (h->flags & PG_RF_ERROR))
		return unfit(st);
	tag = cur_cstr(&c);
	if (!cur_end(&c))
		return unfit(st);
	pg_copy_end(st);
	pg_rows_end(st, h->stmt);
	command_event(st, h, tag);
	h->flags &= (uint16_t) ~(PG_RF_ROWS | PG_RF_COPYING);
	(void)pg_pass(st, INSP_S2C, m);
	if (h->kind == PG_R_EXECUTE)
		pg_pop(st, PG_DONE_OK);
	return PG_OK;
}

static enum pg_step empty_query(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);

	if (m->total != PG_HEAD || !h)
		return unfit(st);
	if (h->kind == PG_R_EXECUTE)
		return complete(st, m, PG_R_EXECUTE);
	if (h->kind != PG_R_QUERY)
		return unfit(st);
	return pg_pass(st, INSP_S2C, m);
}

static enum pg_step portal_suspended(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);

	if (h && h->kind == PG_R_EXECUTE)
		pg_rows_end(st, h->stmt);
	return complete(st, m, PG_R_EXECUTE);
}

/* No transaction is open. */
static void settle(struct pg *st)
{
	struct event ev = {.kind = EV_SETTLED};
	struct insp_answer none = {0};

	/* The end of a transaction is the end of its portals. */
	pg_names_forget(st, &st->portals);
	if (st->defined)
		(void)st->env->host->event(st->env->ctx, &ev, &none);
	st->defined = st->unsettled = false;
}

static enum pg_step ready_for_query(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);
	bool failed;

	if (m->total != PG_HEAD + 1)
		return unfit(st);
	if (!m->whole)
		return PG_NEED;
	if (!h || (h->kind != PG_R_QUERY && h->kind != PG_R_SYNC && h->kind != PG_R_FUNCTION) ||
	    (h->flags & PG_RF_COPYING))
		return unfit(st);
	if (m->body.p[0] != PG_STATUS_IDLE && m->body.p[0] != PG_STATUS_BLOCK &&
	    m->body.p[0] != PG_STATUS_FAILED)
		return unfit(st);
	failed = h->flags & PG_RF_ERROR;
	/* Changed settings are told before it. */
	if (st->shaky && (int32_t)(h->batch - st->shaky_batch) >= 0)
		st->shaky = false;
	st->status = m->body.p[0];
	(void)pg_pass(st, INSP_S2C, m);
	pg_pop(st, failed ? PG_DONE_ERROR : PG_DONE_OK);
	if (st->status == PG_STATUS_IDLE)
		settle(st);
	return PG_OK;
}

/* ------------------------------------------------------------ descriptions */

static enum pg_step pass_or_swallow(struct pg *st, const struct pg_msg *m, const struct pg_reply *h)
{
	return h->flags & PG_RF_INJECTED ? pg_drop(st, INSP_S2C, m) : pg_pass(st, INSP_S2C, m);
}

static void remember(struct pg_stmt *s, struct pg_desc *d)
{
	pg_desc_unref(s->desc);
	s->desc = pg_desc_ref(d);
}

/* Where a description is remembered that no statement of the client's keeps; NULL: nowhere. */
static struct pg_known *known_place(struct pg *st, const struct sql_info *info)
{
	if (!st->known)
		st->known = calloc(PG_KNOWN, sizeof(*st->known));
	return st->known && info->shape ? &st->known[info->shape % PG_KNOWN] : NULL;
}

/* A simple query comes as a new statement each time; its shape has had this description. */
static void remember_shape(struct pg *st, const struct sql_info *info, struct pg_desc *d)
{
	struct pg_known *k = known_place(st, info);

	if (!k || d->raw_n > PG_KNOWN_RAW_MAX)
		return;
	pg_info_unref(k->info);
	pg_desc_unref(k->desc);
	*k = (struct pg_known){pg_info_ref(info), pg_desc_ref(d)};
}

static struct pg_desc *shape_desc(struct pg *st, const struct sql_info *info)
{
	struct pg_known *k = known_place(st, info);

	return k && k->info == info ? k->desc : NULL;
}

/* The same description as before, with plans that still hold. */
static struct pg_desc *known_desc(struct pg *st, const struct pg_reply *h, struct slice body)
{
	const struct pg_stmt *s = h->stmt;
	struct pg_desc *d;

	if (!s || pg_names_another(s->info))
		return NULL;
	d = h->kind == PG_R_QUERY ? shape_desc(st, s->info) : s->desc;
	if (!d || d->generation != st->env->generation || d->epoch != st->epoch)
		return NULL;
	if (d->raw_n != body.n || memcmp(&d->col[d->n], body.p, body.n) != 0)
		return NULL;
	return pg_desc_ref(d);
}

void pg_known_free(struct pg *st)
{
	for (unsigned i = 0; st->known && i < PG_KNOWN; i++) {
		pg_info_unref(st->known[i].info);
		pg_desc_unref(st->known[i].desc);
	}
	free(st->known);
	st->known = NULL;
}

static enum pg_step row_description(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);
	struct pg_desc *d = NULL;
	enum pg_step step;

	if (!h || (h->flags & PG_RF_ERROR))
		return unfit(st);
	switch ((enum pg_reply_kind)h->kind) {
	case PG_R_DESCRIBE_STATEMENT:
		if (!(h->flags & PG_RF_PARAMS))
			return unfit(st);
		break;
	case PG_R_QUERY:
		if (h->flags & (PG_RF_ROWS | PG_RF_COPYING))
			return unfit(st);
		break;
	case PG_R_DESCRIBE_PORTAL:
		break;
	default:
		return unfit(st);
	}
	if (m->total > pg_message_max(st))
		return pg_bad(st, TG_R_PROTO_LIMIT);
	if (!m->whole)
		return PG_NEED;
	if (st->env->masking) {
		d = known_desc(st, h, m->body);
		if (!d) {
			step = pg_describe_rows(st, m->body, h->stmt, &d);
			if (step != PG_OK)
				return step;
			if (h->kind == PG_R_QUERY && h->stmt)
				remember_shape(st, h->stmt->info, d);
		}
	}
	(void)pass_or_swallow(st, m, h);
	if (h->kind == PG_R_QUERY) {
		h->flags |= PG_RF_ROWS;
		if (d && pg_rows_begin(st, d, NULL)) {
			pg_desc_unref(d);
			return pg_bad(st, TG_R_NO_MEMORY);
		}
	} else {
		if (d && h->stmt)
			remember(h->stmt, d);
		pg_pop(st, PG_DONE_OK);
	}
	pg_desc_unref(d);
	return PG_OK;
}

static enum pg_step no_data(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);

	if (!h || m->total != PG_HEAD)
		return unfit(st);
	if (h->kind != PG_R_DESCRIBE_PORTAL &&
	    !(h->kind == PG_R_DESCRIBE_STATEMENT && (h->flags & PG_RF_PARAMS)))
		return unfit(st);
	(void)pass_or_swallow(st, m, h);
	pg_pop(st, PG_DONE_OK);
	return PG_OK;
}

static enum pg_step parameter_description(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);

	if (!h || h->kind != PG_R_DESCRIBE_STATEMENT || (h->flags & PG_RF_PARAMS))
		return unfit(st);
	h->flags |= PG_RF_PARAMS;
	return pg_pass(st, INSP_S2C, m);
}

/* -------------------------------------------------------------------- rows */

/* The first row of an Execute: which description holds. */
static enum pg_step rows_of_execute(struct pg *st, const struct pg_msg *m, struct pg_reply *h)
{
	struct pg_desc *d = h->stmt ? h->stmt->desc : NULL;
	enum pg_step step;

	if (d && d->epoch == st->epoch && d->generation == st->env->generation) {
		d = pg_desc_ref(d);
	} else if (d && d->epoch == st->epoch) {
		/* The plans became void while the Execute was on its way; its columns are the same.
		 */
		step = pg_describe_rows(st, slice_of(&d->col[d->n], d->raw_n), h->stmt, &d);
		if (step != PG_OK)
			return step;
		remember(h->stmt, d);
	} else {
		step = pg_undescribed(st, load_be16(m->body.p), &d);
		if (step != PG_OK)
			return step;
	}
	h->flags |= PG_RF_ROWS;
	if (pg_rows_begin(st, d, h->portal)) {
		pg_desc_unref(d);
		return pg_bad(st, TG_R_NO_MEMORY);
	}
	pg_desc_unref(d);
	return PG_OK;
}

static enum pg_step data_row(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);
	enum pg_step step;

	if (!h || (h->flags & PG_RF_ERROR))
		return unfit(st);
	if (h->kind == PG_R_QUERY ? !(h->flags & PG_RF_ROWS) : h->kind != PG_R_EXECUTE)
		return unfit(st);
	if (st->env->masking && h->kind == PG_R_EXECUTE && !(h->flags & PG_RF_ROWS)) {
		if (m->body.n < 2)
			return m->whole ? unfit(st) : PG_NEED;
		step = rows_of_execute(st, m, h);
		if (step != PG_OK)
			return step;
	}
	if (!st->rows.desc)
		return pg_pass(st, INSP_S2C, m);
	if (m->total > pg_row_max(st))
		return pg_rows_stream(st, m);
	if (m->whole) {
		size_t used = 0;

		return pg_rows_batch(st, m->all, &used);
	}
	return PG_NEED;
}

/* Whether the host hides the value of a function: nothing says what it is made of. */
static enum pg_step hides_result(struct pg *st, const struct pg_msg *m, bool *ret)
{
	struct insp_value v = {.in = slice_from(m->body, 4)};
	struct pg_desc *d;
	enum pg_step step = pg_undescribed(st, 1, &d);

	if (step != PG_OK)
		return step;
	*ret = d->col[0].plan.how != MASK_NONE;
	st->rows.plan = d->plan;
	if (!*ret && d->col[0].plan.detectors && v.in.n) {
		v.plan = &d->col[0].plan;
		*ret = v.in.n > pg_value_max(st) || st->env->host->mask(st->env->ctx, &v, 1);
		st->rows.hits += !!v.hits;
		st->rows.detectors |= v.hits;
		st->rows.over_cap += v.in.n > pg_value_max(st);
	} else {
		st->rows.values += *ret;
	}
	pg_desc_unref(d);
	pg_rows_end(st, NULL);
	st->rows.plan = 0;
	return PG_OK;
}

static enum pg_step function_result(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);
	enum pg_step step;
	bool hide;
	uint8_t *p;

	if (!h || h->kind != PG_R_FUNCTION || (h->flags & PG_RF_ERROR) || m->total < PG_HEAD + 4)
		return unfit(st);
	if (!st->env->masking)
		return pg_pass(st, INSP_S2C, m);
	if (m->total > pg_message_max(st))
		return pg_bad(st, TG_R_PROTO_LIMIT);
	if (!m->whole)
		return PG_NEED;
	step = hides_result(st, m, &hide);
	if (step != PG_OK || !hide)
		return step == PG_OK ? pg_pass(st, INSP_S2C, m) : step;
	p = insp_out_make(pg_out(st, INSP_TO_CLIENT), PG_HEAD + 4);
	if (p) {
		p[0] = PG_B_FUNCTION_CALL_RESPONSE;
		store_be32(p + 1, 8);
		store_be32(p + PG_HEAD, UINT32_MAX);
	}
	return PG_OK;
}

/* -------------------------------------------------------------------- copy */

static enum pg_step copy_in_response(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);

	if (!m->whole)
		return m->total > PG_SMALL_MAX ? unfit(st) : PG_NEED;
	if (!h || (h->kind != PG_R_QUERY && h->kind != PG_R_EXECUTE) ||
	    (h->flags & (PG_RF_ERROR | PG_RF_COPYING)))
		return unfit(st);
	/*
	 * A COPY that nobody expected: Syncs behind it are ignored by the
	 * server, and anything else would be read as a part of the COPY.
	 */
	if (!pg_drop_syncs(st))
		return unfit(st);
	st->await_copy = false;
	st->copy_in = true;
	st->sync_in_hand = false;
	return pg_pass(st, INSP_S2C, m);
}

static enum pg_step copy_out_response(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);
	enum pg_step step;

	if (!m->whole)
		return m->total > PG_SMALL_MAX ? unfit(st) : PG_NEED;
	if (!h || (h->kind != PG_R_QUERY && h->kind != PG_R_EXECUTE) ||
	    (h->flags & (PG_RF_ERROR | PG_RF_COPYING)))
		return unfit(st);
	if (st->env->masking) {
		step = pg_copy_begin(st, m, h->stmt);
		if (step != PG_OK)
			return step;
	}
	h->flags |= PG_RF_COPYING;
	return pg_pass(st, INSP_S2C, m);
}

static enum pg_step copy_out(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);

	if (!h || !(h->flags & PG_RF_COPYING))
		return unfit(st);
	if (m->type == PG_B_COPY_DATA)
		return st->copy ? pg_copy_data(st, m) : pg_pass(st, INSP_S2C, m);
	if (m->total != PG_HEAD)
		return unfit(st);
	pg_copy_end(st);
	h->flags &= (uint16_t)~PG_RF_COPYING;
	return pg_pass(st, INSP_S2C, m);
}

/* ------------------------------------------------------------------ errors */

/* The severity that is not translated ('V'), or the other. */
static bool is_fatal(struct slice body)
{
	struct cursor c = cur_of(body);
	struct slice severity = {0};

	for (;;) {
		uint8_t kind = cur_u8(&c);
		struct slice value = kind ? cur_cstr(&c) : (struct slice){0};

		if (!kind || c.bad)
			break;
		if (kind == 'V' || (kind == 'S' && !severity.n))
			severity = value;
	}
	return slice_eq_str(severity, "FATAL") || slice_eq_str(severity, "PANIC");
}

/* A COPY from the client has failed: what the client still sends for it is void. */
static void copy_in_failed(struct pg *st, bool extended)
{
	bool sync = st->copy_in && st->sync_in_hand;

	st->copy_in = false;
	st->sync_in_hand = false;
	if (!extended || !sync || !pg_can_expect(st))
		return;
	st->skip = false;
	(void)pg_expect(st, PG_R_SYNC);
	pg_end_batch(st);
	pg_make_empty(st, INSP_TO_SERVER, PG_F_SYNC);
}

static void fail_head(struct pg *st, struct pg_reply *h)
{
	pg_copy_end(st);
	pg_rows_end(st, h->stmt);
	st->rows.plan = 0;
	switch ((enum pg_reply_kind)h->kind) {
	case PG_R_QUERY:
	case PG_R_SYNC:
	case PG_R_FUNCTION:
		h->flags |= PG_RF_ERROR;
		h->flags &= (uint16_t)~PG_RF_COPYING;
		copy_in_failed(st, false);
		break;
	case PG_R_EXECUTE:
	case PG_R_PARSE:
	case PG_R_BIND:
	case PG_R_DESCRIBE_STATEMENT:
	case PG_R_DESCRIBE_PORTAL:
	case PG_R_CLOSE:
		pg_skip_batch(st);
		copy_in_failed(st, true);
		break;
	case PG_R_LOCAL:
		break;
	}
}

/* The statement that a message of the head's processing is about. */
static const struct pg_stmt *stmt_of(const struct pg_reply *h)
{
	if (!h || h->stmt || !h->made)
		return h ? h->stmt : NULL;
	if (h->kind == PG_R_PARSE)
		return (const struct pg_stmt *)h->made;
	return h->made->portal ? ((const struct pg_portal *)h->made)->stmt : NULL;
}

static enum pg_step error_response(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);
	enum pg_step step;

	/* However it is cut, the same part of it is looked at. */
	if (!m->whole && m->all.n < PG_TEXT_MAX)
		return PG_NEED;
	if (is_fatal(m->body))
		return pg_text(st, m, stmt_of(h), h && h->kind != PG_R_LOCAL);
	/* Where nothing is due only the end of the session is news. */
	if (!h || h->kind == PG_R_LOCAL || (h->flags & PG_RF_ERROR))
		return unfit(st);
	if (h->local) {
		if (!m->whole)
			return unfit(st);
		insp_out_copy(pg_out(st, INSP_TO_CLIENT), slice_of(h->local->bytes, h->local->n));
	} else {
		step = pg_text(st, m, stmt_of(h), true);
		if (step != PG_OK)
			return step;
	}
	fail_head(st, h);
	return PG_OK;
}

static enum pg_step notice(struct pg *st, const struct pg_msg *m)
{
	struct pg_reply *h = pg_head(st);

	return pg_text(st, m, stmt_of(h), h && h->kind != PG_R_LOCAL);
}

enum pg_step pg_server_message(struct pg *st, const struct pg_msg *m)
{
	switch ((enum pg_backend)m->type) {
	case PG_B_DATA_ROW:
		return data_row(st, m);
	case PG_B_COMMAND_COMPLETE:
		return command_complete(st, m);
	case PG_B_READY_FOR_QUERY:
		return ready_for_query(st, m);
	case PG_B_ROW_DESCRIPTION:
		return row_description(st, m);
	case PG_B_PARSE_COMPLETE:
		return complete(st, m, PG_R_PARSE);
	case PG_B_BIND_COMPLETE:
		return complete(st, m, PG_R_BIND);
	case PG_B_CLOSE_COMPLETE:
		return complete(st, m, PG_R_CLOSE);
	case PG_B_NO_DATA:
		return no_data(st, m);
	case PG_B_PARAMETER_DESCRIPTION:
		return parameter_description(st, m);
	case PG_B_EMPTY_QUERY_RESPONSE:
		return empty_query(st, m);
	case PG_B_PORTAL_SUSPENDED:
		return portal_suspended(st, m);
	case PG_B_COPY_IN_RESPONSE:
		return copy_in_response(st, m);
	case PG_B_COPY_OUT_RESPONSE:
		return copy_out_response(st, m);
	case PG_B_COPY_DATA:
	case PG_B_COPY_DONE:
		return copy_out(st, m);
	case PG_B_ERROR_RESPONSE:
		return error_response(st, m);
	case PG_B_NOTICE_RESPONSE:
		return notice(st, m);
	case PG_B_NOTIFICATION_RESPONSE:
		return pg_notification(st, m);
	case PG_B_FUNCTION_CALL_RESPONSE:
		return function_result(st, m);
	case PG_B_PARAMETER_STATUS:
		if (m->total > PG_TEXT_MAX)
			return unfit(st);
		return m->whole ? pg_parameter_status(st, m) : PG_NEED;
	case PG_B_COPY_BOTH_RESPONSE:
		return pg_bad(st, TG_R_PROTO_UNSUPPORTED);
	case PG_B_AUTHENTICATION:
	case PG_B_BACKEND_KEY_DATA:
	case PG_B_NEGOTIATE_PROTOCOL_VERSION:
		break;
	}
	return unfit(st);
}
