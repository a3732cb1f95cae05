/* SPDX-License-Identifier: MIT */
/* TLS client authentication with a key that is elsewhere, and that all other keys stay as they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/ssl.h>

#include "ident/tls_sign.h"
#include "net/far_key.h"

struct holder {
	EVP_PKEY *key;
	int error;
	unsigned calls;
	struct far_ask last;
	uint8_t text[20000]; /* of the last */
};

static int sign(void *ctx, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	struct holder *h = ctx;

	h->calls++;
	h->last = *q;
	assert_true(q->text.n <= sizeof(h->text));
	memcpy(h->text, q->text.p, q->text.n);
	h->last.text.p = h->text;
	return h->error ? h->error : tls_sign(h->key, q, sig, ret_n);
}

static EVP_PKEY *make_key(const char *kind)
{
	return strcmp(kind, "RSA") == 0 ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048)
					: EVP_PKEY_Q_keygen(NULL, NULL, "EC", kind);
}

static X509 *make_cert(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	assert_true(X509_set_version(x, 2));
	assert_true(ASN1_INTEGER_set(X509_get_serialNumber(x), 1));
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), -3600));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 3600));
	assert_true(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"c", -1, -1, 0));
	assert_true(X509_set_issuer_name(x, name));
	assert_true(X509_set_pubkey(x, key));
	assert_true(X509_sign(x, key, EVP_sha256()) > 0);
	return x;
}

static int any(X509_STORE_CTX *c, void *ctx)
{
	return 1;
}

static SSL_CTX *server_ctx(EVP_PKEY *key, X509 *cert)
{
	SSL_CTX *c = SSL_CTX_new(TLS_server_method());

	assert_int_equal(SSL_CTX_use_certificate(c, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(c, key), 1);
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(c, any, NULL);
	return c;
}

/* True if both sides finished; the server has then seen the key's signature. */
static bool shake(SSL_CTX *sc, SSL_CTX *cc, X509 *want)
{
	SSL *s = SSL_new(sc), *c = SSL_new(cc);
	BIO *a, *b;
	bool done;

	assert_true(BIO_new_bio_pair(&a, 65536, &b, 65536));
	SSL_set_bio(s, a, a);
	SSL_set_bio(c, b, b);
	SSL_set_accept_state(s);
	SSL_set_connect_state(c);
	for (int i = 0; i < 20; i++) {
		(void)SSL_do_handshake(c);
		(void)SSL_do_handshake(s);
	}
	done = SSL_is_init_finished(s) && SSL_is_init_finished(c);
	if (done)
		assert_int_equal(X509_cmp(SSL_get0_peer_certificate(s), want), 0);
	SSL_free(s);
	SSL_free(c);
	return done;
}

static void test_handshakes(void **state)
{
	static const struct {
		const char *kind;
		int version;
		enum far_scheme scheme;
		const char *digest;
	} rows[] = {
		{"P-256", TLS1_3_VERSION, FAR_ECDSA, "SHA256"},
		{"P-384", TLS1_3_VERSION, FAR_ECDSA, "SHA384"},
		{"P-521", TLS1_3_VERSION, FAR_ECDSA, "SHA512"},
		{"RSA", TLS1_3_VERSION, FAR_RSA_PSS, "SHA256"},
		{"P-256", TLS1_2_VERSION, FAR_ECDSA, "SHA256"},
		{"RSA", TLS1_2_VERSION, FAR_RSA_PSS, "SHA256"},
	};
	EVP_PKEY *server_key = make_key("P-256");
	X509 *server_cert = make_cert(server_key);
	SSL_CTX *sc = server_ctx(server_key, server_cert);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct holder h = {.key = make_key(rows[i].kind)};
		X509 *cert = make_cert(h.key);
		EVP_PKEY *far = far_key_new(cert, sign, &h);
		SSL_CTX *cc = SSL_CTX_new(TLS_client_method());

		assert_non_null(far);
		assert_int_equal(SSL_CTX_set_max_proto_version(cc, rows[i].version), 1);
		assert_int_equal(SSL_CTX_use_certificate(cc, cert), 1);
		assert_int_equal(SSL_CTX_use_PrivateKey(cc, far), 1);
		assert_int_equal(SSL_CTX_check_private_key(cc), 1);
		EVP_PKEY_free(far);
		assert_true(shake(sc, cc, cert));
		assert_int_equal(h.calls, 1);
		assert_int_equal(h.last.certificate.n, 32);
		assert_int_equal(h.last.scheme, rows[i].scheme);
		assert_string_equal(h.last.digest, rows[i].digest);
		/* Without its holder there is no handshake. */
		h.error = -ENOTCONN;
		assert_false(shake(sc, cc, cert));
		SSL_CTX_free(cc);
		X509_free(cert);
		EVP_PKEY_free(h.key);
	}
	SSL_CTX_free(sc);
	X509_free(server_cert);
	EVP_PKEY_free(server_key);
}

/* An old server that knows PKCS#1 only. */
static void test_pkcs1(void **state)
{
	struct holder h = {.key = make_key("RSA")};
	EVP_PKEY *server_key = make_key("P-256");
	X509 *cert = make_cert(h.key), *server_cert = make_cert(server_key);
	SSL_CTX *sc = server_ctx(server_key, server_cert), *cc = SSL_CTX_new(TLS_client_method());
	EVP_PKEY *far = far_key_new(cert, sign, &h);

	assert_int_equal(SSL_CTX_set_max_proto_version(cc, TLS1_2_VERSION), 1);
	assert_int_equal(SSL_CTX_set1_sigalgs_list(sc, "RSA+SHA384:ECDSA+SHA256"), 1);
	assert_int_equal(SSL_CTX_use_certificate(cc, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(cc, far), 1);
	assert_true(shake(sc, cc, cert));
	assert_int_equal(h.last.scheme, FAR_RSA_PKCS1);
	assert_string_equal(h.last.digest, "SHA384");
	EVP_PKEY_free(far);
	SSL_CTX_free(cc);
	SSL_CTX_free(sc);
	X509_free(cert);
	X509_free(server_cert);
	EVP_PKEY_free(h.key);
	EVP_PKEY_free(server_key);
}

/* What is no TLS client's proof is not signed, in whichever form it comes. */
static void test_other_texts(void **state)
{
	struct holder h = {.key = make_key("P-256")};
	X509 *cert = make_cert(h.key);
	EVP_PKEY *far = far_key_new(cert, sign, &h);
	uint8_t good[64 + 34 + 32], text[sizeof(good)], sig[FAR_SIG_MAX];
	static const struct {
		size_t at;
		uint8_t with;
	} wrong[] = {{0, 'e'}, {63, 'x'}, {64, 't'}, {73, 's'}, {97, 1}};
	EVP_MD_CTX *ctx;
	size_t n;

	memset(good, ' ', 64);
	memcpy(good + 64, "TLS 1.3, client CertificateVerify", 34);
	memset(good + 98, 7, 32);
	for (size_t i = 0; i <= ARRAY_SIZE(wrong); i++) {
		memcpy(text, good, sizeof(text));
		if (i < ARRAY_SIZE(wrong))
			text[wrong[i].at] = wrong[i].with;
		ctx = EVP_MD_CTX_new();
		n = sizeof(sig);
		assert_int_equal(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, far, NULL), 1);
		assert_int_equal(EVP_DigestSign(ctx, sig, &n, text, sizeof(text)),
				 i == ARRAY_SIZE(wrong));
		EVP_MD_CTX_free(ctx);
	}
	for (size_t cut = 0; cut < sizeof(good); cut += 13) {
		struct far_ask q = {.scheme = FAR_ECDSA, .digest = "SHA256", .text = slice_of(good, cut)};

		assert_int_equal(tls_sign(h.key, &q, sig, &n), -EPERM);
	}
	{
		struct far_ask q = {.scheme = FAR_RSA_PSS, .digest = "SHA256",
				    .text = slice_of(good, sizeof(good))};

		assert_int_equal(tls_sign(h.key, &q, sig, &n), -EINVAL); /* no RSA key */
		q.scheme = FAR_ECDSA;
		q.digest = "SHA1";
		assert_int_equal(tls_sign(h.key, &q, sig, &n), -EINVAL);
		q.digest = "SHA256";
		assert_int_equal(tls_sign(h.key, &q, sig, &n), 0);
	}
	EVP_PKEY_free(far);
	X509_free(cert);
	EVP_PKEY_free(h.key);
}

/* Keys of this process are signed with and verified as ever, and nothing private gets out of a far one. */
static void test_others_are_as_before(void **state)
{
	static const char *const kinds[] = {"P-256", "RSA"};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		struct holder h = {.key = make_key(kinds[i])};
		X509 *cert = make_cert(h.key);
		EVP_PKEY *far = far_key_new(cert, sign, &h);
		EVP_MD_CTX *ctx = EVP_MD_CTX_new();
		uint8_t sig[FAR_SIG_MAX];
		size_t n = sizeof(sig);
		OSSL_PARAM *all = NULL;

		assert_int_equal(X509_verify(cert, h.key), 1);
		assert_int_equal(EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, h.key, NULL), 1);
		assert_int_equal(EVP_DigestSign(ctx, sig, &n, (const uint8_t *)"x", 1), 1);
		EVP_MD_CTX_free(ctx);
		assert_int_equal(h.calls, 0);
		assert_int_equal(EVP_PKEY_eq(far, h.key), 1);
		assert_int_equal(EVP_PKEY_get_bits(far), EVP_PKEY_get_bits(h.key));
		assert_int_equal(EVP_PKEY_todata(far, EVP_PKEY_KEYPAIR, &all), 0);
		EVP_PKEY_free(far);
		X509_free(cert);
		EVP_PKEY_free(h.key);
	}
}

static int set_up(void **state)
{
	return far_key_init();
}

static int tear_down(void **state)
{
	far_key_done();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshakes),
		cmocka_unit_test(test_pkcs1),
		cmocka_unit_test(test_other_texts),
		cmocka_unit_test(test_others_are_as_before),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
