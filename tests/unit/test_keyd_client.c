/* SPDX-License-Identifier: MIT */
/* keyd as it proves to the identity provider who Tidegate is: secret, assertions, TLS certificate. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "ident/dpop.h"
#include "ident/jwt.h"
#include "ident/tls_sign.h"
#include "jose_make.h"
#include "keyd_rig.h"

static void test_client_secret(void **state)
{
	char *client, *section, *config;
	struct keyd_peer p;

	assert_true(asprintf(&client, "auth: client_secret_basic, secret_file: %s/secret", keyd_dir) >
		    0);
	section = keyd_idp(client);
	config = keyd_config(section);
	keyd_start(&p, config);
	keyd_question(&p, IPC_KEY_CLIENT, "");
	assert_int_equal(keyd_ask(&p), 0);
	assert_string_equal((char *)p.bytes[0], "the secret");
	keyd_question(&p, IPC_KEY_CLIENT, "https://idp.example/token");
	assert_int_equal(keyd_ask(&p), EINVAL);
	assert_int_equal(keyd_stop(&p), 0);
	free(client);
	free(section);
	free(config);
}

static void check_assertion(struct keyd_peer *p, const char *audience)
{
	static const char *const algs[] = {"ES256", NULL};
	struct jwt_expect want = {
		.issuer = "tidegate",
		.audience = audience,
		.algorithms = algs,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = 1,
	};
	char *jwk = jose_jwk(keyd_key, ",\"kid\":\"k1\""), *json, error[200];
	json_t *claims = NULL;
	struct jwks *keys;

	assert_true(asprintf(&json, "{\"keys\":[%s]}", jwk) > 0);
	assert_int_equal(jwks_parse(slice_str(json), &keys, error, sizeof(error)), 0);
	if (jwt_verify(slice_of(p->bytes[0], p->n[0]), keys, &want, &claims, error,
		       sizeof(error)) != JWT_OK)
		fail_msg("%s", error);
	json_decref(claims);
	jwks_free(keys);
	free(json);
	free(jwk);
}

static void test_client_key(void **state)
{
	char *client, *section, *config;
	struct keyd_peer p;

	assert_true(asprintf(&client,
			     "auth: private_key_jwt, key_file: %s/key.pem, algorithm: ES256, "
			     "key_id: k1",
			     keyd_dir) > 0);
	section = keyd_idp(client);
	config = keyd_config(section);
	keyd_start(&p, config);
	keyd_question(&p, IPC_KEY_CLIENT, "https://idp.example/realm/token");
	assert_int_equal(keyd_ask(&p), 0);
	check_assertion(&p, "https://idp.example/realm/token");
	keyd_question(&p, IPC_KEY_CLIENT, "https://idp.example/realm");
	assert_int_equal(keyd_ask(&p), 0);
	check_assertion(&p, "https://idp.example/realm");
	/* No assertion for another provider, and the key itself for nobody. */
	keyd_question(&p, IPC_KEY_CLIENT, "https://other.example/token");
	assert_int_equal(keyd_ask(&p), EPERM);
	keyd_question(&p, IPC_KEY_CLIENT, "");
	assert_int_equal(keyd_ask(&p), EINVAL);
	assert_int_equal(keyd_stop(&p), 0);
	free(client);
	free(section);
	free(config);
}

static void write_certificate(const char *name, EVP_PKEY *of, mode_t mode)
{
	X509 *x = X509_new();
	FILE *f;

	assert_true(X509_set_version(x, 2) && X509_set_pubkey(x, of));
	assert_non_null(X509_gmtime_adj(X509_getm_notBefore(x), 0));
	assert_non_null(X509_gmtime_adj(X509_getm_notAfter(x), 3600));
	assert_true(X509_sign(x, of, EVP_sha256()) > 0);
	f = fopen(keyd_path(name), "w");
	assert_non_null(f);
	assert_int_equal(PEM_write_X509(f, x), 1);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(keyd_path(name), mode), 0);
	X509_free(x);
}

static uint32_t sign_tls(struct keyd_peer *p, uint32_t scheme, const char *digest, struct slice thumb,
			 struct slice text)
{
	ipc_begin(p->ipc, IPC_KEY_TLS, ++p->id);
	ipc_put_u32(p->ipc, scheme);
	ipc_put_str(p->ipc, digest);
	ipc_put_bytes(p->ipc, thumb);
	ipc_put_bytes(p->ipc, text);
	return keyd_ask(p);
}

/* The key of a TLS client signs what proves one, for the certificate that belongs to it. */
static void test_client_certificate(void **state)
{
	char *client, *section, *config;
	uint8_t thumb[TLS_THUMB], text[64 + 34 + 32], other[TLS_THUMB] = {0};
	struct slice proof = slice_of(text, sizeof(text)), ours = slice_of(thumb, sizeof(thumb));
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	struct keyd_peer p;

	write_certificate("client.pem", keyd_key, 0644);
	assert_true(asprintf(&client, "auth: self_signed_tls_client_auth, key_file: %s/key.pem, "
				      "certificate_file: %s/client.pem", keyd_dir, keyd_dir) > 0);
	section = keyd_idp(client);
	config = keyd_config(section);
	keyd_start(&p, config);
	keyd_question(&p, IPC_KEY_CLIENT, "");
	assert_int_equal(keyd_ask(&p), 0);
	assert_int_equal(tls_chain_thumb(slice_of(p.bytes[0], p.n[0]), thumb), 0);
	memset(text, ' ', 64);
	memcpy(text + 64, "TLS 1.3, client CertificateVerify", 34);
	memset(text + 98, 9, 32);
	assert_int_equal(sign_tls(&p, FAR_ECDSA, "SHA256", ours, proof), 0);
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, keyd_key), 1);
	assert_int_equal(EVP_DigestVerify(ctx, p.bytes[0], p.n[0], text, sizeof(text)), 1);
	EVP_MD_CTX_free(ctx);
	/* Nothing else is signed, and for no other certificate. */
	assert_int_equal(sign_tls(&p, FAR_ECDSA, "SHA256", ours, SLICE_LIT("eyJhbGciOiJFUzI1NiJ9.e30")), EPERM);
	assert_int_equal(sign_tls(&p, FAR_ECDSA, "SHA256", slice_of(other, sizeof(other)), proof), ESTALE);
	assert_int_equal(sign_tls(&p, FAR_ECDSA, "SHA1", ours, proof), EINVAL);
	assert_int_equal(sign_tls(&p, FAR_RSA_PSS, "SHA256", ours, proof), EINVAL);
	assert_int_equal(sign_tls(&p, 99, "SHA256", ours, proof), EINVAL);
	keyd_question(&p, IPC_KEY_CLIENT, "https://idp.example/token");
	assert_int_equal(keyd_ask(&p), EINVAL);
	/* A new certificate has to be read: it ends. */
	write_certificate("client.pem", keyd_key, 0644);
	keyd_send_config(&p, config);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(keyd_stop(&p), 0);
	free(client);
	free(section);
	free(config);
}

static uint32_t prove(struct keyd_peer *p, const char *target, struct slice thumb, struct slice text)
{
	ipc_begin(p->ipc, IPC_KEY_PROVE, ++p->id);
	ipc_put_str(p->ipc, target);
	ipc_put_u32(p->ipc, FAR_ECDSA);
	ipc_put_str(p->ipc, "SHA256");
	ipc_put_bytes(p->ipc, thumb);
	ipc_put_bytes(p->ipc, text);
	return keyd_ask(p);
}

static uint32_t ask_of(struct keyd_peer *p, enum ipc_type type, const char *name)
{
	keyd_question(p, type, name);
	return keyd_ask(p);
}

static char *cert_config(void)
{
	char *text;

	assert_true(asprintf(&text,
			     "credentials:\n"
			     "  cert: {user: u, key_file: %s/key.pem, certificate_file: %s/client.pem}\n"
			     "  both: {user: u, password_file: %s/one, key_file: %s/key.pem, "
			     "certificate_file: %s/client.pem}\n"
			     "  ro: {user: u, password_file: %s/one, clear_text: true}\n"
			     "agents: {a: {uid: 1000}}\n"
			     "targets: {t: {address: 'h:1', protocol: postgresql, credential: cert, tls: "
			     "{ca_file: /none}}}\n"
			     "policy: [{agents: a, targets: t, access: {approval: none}}]\n",
			     keyd_dir, keyd_dir, keyd_dir, keyd_dir, keyd_dir, keyd_dir) > 0);
	return text;
}

/* The key of a credential signs what proves a TLS client, under the credential's name alone. */
static void test_credential_certificate(void **state)
{
	uint8_t thumb[TLS_THUMB], text[64 + 34 + 32], other[TLS_THUMB] = {0};
	struct slice proof = slice_of(text, sizeof(text)), ours = slice_of(thumb, sizeof(thumb));
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	char *config = cert_config();
	struct keyd_peer p;

	(void)state;
	write_certificate("client.pem", keyd_key, 0644);
	memset(text, ' ', 64);
	memcpy(text + 64, "TLS 1.3, client CertificateVerify", 34);
	memset(text + 98, 9, 32);
	keyd_start(&p, config);
	assert_int_equal(ask_of(&p, IPC_KEY_LOGIN, "cert"), 0);
	assert_string_equal((char *)p.bytes[0], "u");
	assert_int_equal(ask_of(&p, IPC_KEY_CERTIFICATE, "@cert:u"), 0);
	assert_int_equal(tls_chain_thumb(slice_of(p.bytes[0], p.n[0]), thumb), 0);
	assert_int_equal(prove(&p, "@cert:u", ours, proof), 0);
	assert_int_equal(EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, keyd_key), 1);
	assert_int_equal(EVP_DigestVerify(ctx, p.bytes[0], p.n[0], text, sizeof(text)), 1);
	EVP_MD_CTX_free(ctx);
	assert_int_equal(prove(&p, "@both:u", ours, proof), 0);
	assert_int_equal(prove(&p, "@cert:u", ours, SLICE_LIT("eyJhbGciOiJFUzI1NiJ9.e30")), EPERM);
	assert_int_equal(prove(&p, "@cert:u", slice_of(other, sizeof(other)), proof), ESTALE);
	assert_int_equal(prove(&p, "@ro:u", ours, proof), ENOENT);
	assert_int_equal(prove(&p, "@cert:v", ours, proof), ENOENT);
	assert_int_equal(prove(&p, "", ours, proof), ENOENT);
	/* A certificate is no password, and the key is told to nobody. */
	assert_int_equal(ask_of(&p, IPC_KEY_CERTIFICATE, "@ro:u"), ENOENT);
	assert_int_equal(ask_of(&p, IPC_KEY_PASSWORD, "@cert:u"), ENOENT);
	assert_int_equal(ask_of(&p, IPC_KEY_PASSWORD, "@both:u"), EACCES);
	assert_int_equal(ask_of(&p, IPC_KEY_PASSWORD, "@ro:u"), 0);
	assert_int_equal(sign_tls(&p, FAR_ECDSA, "SHA256", ours, proof), ENOENT);
	/* Nothing has changed; then the certificate has: it ends, and another keyd reads it. */
	keyd_send_config(&p, config);
	assert_int_equal(ask_of(&p, IPC_KEY_LOGIN, "both"), 0);
	write_certificate("client.pem", keyd_key, 0644);
	keyd_send_config(&p, config);
	while (!p.gone)
		(void)uv_run(&p.loop, UV_RUN_ONCE);
	assert_int_equal(keyd_stop(&p), 0);
	/* One that others may change is not shown. */
	write_certificate("client.pem", keyd_key, 0666);
	keyd_start(&p, config);
	assert_int_equal(ask_of(&p, IPC_KEY_LOGIN, "cert"), EPERM);
	assert_int_equal(ask_of(&p, IPC_KEY_CERTIFICATE, "@cert:u"), EPERM);
	assert_int_equal(prove(&p, "@cert:u", ours, proof), EPERM);
	assert_int_equal(keyd_stop(&p), 0);
	free(config);
}

/* A certificate of another key, and one that others may change: neither is shown. */
static void test_bad_certificates(void **state)
{
	static const uint32_t errors[] = {EINVAL, EPERM, EINVAL, ENOENT};
	EVP_PKEY *stranger = jose_key("P-256");
	char *client, *section, *config;
	struct keyd_peer p;

	assert_true(asprintf(&client, "auth: tls_client_auth, key_file: %s/key.pem, certificate_file: "
				      "%s/client.pem", keyd_dir, keyd_dir) > 0);
	section = keyd_idp(client);
	config = keyd_config(section);
	for (int i = 0; i < 4; i++) {
		if (i == 0)
			write_certificate("client.pem", stranger, 0644);
		else if (i == 1)
			write_certificate("client.pem", keyd_key, 0666);
		else if (i == 2)
			keyd_write("client.pem", "no certificate", 0644);
		else
			assert_int_equal(unlink(keyd_path("client.pem")), 0);
		keyd_start(&p, config);
		keyd_question(&p, IPC_KEY_CLIENT, "");
		assert_int_equal(keyd_ask(&p), errors[i]);
		assert_true(sign_tls(&p, FAR_ECDSA, "SHA256", slice_of("", 0), slice_of("", 0)) != 0);
		assert_int_equal(keyd_stop(&p), 0);
	}
	EVP_PKEY_free(stranger);
	free(client);
	free(section);
	free(config);
}

static uint32_t ask_proof(struct keyd_peer *p, const char *url, const char *nonce)
{
	keyd_question(p, IPC_KEY_DPOP, url);
	ipc_put_str(p->ipc, nonce);
	return keyd_ask(p);
}

/* Proofs go to the provider alone; a key is made where they are wanted. */
static void test_proofs(void **state)
{
	char *section, *config, nonce[DPOP_NONCE_MAX + 10];
	struct keyd_peer p;

	assert_true(asprintf(&section, "idp:\n  issuer: https://idp.example/realm\n  extra_origins: "
				       "[\"https://mtls.example\"]\n  client: { id: tidegate, auth: "
				       "client_secret_basic, secret_file: %s/secret }\n", keyd_dir) > 0);
	config = keyd_config(section);
	keyd_start(&p, config);
	assert_int_equal(ask_proof(&p, "https://idp.example/token", ""), 0);
	assert_memory_equal(p.bytes[0], "eyJ", 3);
	assert_int_equal(p.n[1], DPOP_THUMB_CHARS);
	assert_int_equal(ask_proof(&p, "https://mtls.example/token", "n"), 0);
	assert_int_equal(ask_proof(&p, "https://other.example/token", ""), EPERM);
	assert_int_equal(ask_proof(&p, "", ""), EPERM);
	assert_int_equal(ask_proof(&p, "https://idp.example/token", "a b"), EINVAL);
	memset(nonce, 'x', sizeof(nonce));
	nonce[sizeof(nonce) - 1] = '\0';
	assert_int_equal(ask_proof(&p, "https://idp.example/token", nonce), EINVAL);
	assert_int_equal(keyd_stop(&p), 0);
	free(config);
	free(section);
	assert_true(asprintf(&section, "idp:\n  issuer: https://idp.example/realm\n  dpop: off\n  client: { id: "
				       "tidegate, auth: client_secret_basic, secret_file: %s/secret }\n",
			     keyd_dir) > 0);
	config = keyd_config(section);
	keyd_start(&p, config);
	assert_int_equal(ask_proof(&p, "https://idp.example/token", ""), ENOENT);
	assert_int_equal(keyd_stop(&p), 0);
	free(config);
	free(section);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_client_secret, keyd_fresh),
		cmocka_unit_test_setup(test_client_key, keyd_fresh),
		cmocka_unit_test_setup(test_client_certificate, keyd_fresh),
		cmocka_unit_test_setup(test_credential_certificate, keyd_fresh),
		cmocka_unit_test_setup(test_bad_certificates, keyd_fresh),
		cmocka_unit_test_setup(test_proofs, keyd_fresh),
	};

	return cmocka_run_group_tests(tests, keyd_set_up, keyd_tear_down);
}
