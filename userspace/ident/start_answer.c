/* SPDX-License-Identifier: MIT */
#include "ident/start_answer.h"

#include <errno.h>

#include "base/text.h"
#include "ident/strict_json.h"
#include "ident/token.h"
#include "net/url.h"

static bool seconds(const json_t *o, const char *name, uint64_t *ret_ms)
{
	const json_t *v = json_object_get(o, name);

	if (!json_is_number(v) || json_number_value(v) < 0 || json_number_value(v) > UINT32_MAX)
		return false;
	*ret_ms = (uint64_t)(json_number_value(v) * 1000);
	return true;
}

/* A page that a person is sent to: https, or a test's on loopback. */
static bool page_ok(const char *uri, bool allow_http)
{
	struct url_facts url;

	return uri && url_inspect(uri, &url) == 0 && (url.https || (allow_http && url.loopback));
}

static const char *handle_name(bool device)
{
	return device ? "device_code" : "auth_req_id";
}

static const char *read_code(struct start_answer *a, bool allow_http)
{
	char shown[START_CODE_MAX * 4];

	a->code = strict_json_string(a->json, "user_code");
	a->uri = strict_json_string(a->json, "verification_uri");
	a->uri_complete = strict_json_string(a->json, "verification_uri_complete");
	if (!a->code || !*a->code || strlen(a->code) > START_CODE_MAX ||
	    text_escape(slice_str(a->code), shown, sizeof(shown)) != strlen(a->code))
		return "the answer holds no usable user_code";
	if (!page_ok(a->uri, allow_http))
		return "verification_uri is no https URL";
	if (!page_ok(a->uri_complete, allow_http))
		a->uri_complete = NULL;
	return NULL;
}

static const char *read_answer(struct start_answer *a, bool allow_http)
{
	a->handle = strict_json_string(a->json, handle_name(a->device));
	if (!a->handle || !*a->handle || strlen(a->handle) > START_HANDLE_MAX)
		return a->device ? "the answer holds no device_code"
				 : "the answer holds no auth_req_id";
	if (!seconds(a->json, "expires_in", &a->expires_ms) || a->expires_ms == 0)
		return "expires_in is no number of seconds";
	if (json_object_get(a->json, "interval") && !seconds(a->json, "interval", &a->interval_ms))
		return "interval is no number of seconds";
	if (a->interval_ms > START_INTERVAL_MAX_MS)
		a->interval_ms = START_INTERVAL_MAX_MS;
	return a->device ? read_code(a, allow_http) : NULL;
}

int start_answer_parse(struct slice body, bool device, bool allow_http, uint64_t poll_ms,
		       struct start_answer *ret, char *error, size_t error_cap)
{
	struct start_answer a = {
		.json = strict_json_object(body, TOKEN_BODY_MAX, error, error_cap),
		.device = device,
		.interval_ms = poll_ms,
	};
	const char *why;

	if (!a.json)
		return -EINVAL;
	why = read_answer(&a, allow_http);
	if (!why) {
		*ret = a;
		return 0;
	}
	(void)snprintf(error, error_cap, "%s", why);
	start_answer_done(&a);
	return -EINVAL;
}

void start_answer_done(struct start_answer *a)
{
	if (a->json)
		strict_json_wipe(json_object_get(a->json, handle_name(a->device)));
	json_decref(a->json);
	*a = (struct start_answer){.json = NULL};
}
