/* SPDX-License-Identifier: MIT */
/*
 * Documents of a provider: the first byte says which one the rest is. What is
 * accepted must obey the rules, whatever the document said.
 */
#include <stdlib.h>

#include "base/compiler.h"
#include "ident/authzen.h"
#include "ident/authzen_meta.h"
#include "ident/discovery.h"
#include "ident/introspection.h"
#include "ident/jwt.h"
#include "ident/scram.h"
#include "ident/start_answer.h"
#include "ident/strict_json.h"
#include "ident/token.h"
#include "net/url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void discovery(struct slice s, bool mtls)
{
	static const char *const extra[] = {"https://keys.example:8443", NULL};
	const struct discovery_rules rules = {
		.issuer = "https://idp.example/realm",
		.extra_origins = extra,
		.mtls = mtls,
	};
	struct discovery d;
	struct url_facts url;
	char error[200] = "";

	if (discovery_parse(s, &rules, &d, error, sizeof(error)) != 0) {
		BUG_ON(!error[0]);
		return;
	}
	BUG_ON(url_inspect(d.token_endpoint, &url) != 0 || !url.https);
	BUG_ON(strcmp(url.origin, "https://idp.example:443") != 0 &&
	       strcmp(url.origin, "https://keys.example:8443") != 0);
	BUG_ON(url_inspect(d.jwks_uri, &url) != 0 || !url.https);
	discovery_done(&d);
}

static void token(struct slice s)
{
	struct token_answer a;
	struct token_error e;
	char error[200] = "";

	token_error_parse(s, &e);
	for (const char *p = e.description; *p; p++)
		BUG_ON((uint8_t)*p < 0x20);
	if (token_answer_parse(s, &a, error, sizeof(error)) != 0) {
		BUG_ON(!error[0]);
		return;
	}
	BUG_ON(a.token.n == 0 || a.expires_in_s > UINT32_MAX);
	token_answer_done(&a);
}

static void keys(struct slice s)
{
	struct jwks *set;
	char error[200] = "";

	if (jwks_parse(s, &set, error, sizeof(error)) != 0) {
		BUG_ON(!error[0]);
		return;
	}
	BUG_ON(jwks_count(set) > 64);
	jwks_free(set);
}

/* Where a person is asked: the second byte says whether by CIBA or with a code. */
static void start(struct slice s)
{
	struct start_answer a;
	struct url_facts url;
	char error[200] = "";
	bool device = s.n && s.p[0] == 'D';

	if (start_answer_parse(slice_from(s, 1), device, false, 5000, &a, error, sizeof(error)) != 0) {
		BUG_ON(!error[0]);
		return;
	}
	BUG_ON(!a.handle[0] || strlen(a.handle) > START_HANDLE_MAX || a.expires_ms == 0 ||
	       a.interval_ms > START_INTERVAL_MAX_MS);
	if (device) {
		for (const char *p = a.code; *p; p++)
			BUG_ON((uint8_t)*p < 0x20 || *p == 0x7f);
		BUG_ON(url_inspect(a.uri, &url) != 0 || !url.https);
		BUG_ON(a.uri_complete && (url_inspect(a.uri_complete, &url) != 0 || !url.https));
	}
	start_answer_done(&a);
}

/* A decision point's answer. A yes needs the word, and nothing else makes one. */
static void decision(struct slice s)
{
	char *evidence, error[200] = "";
	bool yes = authzen_decision(s, &evidence, error, sizeof(error));

	BUG_ON(yes && error[0]);
	BUG_ON(yes && (!memmem(s.p, s.n, "decision", 8) || !memmem(s.p, s.n, "true", 4)) &&
	       !memchr(s.p, '\\', s.n));
	BUG_ON(evidence && evidence[0] != '{');
	free(evidence);
}

/* A decision point's metadata lead nowhere else. */
static void metadata(struct slice s)
{
	struct url_facts url;
	char *endpoint, error[400] = "";

	if (authzen_meta_parse(s, "https://pdp.example/t1", false, &endpoint, error, sizeof(error)) != 0) {
		BUG_ON(!error[0]);
		return;
	}
	BUG_ON(url_inspect(endpoint, &url) != 0 || strcmp(url.origin, "https://pdp.example:443") != 0);
	free(endpoint);
}

static void introspection(struct slice s)
{
	static const struct introspection_rules rules = {
		.issuer = "https://idp.example", .audience = "https://db.example", .scope = "db.read",
		.now_s = 1700000000,
	};
	char error[200] = "";
	json_t *o = strict_json_object(s, TOKEN_BODY_MAX, error, sizeof(error));
	bool denied;

	if (o && !introspection_check(o, &rules, &denied))
		BUG_ON(!json_is_true(json_object_get(o, "active")) || json_object_get(o, "cnf") ||
		       !json_is_number(json_object_get(o, "exp")) || !json_object_get(o, "scope"));
	json_decref(o);
}

/* Three lines: what client and server say in SCRAM. */
static void scram(struct slice s)
{
	struct slice line[3];
	struct scram_salt salt;
	int err;

	for (int i = 0; i < 3; i++) {
		const uint8_t *nl = s.n ? memchr(s.p, '\n', s.n) : NULL;

		line[i] = slice_of(s.p, nl ? (size_t)(nl - s.p) : s.n);
		s = slice_from(s, line[i].n + 1);
	}
	err = scram_check(line[0], line[1], line[2], &salt);
	if (!err)
		BUG_ON(salt.iterations < SCRAM_ITERATIONS_MIN || salt.salt_bytes == 0 ||
		       salt.salt_bytes > SCRAM_SALT_MAX);
}

static void url(struct slice s)
{
	struct url_facts facts, again;
	char text[URL_MAX + 1];

	if (s.n > URL_MAX)
		return;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	if (url_inspect(text, &facts) != 0)
		return;
	/* An origin is a URL of the same origin. */
	BUG_ON(url_inspect(facts.origin, &again) != 0);
	BUG_ON(strcmp(facts.origin, again.origin) != 0 || facts.https != again.https ||
	       facts.loopback != again.loopback);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct slice rest = slice_from(slice_of(data, size), 1);

	if (size == 0)
		return 0;
	switch (data[0]) {
	case 'D':
		discovery(rest, false);
		discovery(rest, true);
		break;
	case 'T':
		token(rest);
		break;
	case 'K':
		keys(rest);
		break;
	case 'S':
		scram(rest);
		break;
	case 'P':
		start(rest);
		break;
	case 'A':
		decision(rest);
		break;
	case 'M':
		metadata(rest);
		break;
	case 'I':
		introspection(rest);
		break;
	case 'U':
		url(rest);
		break;
	}
	return 0;
}
