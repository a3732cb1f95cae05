/* SPDX-License-Identifier: MIT */
#include "daemon/saml_way.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <stdarg.h>
#include <unistd.h>

#include "base/text.h"
#include "ident/saml.h"

enum { DETAIL_BYTES = 320 };

struct saml_way {
	struct saml_keys *keys;
	char refusal[DETAIL_BYTES]; /* why the last one was none, or "" */
	uint64_t asked, granted, refused;
};

/* ------------------------------------------------------------- certificates */

static int read_pem(const char *path, struct buf *ret)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), err = 0;
	uint8_t *p = buf_reserve(ret, SAML_PEM_MAX);
	ssize_t n = 1;

	if (fd < 0)
		return -errno;
	while (p && n > 0 && ret->n < SAML_PEM_MAX) {
		n = read(fd, p + ret->n, SAML_PEM_MAX - ret->n);
		if (n > 0)
			buf_commit(ret, (size_t)n);
	}
	if (!p)
		err = -ENOMEM;
	else if (n < 0)
		err = -errno;
	else if (ret->n == SAML_PEM_MAX)
		err = -EFBIG;
	(void)close(fd);
	return err;
}

int saml_way_new(const struct cfg_way *w, struct saml_way **ret, char *error, size_t error_cap)
{
	struct saml_way *s = calloc(1, sizeof(*s));
	struct buf pem;
	int err;

	if (!s)
		return -ENOMEM;
	buf_init(&pem, SAML_PEM_MAX);
	err = read_pem(w->saml.certificate_file, &pem);
	if (err)
		(void)snprintf(error, error_cap, "%s", strerror(-err));
	else
		err = saml_keys_parse(buf_slice(&pem), &s->keys, error, error_cap);
	buf_done(&pem);
	if (err) {
		free(s);
		return err;
	}
	*ret = s;
	return 0;
}

void saml_way_free(struct saml_way *s)
{
	if (!s)
		return;
	saml_keys_free(s->keys);
	free(s);
}

/* ---------------------------------------------------------------- judgement */

static bool listed(const char *const *list, const char *word)
{
	for (; list && word && *list; list++)
		if (strcmp(*list, word) == 0)
			return true;
	return false;
}

static bool in_groups(const struct cfg_way *w, const struct saml_assertion *s)
{
	const json_t *values = json_object_get(s->attributes, w->groups_claim);

	for (size_t i = 0; i < json_array_size(values); i++)
		if (listed(w->groups, json_string_value(json_array_get(values, i))))
			return true;
	return false;
}

/* NULL, or why a genuine assertion is no approval. */
static const char *check_person(const struct cfg_way *w, const struct saml_assertion *s,
				uint64_t now_s)
{
	uint64_t age = (w->max_age_ms + w->saml.skew_ms) / 1000;

	if ((w->approvers || w->groups) && !listed(w->approvers, s->subject) && !in_groups(w, s))
		return "the assertion's subject is not among `approvers` and `groups`";
	if (w->acr && !listed(w->acr, s->context))
		return "the assertion's authentication context is none of `acr`";
	if (w->max_age_ms && (!s->authn_s || now_s > s->authn_s + age))
		return "the subject authenticated longer ago than `max_age`, or the assertion does "
		       "not say when";
	return NULL;
}

/* One issuer gives no ID twice (SAML Core 1.3.4); two issuers might. */
static void use_key(const struct cfg_way *w, const struct saml_assertion *s,
		       uint8_t key[USEONCE_KEY])
{
	struct slice issuer = slice_str(w->saml.issuer), id = slice_str(s->id);
	uint8_t both[2 * SHA256_DIGEST_LENGTH];

	(void)SHA256(issuer.p, issuer.n, both);
	(void)SHA256(id.p, id.n, both + SHA256_DIGEST_LENGTH);
	(void)SHA256(both, sizeof(both), key);
}

static const char *check_use(const struct cfg_way *w, const struct saml_assertion *s,
			     struct useonce *used, uint64_t id, uint64_t now_s)
{
	uint8_t key[USEONCE_KEY];

	if (!w->saml.once && !s->one_time)
		return NULL;
	use_key(w, s, key);
	switch (useonce_use(used, key, id, now_s, s->until_s + w->saml.skew_ms / 1000 + 1)) {
	case 0:
		return NULL;
	case -EEXIST:
		return "the assertion has been used: the agent needs a new one";
	case -ENOSPC:
		return "too many assertions have been used";
	}
	return "out of memory";
}

/* ------------------------------------------------------------------ answers */

static char *evidence(const struct cfg_way *w, const struct saml_assertion *s, const char *digest)
{
	json_t *groups = json_object_get(s->attributes, w->groups_claim);
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:O*}", "issuer", w->saml.issuer,
			      "assertion", s->id, "sub", s->subject, "acr", s->context,
			      "token_sha256", digest, "iat", (json_int_t)s->issued_s, "exp",
			      (json_int_t)s->until_s, "groups", groups);
	char *text;

	if (o && s->authn_s)
		(void)json_object_set_new(o, "auth_time", json_integer((json_int_t)s->authn_s));
	text = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(o);
	return text;
}

static void PRINTF(4, 5) refuse(struct saml_way *s, enum tg_reason reason, struct oidc_result *ret,
				const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(s->refusal, sizeof(s->refusal), fmt, ap);
	va_end(ap);
	s->refused++;
	ret->reason = (uint16_t)reason;
	ret->detail = s->refusal;
}

static bool allow(struct saml_way *s, const struct cfg_way *w, const struct saml_assertion *as,
		   struct arena *a, struct oidc_result *ret)
{
	char *said = evidence(w, as, ret->token_digest);

	ret->subject = arena_strdup(a, slice_str(as->subject));
	/* Where people are named, the subject is one of them. */
	ret->approver = w->approvers || w->groups ? ret->subject : "";
	ret->evidence = said ? arena_strdup(a, slice_str(said)) : NULL;
	free(said);
	if (!ret->subject || !ret->evidence) {
		ret->subject = ret->approver = "";
		ret->evidence = "{}";
		return false;
	}
	s->granted++;
	return true;
}

static int verify(const struct saml_way *s, const struct cfg_way *w, struct slice token,
		  uint64_t now_s, struct saml_assertion *ret, char *error, size_t error_cap)
{
	struct saml_rules rules = {
		.issuer = w->saml.issuer,
		.audience = w->saml.audience,
		.recipient = w->saml.recipient,
		.response = w->saml.response,
		.now_s = now_s,
		.skew_s = w->saml.skew_ms / 1000,
		.lifetime_s = w->saml.lifetime_ms / 1000,
	};
	struct buf xml;
	int err;

	buf_init(&xml, SAML_MAX);
	err = saml_decode(token, &xml);
	if (err)
		(void)snprintf(error, error_cap, "the agent's token is neither XML nor base64 of it");
	else
		err = saml_verify(buf_slice(&xml), s->keys, &rules, ret, error, error_cap);
	buf_wipe(&xml);
	return err;
}

static const char *digest_of(struct slice token, struct arena *a)
{
	uint8_t md[SHA256_DIGEST_LENGTH];
	char *hex = arena_alloc(a, 2 * sizeof(md) + 1);

	if (!hex)
		return "";
	(void)SHA256(token.p, token.n, md);
	text_hex(md, sizeof(md), hex);
	return hex;
}

void saml_way_ask(struct saml_way *s, const struct cfg_way *w, const struct idp_ask *q,
		  struct useonce *used, uint64_t id, uint64_t now_s, struct arena *a,
		  struct oidc_result *ret)
{
	struct saml_assertion as;
	char error[200];
	const char *why;

	*ret = (struct oidc_result){.scope = "", .subject = "", .approver = "", .evidence = "{}",
				    .detail = ""};
	ret->token_digest = digest_of(q->token, a);
	s->asked++;
	if (verify(s, w, q->token, now_s, &as, error, sizeof(error)) != 0) {
		refuse(s, TG_R_IDP_BAD_ANSWER, ret, "the agent's SAML assertion: %s", error);
		return;
	}
	why = check_person(w, &as, now_s);
	if (!why && as.until_s <= now_s)
		why = "the assertion has no time left";
	if (!why)
		why = check_use(w, &as, used, id, now_s);
	ret->ttl_ms = as.until_s > now_s ? (as.until_s - now_s) * 1000 : 0;
	if (why)
		refuse(s, TG_R_IDP_DENIED, ret, "%s", why);
	else if (!allow(s, w, &as, a, ret))
		refuse(s, TG_R_NO_MEMORY, ret, "out of memory");
	saml_assertion_done(&as);
}

void saml_way_describe(const struct saml_way *s, const struct cfg_way *w, struct jsonw *out)
{
	jsonw_kv_string(out, "issuer", w->saml.issuer);
	if (!s) {
		jsonw_kv_string(out, "state", "down");
		jsonw_kv_string(out, "last_error", "its certificate_file cannot be used");
		jsonw_kv_string(out, "todo", "see the journal of tidegated");
		return;
	}
	jsonw_kv_string(out, "state", "up");
	jsonw_kv_u64(out, "certificates", saml_keys_count(s->keys));
	jsonw_kv_u64(out, "asked", s->asked);
	jsonw_kv_u64(out, "allowed", s->granted);
	jsonw_kv_u64(out, "denied", s->refused);
	if (s->refusal[0])
		jsonw_kv_string(out, "last_refusal", s->refusal);
}
