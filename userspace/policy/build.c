/* SPDX-License-Identifier: MIT */
/* From specs to a policy: checks, copies, defaults, and the digest. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdarg.h>

#include "base/text.h"
#include "policy/rules.h"

enum {
	DEFAULT_MAX_MS = 15 * 60 * 1000,
	DEFAULT_HOLD_MS = 60 * 60 * 1000,
	DEFAULT_HOLD_TX_MS = 30 * 1000,
	POLICY_BUDGET = 256 << 20,
};

struct build {
	struct policy *p;
	const char *file;
	struct slice *texts;
	char *error;
	size_t error_cap, error_used;
	uint32_t nerrors;
	bool no_memory;
	EVP_MD_CTX *md;
};

/* One line of the error text; what does not fit is left out, never cut off in mid-line. */
static void PRINTF(3, 4) complain(struct build *b, uint32_t line, const char *fmt, ...)
{
	char text[512], line_text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	(void)text_escape(slice_str(text), line_text, sizeof(line_text));
	b->nerrors++;
	n = snprintf(NULL, 0, "%s:%u: %s\n", b->file, line, line_text);
	if (n < 0 || (size_t)n >= b->error_cap - b->error_used)
		return;
	b->error_used += (size_t)snprintf(b->error + b->error_used, b->error_cap - b->error_used,
					  "%s:%u: %s\n", b->file, line, line_text);
}

static void *take(struct build *b, size_t n)
{
	void *p = arena_alloc(&b->p->arena, n ? n : 1);

	if (!p)
		b->no_memory = true;
	return p;
}

static const char *copy_str(struct build *b, struct slice s)
{
	const char *p = arena_strdup(&b->p->arena, s);

	if (!p)
		b->no_memory = true;
	return p ? p : "";
}

static struct slice copy_slice(struct build *b, struct slice s)
{
	return slice_of(copy_str(b, s), s.n);
}

static const char *const *copy_list(struct build *b, const struct slice *s, uint32_t n)
{
	const char **list = take(b, n * sizeof(*list));

	for (uint32_t i = 0; list && i < n; i++)
		list[i] = copy_str(b, s[i]);
	return list;
}

static const char *PRINTF(2, 3) label(struct build *b, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return copy_str(b, slice_str(text));
}

/* ---------------------------------------------------------------- digest */

static void digest_u64(struct build *b, uint64_t v)
{
	uint8_t be[8];

	store_be32(be, (uint32_t)(v >> 32));
	store_be32(be + 4, (uint32_t)v);
	if (EVP_DigestUpdate(b->md, be, sizeof(be)) != 1)
		b->no_memory = true;
}

/* Every variable part goes in behind its length, so that no two policies look alike. */
static void digest_slice(struct build *b, struct slice s)
{
	digest_u64(b, s.n);
	if (s.n && EVP_DigestUpdate(b->md, s.p, s.n) != 1)
		b->no_memory = true;
}

static void digest_list(struct build *b, const struct slice *s, uint32_t n)
{
	digest_u64(b, n);
	for (uint32_t i = 0; i < n; i++)
		digest_slice(b, s[i]);
}

/* Lines of the file are left out: a comment more is the same policy. */
static void digest_entry(struct build *b, const struct entry_spec *e)
{
	digest_list(b, e->agents, e->nagents);
	digest_list(b, e->targets, e->ntargets);
	digest_u64(b, e->via);
	digest_slice(b, e->way);
	digest_slice(b, e->scope);
	digest_u64(b, e->max_ms ? e->max_ms : DEFAULT_MAX_MS);
	digest_u64(b, e->access_hold_ms ? e->access_hold_ms : DEFAULT_HOLD_MS);
	digest_u64(b, e->grace_ms);
	digest_list(b, e->approvers, e->napprovers);
	digest_u64(b, e->min_approvals ? e->min_approvals : 1);
	digest_u64(b, e->observe);
	digest_u64(b, e->nrules);
	for (uint32_t i = 0; i < e->nrules; i++) {
		const struct rule_spec *r = &e->rules[i];

		digest_u64(b, r->effects & ALL_EFFECTS);
		digest_slice(b, r->object);
		digest_slice(b, r->text);
		digest_u64(b, r->what);
		digest_slice(b, r->way);
		digest_list(b, r->approvers, r->napprovers);
		digest_u64(b, r->min_approvals ? r->min_approvals : 1);
		digest_u64(b, r->hold_ms ? r->hold_ms : DEFAULT_HOLD_MS);
		digest_u64(b, r->hold_tx_ms ? r->hold_tx_ms : DEFAULT_HOLD_TX_MS);
	}
	digest_u64(b, e->nmasks);
	for (uint32_t i = 0; i < e->nmasks; i++) {
		const struct mask_spec *m = &e->masks[i];

		digest_slice(b, m->column);
		digest_u64(b, m->detectors);
		digest_list(b, m->patterns, m->npatterns);
		digest_u64(b, m->how);
	}
	if (e->nterms)
		digest_u64(b, UINT64_MAX); /* no count: the next entry cannot look like terms */
	for (uint32_t i = 0; i < e->nterms; i++) {
		digest_u64(b, e->terms[i].kind);
		digest_slice(b, e->terms[i].name);
		digest_list(b, e->terms[i].values, e->terms[i].nvalues);
	}
}

static void digest_all(struct build *b, const struct entry_spec *entries, uint32_t n)
{
	uint8_t hash[32];

	b->md = EVP_MD_CTX_new();
	if (!b->md || EVP_DigestInit_ex(b->md, EVP_sha256(), NULL) != 1) {
		b->no_memory = true;
	} else {
		digest_slice(b, SLICE_LIT("tidegate policy 2"));
		digest_u64(b, n);
		for (uint32_t i = 0; i < n; i++)
			digest_entry(b, &entries[i]);
		if (EVP_DigestFinal_ex(b->md, hash, NULL) != 1)
			b->no_memory = true;
		else
			text_hex(hash, sizeof(hash), b->p->digest);
	}
	EVP_MD_CTX_free(b->md);
}

/* ----------------------------------------------------------------- rules */

static void check_approvers(struct build *b, uint32_t line, bool asks, uint32_t n, uint32_t min)
{
	if (!asks && (n || min > 1))
		complain(b, line, "approvers: only make sense where something is to be approved");
}

/* "schema.name" or "name"; empty: all. */
static void build_object(struct build *b, const struct rule_spec *spec, struct rule *r)
{
	const uint8_t *dot = spec->object.n ? memchr(spec->object.p, '.', spec->object.n) : NULL;
	size_t head = dot ? (size_t)(dot - spec->object.p) : 0;

	r->any_object = spec->object.n == 0 || slice_eq_str(spec->object, "*") ||
			slice_eq_str(spec->object, "*.*");
	r->any_schema = !dot || slice_eq_str(slice_of(spec->object.p, head), "*");
	r->schema = copy_slice(b, slice_of(spec->object.p, head));
	r->name = copy_slice(b, dot ? slice_from(spec->object, head + 1) : spec->object);
	if (dot && (head == 0 || r->name.n == 0))
		complain(b, spec->line, "object: `%s` lacks a name beside the dot",
			 copy_str(b, spec->object));
}

/* Each pattern is tried alone, so that the message names the one that is wrong. */
static void build_text(struct build *b, const struct rule_spec *spec, struct rule *r)
{
	struct patterns *alone;
	char why[256];
	uint32_t bad;
	int rc;

	r->text_id = NO_TEXT;
	if (spec->text.n == 0)
		return;
	rc = patterns_new(&spec->text, 1, PATTERNS_WHICH, &alone, &bad, why, sizeof(why));
	if (rc == -EINVAL)
		complain(b, spec->line, "text: `%s` is no usable pattern: %s",
			 copy_str(b, spec->text), why);
	else if (rc)
		b->no_memory = true;
	else
		patterns_free(alone);
	r->text_id = b->p->ntexts;
	b->texts[b->p->ntexts++] = spec->text;
}

static void build_rule(struct build *b, uint32_t entry, uint32_t index,
		       const struct rule_spec *spec, struct rule *r)
{
	r->effects = spec->effects & ALL_EFFECTS;
	r->what = spec->what;
	r->min_approvals = spec->min_approvals ? spec->min_approvals : 1;
	r->hold_ms = spec->hold_ms ? spec->hold_ms : DEFAULT_HOLD_MS;
	r->hold_tx_ms = spec->hold_tx_ms ? spec->hold_tx_ms : DEFAULT_HOLD_TX_MS;
	r->way = copy_str(b, spec->way);
	r->approvers = copy_list(b, spec->approvers, spec->napprovers);
	r->napprovers = spec->napprovers;
	r->label = label(b, "policy[%u].commands[%u] (%s:%u)", entry, index, b->file, spec->line);
	if (r->effects == 0)
		complain(b, spec->line, "a command needs an effect: (`any` for all)");
	check_approvers(b, spec->line, r->what == RULE_APPROVE, spec->napprovers,
			spec->min_approvals);
	if (spec->way.n && r->what != RULE_APPROVE)
		complain(b, spec->line, "approval: only makes sense with do: approve");
	build_object(b, spec, r);
	build_text(b, spec, r);
}

/* ----------------------------------------------------------------- masks */

/* "table.column" or "schema.table.column", each a name or `*`. */
static void build_column(struct build *b, const struct mask_spec *spec, struct mask_rule *m)
{
	struct slice part[3], rest = spec->column;
	unsigned n = 0;

	for (; n < 3; n++) {
		const uint8_t *dot = rest.n ? memchr(rest.p, '.', rest.n) : NULL;

		part[n] = dot ? slice_of(rest.p, (size_t)(dot - rest.p)) : rest;
		if (part[n].n == 0)
			break;
		if (!dot) {
			n++;
			rest.n = 0;
			break;
		}
		rest = slice_from(rest, part[n].n + 1);
	}
	if (n < 2 || rest.n) {
		complain(b, spec->line, "column: `%s` is not table.column or schema.table.column",
			 copy_str(b, spec->column));
		return;
	}
	for (unsigned i = 0; i < n; i++)
		if (part[i].n > 1 && memchr(part[i].p, '*', part[i].n))
			complain(b, spec->line, "column: `*` stands for a whole name only: `%s`",
				 copy_str(b, spec->column));
	if (n == 3)
		m->schema = copy_slice(b, part[0]);
	m->table = copy_slice(b, part[n - 2]);
	m->column = copy_slice(b, part[n - 1]);
	if (memchr(spec->column.p, 0, spec->column.n))
		complain(b, spec->line, "column: contains a zero byte");
}

static void build_patterns(struct build *b, const struct mask_spec *spec, struct mask_rule *m)
{
	struct slice *list = take(b, spec->npatterns * sizeof(*list));
	struct patterns *alone;
	char why[256];
	uint32_t bad;

	for (uint32_t i = 0; list && i < spec->npatterns; i++) {
		int rc = patterns_new(&spec->patterns[i], 1, PATTERNS_WHERE, &alone, &bad, why,
				      sizeof(why));

		list[i] = copy_slice(b, spec->patterns[i]);
		if (rc == -EINVAL)
			complain(b, spec->line, "pattern: `%s` is no usable pattern: %s",
				 copy_str(b, spec->patterns[i]), why);
		else if (rc)
			b->no_memory = true;
		else
			patterns_free(alone);
	}
	m->patterns = list;
	m->npatterns = list ? spec->npatterns : 0;
}

static void build_mask(struct build *b, uint32_t entry, uint32_t index,
		       const struct mask_spec *spec, struct mask_rule *m)
{
	const uint32_t known = (1u << DETECTOR_COUNT) - 1, pattern = 1u << DETECT_BIT_PATTERN;

	m->how = spec->how;
	m->label = label(b, "policy[%u].mask[%u] (%s:%u)", entry, index, b->file, spec->line);
	if (spec->how == MASK_NONE)
		complain(b, spec->line, "a mask needs an as: (redact, last4, hash, null)");
	if (spec->column.n) {
		if (spec->detectors || spec->npatterns)
			complain(b, spec->line, "a mask has either column: or detect:, not both");
		build_column(b, spec, m);
		return;
	}
	m->detectors = (spec->detectors & known & ~pattern) | (spec->npatterns ? pattern : 0);
	if (m->detectors == 0 || (spec->detectors & ~known))
		complain(b, spec->line, "a mask needs a column:, a detect: or a pattern:");
	build_patterns(b, spec, m);
}

/* --------------------------------------------------------------- entries */

static const struct term *build_terms(struct build *b, const struct entry_spec *spec)
{
	struct term *terms = take(b, spec->nterms * sizeof(*terms));

	for (uint32_t i = 0; terms && i < spec->nterms; i++) {
		const struct term_spec *t = &spec->terms[i];
		struct slice *values = take(b, t->nvalues * sizeof(*values));

		if (!values)
			return NULL;
		for (uint32_t k = 0; k < t->nvalues; k++)
			values[k] = copy_slice(b, t->values[k]);
		terms[i] = (struct term){.kind = t->kind, .name = copy_slice(b, t->name),
					 .values = values, .nvalues = t->nvalues};
		if (t->nvalues == 0)
			complain(b, spec->line, "when: a term without a value never holds");
	}
	return terms;
}

static void build_entry(struct build *b, uint32_t index, const struct entry_spec *spec,
			struct entry *e)
{
	struct rule *rules = take(b, spec->nrules * sizeof(*rules));
	struct mask_rule *masks = take(b, spec->nmasks * sizeof(*masks));

	if (!rules || !masks)
		return;
	e->agents = copy_list(b, spec->agents, spec->nagents);
	e->nagents = spec->nagents;
	e->targets = copy_list(b, spec->targets, spec->ntargets);
	e->ntargets = spec->ntargets;
	e->terms = build_terms(b, spec);
	e->nterms = e->terms ? spec->nterms : 0;
	e->via = spec->via;
	e->way = copy_str(b, spec->via == ACCESS_IDP && !spec->way.n ? SLICE_LIT("idp") : spec->way);
	e->scope = copy_str(b, spec->scope);
	e->max_ms = spec->max_ms ? spec->max_ms : DEFAULT_MAX_MS;
	e->hold_ms = spec->access_hold_ms ? spec->access_hold_ms : DEFAULT_HOLD_MS;
	e->grace_ms = spec->grace_ms;
	e->approvers = copy_list(b, spec->approvers, spec->napprovers);
	e->napprovers = spec->napprovers;
	e->min_approvals = spec->min_approvals ? spec->min_approvals : 1;
	e->observe = spec->observe;
	e->label = label(b, "policy[%u].access (%s:%u)", index, b->file, spec->line);
	if (spec->nagents == 0 || spec->ntargets == 0)
		complain(b, spec->line, "an entry needs agents: and targets: (`*` for all)");
	if (spec->scope.n && spec->via != ACCESS_IDP)
		complain(b, spec->line, "scope: only makes sense where a provider is asked");
	check_approvers(b, spec->line, spec->via != ACCESS_NONE, spec->napprovers,
			spec->min_approvals);
	for (uint32_t i = 0; i < spec->nrules; i++)
		build_rule(b, index, i, &spec->rules[i], &rules[i]);
	for (uint32_t i = 0; i < spec->nmasks; i++)
		build_mask(b, index, i, &spec->masks[i], &masks[i]);
	e->rules = rules;
	e->nrules = spec->nrules;
	e->masks = masks;
	e->nmasks = spec->nmasks;
}

static void build_all(struct build *b, const struct entry_spec *specs, uint32_t n)
{
	struct entry *entries = take(b, n * sizeof(*entries));
	struct policy *p = b->p;
	uint32_t bad;
	char why[256];
	int rc;

	for (uint32_t i = 0; entries && i < n; i++)
		build_entry(b, i, &specs[i], &entries[i]);
	p->entries = entries;
	p->nentries = entries ? n : 0;
	digest_all(b, specs, n);
	if (p->ntexts == 0 || b->nerrors || b->no_memory)
		return;
	rc = patterns_new(b->texts, p->ntexts, PATTERNS_WHICH, &p->texts, &bad, why, sizeof(why));
	if (rc == -EINVAL)
		complain(b, 0, "text: `%s`: %s", copy_str(b, b->texts[bad]), why);
	p->matched = calloc((p->ntexts + 63) / 64, sizeof(p->matched[0]));
	if (!p->matched || rc == -ENOMEM)
		b->no_memory = true;
}

int policy_new(const struct entry_spec *entries, uint32_t n, const char *file, struct policy **ret,
	       char *error, size_t error_cap)
{
	struct build b = {.file = file ? file : "policy", .error = error, .error_cap = error_cap};
	uint32_t texts = 1;

	if (error_cap)
		error[0] = 0;
	for (uint32_t i = 0; i < n; i++)
		texts += entries[i].nrules;
	b.p = calloc(1, sizeof(*b.p));
	b.texts = calloc(texts, sizeof(*b.texts));
	if (b.p && b.texts) {
		b.p->refs = 1;
		arena_init(&b.p->arena, POLICY_BUDGET);
		build_all(&b, entries, n);
	} else {
		b.no_memory = true;
	}
	free(b.texts);
	if (b.no_memory || b.nerrors) {
		policy_unref(b.p);
		return b.no_memory ? -ENOMEM : -EINVAL;
	}
	*ret = b.p;
	return 0;
}
