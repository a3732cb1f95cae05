/* SPDX-License-Identifier: MIT */
#include "ident/scram.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/buf.h"
#include "base/text.h"
#include "ident/b64.h"

/* Takes "X=value" and the comma behind it off *rest. */
static bool take_attr(struct slice *rest, char name, struct slice *ret_value)
{
	const uint8_t *comma;
	size_t n;

	if (rest->n < 2 || rest->p[0] != (uint8_t)name || rest->p[1] != '=')
		return false;
	*rest = slice_from(*rest, 2);
	comma = rest->n ? memchr(rest->p, ',', rest->n) : NULL;
	n = comma ? (size_t)(comma - rest->p) : rest->n;
	*ret_value = slice_of(rest->p, n);
	*rest = slice_from(*rest, comma ? n + 1 : n);
	return true;
}

/* RFC 5802 section 5.1: printable ASCII without the comma. */
static bool is_nonce(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < 0x21 || s.p[i] > 0x7e || s.p[i] == ',')
			return false;
	return s.n > 0;
}

static bool starts_with(struct slice s, struct slice start)
{
	return s.n >= start.n && slice_eq(slice_of(s.p, start.n), start);
}

static int check_server(struct slice server_first, struct slice *ret_nonce, struct scram_salt *ret)
{
	struct slice rest = server_first, salt, count;
	uint64_t iterations;
	size_t n;

	/* "m=" in front would be an extension that must be understood. */
	if (!take_attr(&rest, 'r', ret_nonce) || !is_nonce(*ret_nonce) ||
	    !take_attr(&rest, 's', &salt) || !take_attr(&rest, 'i', &count))
		return -EBADMSG;
	if (b64_decode(salt, ret->salt, sizeof(ret->salt), &n) != 0 || n == 0)
		return -EBADMSG;
	if (text_parse_u64(count, 1, UINT32_MAX, &iterations) != 0)
		return -EBADMSG;
	if (iterations < SCRAM_ITERATIONS_MIN || iterations > SCRAM_ITERATIONS_MAX)
		return -ERANGE;
	ret->salt_bytes = (uint32_t)n;
	ret->iterations = (uint32_t)iterations;
	return 0;
}

/*
 * RFC 5802 section 7, "cbind-input" in Base64: bound to no channel, or to the certificate of the
 * server's (RFC 5929 section 4.1), whose hash has 28 bytes or more.
 */
static bool is_binding(struct slice text)
{
	static const char bound[] = "p=tls-server-end-point,,";
	uint8_t raw[sizeof(bound) - 1 + 64];
	size_t n, head = sizeof(bound) - 1;

	if (b64_decode(text, raw, sizeof(raw), &n) != 0)
		return false;
	if (n == 3)
		return memcmp(raw, "n,,", 3) == 0 || memcmp(raw, "y,,", 3) == 0;
	return n >= head + 28 && memcmp(raw, bound, head) == 0;
}

int scram_check(struct slice client_first_bare, struct slice server_first,
		struct slice client_final_without_proof, struct scram_salt *ret)
{
	struct slice rest = client_first_bare, name, ours, nonce, binding, again;
	struct scram_salt s;
	int err;

	if (client_first_bare.n > SCRAM_MESSAGE_MAX || server_first.n > SCRAM_MESSAGE_MAX ||
	    client_final_without_proof.n > SCRAM_MESSAGE_MAX)
		return -EBADMSG;
	if (!take_attr(&rest, 'n', &name) || !take_attr(&rest, 'r', &ours) || !is_nonce(ours) ||
	    rest.n)
		return -EBADMSG;
	err = check_server(server_first, &nonce, &s);
	if (err)
		return err;
	rest = client_final_without_proof;
	if (!take_attr(&rest, 'c', &binding) || !take_attr(&rest, 'r', &again) || rest.n ||
	    !is_binding(binding))
		return -EBADMSG;
	/* A server that adds nothing of its own could replay an old answer. */
	if (nonce.n == ours.n || !starts_with(nonce, ours) || !slice_eq(nonce, again))
		return -EBADMSG;
	*ret = s;
	return 0;
}

/* SASLprep (RFC 4013) leaves ASCII alone; PostgreSQL uses raw bytes where it fails. */
static bool needs_normalising(struct slice password)
{
	bool ascii = true;

	while (password.n) {
		size_t n = utf8_length(password);

		if (n == 0)
			return false;
		ascii = ascii && n == 1;
		password = slice_from(password, n);
	}
	return !ascii;
}

int scram_salted(struct slice password, const struct scram_salt *s, uint8_t ret_key[SCRAM_KEY])
{
	if (needs_normalising(password))
		return -EOPNOTSUPP;
	if (PKCS5_PBKDF2_HMAC((const char *)password.p, (int)password.n, s->salt,
			      (int)s->salt_bytes, (int)s->iterations, EVP_sha256(), SCRAM_KEY,
			      ret_key) != 1)
		return -ENOMEM;
	return 0;
}

static bool hmac(const uint8_t key[SCRAM_KEY], struct slice text, uint8_t ret[SCRAM_KEY])
{
	unsigned n;

	return HMAC(EVP_sha256(), key, SCRAM_KEY, text.p, text.n, ret, &n) != NULL;
}

/* RFC 5802 section 3. */
int scram_answer(const uint8_t key[SCRAM_KEY], struct slice client_first_bare,
		 struct slice server_first, struct slice client_final_without_proof,
		 uint8_t ret_proof[SCRAM_KEY], uint8_t ret_server_signature[SCRAM_KEY])
{
	uint8_t client_key[SCRAM_KEY], stored_key[SCRAM_KEY], server_key[SCRAM_KEY];
	uint8_t client_signature[SCRAM_KEY];
	struct buf auth;
	bool ok;

	buf_init(&auth, 3 * SCRAM_MESSAGE_MAX + 2);
	ok = buf_append_slice(&auth, client_first_bare) == 0 && buf_append(&auth, ",", 1) == 0 &&
	     buf_append_slice(&auth, server_first) == 0 && buf_append(&auth, ",", 1) == 0 &&
	     buf_append_slice(&auth, client_final_without_proof) == 0 &&
	     hmac(key, slice_str("Client Key"), client_key) &&
	     EVP_Digest(client_key, SCRAM_KEY, stored_key, NULL, EVP_sha256(), NULL) == 1 &&
	     hmac(stored_key, buf_slice(&auth), client_signature) &&
	     hmac(key, slice_str("Server Key"), server_key) &&
	     hmac(server_key, buf_slice(&auth), ret_server_signature);
	for (size_t i = 0; ok && i < SCRAM_KEY; i++)
		ret_proof[i] = client_key[i] ^ client_signature[i];
	buf_done(&auth);
	explicit_bzero(client_key, sizeof(client_key));
	explicit_bzero(stored_key, sizeof(stored_key));
	explicit_bzero(server_key, sizeof(server_key));
	return ok ? 0 : -ENOMEM;
}

int scram_verifier(struct slice password, const uint8_t salt[SCRAM_SALT_BYTES],
		   char ret[SCRAM_VERIFIER_TEXT])
{
	struct scram_salt s = {.salt_bytes = SCRAM_SALT_BYTES, .iterations = SCRAM_ITERATIONS_MIN};
	char text[B64_TEXT(SCRAM_SALT_BYTES)], stored[B64_TEXT(SCRAM_KEY)], server[B64_TEXT(SCRAM_KEY)];
	uint8_t key[SCRAM_KEY], client_key[SCRAM_KEY], stored_key[SCRAM_KEY], server_key[SCRAM_KEY];
	int err;

	memcpy(s.salt, salt, SCRAM_SALT_BYTES);
	err = scram_salted(password, &s, key);
	if (!err && (!hmac(key, slice_str("Client Key"), client_key) ||
		     EVP_Digest(client_key, SCRAM_KEY, stored_key, NULL, EVP_sha256(), NULL) != 1 ||
		     !hmac(key, slice_str("Server Key"), server_key)))
		err = -ENOMEM;
	if (!err) {
		(void)b64_encode(slice_of(salt, SCRAM_SALT_BYTES), text);
		(void)b64_encode(slice_of(stored_key, SCRAM_KEY), stored);
		(void)b64_encode(slice_of(server_key, SCRAM_KEY), server);
		(void)snprintf(ret, SCRAM_VERIFIER_TEXT, "SCRAM-SHA-256$%d:%s$%s:%s",
			       SCRAM_ITERATIONS_MIN, text, stored, server);
	}
	explicit_bzero(key, sizeof(key));
	explicit_bzero(client_key, sizeof(client_key));
	explicit_bzero(stored_key, sizeof(stored_key));
	explicit_bzero(server_key, sizeof(server_key));
	return err;
}
