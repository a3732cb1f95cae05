/* SPDX-License-Identifier: MIT */
/*
 * The input is a question, or with a first byte of 'A' an answer to the question in it. What is
 * accepted as a question means the same after it was written and read again; what is shown of an
 * answer lies inside bounds, and the same bytes show the same records.
 */
#include "base/compiler.h"
#include "net/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
	unsigned records;
	uint64_t sum;
};

static void on_record(void *ctx, const struct dns_record *r)
{
	struct seen *s = ctx;

	BUG_ON(r->section > DNS_ADDITIONAL || r->ttl > INT32_MAX);
	BUG_ON(strlen(r->owner) >= DNS_TEXT || !r->owner[0]);
	BUG_ON(r->target && (strlen(r->target) >= DNS_TEXT || !r->target[0]));
	BUG_ON(r->addr && r->type != DNS_T_A && r->type != DNS_T_AAAA);
	BUG_ON(r->type == DNS_T_CNAME && !r->target);
	s->records++;
	s->sum = s->sum * 31 + r->type + r->ttl + strlen(r->owner);
	for (int i = 0; r->addr && i < 16; i++)
		s->sum = s->sum * 31 + r->addr[i];
}

static void question(struct slice in)
{
	uint8_t msg[DNS_QUERY_MAX], rcode = 0;
	struct dns_query q, again;
	int rc = dns_query_parse(in, &q, &rcode);
	size_t n;

	if (rc) {
		n = dns_reply_write(&q, rcode, false, msg);
		BUG_ON(n > sizeof(msg));
		return;
	}
	n = dns_query_write(&q, msg);
	BUG_ON(n > sizeof(msg));
	BUG_ON(dns_query_parse(slice_of(msg, n), &again, &rcode));
	BUG_ON(strcmp(q.name, again.name) != 0 || q.type != again.type || q.id != again.id);
	BUG_ON(q.edns != again.edns || q.dnssec_ok != again.dnssec_ok || q.rd != again.rd);
	(void)dns_name_covered("*.db.internal", q.name);
}

/* The question is the one that the answer says it is for. */
static void answer(struct slice in)
{
	struct seen first = {0}, second = {0};
	uint8_t copy[1024], rcode = 0;
	struct dns_answer a, b;
	struct dns_query q;
	int rc;

	if (in.n < DNS_HEAD)
		return;
	/* Made a bare question of: the flags, and the counts of what follows it. */
	memcpy(copy, in.p, in.n < sizeof(copy) ? in.n : sizeof(copy));
	memset(copy + 2, 0, 2);
	memset(copy + 6, 0, 6);
	for (size_t n = DNS_HEAD + 5; n <= in.n && n <= sizeof(copy); n++) {
		if (dns_query_parse(slice_of(copy, n), &q, &rcode))
			continue;
		rc = dns_answer_parse(in, &q, on_record, &first, &a);
		BUG_ON(rc != dns_answer_parse(in, &q, on_record, &second, &b));
		BUG_ON(first.records != second.records || first.sum != second.sum);
		if (!rc)
			BUG_ON(a.rcode != b.rcode || a.truncated != b.truncated);
		return;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size && data[0] == 'A')
		answer(slice_of(data + 1, size - 1));
	else
		question(slice_of(data, size));
	return 0;
}
