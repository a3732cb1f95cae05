/* SPDX-License-Identifier: MIT */
#include "ident/secevent.h"

#include <strings.h>

#include "base/text.h"
#include "ident/strict_json.h"

const char *const secevent_types[] = {"secevent+jwt", "logout+jwt", NULL};

#define CAEP "https://schemas.openid.net/secevent/caep/event-type/"
#define RISC "https://schemas.openid.net/secevent/risc/event-type/"
#define SSF  "https://schemas.openid.net/secevent/ssf/event-type/"

static const struct known {
	const char *uri, *kind;
	bool ends, top; /* @top: the subject is the token's own sub and sid */
} known[] = {
	{"http://schemas.openid.net/event/backchannel-logout", "logout", true, true},
	{CAEP "session-revoked", "session-revoked", true, false},
	{CAEP "credential-change", "credential-change", true, false},
	{CAEP "token-claims-change", "token-claims-change", true, false},
	{RISC "account-disabled", "account-disabled", true, false},
	{RISC "account-purged", "account-purged", true, false},
	{RISC "sessions-revoked", "sessions-revoked", true, false},
	{SSF "verification", "verification", false, false},
	{SSF "stream-updated", "stream-updated", false, false},
};

static bool keep(char dst[SECEVENT_TEXT], const json_t *o, const char *name)
{
	const json_t *v = json_object_get(o, name);
	const char *text = strict_json_string(o, name);

	if (!v)
		return true;
	if (!text || !*text || strlen(text) >= SECEVENT_TEXT)
		return false;
	(void)snprintf(dst, SECEVENT_TEXT, "%s", text);
	return true;
}

/* RFC 9493: iss_sub and opaque; sub of another issuer is nobody that we know. */
static bool take_simple(const json_t *id, const char *issuer, const char *opaque_is,
			struct secevent *ret)
{
	const char *format = strict_json_string(id, "format"), *iss;
	char *dst = strcmp(opaque_is, "session") == 0 ? ret->session : ret->subject;

	if (format && strcmp(format, "opaque") == 0)
		return json_object_get(id, "id") && keep(dst, id, "id");
	if (!format || strcmp(format, "iss_sub") != 0)
		return false;
	iss = strict_json_string(id, "iss");
	return iss && strcmp(iss, issuer) == 0 && json_object_get(id, "sub") && keep(dst, id, "sub");
}

static bool take_subject(const json_t *id, const char *issuer, struct secevent *ret)
{
	const char *format = strict_json_string(id, "format");
	const json_t *user = json_object_get(id, "user"), *session = json_object_get(id, "session");

	if (!format || strcmp(format, "complex") != 0)
		return take_simple(id, issuer, "user", ret);
	return (user || session) && (!user || take_simple(user, issuer, "user", ret)) &&
	       (!session || take_simple(session, issuer, "session", ret));
}

static bool refuse(struct secevent_error *e, const char *code, const char *words)
{
	*e = (struct secevent_error){code, words};
	return false;
}

static bool check_head(const json_t *claims, uint64_t now_s, uint64_t skew_s, struct secevent *ret,
		       struct secevent_error *e)
{
	const json_t *iat = json_object_get(claims, "iat");
	double at = json_number_value(iat);

	if (!json_is_number(iat) || at > (double)(now_s + skew_s))
		return refuse(e, "invalid_request", "it has no usable time of issue (iat)");
	if (at + SECEVENT_FRESH_S + (double)skew_s < (double)now_s)
		return refuse(e, "invalid_request", "it is too old (iat)");
	if (!json_object_get(claims, "jti") || !keep(ret->jti, claims, "jti"))
		return refuse(e, "invalid_request", "it has no usable identifier (jti)");
	if (json_object_get(claims, "nonce"))
		return refuse(e, "invalid_request", "it has a nonce: an ID token is no event");
	return true;
}

bool secevent_read(const json_t *claims, const char *issuer, uint64_t now_s, uint64_t skew_s,
		   struct secevent *ret, struct secevent_error *ret_error)
{
	const json_t *events = json_object_get(claims, "events"), *event, *id;
	const struct known *k = NULL;
	unsigned n = 0;

	*ret = (struct secevent){.kind = ""};
	if (!check_head(claims, now_s, skew_s, ret, ret_error))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (!json_object_get(events, known[i].uri))
			continue;
		k = &known[i];
		n++;
	}
	if (n != 1)
		return refuse(ret_error, "invalid_request", "it tells no event, or more than one, that is known here");
	event = json_object_get(events, k->uri);
	if (!json_is_object(event))
		return refuse(ret_error, "invalid_request", "its event is no object");
	ret->kind = k->kind;
	ret->ends = k->ends;
	if (!k->ends)
		return true;
	id = json_object_get(claims, "sub_id");
	if (!id)
		id = json_object_get(event, "subject"); /* before the final CAEP */
	if (k->top ? !keep(ret->subject, claims, "sub") || !keep(ret->session, claims, "sid")
		   : !take_subject(id, issuer, ret))
		return refuse(ret_error, "invalid_request", "its subject is not understood");
	return ret->subject[0] || ret->session[0]
		       ? true
		       : refuse(ret_error, "invalid_request", "it names neither subject nor session");
}

/* ---------------------------------------------------------------- the request */

/* The next line without its end; false: there is none. */
static bool next_line(struct slice *in, struct slice *ret)
{
	const uint8_t *nl = in->n ? memchr(in->p, '\n', in->n) : NULL;
	size_t n = nl ? (size_t)(nl - in->p) : 0;

	if (!nl || n == 0 || in->p[n - 1] != '\r')
		return false;
	*ret = slice_of(in->p, n - 1);
	*in = slice_from(*in, n + 1);
	return true;
}

static bool starts(struct slice s, const char *word)
{
	size_t n = strlen(word);

	return s.n >= n && strncasecmp((const char *)s.p, word, n) == 0;
}

static struct slice trim(struct slice s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s = slice_from(s, 1);
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

struct head {
	bool has_length, has_type, logout, ping, has_auth;
	struct slice bearer;
	uint64_t length;
};

/* 0, or the status that refuses it. */
static int take_header(struct slice line, struct head *h)
{
	static const char length[] = "content-length:", type[] = "content-type:";
	static const char auth[] = "authorization:", bearer[] = "bearer ";
	struct slice v;

	if (starts(line, "transfer-encoding:"))
		return 411;
	if (starts(line, "expect:"))
		return 417;
	if (starts(line, length)) {
		v = trim(slice_from(line, sizeof(length) - 1));
		if (h->has_length || text_parse_u64(v, 1, UINT64_MAX, &h->length))
			return 400;
		h->has_length = true;
	} else if (starts(line, type)) {
		v = trim(slice_from(line, sizeof(type) - 1));
		h->logout = starts(v, "application/x-www-form-urlencoded");
		h->ping = starts(v, "application/json");
		if (h->has_type ||
		    (!h->logout && !h->ping && !starts(v, "application/secevent+jwt")))
			return h->has_type ? 400 : 415;
		h->has_type = true;
	} else if (starts(line, auth)) {
		v = trim(slice_from(line, sizeof(auth) - 1));
		if (h->has_auth)
			return 400;
		h->has_auth = true;
		h->bearer = starts(v, bearer) ? trim(slice_from(v, sizeof(bearer) - 1)) : slice_of("", 0);
	}
	return line.n && memchr(line.p, ':', line.n) && line.p[0] != ' ' ? 0 : 400;
}

/* Characters of a JWT need no decoding in a form; whoever encodes them sends something else. */
static bool take_token(struct slice body, bool logout, struct slice *ret)
{
	static const char name[] = "logout_token=";
	const uint8_t *amp;

	*ret = body;
	if (!logout)
		return true;
	if (!starts(body, name))
		return false;
	*ret = slice_from(body, sizeof(name) - 1);
	amp = ret->n ? memchr(ret->p, '&', ret->n) : NULL;
	if (amp)
		ret->n = (size_t)(amp - ret->p);
	return true;
}

static enum secevent_http refused(struct secevent_request *r, int status)
{
	r->status = status;
	return SECEVENT_REFUSED;
}

enum secevent_http secevent_request(struct slice in, struct secevent_request *ret)
{
	const uint8_t *end = in.n ? memmem(in.p, in.n, "\r\n\r\n", 4) : NULL;
	struct slice rest = in, line, body;
	struct head h = {0};
	int status;

	*ret = (struct secevent_request){.status = 0};
	if (!end || end - in.p > SECEVENT_HEAD_MAX)
		return end || in.n > SECEVENT_HEAD_MAX + 3 ? refused(ret, 431) : SECEVENT_MORE;
	body = slice_from(in, (size_t)(end - in.p) + 4);
	rest.n = (size_t)(end - in.p) + 2;
	if (!next_line(&rest, &line) || line.n < 14 ||
	    memcmp(line.p + line.n - 9, " HTTP/1.1", 9) != 0)
		return refused(ret, 400);
	if (memcmp(line.p, "POST /", 6) != 0)
		return refused(ret, 405);
	while (rest.n) {
		status = next_line(&rest, &line) ? take_header(line, &h) : 400;
		if (status)
			return refused(ret, status);
	}
	if (!h.has_length || !h.has_type)
		return refused(ret, h.has_length ? 415 : 411);
	if (h.length > SECEVENT_BODY_MAX)
		return refused(ret, 413);
	if (body.n < h.length)
		return SECEVENT_MORE;
	/* What stands behind it is not looked at: the connection ends here. */
	body.n = (size_t)h.length;
	if (!take_token(body, h.logout, &ret->token))
		return refused(ret, 400);
	ret->logout = h.logout;
	ret->ping = h.ping;
	ret->bearer = h.bearer;
	return SECEVENT_WHOLE;
}

bool secevent_ping(const struct secevent_request *q, char ret[SECEVENT_PING_MAX])
{
	char ignored[80];
	json_t *o = strict_json_object(q->token, SECEVENT_BODY_MAX, ignored, sizeof(ignored));
	const char *id = o ? strict_json_string(o, "auth_req_id") : NULL;
	bool ok = id && *id && strlen(id) < SECEVENT_PING_MAX;

	if (ok)
		(void)snprintf(ret, SECEVENT_PING_MAX, "%s", id);
	json_decref(o);
	return ok;
}
