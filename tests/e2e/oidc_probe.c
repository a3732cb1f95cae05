/* SPDX-License-Identifier: MIT */
/*
 * The OpenID Connect client on its own, driven by lines on standard input, for
 * ident.sh. One JSON object a line comes back for each answer.
 *
 *   oidc_probe KEY=VALUE...   issuer, client, auth (basic|post|jwt|tls), secret, key, cert, alg, kid,
 *                             audience, resource, ca, algs (one), origin, timeout, skew,
 *                             introspection (bearer), introspection_scope, name_claim, name_from,
 *                             keys_min, http (1), credential (never|error|later)
 *   lines: ask ID AGENT SCOPE WORDS... | put ID JSON | cancel ID | state | free | quit
 *   JSON: the members of struct oidc_ask; flow as its number, lists as arrays
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "ident/clientauth.h"
#include "ident/dpop.h"
#include "ident/oidc.h"
#include "ident/tls_sign.h"

struct probe {
	struct oidc *oidc;
	struct oidc_config cfg;
	const char *secret, *key_file, *cert_file, *alg, *kid, *credential;
	struct buf chain;
	unsigned signatures, proofs;
	EVP_PKEY *bound, *other; /* DPoP */
	bool other_thumb;
	const char *algs[2], *origins[2];
	EVP_PKEY *key;
	uv_poll_t in;
	uv_timer_t later;
	uint64_t later_id;
	bool answering;
	char line[16384];
	size_t n;
};

static void print_json(struct buf *out)
{
	if (buf_append(out, "\n", 1) != 0 || write(1, buf_data(out), out->n) != (ssize_t)out->n)
		abort();
	buf_done(out);
}

static void on_done(void *ctx, uint64_t id, const struct oidc_result *r)
{
	struct probe *p = ctx;
	struct buf out;
	struct jsonw w;

	/* "Never from inside this call" */
	if (p->answering)
		abort();
	buf_init(&out, 65536);
	jsonw_init(&w, &out, false);
	jsonw_object(&w);
	jsonw_kv_u64(&w, "id", id);
	jsonw_kv_string(&w, "reason", reason_label(r->reason));
	jsonw_kv_u64(&w, "ttl_ms", r->ttl_ms);
	jsonw_kv_string(&w, "scope", r->scope);
	jsonw_kv_string(&w, "subject", r->subject);
	jsonw_kv_string(&w, "approver", r->approver);
	jsonw_kv_string(&w, "evidence", r->evidence);
	jsonw_kv_string(&w, "token_digest", r->token_digest);
	jsonw_kv_string(&w, "detail", r->detail);
	jsonw_object_end(&w);
	if (jsonw_end(&w) == 0)
		print_json(&out);
}

static void give_secret(struct probe *p, uint64_t id)
{
	oidc_credential(p->oidc, id, slice_str(p->secret), 0);
}

static void on_later(uv_timer_t *t)
{
	struct probe *p = t->data;

	give_secret(p, p->later_id);
}

static void need_credential(void *ctx, uint64_t id, const char *audience)
{
	struct probe *p = ctx;
	struct clientauth_claims c = {
		.client_id = p->cfg.client_id,
		.audience = audience,
		.key_id = p->kid,
		.alg = p->alg,
		.now_s = clock_wall_ns() / 1000000000,
	};
	struct buf b;
	int err;

	if (strcmp(p->credential, "never") == 0)
		return;
	if (strcmp(p->credential, "later") == 0) {
		p->later_id = id;
		(void)uv_timer_start(&p->later, on_later, 50, 0);
		return;
	}
	if (strcmp(p->credential, "error") == 0) {
		oidc_credential(p->oidc, id, slice_str(""), -EACCES);
		return;
	}
	if (!audience) {
		if (p->cfg.tls_auth)
			oidc_credential(p->oidc, id, buf_slice(&p->chain), 0);
		else
			give_secret(p, id);
		return;
	}
	buf_init(&b, CLIENTAUTH_ASSERTION_MAX);
	err = clientauth_assert(p->key, &c, &b);
	oidc_credential(p->oidc, id, buf_slice(&b), err);
	buf_wipe(&b);
}

static int sign(void *ctx, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	struct probe *p = ctx;

	p->signatures++;
	return strcmp(p->credential, "unsigned") == 0 ? -ENOTCONN : tls_sign(p->key, q, sig, ret_n);
}

static void need_proof(void *ctx, uint64_t id, const char *url, const char *nonce)
{
	struct probe *p = ctx;
	struct dpop_claims c = {.url = url, .nonce = nonce, .now_s = clock_wall_ns() / 1000000000};
	char thumb[DPOP_THUMB];
	struct buf b;

	p->proofs++;
	buf_init(&b, DPOP_PROOF_MAX);
	if (dpop_proof(p->bound, &c, &b) || dpop_thumb(p->other_thumb ? p->other : p->bound, thumb))
		abort();
	oidc_proof(p->oidc, id, buf_slice(&b), slice_str(thumb), 0);
	buf_done(&b);
}

static void print_state(struct probe *p)
{
	struct buf out;
	struct jsonw w;

	buf_init(&out, 65536);
	jsonw_init(&w, &out, false);
	oidc_describe(p->oidc, &w);
	if (jsonw_end(&w) == 0 && out.n) {
		out.n--; /* one more of our own */
		if (buf_printf(&out, ",\"signatures\":%u,\"proofs\":%u}", p->signatures, p->proofs) == 0)
			print_json(&out);
	}
}

static void quit(struct probe *p)
{
	oidc_free(p->oidc);
	p->oidc = NULL;
	if (!uv_is_closing((uv_handle_t *)&p->in)) {
		uv_close((uv_handle_t *)&p->in, NULL);
		uv_close((uv_handle_t *)&p->later, NULL);
	}
}

static void ask(struct probe *p, char *rest)
{
	char *id = strsep(&rest, " "), *agent = strsep(&rest, " ");
	int err;

	p->answering = true;
	err = oidc_request(p->oidc, strtoull(id, NULL, 10),
			   &(struct oidc_ask){.scope = rest, .agent = agent,
					      .details = p->cfg.details_type},
			   on_done, p);
	p->answering = false;
	if (err) {
		(void)printf("{\"id\":%s,\"error\":\"%s\"}\n", id, strerror(-err));
		(void)fflush(stdout);
	}
}

static const char *text_of(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static void list_of(const json_t *o, const char *name, const char **ret, size_t cap)
{
	const json_t *a = json_object_get(o, name);

	for (size_t i = 0; i < json_array_size(a) && i + 1 < cap; i++)
		ret[i] = json_string_value(json_array_get(a, i));
}

static uint64_t number_of(const json_t *o, const char *name)
{
	return (uint64_t)json_integer_value(json_object_get(o, name));
}

static void put(struct probe *p, char *rest)
{
	char *id = strsep(&rest, " ");
	json_t *o = json_loads(rest, 0, NULL);
	const char *approvers[8] = {0}, *groups[8] = {0}, *acr[8] = {0};
	struct oidc_ask q = {
		.flow = (enum oidc_flow)number_of(o, "flow"),
		.scope = text_of(o, "scope"),
		.audience = text_of(o, "audience"),
		.resource = text_of(o, "resource"),
		.login_hint = text_of(o, "login_hint"),
		.binding_message = text_of(o, "binding_message"),
		.token = slice_str(text_of(o, "token")),
		.hint_token = json_is_true(json_object_get(o, "hint_token")),
		.details = json_is_true(json_object_get(o, "details")),
		.bearer = json_is_true(json_object_get(o, "bearer")),
		.agent = "agent",
		.target = text_of(o, "target"),
		.action = text_of(o, "action"),
		.digest = text_of(o, "digest"),
		.duration_ms = number_of(o, "duration_ms"),
		.groups_claim = text_of(o, "groups_claim"),
		.max_age_ms = number_of(o, "max_age_ms"),
		.hold_ms = number_of(o, "hold_ms"),
		.poll_ms = number_of(o, "poll_ms"),
		.approvers = approvers,
		.groups = groups,
		.acr = acr,
	};
	int err;

	list_of(o, "approvers", approvers, ARRAY_SIZE(approvers));
	list_of(o, "groups", groups, ARRAY_SIZE(groups));
	list_of(o, "acr", acr, ARRAY_SIZE(acr));
	p->answering = true;
	err = oidc_request(p->oidc, strtoull(id, NULL, 10), &q, on_done, p);
	p->answering = false;
	json_decref(o); /* all that was asked is copied */
	if (err) {
		(void)printf("{\"id\":%s,\"error\":\"%s\"}\n", id, strerror(-err));
		(void)fflush(stdout);
	}
}

static void on_pending(void *ctx, uint64_t id, const char *words, const char *code, const char *uri)
{
	struct buf out;
	struct jsonw w;

	buf_init(&out, 65536);
	jsonw_init(&w, &out, false);
	jsonw_object(&w);
	jsonw_kv_u64(&w, "id", id);
	jsonw_kv_string(&w, "pending", words);
	jsonw_kv_string(&w, "code", code);
	jsonw_kv_string(&w, "uri", uri);
	jsonw_object_end(&w);
	if (jsonw_end(&w) == 0)
		print_json(&out);
}

static void command(struct probe *p, char *line)
{
	char *rest = line, *verb = strsep(&rest, " ");

	if (strcmp(verb, "ask") == 0 && rest)
		ask(p, rest);
	else if (strcmp(verb, "put") == 0 && rest)
		put(p, rest);
	else if (strcmp(verb, "cancel") == 0 && rest)
		oidc_cancel(p->oidc, strtoull(rest, NULL, 10));
	else if (strcmp(verb, "state") == 0)
		print_state(p);
	else
		quit(p);
}

static void on_input(uv_poll_t *poll, int status, int events)
{
	struct probe *p = poll->data;
	ssize_t n = read(0, p->line + p->n, sizeof(p->line) - p->n - 1);
	char *end;

	if (n <= 0) {
		quit(p);
		return;
	}
	p->n += (size_t)n;
	while (p->oidc && (end = memchr(p->line, '\n', p->n))) {
		*end = '\0';
		command(p, p->line);
		p->n -= (size_t)(end + 1 - p->line);
		memmove(p->line, end + 1, p->n);
	}
}

static bool set_text(struct probe *p, const char *name, const char *v)
{
	const struct {
		const char *name, **dst;
	} texts[] = {
		{"issuer", &p->cfg.issuer},
		{"client", &p->cfg.client_id},
		{"secret", &p->secret},
		{"key", &p->key_file},
		{"cert", &p->cert_file},
		{"alg", &p->alg},
		{"kid", &p->kid},
		{"audience", &p->cfg.audience},
		{"resource", &p->cfg.resource},
		{"ca", &p->cfg.ca_file},
		{"credential", &p->credential},
		{"algs", &p->algs[0]},
		{"origin", &p->origins[0]},
		{"assertion_audience", &p->cfg.assertion_audience},
		{"details", &p->cfg.details_type},
		{"name_claim", &p->cfg.name_claim},
		{"introspection_scope", &p->cfg.introspect_scope},
	};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (strcmp(texts[i].name, name) == 0) {
			*texts[i].dst = v;
			return true;
		}
	return false;
}

static bool set(struct probe *p, char *arg)
{
	char *v = arg, *name = strsep(&v, "=");

	if (!v)
		return false;
	if (set_text(p, name, v))
		return true;
	if (strcmp(name, "auth") == 0) {
		p->cfg.secret_post = strcmp(v, "post") == 0;
		p->cfg.private_key_jwt = strcmp(v, "jwt") == 0;
		p->cfg.tls_auth = strcmp(v, "tls") == 0;
	} else if (strcmp(name, "timeout") == 0) {
		p->cfg.timeout_ms = strtoull(v, NULL, 10);
	} else if (strcmp(name, "skew") == 0) {
		p->cfg.skew_ms = strtoull(v, NULL, 10);
	} else if (strcmp(name, "keys_min") == 0) {
		p->cfg.keys_min_ms = strtoull(v, NULL, 10);
	} else if (strcmp(name, "http") == 0) {
		p->cfg.allow_http = *v == '1';
	} else if (strcmp(name, "introspection") == 0) {
		p->cfg.introspect_bearer = strcmp(v, "bearer") == 0;
	} else if (strcmp(name, "name_from") == 0) {
		p->cfg.name_from = strcmp(v, "userinfo") == 0	     ? OIDC_NAME_USERINFO
				   : strcmp(v, "introspection") == 0 ? OIDC_NAME_INTROSPECTION
								     : OIDC_NAME_TOKEN;
	} else if (strcmp(name, "dpop") == 0) {
		p->cfg.dpop = strcmp(v, "on") == 0 ? OIDC_DPOP_ON
			      : strcmp(v, "off") == 0 ? OIDC_DPOP_OFF
						      : OIDC_DPOP_AUTO;
		p->other_thumb = strcmp(v, "other") == 0;
	} else {
		return false;
	}
	return true;
}

static int load_key(struct probe *p)
{
	FILE *f = fopen(p->key_file, "re");

	if (!f)
		return -errno;
	p->key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	(void)fclose(f);
	return p->key ? 0 : -EINVAL;
}

static int load_chain(struct probe *p)
{
	char pem[16384];
	const char *why = "";
	FILE *f = fopen(p->cert_file, "re");
	size_t n = f ? fread(pem, 1, sizeof(pem), f) : 0;

	if (f)
		(void)fclose(f);
	if (far_key_init())
		abort();
	return tls_chain_read(slice_of(pem, n), p->key, &p->chain, &why);
}

int main(int argc, char **argv)
{
	static const struct oidc_ops ops = {
		.need_credential = need_credential, .need_proof = need_proof, .sign = sign,
		.pending = on_pending};
	struct probe p = {.secret = "", .alg = "ES256", .credential = "now"};
	uv_loop_t loop;
	int err = 0;

	for (int i = 1; i < argc; i++)
		if (!set(&p, argv[i])) {
			(void)fprintf(stderr, "oidc_probe: %s?\n", argv[i]);
			return 2;
		}
	if (p.algs[0])
		p.cfg.algorithms = p.algs;
	if (p.origins[0])
		p.cfg.extra_origins = p.origins;
	if (p.key_file)
		err = load_key(&p);
	buf_init(&p.chain, TLS_CHAIN_BYTES);
	p.bound = dpop_key_new();
	p.other = dpop_key_new();
	if (!err && p.cert_file)
		err = load_chain(&p);
	if (uv_loop_init(&loop) != 0)
		return 2;
	if (!err)
		err = oidc_new(&loop, &p.cfg, &ops, &p, &p.oidc);
	if (err) {
		(void)printf("{\"error\":\"%s\"}\n", strerror(-err));
	} else {
		(void)uv_poll_init(&loop, &p.in, 0);
		(void)uv_timer_init(&loop, &p.later);
		p.in.data = p.later.data = &p;
		(void)uv_poll_start(&p.in, UV_READABLE, on_input);
	}
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	err |= uv_loop_close(&loop); /* every handle was closed */
	EVP_PKEY_free(p.key);
	EVP_PKEY_free(p.bound);
	EVP_PKEY_free(p.other);
	buf_done(&p.chain);
	return err ? 1 : 0;
}
