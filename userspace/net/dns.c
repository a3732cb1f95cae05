/* SPDX-License-Identifier: MIT */
#include "net/dns.h"

#include <errno.h>
#include <stdio.h>

#include "base/cursor.h"

enum {
	F_QR = 0x8000,
	F_OPCODE = 0x7800,
	F_TC = 0x0200,
	F_RD = 0x0100,
	F_RA = 0x0080,
	F_AD = 0x0020,
	F_CD = 0x0010,
	F_RCODE = 0x000f,
	CLASS_IN = 1,
	LABEL_MAX = 63,
	POINTER = 0xc0,
	EDNS_DO = 0x8000,
	RECORDS_MAX = 4096,
};

/* ---------------------------------------------------------------- names */

static char *put_octet(char *dst, uint8_t c)
{
	if (c >= 'A' && c <= 'Z')
		c = (uint8_t)(c + 'a' - 'A');
	if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '*') {
		*dst++ = (char)c;
		return dst;
	}
	*dst++ = '\\';
	*dst++ = (char)('0' + c / 100);
	*dst++ = (char)('0' + c / 10 % 10);
	*dst++ = (char)('0' + c % 10);
	return dst;
}

/* Where a compressed name goes on; false: not backwards, or not there. */
static bool follow(struct slice msg, size_t *pos, size_t *floor)
{
	size_t to;

	if (msg.n - *pos < 2)
		return false;
	to = load_be16(msg.p + *pos) & 0x3fff;
	/* RFC 1035 4.1.4: a prior occurrence. Ever further back, so it ends. */
	if (to >= *floor || to < DNS_HEAD)
		return false;
	*floor = to;
	*pos = to;
	return true;
}

/* The name at *pos, which is moved behind it, into @text of DNS_TEXT bytes. */
static bool read_name(struct slice msg, size_t *pos, bool compressed, char *text)
{
	size_t at = *pos, floor = *pos, octets = 1, end = 0;
	char *t = text;

	for (;;) {
		uint8_t n;

		if (at >= msg.n)
			return false;
		n = msg.p[at];
		if ((n & POINTER) == POINTER) {
			if (!compressed)
				return false;
			if (!end)
				end = at + 2;
			if (!follow(msg, &at, &floor))
				return false;
			continue;
		}
		if (n > LABEL_MAX || n > msg.n - at - 1)
			return false;
		at++;
		if (n == 0)
			break;
		octets += 1u + n;
		if (octets > DNS_WIRE_NAME)
			return false;
		if (t != text)
			*t++ = '.';
		for (uint8_t i = 0; i < n; i++)
			t = put_octet(t, msg.p[at + i]);
		at += n;
	}
	if (t == text)
		*t++ = '.';
	*t = '\0';
	*pos = end ? end : at;
	return true;
}

bool dns_name_covered(const char *pattern, const char *name)
{
	size_t n, p;

	if (strncmp(pattern, "*.", 2) != 0)
		return strcmp(pattern, name) == 0;
	pattern++;
	n = strlen(name);
	p = strlen(pattern);
	return n > p && strcmp(name + n - p, pattern) == 0;
}

/* --------------------------------------------------------------- queries */

/* OPT is the only record that a question may bring along (RFC 6891 6.1.1). */
static bool read_opt(struct cursor *c, struct dns_query *q)
{
	uint16_t type, size, rdlen;
	uint32_t ttl;

	if (cur_u8(c) != 0)
		return false;
	type = cur_be16(c);
	size = cur_be16(c);
	ttl = cur_be32(c);
	rdlen = cur_be16(c);
	(void)cur_take(c, rdlen);
	if (c->bad || type != DNS_T_OPT || (ttl & 0x00ff0000))
		return false;
	q->edns = true;
	q->dnssec_ok = ttl & EDNS_DO;
	q->udp_size = size > DNS_UDP_MIN ? size : DNS_UDP_MIN;
	return true;
}

static int bad(uint8_t *ret_rcode, uint8_t rcode)
{
	*ret_rcode = rcode;
	return -EBADMSG;
}

int dns_query_parse(struct slice msg, struct dns_query *ret, uint8_t *ret_rcode)
{
	size_t pos = DNS_HEAD;
	uint16_t flags, extra, klass;
	struct cursor c;

	memset(ret, 0, sizeof(*ret));
	ret->udp_size = DNS_UDP_MIN;
	if (msg.n < DNS_HEAD)
		return -ENOMSG;
	flags = load_be16(msg.p + 2);
	extra = load_be16(msg.p + 10);
	if (flags & F_QR)
		return -ENOMSG;
	ret->id = load_be16(msg.p);
	ret->rd = flags & F_RD;
	ret->cd = flags & F_CD;
	ret->ad = flags & F_AD;
	if (flags & F_OPCODE)
		return bad(ret_rcode, DNS_NOTIMP);
	if ((flags & F_TC) || load_be16(msg.p + 4) != 1 || load_be32(msg.p + 6) || extra > 1 ||
	    !read_name(msg, &pos, false, ret->name))
		return bad(ret_rcode, DNS_FORMERR);
	c = cur_of(slice_from(msg, pos));
	ret->type = cur_be16(&c);
	klass = cur_be16(&c);
	if (c.bad)
		return bad(ret_rcode, DNS_FORMERR);
	ret->nwire = (uint8_t)(pos - DNS_HEAD);
	memcpy(ret->wire, msg.p + DNS_HEAD, ret->nwire);
	if ((extra && !read_opt(&c, ret)) || !cur_end(&c))
		return bad(ret_rcode, DNS_FORMERR);
	if (klass != CLASS_IN)
		return bad(ret_rcode, DNS_REFUSED);
	return 0;
}

int dns_query_make(const char *name, uint16_t type, struct dns_query *ret)
{
	size_t n = strlen(name), used = 0;

	memset(ret, 0, sizeof(*ret));
	if (n > 0 && name[n - 1] == '.')
		n--;
	if (n == 0 || n > DNS_WIRE_NAME - 2 || strchr(name, '\\'))
		return -EINVAL;
	for (size_t i = 0; i <= n;) {
		size_t label = strcspn(name + i, ".");

		label = label < n - i ? label : n - i;
		if (label == 0 || label > LABEL_MAX)
			return -EINVAL;
		ret->wire[used++] = (uint8_t)label;
		memcpy(ret->wire + used, name + i, label);
		used += label;
		i += label + 1;
	}
	ret->wire[used++] = 0;
	ret->nwire = (uint8_t)used;
	ret->type = type;
	ret->rd = ret->edns = true;
	ret->udp_size = DNS_UDP_OURS;
	used = 0;
	return read_name(slice_of(ret->wire, ret->nwire), &used, false, ret->name) ? 0 : -EINVAL;
}

/* Head and question. */
static size_t put_head(const struct dns_query *q, uint16_t flags, uint8_t *dst)
{
	memset(dst, 0, DNS_HEAD);
	store_be16(dst, q->id);
	store_be16(dst + 2, flags | (q->rd ? F_RD : 0) | (q->cd ? F_CD : 0));
	if (!q->nwire)
		return DNS_HEAD;
	store_be16(dst + 4, 1);
	memcpy(dst + DNS_HEAD, q->wire, q->nwire);
	store_be16(dst + DNS_HEAD + q->nwire, q->type);
	store_be16(dst + DNS_HEAD + q->nwire + 2, CLASS_IN);
	return DNS_HEAD + q->nwire + 4u;
}

size_t dns_query_write(const struct dns_query *q, uint8_t *dst)
{
	size_t n = put_head(q, q->ad ? F_AD : 0, dst);

	if (!q->edns)
		return n;
	store_be16(dst + 10, 1);
	dst[n] = 0;
	store_be16(dst + n + 1, DNS_T_OPT);
	store_be16(dst + n + 3, DNS_UDP_OURS);
	store_be32(dst + n + 5, q->dnssec_ok ? EDNS_DO : 0);
	store_be16(dst + n + 9, 0);
	return n + 11;
}

size_t dns_reply_write(const struct dns_query *q, uint8_t rcode, bool truncated, uint8_t *dst)
{
	return put_head(q, (uint16_t)(F_QR | F_RA | (truncated ? F_TC : 0) | (rcode & F_RCODE)), dst);
}

/* --------------------------------------------------------------- answers */

static bool same_question(struct slice msg, size_t *pos, const struct dns_query *q)
{
	char name[DNS_TEXT];

	if (!read_name(msg, pos, false, name) || strcmp(name, q->name) != 0 || msg.n - *pos < 4)
		return false;
	if (load_be16(msg.p + *pos) != q->type || load_be16(msg.p + *pos + 2) != CLASS_IN)
		return false;
	*pos += 4;
	return true;
}

/* A name that is all of a record's data. */
static bool read_target(struct slice msg, size_t pos, size_t end, char *text)
{
	return read_name(slice_of(msg.p, end), &pos, true, text) && pos == end;
}

static bool read_record(struct slice msg, size_t *pos, enum dns_section section,
			void (*each)(void *ctx, const struct dns_record *r), void *ctx)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
	struct dns_record r = {.section = section};
	char owner[DNS_TEXT], target[DNS_TEXT];
	uint8_t addr[16];
	uint16_t klass, rdlen;
	struct cursor c;

	if (!read_name(msg, pos, true, owner))
		return false;
	c = cur_of(slice_from(msg, *pos));
	r.owner = owner;
	r.type = cur_be16(&c);
	klass = cur_be16(&c);
	r.ttl = cur_be32(&c);
	rdlen = cur_be16(&c);
	if (c.bad || rdlen > cur_left(&c))
		return false;
	*pos = (size_t)(c.p - msg.p) + rdlen;
	if (r.type == DNS_T_OPT)
		return true;
	/* RFC 2181 8: the sign bit counts as zero. */
	if (r.ttl > INT32_MAX)
		r.ttl = 0;
	if (klass == CLASS_IN && (r.type == DNS_T_A || r.type == DNS_T_AAAA)) {
		if (rdlen != (r.type == DNS_T_A ? 4 : 16))
			return false;
		memcpy(addr, mapped, sizeof(mapped));
		memcpy(r.type == DNS_T_A ? addr + 12 : addr, c.p, rdlen);
		r.addr = addr;
	} else if (r.type == DNS_T_CNAME || r.type == DNS_T_DNAME || r.type == DNS_T_NS) {
		if (!read_target(msg, *pos - rdlen, *pos, target))
			return false;
		r.target = target;
	}
	each(ctx, &r);
	return true;
}

int dns_answer_parse(struct slice msg, const struct dns_query *q,
		     void (*each)(void *ctx, const struct dns_record *r), void *ctx,
		     struct dns_answer *ret)
{
	struct dns_answer a = {0};
	size_t pos = DNS_HEAD;
	uint32_t total = 0;
	uint16_t flags;

	if (msg.n < DNS_HEAD || msg.n > DNS_MESSAGE_MAX)
		return -EBADMSG;
	flags = load_be16(msg.p + 2);
	if (!(flags & F_QR) || (flags & F_OPCODE) || load_be16(msg.p + 4) != 1 ||
	    !same_question(msg, &pos, q))
		return -EBADMSG;
	a.rcode = flags & F_RCODE;
	a.truncated = flags & F_TC;
	for (int s = DNS_ANSWER; s <= DNS_ADDITIONAL; s++) {
		uint16_t n = load_be16(msg.p + 6 + 2 * s);

		total += n;
		if (total > RECORDS_MAX)
			return -EBADMSG;
		for (uint16_t i = 0; i < n; i++)
			if (!read_record(msg, &pos, (enum dns_section)s, each, ctx))
				return -EBADMSG;
	}
	if (pos != msg.n)
		return -EBADMSG;
	*ret = a;
	return 0;
}

/* ----------------------------------------------------------------- words */

const char *dns_type_name(uint16_t type, char dst[16])
{
	static const struct {
		uint16_t type;
		const char *name;
	} names[] = {{DNS_T_A, "A"},	     {DNS_T_NS, "NS"},	     {DNS_T_CNAME, "CNAME"},
		     {6, "SOA"},	     {12, "PTR"},	     {15, "MX"},
		     {16, "TXT"},	     {DNS_T_AAAA, "AAAA"},   {33, "SRV"},
		     {DNS_T_DNAME, "DNAME"}, {DNS_T_SVCB, "SVCB"},   {DNS_T_HTTPS, "HTTPS"},
		     {DNS_T_IXFR, "IXFR"},   {DNS_T_AXFR, "AXFR"},   {DNS_T_ANY, "ANY"}};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].type == type)
			return names[i].name;
	(void)snprintf(dst, 16, "TYPE%u", type);
	return dst;
}

const char *dns_rcode_name(uint8_t rcode)
{
	static const char *const names[] = {"NOERROR",	"FORMERR", "SERVFAIL",
					    "NXDOMAIN", "NOTIMP",  "REFUSED"};

	return rcode < ARRAY_SIZE(names) ? names[rcode] : "OTHER";
}
