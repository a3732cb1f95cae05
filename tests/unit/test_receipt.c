/* SPDX-License-Identifier: MIT */
#include "record/receipt.h"

#include <openssl/pem.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

struct keyring {
	EVP_PKEY *key;
	char name[RECEIPT_KEY_NAME];
};

static EVP_PKEY *find(void *ctx, const char *name)
{
	struct keyring *k = ctx;

	return strcmp(name, k->name) == 0 ? k->key : NULL;
}

static void make(struct keyring *k)
{
	k->key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	assert_non_null(k->key);
	assert_int_equal(receipt_key_name(k->key, k->name), 0);
}

static json_t *signed_text(const struct keyring *k, const char *body)
{
	uint8_t sig[RECEIPT_SIG];
	char *text;
	json_t *o;

	assert_int_equal(receipt_sign(k->key, slice_str(body), sig), 0);
	text = receipt_text(slice_str(body), k->name, sig);
	assert_non_null(text);
	o = json_loads(text, 0, NULL);
	assert_non_null(o);
	free(text);
	return o;
}

static void test_open(void **state)
{
	static const char body[] = "{\"receipt\":1,\"by\":\"a \\\"b\\\" \xc3\xa4\"}";
	struct keyring k;
	const char *why = NULL;
	json_t *o, *said;

	make(&k);
	o = signed_text(&k, body);
	said = receipt_open(o, find, &k, &why);
	assert_non_null(said);
	assert_null(why);
	assert_string_equal(json_string_value(json_object_get(said, "by")), "a \"b\" \xc3\xa4");
	json_decref(said);
	json_decref(o);
	EVP_PKEY_free(k.key);
}

/* Each changes one member of a good receipt. */
static void test_refused(void **state)
{
	static const struct {
		const char *member;
		const char *value; /* NULL: taken away */
		const char *why;
	} rows[] = {
		{"body", "{\"receipt\":1,\"by\":\"b\"}", "is not what was signed"},
		{"body", "", "is not what was signed"},
		{"body", NULL, "is none: body, key and sig are missing or of no use"},
		{"key", "00000000000000000000000000000000", "is signed with another key"},
		{"key", NULL, "is none: body, key and sig are missing or of no use"},
		{"sig", "", "is none: body, key and sig are missing or of no use"},
		{"sig", "zz", "is none: body, key and sig are missing or of no use"},
		{"sig", NULL, "is none: body, key and sig are missing or of no use"},
	};
	struct keyring k;

	make(&k);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *o = signed_text(&k, "{\"receipt\":1,\"by\":\"a\"}");
		const char *why = NULL;

		if (rows[i].value)
			json_object_set_new(o, rows[i].member, json_string(rows[i].value));
		else
			json_object_del(o, rows[i].member);
		assert_null(receipt_open(o, find, &k, &why));
		assert_string_equal(why, rows[i].why);
		json_decref(o);
	}
	EVP_PKEY_free(k.key);
}

static void test_signed_nonsense(void **state)
{
	static const char *const bodies[] = {"x", "[]", "{\"a\":1,\"a\":2}", "{} {}"};
	struct keyring k;

	make(&k);
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		json_t *o = signed_text(&k, bodies[i]);
		const char *why = NULL;

		assert_null(receipt_open(o, find, &k, &why));
		assert_string_equal(why, "says nothing that can be read");
		json_decref(o);
	}
	EVP_PKEY_free(k.key);
}

/* A bit of the signature, each: none is ignored. */
static void test_every_bit_counts(void **state)
{
	static const char body[] = "{\"receipt\":1}";
	uint8_t sig[RECEIPT_SIG];
	struct keyring k;

	make(&k);
	assert_int_equal(receipt_sign(k.key, slice_str(body), sig), 0);
	for (unsigned bit = 0; bit < 8 * RECEIPT_SIG; bit++) {
		const char *why = NULL;
		char *text;
		json_t *o;

		sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
		text = receipt_text(slice_str(body), k.name, sig);
		o = json_loads(text, 0, NULL);
		assert_null(receipt_open(o, find, &k, &why));
		json_decref(o);
		free(text);
		sig[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	EVP_PKEY_free(k.key);
}

static void test_other_kinds_of_keys(void **state)
{
	EVP_PKEY *ec = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	BIO *bio = BIO_new(BIO_s_mem());
	char name[RECEIPT_KEY_NAME], *pem;
	long n;

	assert_int_not_equal(receipt_key_name(ec, name), 0);
	assert_int_equal(PEM_write_bio_PUBKEY(bio, ec), 1);
	n = BIO_get_mem_data(bio, &pem);
	assert_null(receipt_key_parse(slice_of(pem, (size_t)n)));
	assert_null(receipt_key_parse(slice_str("-----BEGIN PUBLIC KEY-----\n")));
	assert_null(receipt_key_parse(slice_str("")));
	BIO_free(bio);
	EVP_PKEY_free(ec);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_signed_nonsense),
		cmocka_unit_test(test_every_bit_counts),
		cmocka_unit_test(test_other_kinds_of_keys),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
