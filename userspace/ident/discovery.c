/* SPDX-License-Identifier: MIT */
#include "ident/discovery.h"

#include <errno.h>

#include "base/text.h"
#include "ident/strict_json.h"
#include "net/url.h"

static const char well_known[] = "/.well-known/openid-configuration";

int discovery_url(const struct discovery_rules *rules, char **ret)
{
	struct url_facts url;
	size_t n = strlen(rules->issuer);
	char *s;

	if (url_inspect(rules->issuer, &url) != 0 || strchr(rules->issuer, '?') ||
	    (!url.https && !(rules->allow_http && url.loopback)))
		return -EINVAL;
	/* "If the Issuer value contains a path, any terminating / MUST be removed" (section 4.1) */
	if (rules->issuer[n - 1] == '/')
		n--;
	if (asprintf(&s, "%.*s%s", (int)n, rules->issuer, well_known) < 0)
		return -ENOMEM;
	*ret = s;
	return 0;
}

static bool origin_allowed(const struct url_facts *url, const struct discovery_rules *rules)
{
	struct url_facts other;

	if (url_inspect(rules->issuer, &other) == 0 && strcmp(url->origin, other.origin) == 0)
		return true;
	for (const char *const *o = rules->extra_origins; o && *o; o++)
		if (url_inspect(*o, &other) == 0 && strcmp(url->origin, other.origin) == 0)
			return true;
	return false;
}

static char *endpoint(const json_t *doc, const char *name, const struct discovery_rules *rules,
		      char *error, size_t error_cap)
{
	const char *text = strict_json_string(doc, name);
	struct url_facts url;
	char *copy;

	if (!text || url_inspect(text, &url) != 0) {
		(void)snprintf(error, error_cap, "the discovery document has no usable `%s`", name);
		return NULL;
	}
	if (!url.https && !(rules->allow_http && url.loopback)) {
		(void)snprintf(error, error_cap, "`%s` is not https (%s)", name, url.origin);
		return NULL;
	}
	if (!origin_allowed(&url, rules)) {
		(void)snprintf(error, error_cap, "`%s` is at %s, not on the issuer's own origin (or in "
			       "`extra_origins`)",
			       name, url.origin);
		return NULL;
	}
	copy = strdup(text);
	if (!copy)
		(void)snprintf(error, error_cap, "out of memory");
	return copy;
}

static bool lists(const json_t *doc, const char *name, const char *word)
{
	const json_t *list = json_object_get(doc, name);

	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *s = json_string_value(json_array_get(list, i));

		if (s && strcmp(s, word) == 0)
			return true;
	}
	return false;
}

/* One that clients call as such. An alias that may not be used is not made up for by the other. */
static char *client_endpoint(const json_t *doc, const char *name, const struct discovery_rules *rules,
			     char *error, size_t error_cap)
{
	const json_t *aliases = rules->mtls ? json_object_get(doc, "mtls_endpoint_aliases") : NULL;

	return endpoint(json_object_get(aliases, name) ? aliases : doc, name, rules, error, error_cap);
}

int discovery_parse(struct slice json, const struct discovery_rules *rules, struct discovery *ret,
		    char *error, size_t error_cap)
{
	struct discovery d = {.jwks_uri = NULL};
	json_t *doc = strict_json_object(json, DISCOVERY_MAX, error, error_cap);
	char ignored[256];
	const char *issuer;
	int err = -EINVAL;

	if (!doc)
		return -EINVAL;
	issuer = strict_json_string(doc, "issuer");
	if (!issuer || strcmp(issuer, rules->issuer) != 0) {
		char shown[256] = "";

		(void)text_escape(slice_str(issuer), shown, sizeof(shown));
		(void)snprintf(error, error_cap,
			       "the discovery document is of issuer `%s`, not of `%s`", shown,
			       rules->issuer);
		goto out;
	}
	if (!rules->keys_only)
		d.token_endpoint = client_endpoint(doc, "token_endpoint", rules, error, error_cap);
	if (d.token_endpoint || rules->keys_only)
		d.jwks_uri = endpoint(doc, "jwks_uri", rules, error, error_cap);
	if (!d.jwks_uri)
		goto out;
	if (rules->keys_only)
		goto taken;
	d.dpop = lists(doc, "dpop_signing_alg_values_supported", "ES256");
	/* One that lies elsewhere is as good as none: who wants it is told so. */
	d.backchannel_endpoint = client_endpoint(doc, "backchannel_authentication_endpoint", rules,
						 ignored, sizeof(ignored));
	d.device_endpoint = client_endpoint(doc, "device_authorization_endpoint", rules, ignored,
					    sizeof(ignored));
	d.introspection_endpoint = client_endpoint(doc, "introspection_endpoint", rules, ignored,
						   sizeof(ignored));
	d.userinfo_endpoint = client_endpoint(doc, "userinfo_endpoint", rules, ignored, sizeof(ignored));
taken:
	*ret = d;
	d = (struct discovery){.jwks_uri = NULL};
	err = 0;
out:
	discovery_done(&d);
	json_decref(doc);
	return err;
}

void discovery_done(struct discovery *d)
{
	free(d->token_endpoint);
	free(d->jwks_uri);
	free(d->backchannel_endpoint);
	free(d->device_endpoint);
	free(d->introspection_endpoint);
	free(d->userinfo_endpoint);
	*d = (struct discovery){.jwks_uri = NULL};
}
