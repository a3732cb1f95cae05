/* SPDX-License-Identifier: MIT */
/* What must be known about a URL before anything is sent there. */
#ifndef TIDEGATE_NET_URL_H
#define TIDEGATE_NET_URL_H

#include <stdbool.h>

#include "base/compiler.h"

enum { URL_MAX = 2048, URL_ORIGIN_MAX = 320 };

struct url_facts {
	char origin[URL_ORIGIN_MAX]; /* "https://host:443": lower case, port always there */
	bool https;
	bool loopback; /* a literal loopback address, or "localhost" */
};

/*
 * 0, or -EINVAL: not an absolute http(s) URL, or one with a user name, a
 * fragment, a control character or white space.
 */
MUST_CHECK int url_inspect(const char *url, struct url_facts *ret);

#endif
