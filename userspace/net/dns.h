/* SPDX-License-Identifier: MIT */
/*
 * Messages of the domain name system (RFC 1035, 6891), as far as a forwarder that must
 * know what it forwards needs them. Strict: one question, class IN, nothing left over,
 * compression only backwards and only in answers. Pure: bytes in, bytes out.
 */
#ifndef TIDEGATE_NET_DNS_H
#define TIDEGATE_NET_DNS_H

#include "base/compiler.h"
#include "base/slice.h"

enum dns_type {
	DNS_T_A = 1,
	DNS_T_NS = 2,
	DNS_T_CNAME = 5,
	DNS_T_AAAA = 28,
	DNS_T_DNAME = 39,
	DNS_T_OPT = 41,
	DNS_T_SVCB = 64,
	DNS_T_HTTPS = 65,
	DNS_T_IXFR = 251,
	DNS_T_AXFR = 252,
	DNS_T_ANY = 255,
};

enum dns_rcode {
	DNS_NOERROR,
	DNS_FORMERR,
	DNS_SERVFAIL,
	DNS_NXDOMAIN,
	DNS_NOTIMP,
	DNS_REFUSED,
};

enum {
	DNS_HEAD = 12,
	DNS_WIRE_NAME = 255,   /* octets of a name, RFC 1035 2.3.4 */
	DNS_TEXT = 1025,       /* of a name in which each octet is escaped */
	DNS_UDP_MIN = 512,     /* without EDNS */
	DNS_UDP_OURS = 1232,   /* that no path fragments */
	DNS_QUERY_MAX = 512,   /* of what dns_query_write() and dns_reply_write() make */
	DNS_MESSAGE_MAX = 65535,
};

/* A question, from an agent or our own. */
struct dns_query {
	uint16_t id, type;
	uint16_t udp_size; /* that the asker can take */
	bool rd, cd, ad, edns, dnssec_ok;
	uint8_t nwire; /* 0: no question could be read */
	uint8_t wire[DNS_WIRE_NAME]; /* as it came, also in case (which servers may check) */
	char name[DNS_TEXT]; /* lower case, without the dot at the end; "." is the root */
};

/*
 * 0; -ENOMSG: nothing that could be answered; -EBADMSG: to be answered with *ret_rcode (what
 * of the question could be read is in *ret).
 */
MUST_CHECK int dns_query_parse(struct slice msg, struct dns_query *ret, uint8_t *ret_rcode);
/* A question of our own, with EDNS; -EINVAL: not a name. The id is the caller's to set. */
MUST_CHECK int dns_query_make(const char *name, uint16_t type, struct dns_query *ret);
/* Both return the length; @dst holds DNS_QUERY_MAX bytes. */
size_t dns_query_write(const struct dns_query *q, uint8_t *dst);
/* An answer without records. */
size_t dns_reply_write(const struct dns_query *q, uint8_t rcode, bool truncated, uint8_t *dst);

enum dns_section { DNS_ANSWER, DNS_AUTHORITY, DNS_ADDITIONAL };

/* Valid during the call. */
struct dns_record {
	enum dns_section section;
	uint16_t type;
	uint32_t ttl;
	const char *owner;   /* as dns_query.name */
	const char *target;  /* of CNAME, DNAME, NS; else NULL */
	const uint8_t *addr; /* of A (v4-mapped) and AAAA, 16 bytes; else NULL */
};

struct dns_answer {
	uint8_t rcode;
	bool truncated;
};

/*
 * Shows each record of the answer to @q, in order. 0; -EBADMSG: it is none, or malformed;
 * then records may have been shown.
 */
MUST_CHECK int dns_answer_parse(struct slice msg, const struct dns_query *q,
				void (*each)(void *ctx, const struct dns_record *r), void *ctx,
				struct dns_answer *ret);

/* "A", "AAAA", ... or "TYPE12345" in @dst of 16 bytes. */
const char *dns_type_name(uint16_t type, char dst[16]);
const char *dns_rcode_name(uint8_t rcode);

/*
 * @pattern, a host name or `*.` and one, covers @name: each in lower case. The star stands for
 * one label or more.
 */
bool dns_name_covered(const char *pattern, const char *name);

#endif
