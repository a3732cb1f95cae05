/* SPDX-License-Identifier: MIT */
/* Messages of the name system: what is read, what is refused, what is written. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "guard.h"
#include "net/dns.h"

#define BYTES(s) {.p = (const uint8_t *)(s), .n = sizeof(s) - 1}

static const struct query_row {
	const char *what;
	struct slice in;
	int rc;
	uint8_t rcode;
	const char *name;
	uint16_t type, udp;
} queries[] = {
	{"A", BYTES("\x12\x34\1\0\0\1\0\0\0\0\0\0\2DB\10internal\0\0\1\0\1"), 0, 0, "db.internal", 1, 512},
	{"root, NS", BYTES("\0\0\0\0\0\1\0\0\0\0\0\0\0\0\2\0\1"), 0, 0, ".", 2, 512},
	{"EDNS", BYTES("\0\0\1\0\0\1\0\0\0\0\0\1\1x\0\0\34\0\1\0\0\51\x10\0\0\0\x80\0\0\0"), 0, 0, "x", 28, 4096},
	{"EDNS with a cookie",
	 BYTES("\0\0\1\0\0\1\0\0\0\0\0\1\1x\0\0\34\0\1\0\0\51\0\1\0\0\0\0\0\4\0\12\0\0"), 0, 0, "x", 28, 512},
	{"odd octets", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\3a.b\1\0\0\0\1\0\1"), 0, 0, "a\\046b.\\000", 1, 512},
	{"nothing", BYTES(""), -ENOMSG, 0, NULL, 0, 0},
	{"short head", BYTES("\0\0\1\0\0\1\0\0\0\0\0"), -ENOMSG, 0, NULL, 0, 0},
	{"an answer", BYTES("\0\0\x81\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1"), -ENOMSG, 0, NULL, 0, 0},
	{"opcode", BYTES("\0\0\x29\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1"), -EBADMSG, DNS_NOTIMP, NULL, 0, 0},
	{"no question", BYTES("\0\0\1\0\0\0\0\0\0\0\0\0"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"two questions", BYTES("\0\0\1\0\0\2\0\0\0\0\0\0\1x\0\0\1\0\1\1x\0\0\1\0\1"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"truncated flag", BYTES("\0\0\3\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"left over", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\1x\0\0\1\0\1!"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"no class", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\1x\0\0\1\0"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"name without end", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\1x"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"long label", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\100x\0\0\1\0\1"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"compressed", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"class CH", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\1x\0\0\20\0\3"), -EBADMSG, DNS_REFUSED, NULL, 0, 0},
	{"another record", BYTES("\0\0\1\0\0\1\0\0\0\0\0\1\1x\0\0\1\0\1\0\0\372\0\1\0\0\0\0\0\0"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"EDNS 1", BYTES("\0\0\1\0\0\1\0\0\0\0\0\1\1x\0\0\1\0\1\0\0\51\x10\0\0\1\0\0\0\0"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
	{"answers in it", BYTES("\0\0\1\0\0\1\0\1\0\0\0\0\1x\0\0\1\0\1"), -EBADMSG, DNS_FORMERR, NULL, 0, 0},
};

static void test_queries(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(queries); i++) {
		const struct query_row *r = &queries[i];
		struct dns_query q;
		uint8_t rcode = 0;
		void *g;
		int rc = dns_query_parse(slice_of(guard_copy(r->in, &g), r->in.n), &q, &rcode);

		guard_free(g);
		if (rc != r->rc || rcode != r->rcode)
			fail_msg("%s: %d, rcode %u", r->what, rc, rcode);
		if (rc)
			continue;
		assert_string_equal(q.name, r->name);
		assert_int_equal(q.type, r->type);
		assert_int_equal(q.udp_size, r->udp);
	}
}

/* What is written is what is read. */
static void test_write(void **state)
{
	static const char *const bad[] = {"", ".", "a..b", ".a", "a\\046b",
					  "0123456789012345678901234567890123456789012345678901234567890123"};
	uint8_t msg[DNS_QUERY_MAX], rcode;
	struct dns_query q, again;
	char longest[254];

	memset(longest, 'a', sizeof(longest));
	for (size_t i = 50; i < 253; i += 50)
		longest[i] = '.';
	longest[253] = '\0';
	assert_int_equal(dns_query_make("DB.Internal.", DNS_T_AAAA, &q), 0);
	assert_string_equal(q.name, "db.internal");
	q.id = 4711;
	assert_int_equal(dns_query_parse(slice_of(msg, dns_query_write(&q, msg)), &again, &rcode), 0);
	assert_string_equal(again.name, q.name);
	assert_int_equal(again.id, 4711);
	assert_true(again.edns && again.rd && again.udp_size == DNS_UDP_OURS);
	assert_int_equal(dns_query_make(longest, DNS_T_A, &q), 0);
	assert_int_equal(q.nwire, 255);
	assert_true(dns_query_write(&q, msg) <= sizeof(msg));
	longest[252] = '.';
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(dns_query_make(bad[i], DNS_T_A, &q), -EINVAL);
}

static void count(void *ctx, const struct dns_record *r)
{
	char *text = ctx;
	size_t n = strlen(text);

	(void)snprintf(text + n, 400 - n, "%d:%s:%u:%u", r->section, r->owner, r->type, r->ttl);
	n = strlen(text);
	if (r->target)
		(void)snprintf(text + n, 400 - n, "=%s", r->target);
	else if (r->addr)
		(void)snprintf(text + n, 400 - n, "=%u.%u", r->addr[12], r->addr[15]);
	(void)snprintf(text + strlen(text), 400 - strlen(text), " ");
}

#define HEAD(an, ns, ar) "\0\0\x81\x80\0\1\0" an "\0" ns "\0" ar "\2db\10internal\0\0\1\0\1"
#define RR_A		 "\xc0\x0c\0\1\0\1\0\0\0\74\0\4\12\0\0\5"

static const struct answer_row {
	const char *what;
	struct slice in;
	int rc;
	const char *records;
} answers[] = {
	{"one address", BYTES(HEAD("\1", "\0", "\0") RR_A), 0, "0:db.internal:1:60=10.5 "},
	{"a chain",
	 BYTES(HEAD("\2", "\0", "\0") "\xc0\x0c\0\5\0\1\0\0\0\1\0\4\1x\xc0\x0f"
				      "\xc0\x29\0\1\0\1\0\0\0\2\0\4\12\0\0\6"),
	 0, "0:db.internal:5:1=x.internal 0:x.internal:1:2=10.6 "},
	{"sections", BYTES(HEAD("\0", "\1", "\1") "\0\0\2\0\1\0\0\0\0\0\1\0" RR_A), 0,
	 "1:.:2:0=. 2:db.internal:1:60=10.5 "},
	{"OPT", BYTES(HEAD("\0", "\0", "\1") "\0\0\51\4\320\0\0\0\0\0\0"), 0, ""},
	{"negative TTL", BYTES(HEAD("\1", "\0", "\0") "\xc0\x0c\0\1\0\1\xff\0\0\0\0\4\12\0\0\5"), 0,
	 "0:db.internal:1:0=10.5 "},
	{"another class", BYTES(HEAD("\1", "\0", "\0") "\xc0\x0c\0\1\0\3\0\0\0\0\0\1\12"), 0,
	 "0:db.internal:1:0 "},
	{"a query", BYTES("\0\0\1\0\0\1\0\0\0\0\0\0\2db\10internal\0\0\1\0\1"), -EBADMSG, NULL},
	{"another question", BYTES("\0\0\x81\x80\0\1\0\0\0\0\0\0\2dc\10internal\0\0\1\0\1"), -EBADMSG, NULL},
	{"another type", BYTES("\0\0\x81\x80\0\1\0\0\0\0\0\0\2db\10internal\0\0\34\0\1"), -EBADMSG, NULL},
	{"short address", BYTES(HEAD("\1", "\0", "\0") "\xc0\x0c\0\1\0\1\0\0\0\74\0\3\12\0\0"), -EBADMSG, NULL},
	{"long data", BYTES(HEAD("\1", "\0", "\0") "\xc0\x0c\0\20\0\1\0\0\0\74\0\5\12\0\0"), -EBADMSG, NULL},
	{"fewer records", BYTES(HEAD("\2", "\0", "\0") RR_A), -EBADMSG, NULL},
	{"left over", BYTES(HEAD("\1", "\0", "\0") RR_A "!"), -EBADMSG, NULL},
	{"points to itself", BYTES(HEAD("\1", "\0", "\0") "\xc0\x1d\0\1\0\1\0\0\0\74\0\4\12\0\0\5"), -EBADMSG, NULL},
	{"points forward", BYTES(HEAD("\1", "\0", "\0") "\xc0\x2d\0\1\0\1\0\0\0\74\0\4\12\0\0\5"), -EBADMSG, NULL},
	{"points into the head", BYTES(HEAD("\1", "\0", "\0") "\xc0\4\0\1\0\1\0\0\0\74\0\4\12\0\0\5"), -EBADMSG, NULL},
	{"CNAME with more", BYTES(HEAD("\1", "\0", "\0") "\xc0\x0c\0\5\0\1\0\0\0\1\0\5\1x\xc0\x0f!"), -EBADMSG, NULL},
	{"half a pointer", BYTES(HEAD("\1", "\0", "\0") "\xc0"), -EBADMSG, NULL},
};

static void test_answers(void **state)
{
	struct dns_query q;

	assert_int_equal(dns_query_make("db.internal", DNS_T_A, &q), 0);
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		const struct answer_row *r = &answers[i];
		char text[400] = "";
		struct dns_answer a;
		void *g;
		int rc = dns_answer_parse(slice_of(guard_copy(r->in, &g), r->in.n), &q, count, text, &a);

		guard_free(g);
		if (rc != r->rc || (!rc && strcmp(text, r->records) != 0))
			fail_msg("%s: %d, \"%s\"", r->what, rc, text);
	}
}

/* Each byte that is missing at the end makes a message bad, none makes it crash. */
static void test_cuts(void **state)
{
	struct slice whole = answers[1].in;
	struct dns_query q;

	assert_int_equal(dns_query_make("db.internal", DNS_T_A, &q), 0);
	for (size_t n = 0; n < whole.n; n++) {
		char text[400] = "";
		struct dns_answer a;
		void *g;

		assert_int_equal(dns_answer_parse(slice_of(guard_copy(slice_of(whole.p, n), &g), n), &q,
						  count, text, &a),
				 -EBADMSG);
		guard_free(g);
	}
}

static void test_covered(void **state)
{
	static const struct {
		const char *pattern, *name;
		bool covered;
	} rows[] = {
		{"db.internal", "db.internal", true},	    {"db.internal", "x.db.internal", false},
		{"*.db.internal", "x.db.internal", true},   {"*.db.internal", "x.y.db.internal", true},
		{"*.db.internal", "db.internal", false},    {"*.db.internal", "xdb.internal", false},
		{"*.db.internal", ".db.internal", false},   {"db.internal", "db.internal.evil", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(dns_name_covered(rows[i].pattern, rows[i].name), rows[i].covered);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_queries), cmocka_unit_test(test_write),
		cmocka_unit_test(test_answers), cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_covered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
