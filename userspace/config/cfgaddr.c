/* SPDX-License-Identifier: MIT */
#include "config/cfgaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <strings.h>

#include "base/text.h"

static int wrong(const char **ret_why, const char *why)
{
	*ret_why = why;
	return -EINVAL;
}

/* A literal address, v4-mapped; *ret_bits: what its prefix is counted in. */
static bool parse_literal(struct slice s, struct in6_addr *ret, unsigned *ret_bits)
{
	char text[INET6_ADDRSTRLEN];
	struct in_addr v4;

	if (s.n >= sizeof(text))
		return false;
	if (s.n)
		memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	if (inet_pton(AF_INET, text, &v4) == 1) {
		*ret = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
		memcpy(ret->s6_addr + 12, &v4, 4);
		*ret_bits = 32;
		return true;
	}
	*ret_bits = 128;
	return inet_pton(AF_INET6, text, ret) == 1;
}

static bool host_bits_clear(const struct in6_addr *a, unsigned prefix)
{
	for (unsigned i = prefix; i < 128; i++)
		if (a->s6_addr[i / 8] & (0x80 >> (i % 8)))
			return false;
	return true;
}

static bool same_network(const struct in6_addr *a, const struct in6_addr *b, unsigned prefix)
{
	for (unsigned i = 0; i < prefix; i++)
		if ((a->s6_addr[i / 8] ^ b->s6_addr[i / 8]) & (0x80 >> (i % 8)))
			return false;
	return true;
}

static size_t find_byte(struct slice s, uint8_t c)
{
	const uint8_t *p = s.n ? memchr(s.p, c, s.n) : NULL;

	return p ? (size_t)(p - s.p) : s.n;
}

int cfg_net_parse(struct slice text, struct in6_addr *ret, uint8_t *ret_prefix,
		  const char **ret_why)
{
	size_t slash = find_byte(text, '/');
	struct in6_addr addr;
	uint64_t len;
	unsigned bits;

	if (!parse_literal(slice_of(text.p, slash), &addr, &bits))
		return wrong(ret_why, "not an address");
	len = bits;
	if (slash < text.n && text_parse_u64(slice_from(text, slash + 1), 0, bits, &len))
		return wrong(ret_why, "the prefix length is a number up to 32 (IPv4) or 128 (IPv6)");
	len += 128 - bits;
	if (!host_bits_clear(&addr, (unsigned)len))
		return wrong(ret_why, "has bits set behind its prefix");
	*ret = addr;
	*ret_prefix = (uint8_t)len;
	return 0;
}

/* Letters, digits, `-`, `_`, `.`; no empty label; the last one is not a number. */
static bool is_hostname(struct slice s)
{
	size_t label = 0;
	bool number = true;

	if (s.n == 0 || s.n > 253)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (c == '.') {
			if (label == 0)
				return false;
			label = 0;
			number = true;
			continue;
		}
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_'))
			return false;
		if (c < '0' || c > '9')
			number = false;
		if (++label > 63)
			return false;
	}
	return label > 0 && !number;
}

/* Splits "host:port" and "[host]:port"; "[a::]/32:port" keeps the prefix with the host. */
static int split(struct slice text, char *host, size_t cap, struct slice *ret_port,
		 const char **ret_why)
{
	size_t n = 0, colon = text.n;
	bool inside = false;

	while (colon > 0 && text.p[colon - 1] != ':')
		colon--;
	if (colon == 0 || text.p[text.n - 1] == ']')
		return wrong(ret_why, "a port is missing: write `host:port`");
	for (size_t i = 0; i + 1 < colon; i++) {
		uint8_t c = text.p[i];

		if (c == '[' && i == 0) {
			inside = true;
			continue;
		}
		if (c == ']' && inside) {
			inside = false;
			continue;
		}
		if (c == ':' && text.p[0] != '[')
			return wrong(ret_why, "an IPv6 address stands in brackets: `[::1]:5432`");
		if (c == '\0' || n + 1 >= cap)
			return wrong(ret_why, "the host is too long");
		host[n++] = (char)c;
	}
	if (inside)
		return wrong(ret_why, "`]` is missing");
	host[n] = '\0';
	*ret_port = slice_from(text, colon);
	return 0;
}

int cfg_addr_parse(struct arena *arena, struct slice text, struct cfg_addr *ret,
		   const char **ret_why)
{
	struct cfg_addr a = {0};
	struct in6_addr net;
	struct slice port;
	uint64_t n = 0;
	int rc;

	rc = split(text, a.host, sizeof(a.host), &port, ret_why);
	if (rc)
		return rc;
	if (!slice_eq_str(port, "*") && text_parse_u64(port, 1, UINT16_MAX, &n))
		return wrong(ret_why, "the port is a number from 1 to 65535, or `*` for any");
	a.port = (uint16_t)n;
	a.wildcard = strncmp(a.host, "*.", 2) == 0;
	if (is_hostname(slice_str(a.host + (a.wildcard ? 2 : 0)))) {
		for (char *c = a.host; *c; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 'a' - 'A' : *c);
		*ret = a;
		return 0;
	}
	a.wildcard = false;
	rc = cfg_net_parse(slice_str(a.host), &net, &a.prefix, ret_why);
	if (rc)
		return rc;
	a.addrs = arena_alloc(arena, sizeof(*a.addrs));
	if (!a.addrs)
		return -ENOMEM;
	*a.addrs = net;
	a.naddrs = 1;
	a.literal = true;
	*ret = a;
	return 0;
}

static int allow_loopback(struct cfg_allow ret[2])
{
	ret[0] = (struct cfg_allow){.prefix = 96 + 8, .tcp = true, .udp = true};
	ret[0].addr.s6_addr[10] = ret[0].addr.s6_addr[11] = 0xff;
	ret[0].addr.s6_addr[12] = 127;
	ret[1] = (struct cfg_allow){.prefix = 128, .tcp = true, .udp = true};
	ret[1].addr.s6_addr[15] = 1;
	return 2;
}

int cfg_allow_parse(struct arena *arena, struct slice text, struct cfg_allow ret[2],
		    const char **ret_why)
{
	bool tcp = true, udp = true;
	struct cfg_addr a;
	int rc;

	if (slice_eq_str(text, "loopback"))
		return allow_loopback(ret);
	if (text.n > 4 && memcmp(text.p + text.n - 4, "/tcp", 4) == 0)
		udp = false;
	else if (text.n > 4 && memcmp(text.p + text.n - 4, "/udp", 4) == 0)
		tcp = false;
	if (!tcp || !udp)
		text.n -= 4;
	rc = cfg_addr_parse(arena, text, &a, ret_why);
	if (rc)
		return rc;
	if (!a.literal)
		return wrong(ret_why, "names are not looked up here: write addresses, or make it a "
				      "target");
	ret[0] = (struct cfg_allow){
		.addr = a.addrs[0], .port = a.port, .prefix = a.prefix, .tcp = tcp, .udp = udp};
	return 1;
}

bool cfg_addr_same(const struct cfg_addr *a, const struct cfg_addr *b)
{
	if (a->port != b->port || a->literal != b->literal)
		return false;
	if (!a->literal)
		return strcasecmp(a->host, b->host) == 0;
	return a->prefix == b->prefix && same_network(a->addrs, b->addrs, a->prefix);
}

bool cfg_addr_covers(const struct cfg_addr *b, const struct cfg_addr *a)
{
	return a->literal && b->literal && a->prefix >= b->prefix &&
	       (a->port == b->port || a->port == 0 || b->port == 0) &&
	       same_network(a->addrs, b->addrs, b->prefix);
}

bool cfg_addr_is_loopback(const struct cfg_addr *a)
{
	static const struct in6_addr one = IN6ADDR_LOOPBACK_INIT;
	static const struct in6_addr v4 = {.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127}};

	if (!a->literal)
		return false;
	if (a->prefix >= 104 && same_network(a->addrs, &v4, 104))
		return true;
	return a->prefix == 128 && same_network(a->addrs, &one, 128);
}

bool cfg_addr_is_any(const struct cfg_addr *a)
{
	static const struct in6_addr v4 = {.s6_addr = {[10] = 0xff, [11] = 0xff}};

	return a->literal && a->prefix == 128 &&
	       (IN6_IS_ADDR_UNSPECIFIED(a->addrs) || same_network(a->addrs, &v4, 128));
}
