/* SPDX-License-Identifier: MIT */
/* Addresses as they are written in the configuration: "db.internal:5432", "[::1]:80", CIDRs. */
#ifndef TIDEGATE_CONFIG_CFGADDR_H
#define TIDEGATE_CONFIG_CFGADDR_H

#include "config/config.h"

/*
 * "host:port", "10.0.0.0/8:5432", "[2001:db8::/32]:5432"; the port may be `*`.
 * 0 and *ret (a literal's address in @arena; a name is only stored), -ENOMEM,
 * or -EINVAL and *ret_why, a static text that says what is wrong.
 */
MUST_CHECK int cfg_addr_parse(struct arena *arena, struct slice text, struct cfg_addr *ret,
			      const char **ret_why);

/* "10.0.0.0/8", "::1": a network without a port; as above. */
MUST_CHECK int cfg_net_parse(struct slice text, struct in6_addr *ret, uint8_t *ret_prefix,
			     const char **ret_why);

/*
 * "10.0.0.0/8:443", "[::1]:*", "10.0.0.2:53/udp" (without: both), "loopback" (two entries, at
 * @ret[0] and @ret[1]). How many, or -ENOMEM or -EINVAL as above.
 */
MUST_CHECK int cfg_allow_parse(struct arena *arena, struct slice text, struct cfg_allow ret[2],
			       const char **ret_why);

/* Both have the same port and the same network, or the same name. */
bool cfg_addr_same(const struct cfg_addr *a, const struct cfg_addr *b);
/* @a, a literal, lies in the network of @b, and the ports agree. */
bool cfg_addr_covers(const struct cfg_addr *b, const struct cfg_addr *a);

bool cfg_addr_is_loopback(const struct cfg_addr *a);
/* 0.0.0.0 or :: with a full prefix: every address of this host. */
bool cfg_addr_is_any(const struct cfg_addr *a);

#endif
