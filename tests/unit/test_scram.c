/* SPDX-License-Identifier: MIT */
/* The client's half of SCRAM-SHA-256, and PostgreSQL's MD5. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "ident/b64.h"
#include "ident/pgmd5.h"
#include "ident/scram.h"

/* RFC 7677 section 3. */
#define C_NONCE "rOprNGfwEbeRWgbNEkqO"
#define S_NONCE C_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define FIRST	"n=user,r=" C_NONCE
#define SERVER	"r=" S_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define FINAL	"c=biws,r=" S_NONCE

static void test_rfc7677(void **state)
{
	uint8_t key[SCRAM_KEY], proof[SCRAM_KEY], signature[SCRAM_KEY];
	char text[B64_TEXT(SCRAM_KEY)];
	struct scram_salt s;

	assert_int_equal(scram_check(SLICE_LIT(FIRST), SLICE_LIT(SERVER), SLICE_LIT(FINAL), &s), 0);
	assert_int_equal(s.iterations, 4096);
	assert_int_equal(s.salt_bytes, 16);
	assert_int_equal(scram_salted(SLICE_LIT("pencil"), &s, key), 0);
	assert_int_equal(scram_answer(key, SLICE_LIT(FIRST), SLICE_LIT(SERVER), SLICE_LIT(FINAL),
				      proof, signature),
			 0);
	(void)b64_encode(slice_of(proof, sizeof(proof)), text);
	assert_string_equal(text, "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
	(void)b64_encode(slice_of(signature, sizeof(signature)), text);
	assert_string_equal(text, "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

static void test_messages(void **state)
{
	static const struct {
		const char *name, *first, *server, *final;
		int err;
	} rows[] = {
		{"good", FIRST, SERVER, FINAL, 0},
		{"PostgreSQL's empty name", "n=,r=" C_NONCE, SERVER, FINAL, 0},
		{"optional extension", FIRST, SERVER ",x=1", FINAL, 0},
		{"could be bound", FIRST, SERVER, "c=eSws,r=" S_NONCE, 0},
		{"channel binding", FIRST, SERVER,
		 "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCws"
		 "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=,r=" S_NONCE, 0},
		{"bound to nothing", FIRST, SERVER, "c=cD10bHMtc2VydmVyLWVuZC1wb2ludCws,r=" S_NONCE,
		 -EBADMSG},
		{"another channel", FIRST, SERVER,
		 "c=cD10bHMtdW5pcXVlLCwxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0,r=" S_NONCE, -EBADMSG},
		{"no header", FIRST, SERVER, "c=QUFB,r=" S_NONCE, -EBADMSG},
		{"header for another", FIRST, SERVER, "c=bixhPXUs,r=" S_NONCE, -EBADMSG},
		{"mandatory extension", FIRST, "m=x," SERVER, FINAL, -EBADMSG},
		{"server without nonce", FIRST, "s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", FINAL,
		 -EBADMSG},
		{"server adds nothing", FIRST, "r=" C_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		 "c=biws,r=" C_NONCE, -EBADMSG},
		{"server has another nonce", FIRST, "r=xOpr,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
		 "c=biws,r=xOpr", -EBADMSG},
		{"final has another nonce", FIRST, SERVER, "c=biws,r=" S_NONCE "x", -EBADMSG},
		{"final with a proof already", FIRST, SERVER, FINAL ",p=AAAA", -EBADMSG},
		{"final without binding", FIRST, SERVER, "r=" S_NONCE, -EBADMSG},
		{"first without nonce", "n=user", SERVER, FINAL, -EBADMSG},
		{"first with an empty nonce", "n=user,r=", SERVER, FINAL, -EBADMSG},
		{"first with more behind it", FIRST ",x=1", SERVER, FINAL, -EBADMSG},
		{"gs2 header in front", "n,," FIRST, SERVER, FINAL, -EBADMSG},
		{"no salt", FIRST, "r=" S_NONCE ",i=4096", FINAL, -EBADMSG},
		{"empty salt", FIRST, "r=" S_NONCE ",s=,i=4096", FINAL, -EBADMSG},
		{"bad salt", FIRST, "r=" S_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ,i=4096", FINAL,
		 -EBADMSG},
		{"no count", FIRST, "r=" S_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==", FINAL, -EBADMSG},
		{"count no number", FIRST, "r=" S_NONCE ",s=AAAA,i=4096x", FINAL, -EBADMSG},
		{"negative count", FIRST, "r=" S_NONCE ",s=AAAA,i=-1", FINAL, -EBADMSG},
		{"count too low", FIRST, "r=" S_NONCE ",s=AAAA,i=4095", FINAL, -ERANGE},
		{"count too high", FIRST, "r=" S_NONCE ",s=AAAA,i=1000001", FINAL, -ERANGE},
		{"count at the limit", FIRST, "r=" S_NONCE ",s=AAAA,i=1000000", FINAL, 0},
		{"space in the nonce", "n=,r=a b", "r=a b!,s=AAAA,i=4096", "c=biws,r=a b!",
		 -EBADMSG},
		{"nothing", "", "", "", -EBADMSG},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct scram_salt s;
		int err = scram_check(slice_str(rows[i].first), slice_str(rows[i].server),
				      slice_str(rows[i].final), &s);

		if (err != rows[i].err)
			fail_msg("%s: %d", rows[i].name, err);
	}
}

static void test_passwords(void **state)
{
	static const struct {
		const char *password;
		int err;
	} rows[] = {
		{"pencil", 0},
		{" with space~", 0},
		{"tab\tand bell\a", 0},
		{"gr\xc3\xbc\xc3\x9f", -EOPNOTSUPP},
		{"\xe2\x85\xa8", -EOPNOTSUPP}, /* would become "IX" */
		{"latin1 gr\xfc\xdf", 0},      /* no UTF-8: raw */
		{"\xc3\xbc then \xff", 0},
	};
	struct scram_salt s = {.salt = "salt", .salt_bytes = 4, .iterations = 4096};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t key[SCRAM_KEY];

		if (scram_salted(slice_str(rows[i].password), &s, key) != rows[i].err)
			fail_msg("\"%s\"", rows[i].password);
	}
}

/* Computed with another implementation; PostgreSQL takes it as it is. */
static void test_verifier(void **state)
{
	char text[SCRAM_VERIFIER_TEXT];

	assert_int_equal(scram_verifier(SLICE_LIT("pencil"), (const uint8_t *)"0123456789abcdef", text),
			 0);
	assert_string_equal(text, "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$nQpbZ77WudtqufPwikHXGRt6g2"
				  "QJ4zns8bZLw273DRM=:jn2amWP1q1h+jgjy0YTO14S6/F02SV7taipOeB7ef20=");
	assert_int_equal(scram_verifier(SLICE_LIT("gr\xc3\xbcn"), (const uint8_t *)"0123456789abcdef",
					text), -EOPNOTSUPP);
}

/* The value is PostgreSQL's own formula, computed with another implementation. */
static void test_md5(void **state)
{
	static const uint8_t salt[PGMD5_SALT] = {1, 2, 3, 0xff};
	char text[PGMD5_TEXT];

	assert_int_equal(pgmd5_response(SLICE_LIT("pencil"), SLICE_LIT("user"), salt, text), 0);
	assert_string_equal(text, "md5673c3af101952f37135f47d3103c8b04");
	assert_int_equal(pgmd5_response(SLICE_LIT("penci"), SLICE_LIT("luser"), salt, text), 0);
	assert_string_equal(text, "md5673c3af101952f37135f47d3103c8b04");
	assert_int_equal(pgmd5_response(SLICE_LIT("pencil"), SLICE_LIT("other"), salt, text), 0);
	assert_string_not_equal(text, "md5673c3af101952f37135f47d3103c8b04");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rfc7677),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_passwords),
		cmocka_unit_test(test_verifier),
		cmocka_unit_test(test_md5),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
