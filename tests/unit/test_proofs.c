/* SPDX-License-Identifier: MIT */
/* A good signature proves what it is about, once. */
#include "ctl/proofs.h"

#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/text.h"
#include "record/receipt.h"
#include "tidegate_rec.h"

#define DIGEST "00000000000000000000000000000000000000000000000000000000000000aa"

struct made {
	EVP_PKEY *key;
	char name[RECEIPT_KEY_NAME], path[64];
	struct proofs *p;
};

static void make(struct made *m)
{
	FILE *f;
	int fd;

	m->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_non_null(m->key);
	assert_int_equal(receipt_key_name(m->key, m->name), 0);
	(void)snprintf(m->path, sizeof(m->path), "/tmp/tidegate-proofs-XXXXXX");
	fd = mkstemp(m->path);
	assert_true(fd >= 0);
	f = fdopen(fd, "w");
	assert_int_equal(PEM_write_PUBKEY(f, m->key), 1);
	(void)fclose(f);
	assert_int_equal(proofs_new(m->path, "x", &m->p), 0);
}

static const char *give(struct made *m, enum tg_rec_type type, const char *text)
{
	struct reader_record r = {.type = type};
	char head[512];

	(void)snprintf(head, sizeof(head), "%.8s%s", "????????", text);
	memcpy(head, TG_REC_MAGIC, TG_REC_MAGIC_BYTES);
	r.payload = type == TG_REC_HEADER ? slice_of(head, TG_REC_MAGIC_BYTES + strlen(text))
					  : slice_str(text);
	return proofs_record(m->p, &r);
}

/* A decision of statement @seq with the receipt of @request. */
static const char *decide(struct made *m, int seq, const char *request, const char *session)
{
	char body[512], text[2048], *receipt;
	uint8_t sig[RECEIPT_SIG];
	const char *why;

	(void)snprintf(body, sizeof(body),
		       "{\"receipt\":1,\"what\":\"statement\",\"decision\":\"allow\",\"by\":\"boss\","
		       "\"request\":\"%s\",\"agent\":\"bot\",\"target\":\"shop\",\"session\":\"%s\","
		       "\"statement_sha256\":\"" DIGEST "\"}", request, session);
	assert_int_equal(receipt_sign(m->key, slice_str(body), sig), 0);
	receipt = receipt_text(slice_str(body), m->name, sig);
	(void)snprintf(text, sizeof(text),
		       "{\"what\":\"statement\",\"seq\":%d,\"decision\":\"allow\",\"by\":\"boss\","
		       "\"request\":\"%s\",\"receipt\":%s}", seq, request, receipt);
	free(receipt);
	why = give(m, TG_REC_DECISION, text);
	return why ? why : "";
}

static void command(struct made *m, int seq)
{
	char text[256];

	(void)snprintf(text, sizeof(text), "{\"seq\":%d,\"decision\":\"approve\",\"digest\":\"" DIGEST "\"}",
		       seq);
	assert_null(give(m, TG_REC_COMMAND, text));
}

static void test_once(void **state)
{
	struct made m;

	(void)state;
	make(&m);
	assert_null(give(&m, TG_REC_HEADER, "{\"agent\":\"bot\",\"target\":\"shop\",\"session\":\"s1\"}"));
	command(&m, 3);
	assert_string_equal(decide(&m, 3, "aaaa", "s1"), "");
	command(&m, 5);
	assert_string_equal(decide(&m, 5, "bbbb", "s1"), "");
	/* The same text once more, with the answer to the first. */
	command(&m, 7);
	assert_string_equal(decide(&m, 7, "aaaa", "s1"), "was there before, for another execution");
	assert_string_equal(decide(&m, 7, "cccc", "s2"), "is of another session");
	assert_string_equal(decide(&m, 9, "dddd", "s1"), "is of another statement");
	assert_int_equal(proofs_counts(m.p).good, 2);
	assert_int_equal(proofs_counts(m.p).bad, 3);
	proofs_free(m.p);
	(void)unlink(m.path);
	EVP_PKEY_free(m.key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
