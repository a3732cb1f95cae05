/* SPDX-License-Identifier: MIT */
#include "net/tls_trust.h"

#include <errno.h>
#include <openssl/async.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#include "net/far_key.h"

enum {
	/* Of one read: four records at the most at once. */
	READ_BUFFER = 64 << 10,
	/* RSA from 2048 bits on, EC from 224, no SHA-1. */
	SECURITY = 2,
};

int tls_init(void)
{
	SSL_CTX *ctx;
	int rc;

	if (OPENSSL_init_ssl(0, NULL) != 1 || !ASYNC_is_capable())
		return -EOPNOTSUPP;
	rc = far_key_init();
	ctx = rc ? NULL : SSL_CTX_new(TLS_client_method());
	SSL_CTX_free(ctx);
	return rc ? rc : ctx ? 0 : -EOPNOTSUPP;
}

/* All that is there, or nothing. */
static const char *add_authorities(X509_STORE *store, struct slice pem)
{
	BIO *bio = BIO_new_mem_buf(pem.p, (int)pem.n);
	const char *why = bio ? NULL : "out of memory";
	unsigned long e;
	unsigned n = 0;
	X509 *x;

	ERR_clear_error();
	while (!why && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL))) {
		n++;
		if (X509_STORE_add_cert(store, x) != 1)
			why = "out of memory";
		X509_free(x);
	}
	e = ERR_peek_last_error();
	if (!why && e && !(ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE))
		why = "it holds a certificate that cannot be read";
	if (!why && n == 0)
		why = "it holds no certificate in PEM form";
	ERR_clear_error();
	BIO_free(bio);
	return why;
}

/* NULL, or why not. */
static const char *set_up(SSL_CTX *ctx, const struct tls_trust_spec *spec)
{
	SSL_CTX_set_security_level(ctx, SECURITY);
	if (SSL_CTX_set_min_proto_version(ctx, spec->only_13 ? TLS1_3_VERSION : TLS1_2_VERSION) != 1 ||
	    SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:"
					 "!aNULL") != 1)
		return "OpenSSL has no TLS that is new enough";
	(void)SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_NO_TICKET);
	(void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	/* An idle session has no buffers; a write goes on where it stopped, from another place. */
	(void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
					    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_default_read_buffer_len(ctx, READ_BUFFER);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	(void)X509_STORE_set_flags(SSL_CTX_get_cert_store(ctx), X509_V_FLAG_PARTIAL_CHAIN);
	return add_authorities(SSL_CTX_get_cert_store(ctx), spec->authorities);
}

int tls_trust_new(const struct tls_trust_spec *spec, struct tls_trust *ret, const char **ret_why)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());

	*ret_why = ctx ? set_up(ctx, spec) : "out of memory";
	if (*ret_why) {
		SSL_CTX_free(ctx);
		return ctx ? -EINVAL : -ENOMEM;
	}
	*ret = (struct tls_trust){.ctx = ctx, .pins = spec->pins, .npins = spec->npins};
	return 0;
}

void tls_trust_done(struct tls_trust *t)
{
	SSL_CTX_free(t->ctx);
	*t = (struct tls_trust){.ctx = NULL};
}

bool tls_trust_has_key(const struct tls_trust *t, X509 *x)
{
	uint8_t *der = NULL, digest[SHA256_DIGEST_LENGTH];
	bool found = t->npins == 0;
	int n;

	if (found)
		return true;
	n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
	if (n <= 0)
		return false;
	(void)SHA256(der, (size_t)n, digest);
	OPENSSL_free(der);
	for (uint32_t i = 0; i < t->npins; i++)
		found |= memcmp(digest, t->pins[i], sizeof(digest)) == 0;
	return found;
}

size_t tls_end_point(X509 *x, uint8_t ret[TLS_BINDING_MAX])
{
	const EVP_MD *md;
	unsigned n = 0;
	int nid = NID_undef;

	if (X509_get_signature_info(x, &nid, NULL, NULL, NULL) != 1 || nid == NID_undef)
		return 0;
	/* What is broken as a hash is replaced by SHA-256. */
	md = nid == NID_md5 || nid == NID_sha1 ? EVP_sha256() : EVP_get_digestbynid(nid);
	if (!md || EVP_MD_get_size(md) > TLS_BINDING_MAX || X509_digest(x, md, ret, &n) != 1)
		return 0;
	return n;
}
