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
	    (strcmp(scheme, "https") == 0 || strcmp(scheme, "http") == 0)) {
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

	if (!plain_text(url))
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
