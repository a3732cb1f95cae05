/* SPDX-License-Identifier: MIT */
#include "daemon/address.h"

#include <arpa/inet.h>
#include <errno.h>

#include "base/text.h"

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff};

int address_parse(const char *text, struct sockaddr_storage *ret, socklen_t *ret_len)
{
	struct sockaddr_in *in = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	const char *colon = strrchr(text, ':');
	char host[INET6_ADDRSTRLEN + 2];
	uint64_t port;
	size_t n;

	if (!colon || text_parse_u64(slice_str(colon + 1), 1, 65535, &port))
		return -EINVAL;
	n = (size_t)(colon - text);
	if (n == 0 || n >= sizeof(host))
		return -EINVAL;
	memcpy(host, text, n);
	host[n] = '\0';
	memset(ret, 0, sizeof(*ret));
	if (host[0] == '[' && host[n - 1] == ']') {
		host[n - 1] = '\0';
		if (inet_pton(AF_INET6, host + 1, &in6->sin6_addr) != 1)
			return -EINVAL;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		*ret_len = sizeof(*in6);
		return 0;
	}
	if (inet_pton(AF_INET, host, &in->sin_addr) != 1)
		return -EINVAL;
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	*ret_len = sizeof(*in);
	return 0;
}

void address_format_mapped(const uint8_t addr[16], uint16_t port, char dst[ADDRESS_TEXT])
{
	char host[INET6_ADDRSTRLEN];

	if (memcmp(addr, mapped_prefix, sizeof(mapped_prefix)) == 0) {
		(void)inet_ntop(AF_INET, addr + 12, host, sizeof(host));
		(void)snprintf(dst, ADDRESS_TEXT, "%s:%u", host, port);
	} else {
		(void)inet_ntop(AF_INET6, addr, host, sizeof(host));
		(void)snprintf(dst, ADDRESS_TEXT, "[%s]:%u", host, port);
	}
}

void address_mapped(const struct sockaddr *sa, uint8_t ret[16])
{
	memset(ret, 0, 16);
	if (sa->sa_family == AF_INET6) {
		memcpy(ret, &((const struct sockaddr_in6 *)sa)->sin6_addr, 16);
	} else if (sa->sa_family == AF_INET) {
		memcpy(ret, mapped_prefix, sizeof(mapped_prefix));
		memcpy(ret + 12, &((const struct sockaddr_in *)sa)->sin_addr, 4);
	}
}

void address_format(const struct sockaddr *sa, char dst[ADDRESS_TEXT])
{
	uint8_t addr[16];

	if (sa->sa_family != AF_INET && sa->sa_family != AF_INET6) {
		(void)snprintf(dst, ADDRESS_TEXT, "unix");
		return;
	}
	address_mapped(sa, addr);
	address_format_mapped(addr,
			      ntohs(sa->sa_family == AF_INET
					    ? ((const struct sockaddr_in *)sa)->sin_port
					    : ((const struct sockaddr_in6 *)sa)->sin6_port),
			      dst);
}

static bool is_local(const char *text)
{
	struct sockaddr_storage ss;
	uint8_t addr[16];
	socklen_t len;

	if (address_parse(text, &ss, &len))
		return false;
	address_mapped((const struct sockaddr *)&ss, addr);
	return address_in_cidr("127.0.0.0/8", addr) || address_in_cidr("::1", addr);
}

bool address_all_local(const char *list)
{
	bool all = *list != '\0';

	if (strncmp(list, "unix:", 5) == 0)
		return true; /* a path may have spaces */
	while (all && *list) {
		size_t n = strcspn(list, " ");
		char one[ADDRESS_TEXT];

		all = n < sizeof(one);
		(void)snprintf(one, sizeof(one), "%.*s", (int)n, list);
		all = all && is_local(one);
		list += n + (list[n] == ' ');
	}
	return all;
}

bool address_in_cidr(const char *cidr, const uint8_t addr[16])
{
	const char *slash = strchr(cidr, '/');
	char host[INET6_ADDRSTRLEN];
	uint64_t bits, max = 128;
	uint8_t net[16] = {0};
	size_t n = slash ? (size_t)(slash - cidr) : strlen(cidr);

	if (n >= sizeof(host))
		return false;
	memcpy(host, cidr, n);
	host[n] = '\0';
	if (inet_pton(AF_INET, host, net + 12) == 1) {
		memcpy(net, mapped_prefix, sizeof(mapped_prefix));
		max = 32;
	} else if (inet_pton(AF_INET6, host, net) != 1) {
		return false;
	}
	bits = max;
	if (slash && text_parse_u64(slice_str(slash + 1), 0, max, &bits))
		return false;
	bits += 128 - max;
	for (size_t i = 0; i < 16; i++) {
		uint8_t take = bits >= 8 * (i + 1) ? 0xff
			       : bits <= 8 * i	   ? 0
						   : (uint8_t)(0xff00 >> (bits - 8 * i));

		if ((net[i] ^ addr[i]) & take)
			return false;
	}
	return true;
}
