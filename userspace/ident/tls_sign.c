/* SPDX-License-Identifier: MIT */
#include "ident/tls_sign.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>

/* RFC 8446 section 4.4.3: 64 spaces, these words with their NUL, and a hash of the handshake. */
static bool is_tls13_proof(struct slice t)
{
	static const char words[] = "TLS 1.3, client CertificateVerify";
	const size_t before = 64 + sizeof(words);

	if (t.n != before + SHA256_DIGEST_LENGTH && t.n != before + SHA384_DIGEST_LENGTH)
		return false;
	for (size_t i = 0; i < 64; i++)
		if (t.p[i] != ' ')
			return false;
	return memcmp(t.p + 64, words, sizeof(words)) == 0;
}

/* RFC 5246 section 7.4.8: all messages of the handshake, the client's hello first. */
static bool is_tls12_proof(struct slice t)
{
	static const uint8_t client_hello = 1, server_hello = 2;
	size_t n;

	if (t.n < 6 || t.p[0] != client_hello || t.p[4] != 3 || t.p[5] != 3)
		return false;
	n = (size_t)t.p[1] << 16 | (size_t)t.p[2] << 8 | t.p[3];
	return n < t.n - 4 && t.p[4 + n] == server_hello;
}

int tls_sign_key_fits(const EVP_PKEY *key, const char **ret_why)
{
	int bits = EVP_PKEY_get_bits(key);

	if (EVP_PKEY_is_a(key, "RSA") && bits >= 2048 && bits <= 8192)
		return 0;
	if (EVP_PKEY_is_a(key, "EC") && (bits == 256 || bits == 384 || bits == 521))
		return 0;
	*ret_why = "the key of a TLS client is RSA with 2048 to 8192 bits, or EC on P-256, P-384 or P-521";
	return -EINVAL;
}

static const EVP_MD *digest(const char *name)
{
	return strcmp(name, "SHA256") == 0   ? EVP_sha256()
	       : strcmp(name, "SHA384") == 0 ? EVP_sha384()
	       : strcmp(name, "SHA512") == 0 ? EVP_sha512()
					     : NULL;
}

int tls_sign(EVP_PKEY *key, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	const EVP_MD *md = digest(q->digest);
	EVP_PKEY_CTX *pctx = NULL;
	size_t n = FAR_SIG_MAX;
	EVP_MD_CTX *ctx;
	bool ok;

	if (!is_tls13_proof(q->text) && !is_tls12_proof(q->text))
		return -EPERM;
	if (!md || EVP_PKEY_is_a(key, q->scheme == FAR_ECDSA ? "EC" : "RSA") != 1)
		return -EINVAL;
	ctx = EVP_MD_CTX_new();
	ok = ctx && EVP_DigestSignInit(ctx, &pctx, md, NULL, key) == 1;
	if (ok && q->scheme == FAR_RSA_PSS)
		ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
		     EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1;
	ok = ok && EVP_DigestSign(ctx, sig, &n, q->text.p, q->text.n) == 1;
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return -EINVAL;
	*ret_n = n;
	return 0;
}

/* ---------------------------------------------------------- certificates */

static int append(X509 *x, struct buf *ret)
{
	int n = i2d_X509(x, NULL);
	uint8_t *dst = n > 0 ? buf_reserve(ret, (size_t)n) : NULL;

	if (!dst || i2d_X509(x, &dst) != n)
		return -EINVAL;
	buf_commit(ret, (size_t)n);
	return 0;
}

int tls_chain_read(struct slice pem, const EVP_PKEY *key, struct buf *ret, const char **ret_why)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	const char *why = bio ? NULL : "out of memory";
	unsigned n = 0;
	X509 *x;

	while (!why && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		if (n == 0 && X509_check_private_key(x, key) != 1)
			why = "its first certificate is not that of the key in key_file";
		else if (n++ == TLS_CHAIN_MAX || append(x, ret) != 0)
			why = "it holds more certificates than a chain has";
		X509_free(x);
	}
	BIO_free(bio);
	if (!why && n == 0)
		why = "it holds no certificate in PEM form";
	if (!why)
		return 0;
	*ret_why = why;
	return -EINVAL;
}

int tls_chain_thumb(struct slice chain, uint8_t ret[TLS_THUMB])
{
	const uint8_t *end = chain.p;
	X509 *x = chain.n ? d2i_X509(NULL, &end, (long)chain.n) : NULL;

	if (!x)
		return -EINVAL;
	X509_free(x);
	(void)SHA256(chain.p, (size_t)(end - chain.p), ret);
	return 0;
}
