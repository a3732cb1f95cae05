/* SPDX-License-Identifier: MIT */
#include "net/url.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <curl/curl.h>
#include <errno.h>

static bool plain_text(const char *s)
{
	size_t n = 0;

	for (; s[n]; n++)
		if (n == URL_MAX || (uint8_t)s[n] <= 0x20 || (uint8_t)s[n] >= 0x7f)
			return false;
	return n > 0;
}

static bool host_is_loopback(const char *host)
{
	struct in_addr v4;

	if (strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	return inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* Names as DNS has them, addresses as they are written: curl takes more than that. */
static bool host_is_plain(const char *host)
{
	bool v6 = host[0] == '[';

	for (const char *p = host + v6; *p; p++) {
		if (v6 && *p == ']')
			return !p[1];
		if (v6 ? !isxdigit((unsigned char)*p) && *p != ':' && *p != '.'
		       : !isalnum((unsigned char)*p) && *p != '.' && *p != '-' && *p != '_')
			return false;
	}
	return !v6 && *host;
}

/*
 * "%31" in a host is decoded, then read as a number, and a third slash is skipped:
 * too clever for what is compared here.
 */
static bool authority_is_plain(const char *url)
{
	const char *p = strstr(url, "://");
	size_t n = p ? strcspn(p + 3, "/?#") : 0;

	return n && !memchr(p + 3, '%', n);
}

static bool has_part(CURLU *u, CURLUPart what)
{
	char *text = NULL;
	bool there = curl_url_get(u, what, &text, 0) == CURLUE_OK;

	curl_free(text);
	return there;
}

static int inspect(CURLU *u, struct url_facts *ret)
{
	char *scheme = NULL, *host = NULL, *port = NULL;
	int n = -1;

	if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
	    curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
	    (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0) && host_is_plain(host)) {
		for (char *p = host; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		ret->https = scheme[4] == 's';
		ret->loopback = host_is_loopback(host);
		n = snprintf(ret->origin, sizeof(ret->origin), "%s://%s:%s", scheme, host, port);
	}
	curl_free(scheme);
	curl_free(host);
	curl_free(port);
	return n > 0 && (size_t)n < sizeof(ret->origin) ? 0 : -EINVAL;
}

int url_inspect(const char *url, struct url_facts *ret)
{
	struct url_facts facts;
	CURLU *u;
	int err = -EINVAL;

	if (!plain_text(url) || !authority_is_plain(url))
		return -EINVAL;
	u = curl_url();
	if (!u)
		return -ENOMEM;
	if (curl_url_set(u, CURLUPART_URL, url, CURLU_DISALLOW_USER) == CURLUE_OK &&
	    !has_part(u, CURLUPART_USER) && !has_part(u, CURLUPART_FRAGMENT))
		err = inspect(u, &facts);
	curl_url_cleanup(u);
	if (!err)
		*ret = facts;
	return err;
}
