/* SPDX-License-Identifier: MIT */
#include "ident/authzen_meta.h"

#include <errno.h>

#include "base/text.h"
#include "ident/strict_json.h"
#include "net/url.h"

static const char well_known[] = "/.well-known/authzen-configuration";

static bool usable(const char *text, bool allow_http, struct url_facts *ret)
{
	return url_inspect(text, ret) == 0 && (ret->https || (allow_http && ret->loopback));
}

/* Between host and path (section 9.2.1), whose last slash does not count. */
int authzen_meta_url(const char *point, bool allow_http, char **ret)
{
	struct url_facts url;
	const char *host = strstr(point, "://"), *path;
	size_t n;
	char *s;

	if (!host || strpbrk(point, "?#") || !usable(point, allow_http, &url))
		return -EINVAL;
	host += strlen("://");
	path = host + strcspn(host, "/");
	n = strlen(path);
	if (n && path[n - 1] == '/')
		n--;
	if (asprintf(&s, "%.*s%s%.*s", (int)(path - point), point, well_known, (int)n, path) < 0)
		return -ENOMEM;
	*ret = s;
	return 0;
}

static char *endpoint(const json_t *doc, const struct url_facts *point, bool allow_http, char *error,
		      size_t error_cap)
{
	const char *text = strict_json_string(doc, "access_evaluation_endpoint");
	struct url_facts url;
	char *copy;

	if (!text || !usable(text, allow_http, &url)) {
		(void)snprintf(error, error_cap, "the metadata have no `access_evaluation_endpoint` that is an "
			       "https URL");
		return NULL;
	}
	if (strcmp(url.origin, point->origin) != 0) {
		(void)snprintf(error, error_cap, "`access_evaluation_endpoint` is at %s, not on the decision "
			       "point's own origin", url.origin);
		return NULL;
	}
	copy = strdup(text);
	if (!copy)
		(void)snprintf(error, error_cap, "out of memory");
	return copy;
}

int authzen_meta_parse(struct slice json, const char *point, bool allow_http, char **ret, char *error,
		       size_t error_cap)
{
	json_t *doc = strict_json_object(json, AUTHZEN_META_MAX, error, error_cap);
	const char *named = doc ? strict_json_string(doc, "policy_decision_point") : NULL;
	struct url_facts url;
	char *found = NULL, shown[256] = "";

	if (!doc)
		return -EINVAL;
	if (!named || strcmp(named, point) != 0) {
		(void)text_escape(slice_str(named), shown, sizeof(shown));
		(void)snprintf(error, error_cap, "the metadata are of decision point `%s`, not of `%s`", shown,
			       point);
	} else if (!usable(point, allow_http, &url)) {
		(void)snprintf(error, error_cap, "the decision point is no https URL");
	} else {
		found = endpoint(doc, &url, allow_http, error, error_cap);
	}
	json_decref(doc);
	if (!found)
		return -EINVAL;
	*ret = found;
	return 0;
}
