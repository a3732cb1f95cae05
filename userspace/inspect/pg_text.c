/* SPDX-License-Identifier: MIT */
/*
 * Texts for people: errors and notices of our own, and those of the server
 * under the masks ("Error and Notice Message Fields").
 *
 * A server's text can carry values ("Key (ssn)=(123-45-6789) already exists").
 * What the host's detectors find in it is replaced. If the host says
 * that the statement's texts may hold masked data, DETAIL, HINT, WHERE, the internal
 * query and the names of constraint, column and data type do not pass, and
 * the message only where its class is known to hold no values: 08, 23, 25,
 * 40, 53, 57, and 42 with a position. Severity, code and positions always pass.
 */
#include "inspect/pg.h"

#include <stdlib.h>
#include <string.h>

enum { FIELDS_MAX = 32, OWN_TEXT_MAX = 8192, WORDS_MAX = 40 };

static const struct slice hidden = SLICE_LIT("hidden by a mask rule");
static const struct slice stars = SLICE_LIT("***");

struct field {
	uint8_t kind;
	struct slice value;
};

/* -------------------------------------------------------------- our texts */

static size_t put_field(uint8_t *p, uint8_t kind, struct slice s)
{
	size_t n = min_size(s.n, OWN_TEXT_MAX);

	if (s.n == 0)
		return 0;
	if (p) {
		p[0] = kind;
		for (size_t i = 0; i < n; i++)
			p[1 + i] = s.p[i] ? s.p[i] : '?';
		p[1 + n] = 0;
	}
	return n + 2;
}

static size_t put_fields(uint8_t *p, const struct field *f, size_t nfields)
{
	size_t n = 0;

	for (size_t i = 0; i < nfields; i++)
		n += put_field(p ? p + n : NULL, f[i].kind, f[i].value);
	if (p)
		p[n] = 0;
	return n + 1;
}

static struct pg_local *text_new(uint8_t type, const struct field *f, size_t nfields)
{
	size_t n = PG_HEAD + put_fields(NULL, f, nfields);
	struct pg_local *l = malloc(sizeof(*l) + n);

	if (!l)
		return NULL;
	l->n = n;
	l->bytes[0] = type;
	store_be32(l->bytes + 1, (uint32_t)(n - 1));
	(void)put_fields(l->bytes + PG_HEAD, f, nfields);
	return l;
}

struct pg_local *pg_error_new(const char *severity, const char *code, struct slice message,
			      struct slice detail, struct slice hint)
{
	const struct field f[] = {
		{'S', slice_str(severity)},
		{'V', slice_str(severity)},
		{'C', slice_str(code)},
		{'M', message.n ? message : SLICE_LIT("refused by Tidegate")},
		{'D', detail},
		{'H', hint},
	};

	return text_new(PG_B_ERROR_RESPONSE, f, ARRAY_SIZE(f));
}

void pg_notice_make(struct pg *st, struct slice text)
{
	const struct field f[] = {
		{'S', SLICE_LIT("NOTICE")},
		{'V', SLICE_LIT("NOTICE")},
		{'C', SLICE_LIT("00000")},
		{'M', text},
	};
	struct pg_local *l = text_new(PG_B_NOTICE_RESPONSE, f, ARRAY_SIZE(f));

	if (l)
		insp_out_copy(pg_out(st, INSP_TO_CLIENT), slice_of(l->bytes, l->n));
	free(l);
}

/* ------------------------------------------------------- the server's texts */

static bool read_fields(struct slice body, struct field *f, size_t *ret_n, bool whole)
{
	struct cursor c = cur_of(body);

	for (*ret_n = 0;;) {
		uint8_t kind = cur_u8(&c);
		struct slice value;

		if (c.bad)
			return !whole; /* of a message that streams the start is enough */
		if (!kind)
			return cur_end(&c);
		value = cur_cstr(&c);
		if (c.bad)
			return !whole;
		if (*ret_n == FIELDS_MAX)
			return false;
		f[(*ret_n)++] = (struct field){kind, value};
	}
}

static struct slice find_field(const struct field *f, size_t n, uint8_t kind)
{
	for (size_t i = 0; i < n; i++)
		if (f[i].kind == kind)
			return f[i].value;
	return (struct slice){0};
}

static void error_event(struct pg *st, const struct field *f, size_t n, uint32_t plan)
{
	struct event ev = {.kind = EV_ERROR};

	ev.error.code = find_field(f, n, 'C');
	ev.error.message = find_field(f, n, 'M');
	ev.error.plan = plan;
	pg_tell(st, INSP_S2C, &ev);
}

/*
 * In class 42 what has a position in the statement was found in its text; without one a name may be
 * a value (`ssn::regclass`).
 */
static bool keeps_message(struct slice code, bool position)
{
	static const char *const classes[] = {"08", "23", "25", "40", "53", "57"};

	if (slice_eq_str(code, "42501") ||
	    (position && code.n == 5 && memcmp(code.p, "42", 2) == 0))
		return true;

	for (size_t i = 0; i < ARRAY_SIZE(classes); i++)
		if (code.n == 5 && memcmp(code.p, classes[i], 2) == 0)
			return true;
	return false;
}

/* Takes away what may be data; returns how many fields are left. */
static size_t hide_fields(struct field *f, size_t n)
{
	bool keep = keeps_message(find_field(f, n, 'C'), find_field(f, n, 'P').n > 0);
	size_t left = 0;

	for (size_t i = 0; i < n; i++) {
		if (f[i].kind == 'M' && !keep)
			f[i].value = hidden;
		if (strchr("SVCMPpFLRst", f[i].kind))
			f[left++] = f[i];
	}
	return left;
}

/*
 * A foreign key's action or a check fails for a table that the statement does not name: which one
 * is in the error, as are the columns of the key, "Key (a, b)=(...". *ret_n words are appended
 * to @ret; false: there may be others.
 */
static bool named_in_error(const struct pg *st, const struct field *f, size_t n,
			   struct slice ret[WORDS_MAX], size_t *ret_n)
{
	struct slice d = find_field(f, n, 'D'), table = find_field(f, n, 't'), key = {0};
	const uint8_t *open = d.n ? memchr(d.p, '(', d.n) : NULL;
	const uint8_t *end = open ? memmem(open, (size_t)(d.p + d.n - open), ")=(", 3) : NULL;

	*ret_n = 0;
	if (table.n)
		ret[(*ret_n)++] = table;
	if (end)
		key = slice_of(open + 1, (size_t)(end - open - 1));
	while (key.n) {
		const uint8_t *comma = memmem(key.p, key.n, ", ", 2);
		struct slice one = slice_of(key.p, comma ? (size_t)(comma - key.p) : key.n);

		if (*ret_n == WORDS_MAX)
			return false;
		ret[(*ret_n)++] = one;
		key = comma ? slice_from(key, one.n + 2) : (struct slice){0};
	}
	return !(st->lexer & SQL_LEX_FOREIGN && (pg_has_high(table) || pg_has_high(d)));
}

/* Asks about @info and what else the error names. INSP_V_ALLOW or INSP_V_WAIT. */
static enum insp_verdict ask_named(struct pg *st, const struct sql_info *info,
				   const struct field *f, size_t n, struct insp_plan *plan,
				   struct insp_shape *ret)
{
	const struct insp_column col = {.type = PG_OID_TEXT, .label = SLICE_LIT("message")};
	const struct insp_host *host = st->env->host;
	struct slice words[WORDS_MAX], *names = NULL;
	struct sql_info both;
	enum insp_verdict v;
	size_t nwords;
	bool all;

	if (!info)
		return host->columns(st->env->ctx, NULL, true, &col, 1, plan, ret);
	all = named_in_error(st, f, n, words, &nwords);
	if (nwords)
		names = reallocarray(NULL, info->nnames + nwords, sizeof(*names));
	if (nwords && !names)
		return host->columns(st->env->ctx, NULL, true, &col, 1, plan, ret);
	both = *info;
	if (names) {
		if (info->nnames)
			memcpy(names, info->names, info->nnames * sizeof(*names));
		memcpy(names + info->nnames, words, nwords * sizeof(*names));
		both.names = names;
		both.nnames += (uint32_t)nwords;
	}
	v = host->columns(st->env->ctx, &both, !all, &col, 1, plan, ret);
	free(names);
	return v;
}

/* The host's answer about texts. PG_OK or PG_WAIT. */
static enum pg_step ask_texts(struct pg *st, const struct pg_stmt *stmt, bool asked,
			      const struct field *f, size_t n, struct insp_plan *plan,
			      struct insp_shape *ret)
{
	/* Outside of a statement only what detectors find is hidden. */
	static const struct sql_info nothing;
	const struct sql_info *info = asked ? pg_result_info(stmt) : &nothing;

	*plan = (struct insp_plan){0};
	*ret = (struct insp_shape){0};
	if (ask_named(st, info, f, asked ? n : 0, plan, ret) == INSP_V_WAIT)
		return PG_WAIT;
	ret->texts = asked && (ret->texts || plan->how != MASK_NONE);
	plan->how = MASK_NONE;
	return PG_OK;
}

/* Scans texts in place of their slices; returns whether any changed. */
static bool scan_fields(struct pg *st, const struct insp_plan *plan, struct field *f, size_t n)
{
	struct insp_value v[FIELDS_MAX] = {0};
	size_t at[FIELDS_MAX], k = 0;
	bool changed = false;

	for (size_t i = 0; i < n; i++) {
		if (!strchr("MDHWqstcdn", f[i].kind) || f[i].value.n == 0)
			continue;
		if (f[i].value.n > pg_value_max(st)) {
			f[i].value = stars;
			changed = true;
			continue;
		}
		v[k] = (struct insp_value){.in = f[i].value, .plan = plan};
		at[k++] = i;
	}
	if (!plan->detectors || !k || !st->env->host->mask(st->env->ctx, v, (uint32_t)k))
		return changed;
	for (size_t i = 0; i < k; i++)
		if (v[i].changed) {
			f[at[i]].value = v[i].out.p ? v[i].out : stars;
			st->masked_values++;
		}
	return true;
}

static void put_text(struct pg *st, uint8_t type, const struct field *f, size_t n)
{
	size_t total = PG_HEAD + 1;
	uint8_t *p;

	for (size_t i = 0; i < n; i++)
		total += f[i].value.n + 2;
	p = insp_out_make(pg_out(st, INSP_TO_CLIENT), total);
	if (!p)
		return;
	p[0] = type;
	store_be32(p + 1, (uint32_t)(total - 1));
	p += PG_HEAD;
	for (size_t i = 0; i < n; i++) {
		*p++ = f[i].kind;
		if (f[i].value.n)
			memcpy(p, f[i].value.p, f[i].value.n);
		p += f[i].value.n;
		*p++ = 0;
	}
	*p = 0;
}

enum pg_step pg_text(struct pg *st, const struct pg_msg *m, const struct pg_stmt *stmt, bool asked)
{
	bool masking = st->env->masking && st->phase != PG_LOGIN, changed = false;
	struct insp_shape shape = {0};
	struct field f[FIELDS_MAX];
	struct insp_plan plan;
	size_t n = 0, left;

	if (masking && m->total > pg_message_max(st))
		return pg_bad(st, TG_R_PROTO_LIMIT);
	if (!m->whole && (masking || m->total <= PG_TEXT_MAX))
		return PG_NEED;
	/* What streams is read as far as its first part goes, however it is cut. */
	if (!m->whole && m->all.n < PG_TEXT_MAX)
		return PG_NEED;
	left = m->total > PG_TEXT_MAX && !masking ? PG_TEXT_MAX - PG_HEAD : m->body.n;
	if (!read_fields(slice_of(m->body.p, left), f, &n, left == m->total - PG_HEAD))
		return pg_bad(st, TG_R_PROTO_BAD);
	if (masking) {
		if (ask_texts(st, stmt, asked, f, n, &plan, &shape) == PG_WAIT)
			return PG_WAIT;
		left = shape.texts ? hide_fields(f, n) : n;
		changed = left != n || shape.texts;
		n = left;
		changed |= scan_fields(st, &plan, f, n);
	}
	if (m->type == PG_B_ERROR_RESPONSE)
		error_event(st, f, n, shape.id);
	if (!changed)
		return pg_pass(st, INSP_S2C, m);
	put_text(st, m->type, f, n);
	return pg_drop(st, INSP_S2C, m);
}

enum pg_step pg_notification(struct pg *st, const struct pg_msg *m)
{
	struct insp_plan plan;
	struct insp_value v = {.plan = &plan};
	struct cursor c;
	struct slice channel;
	uint8_t *p;
	struct insp_shape shape;
	size_t total;

	if (!st->env->masking)
		return pg_pass(st, INSP_S2C, m);
	/* A payload has less than 8000 bytes in every server. */
	if (m->total > PG_TEXT_MAX)
		return pg_bad(st, TG_R_PROTO_LIMIT);
	if (!m->whole)
		return PG_NEED;
	c = cur_of(m->body);
	(void)cur_be32(&c);
	channel = cur_cstr(&c);
	v.in = cur_cstr(&c);
	if (!cur_end(&c))
		return pg_bad(st, TG_R_PROTO_BAD);
	if (ask_texts(st, NULL, false, NULL, 0, &plan, &shape) == PG_WAIT)
		return PG_WAIT;
	if (!plan.detectors || v.in.n == 0 || !st->env->host->mask(st->env->ctx, &v, 1))
		return pg_pass(st, INSP_S2C, m);
	if (!v.out.p)
		v.out = stars;
	st->masked_values++;
	total = PG_HEAD + 4 + channel.n + 1 + v.out.n + 1;
	p = insp_out_make(pg_out(st, INSP_TO_CLIENT), total);
	if (!p)
		return PG_OK;
	p[0] = m->type;
	store_be32(p + 1, (uint32_t)(total - 1));
	memcpy(p + PG_HEAD, m->body.p, 4 + channel.n + 1);
	memcpy(p + PG_HEAD + 4 + channel.n + 1, v.out.p, v.out.n);
	p[total - 1] = 0;
	return PG_OK;
}
