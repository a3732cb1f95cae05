/* SPDX-License-Identifier: MIT */
/*
 * keyd holds the secrets. It reads them at its start, as root, then gives up
 * everything: root, files, the network. From then on it only answers typed
 * questions: a SCRAM proof, an MD5 response, an assertion for the identity
 * provider; and a clear text password where the server asks for one. It
 * parses no byte of a peer but SCRAM's server-first message.
 *
 * It cannot read files again. A new configuration that needs that ends the
 * process: the parent starts another, and questions in between are asked again.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/ident.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/childconf.h"
#include "daemon/granted.h"
#include "daemon/ipc.h"
#include "daemon/plugcred.h"
#include "daemon/sandbox.h"
#include "daemon/signer.h"
#include "daemon/vault.h"
#include "ident/clientauth.h"
#include "ident/dpop.h"
#include "ident/pgmd5.h"
#include "ident/tls_sign.h"
#include "net/url.h"

enum { ROLE_PASSWORD_BYTES = 32 };

struct keyd {
	uv_loop_t loop;
	struct ipc *ipc;
	struct secret_reader account; /* what it becomes */
	bool has_account;
	char *state_dir; /* as the parent has it */
	struct config *cfg;
	struct list secrets;
	struct signer signer;
	EVP_PKEY *bound; /* tokens are bound to it (RFC 9449); it lives as long as this process */
	struct plugcred *plugins;
	struct granted_set granted;
};

/* ------------------------------------------------------------ set-up */

static void fatal(const char *what, int err)
{
	log_error("%s: %s", what, strerror(-err));
	exit(1);
}

/*
 * Locks memory so that no secret is written to swap. What is mapped later
 * counts against a limit once root is given up: if that cannot be raised,
 * only what is there now is locked, which is where the secrets will be.
 */
static void lock_memory(void)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	int what = MCL_CURRENT | (setrlimit(RLIMIT_MEMLOCK, &all) ? 0 : MCL_FUTURE);

	if (mlockall(what))
		log_warning("memory cannot be locked: %s: secrets may reach the swap",
			    strerror(errno));
}

static void warm_up_tls(struct secret *s)
{
	uint8_t text[64 + 34 + 32], sig[FAR_SIG_MAX];
	bool ec = EVP_PKEY_is_a(s->key, "EC");
	struct far_ask q = {.scheme = ec ? FAR_ECDSA : FAR_RSA_PSS,
			    .digest = "SHA256",
			    .text = slice_of(text, sizeof(text))};
	size_t n;
	int err;

	memset(text, ' ', 64);
	memcpy(text + 64, "TLS 1.3, client CertificateVerify", 34);
	memset(text + 98, 0, 32);
	err = tls_sign(s->key, &q, sig, &n);
	if (err)
		log_error("%s: the key cannot sign", s->path);
	if (!s->error)
		s->error = err;
}

/* OpenSSL loads its configuration and algorithms at their first use: that is now. */
static void warm_up(struct keyd *k)
{
	static const struct scram_salt salt = {
		.salt = "salt", .salt_bytes = 4, .iterations = SCRAM_ITERATIONS_MIN};
	static const uint8_t md5_salt[PGMD5_SALT] = "salt";
	static const struct slice text = {.p = (const uint8_t *)"x", .n = 1};
	uint8_t key[SCRAM_KEY], proof[SCRAM_KEY], signature[SCRAM_KEY];
	struct secret *s = vault_of_client(&k->secrets);
	char md5[PGMD5_TEXT];

	if (scram_salted(text, &salt, key) || scram_answer(key, text, text, text, proof, signature))
		fatal("SCRAM", -EOPNOTSUPP);
	if (pgmd5_response(text, text, md5_salt, md5))
		log_notice("OpenSSL has no MD5 here: logins that need it will fail");
	list_each(it, &k->secrets) {
		struct secret *other = container_of(it, struct secret, link);

		if (other->target && other->key)
			warm_up_tls(other);
	}
	if (s && s->key && idp_auth_is_tls(k->cfg->idp->auth)) {
		warm_up_tls(s);
	} else if (s && s->key) {
		struct clientauth_claims c = {
			.client_id = "warm-up", .audience = "none", .alg = k->cfg->idp->key_alg};
		struct buf b;

		buf_init(&b, CLIENTAUTH_ASSERTION_MAX);
		s->error = clientauth_assert(s->key, &c, &b);
		buf_wipe(&b);
		if (s->error)
			log_error("%s: the key cannot sign", s->path);
	}
}

/* Without a key what needs a receipt is denied; what needs none goes on. */
static void load_signer(struct keyd *k)
{
	static const struct slice text = {.p = (const uint8_t *)"x", .n = 1};
	uint8_t sig[RECEIPT_SIG];
	const char *why = "";
	int err = signer_load(k->state_dir, &k->signer, &why);

	if (!err && receipt_sign(k->signer.key, text, sig)) {
		signer_done(&k->signer);
		why = "it cannot sign";
		err = -EIO;
	}
	if (err)
		log_error("%s/" SIGNER_FILE ": %s: decisions are denied, because no receipt of them "
			  "can be signed",
			  k->state_dir, why);
}

/* Nobody else needs to know it: a token is bound to it, and verified against it, in one exchange. */
static void make_bound(struct keyd *k)
{
	struct dpop_claims c = {.url = "https://warm.up/", .nonce = "", .now_s = 1};
	struct buf b;

	if (!k->cfg->idp || k->cfg->idp->dpop == IDP_DPOP_OFF)
		return;
	buf_init(&b, DPOP_PROOF_MAX);
	k->bound = dpop_key_new();
	if (!k->bound || dpop_proof(k->bound, &c, &b) != 0) {
		log_error("OpenSSL makes no key for DPoP here: set `dpop: off`");
		EVP_PKEY_free(k->bound);
		k->bound = NULL;
	}
	buf_done(&b);
}

static void tell_signer(struct keyd *k)
{
	struct buf pem;

	buf_init(&pem, RECEIPT_KEY_FILE_MAX);
	if (k->signer.key && signer_public(&k->signer, &pem) == 0) {
		ipc_begin(k->ipc, IPC_RECEIPT_KEY, 0);
		ipc_put_str(k->ipc, k->signer.name);
		ipc_put_slice(k->ipc, buf_slice(&pem));
		ipc_send(k->ipc);
	}
	buf_done(&pem);
}

static void begin(struct keyd *k)
{
	int err;

	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	err = vault_load(k->cfg, k->account, &k->secrets);
	if (err)
		fatal("secrets", err);
	load_signer(k);
	make_bound(k);
	warm_up(k);
	lock_memory();
	/* Started by somebody else than root, there is nothing to give up. */
	if (geteuid() == 0)
		err = sandbox_drop(k->account.uid, k->account.gid);
	if (!err)
		err = sandbox_keyd();
	if (err)
		fatal("sandbox", err);
	tell_signer(k);
	ipc_begin(k->ipc, IPC_READY, 0);
	ipc_send(k->ipc);
}

static void take_config(struct keyd *k, struct ipc_msg *m)
{
	struct config *cfg;
	int fd;

	(void)ipc_get_u64(m); /* the generation */
	fd = ipc_get_fd(m);
	if (!ipc_end(m) || fd < 0 || !k->has_account) {
		m->bad = true;
		return;
	}
	cfg = childconf_take(fd);
	if (!k->cfg) {
		k->cfg = cfg;
		begin(k);
		return;
	}
	if (!vault_same(&k->secrets, k->cfg, cfg)) {
		log_notice("secrets may have changed: starting again to read them");
		vault_free(&k->secrets);
		signer_done(&k->signer);
		plugcred_free(k->plugins);
		granted_done(&k->granted);
		_exit(0); /* what libraries do at exit() is not in the sandbox */
	}
	config_free(k->cfg);
	k->cfg = cfg;
}

/* ------------------------------------------------------------ questions */

static void answer(struct keyd *k, const struct ipc_msg *m, int err, struct slice bytes)
{
	ipc_begin(k->ipc, m->type, m->id);
	ipc_put_u32(k->ipc, (uint32_t)-err);
	ipc_put_bytes(k->ipc, err ? slice_of("", 0) : bytes);
}

/* The secret of a target; an error says why there is none. */
static int find(struct keyd *k, struct slice target, struct secret **ret)
{
	bool clear;

	*ret = vault_of_target(&k->secrets, target);
	if (!*ret)
		*ret = plugcred_find(k->plugins, target);
	if (!*ret)
		*ret = granted_find(&k->granted, target, &clear);
	return *ret ? (*ret)->error : -ENOENT;
}

static int find_key(struct keyd *k, struct slice target, struct secret **ret)
{
	*ret = vault_key_of_target(&k->secrets, target);
	return *ret ? (*ret)->error : -ENOENT;
}

/* "@NAME:USER" */
static const struct cfg_credential *credential_of(const struct keyd *k, struct slice target)
{
	const uint8_t *colon = target.n ? memchr(target.p, ':', target.n) : NULL;

	if (!colon || target.p[0] != '@')
		return NULL;
	return config_credential(k->cfg, slice_of(target.p + 1, (size_t)(colon - target.p) - 1));
}

/* Who logs in with a credential: from here on its secret is at hand. */
static void key_login(struct keyd *k, struct ipc_msg *m)
{
	struct slice name = ipc_get_str(m);
	const struct cfg_credential *c;
	struct secret *s = NULL;
	char *target;
	int err = -ENOENT;

	if (!ipc_end(m))
		return;
	c = config_credential(k->cfg, name);
	if (c && c->exec) {
		plugcred_login(k->plugins, c, m->id);
		return;
	}
	target = c ? vault_credential_target(c->name, c->user) : NULL;
	if (target && c->password_file)
		err = find(k, slice_str(target), &s);
	else if (target)
		err = find_key(k, slice_str(target), &s);
	answer(k, m, err, err ? name : slice_str(c->user));
	ipc_send(k->ipc);
	free(target);
}

static void grant_token(struct keyd *k, struct ipc_msg *m)
{
	struct slice user = ipc_get_str(m);
	uint64_t ttl_ms = ipc_get_u64(m);
	struct slice token = ipc_get_bytes(m);
	int err = ipc_end(m) ? granted_put(&k->granted, m->id, user, token, ttl_ms) : 0;

	if (err)
		log_error("the provider's token for a grant cannot be used as a password: %s",
			  err == -EINVAL ? "its length, or what it is made of" : strerror(-err));
}

/* Who logs in with what belongs to a grant, and by which name that is asked for. */
static void grant_key(struct keyd *k, struct ipc_msg *m)
{
	uint64_t owner = ipc_get_u64(m);
	struct slice name = ipc_get_str(m);
	bool near = ipc_get_u32(m) != 0;
	const struct cfg_credential *c = config_credential(k->cfg, name);
	const char *user = "", *key = "";
	int err = -ENOENT;

	if (!ipc_end(m))
		return;
	if (c && cfg_credential_granted(c))
		err = granted_open(&k->granted, owner, c->user, near || c->clear_text, &user, &key);
	ipc_begin(k->ipc, IPC_GRANT_KEY, m->id);
	ipc_put_u32(k->ipc, (uint32_t)-err);
	ipc_put_bytes(k->ipc, slice_str(user));
	ipc_put_bytes(k->ipc, slice_str(key));
	ipc_send(k->ipc);
}

/* A password that nobody has but keyd: the server gets what proves it. */
static void role_key(struct keyd *k, struct ipc_msg *m)
{
	uint64_t number = ipc_get_u64(m);
	struct slice role = ipc_get_str(m);
	uint64_t ttl_ms = ipc_get_u64(m);
	uint8_t raw[ROLE_PASSWORD_BYTES], salt[SCRAM_SALT_BYTES];
	char text[2 * ROLE_PASSWORD_BYTES + 1], verifier[SCRAM_VERIFIER_TEXT] = "";
	int err;

	if (!ipc_end(m))
		return;
	random_bytes(raw, sizeof(raw));
	random_bytes(salt, sizeof(salt));
	text_hex(raw, sizeof(raw), text);
	err = scram_verifier(slice_str(text), salt, verifier);
	if (!err)
		err = granted_put(&k->granted, number, role, slice_str(text), ttl_ms);
	answer(k, m, err, slice_str(verifier));
	ipc_send(k->ipc);
	explicit_bzero(raw, sizeof(raw));
	explicit_bzero(text, sizeof(text));
}

static void grant_forget(struct keyd *k, struct ipc_msg *m)
{
	if (ipc_end(m))
		granted_forget(&k->granted, m->id);
}

static void plugin_done(struct keyd *k, struct ipc_msg *m)
{
	struct slice name = ipc_get_str(m);
	uint32_t error = ipc_get_u32(m);
	const struct cfg_credential *c = config_credential(k->cfg, name);
	int fd = ipc_get_fd(m);

	if (ipc_end(m) && c && c->exec)
		plugcred_told(k->plugins, c, error ? -(int)error : fd < 0 ? -EMFILE : 0, fd);
	if (fd >= 0)
		(void)close(fd);
}

static void key_stale(struct keyd *k, struct ipc_msg *m)
{
	struct slice name = ipc_get_str(m);

	if (ipc_end(m))
		plugcred_stale(k->plugins, name);
}

/* A catalog's login tells it; a credential has to allow it. */
static bool may_tell(const struct keyd *k, struct slice target)
{
	const struct cfg_credential *c = credential_of(k, target);
	bool clear = true;

	if (granted_find(&k->granted, target, &clear))
		return clear;
	return target.p[0] != '@' || (c && c->clear_text);
}

static void key_password(struct keyd *k, struct ipc_msg *m)
{
	struct slice target = ipc_get_str(m);
	struct secret *s = NULL;
	int err;

	if (!ipc_end(m))
		return;
	err = find(k, target, &s);
	if (!err && !may_tell(k, target))
		err = -EACCES;
	answer(k, m, err, err ? target : buf_slice(&s->text));
	ipc_send(k->ipc);
}

static void key_md5(struct keyd *k, struct ipc_msg *m)
{
	struct slice target = ipc_get_str(m), user = ipc_get_str(m), salt = ipc_get_bytes(m);
	char text[PGMD5_TEXT] = "";
	struct secret *s = NULL;
	int err;

	if (!ipc_end(m))
		return;
	err = find(k, target, &s);
	if (!err && (salt.n != PGMD5_SALT || !slice_eq_str(user, s->user)))
		err = -EINVAL;
	if (!err)
		err = pgmd5_response(buf_slice(&s->text), user, salt.p, text);
	answer(k, m, err, slice_str(text));
	ipc_send(k->ipc);
	explicit_bzero(text, sizeof(text));
}

static int salted(struct secret *s, const struct scram_salt *salt)
{
	int err;

	if (s->has_salted && memcmp(&s->salt, salt, sizeof(*salt)) == 0)
		return 0;
	err = scram_salted(buf_slice(&s->text), salt, s->salted);
	s->has_salted = !err;
	s->salt = *salt;
	return err;
}

static void key_scram(struct keyd *k, struct ipc_msg *m)
{
	struct slice target = ipc_get_str(m), first = ipc_get_bytes(m);
	struct slice server = ipc_get_bytes(m), final = ipc_get_bytes(m);
	uint8_t proof[SCRAM_KEY], signature[SCRAM_KEY];
	struct scram_salt salt = {.iterations = 0};
	struct secret *s = NULL;
	int err;

	if (!ipc_end(m))
		return;
	err = find(k, target, &s);
	if (!err)
		err = scram_check(first, server, final, &salt);
	if (!err)
		err = salted(s, &salt);
	if (!err)
		err = scram_answer(s->salted, first, server, final, proof, signature);
	if (err == -EOPNOTSUPP)
		log_error("%s: a password that is not ASCII cannot be used with SCRAM", s->path);
	else if (err == -ERANGE)
		log_error("target %s asks for SCRAM with an iteration count outside %d to %d",
			  s->target, SCRAM_ITERATIONS_MIN, SCRAM_ITERATIONS_MAX);
	answer(k, m, err, slice_of(proof, sizeof(proof)));
	ipc_put_bytes(k->ipc, err ? slice_of("", 0) : slice_of(signature, sizeof(signature)));
	ipc_send(k->ipc);
	explicit_bzero(proof, sizeof(proof));
}

/* authd reads the provider's answers: it gets no assertion and no proof for another one. */
static bool url_is_ours(const struct cfg_idp *idp, const char *url)
{
	struct url_facts a, b;

	if (url_inspect(url, &a) != 0)
		return false;
	if (url_inspect(idp->issuer, &b) == 0 && strcmp(a.origin, b.origin) == 0)
		return true;
	for (const char *const *o = idp->extra_origins; o && *o; o++)
		if (url_inspect(*o, &b) == 0 && strcmp(a.origin, b.origin) == 0)
			return true;
	return false;
}

static bool audience_is_ours(const struct cfg_idp *idp, const char *audience)
{
	return strcmp(audience, idp->issuer) == 0 || url_is_ours(idp, audience) ||
	       (idp->assertion_audience && strcmp(audience, idp->assertion_audience) == 0);
}

static int assert_client(struct keyd *k, const struct secret *s, struct slice audience,
			 struct buf *ret)
{
	const struct cfg_idp *idp = k->cfg->idp;
	char text[URL_MAX + 1];
	struct clientauth_claims c = {
		.client_id = idp->client_id,
		.audience = text,
		.key_id = idp->key_id,
		.alg = idp->key_alg,
		.now_s = clock_wall_ns() / 1000000000,
	};

	if (audience.n == 0 || audience.n > URL_MAX || !s->key)
		return -EINVAL;
	memcpy(text, audience.p, audience.n);
	text[audience.n] = '\0';
	return audience_is_ours(idp, text) ? clientauth_assert(s->key, &c, ret) : -EPERM;
}

static void key_client(struct keyd *k, struct ipc_msg *m)
{
	struct slice audience = ipc_get_str(m);
	struct secret *s = vault_of_client(&k->secrets);
	struct buf b;
	int err;

	if (!ipc_end(m))
		return;
	buf_init(&b, TLS_CHAIN_BYTES);
	err = s && k->cfg->idp ? s->error : -ENOENT;
	if (!err && k->cfg->idp->auth == IDP_AUTH_PRIVATE_KEY_JWT)
		err = assert_client(k, s, audience, &b);
	else if (!err)
		err = audience.n ? -EINVAL
				 : buf_append_slice(&b, buf_slice(s->chain.n ? &s->chain : &s->text));
	answer(k, m, err, buf_slice(&b));
	ipc_send(k->ipc);
	buf_wipe(&b);
}

/* What somebody proves himself with is the certificate that belongs to the key which is here now. */
static int prove(const struct secret *s, const struct far_ask *q, struct slice thumb,
		 uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	uint8_t own[TLS_THUMB];

	if (s->error)
		return s->error;
	if (tls_chain_thumb(buf_slice(&s->chain), own) || !slice_eq(thumb, slice_of(own, sizeof(own))))
		return -ESTALE;
	return tls_sign(s->key, q, sig, ret_n);
}

/* The fields of the question behind whose key it is; the answer goes out. */
static void sign_proof(struct keyd *k, struct ipc_msg *m, const struct secret *s)
{
	uint32_t scheme = ipc_get_u32(m);
	struct slice name = ipc_get_str(m), thumb = ipc_get_bytes(m);
	struct far_ask q = {.text = ipc_get_bytes(m)};
	uint8_t sig[FAR_SIG_MAX];
	char digest[16];
	size_t n = 0;
	int err;

	if (!ipc_end(m))
		return;
	(void)snprintf(digest, sizeof(digest), "%.*s", (int)name.n, (const char *)name.p);
	q.digest = digest;
	q.scheme = (enum far_scheme)scheme;
	err = !s ? -ENOENT : scheme <= FAR_RSA_PSS ? prove(s, &q, thumb, sig, &n) : -EINVAL;
	answer(k, m, err, slice_of(sig, n));
	ipc_send(k->ipc);
}

static void key_tls(struct keyd *k, struct ipc_msg *m)
{
	bool tls = k->cfg->idp && idp_auth_is_tls(k->cfg->idp->auth);

	sign_proof(k, m, tls ? vault_of_client(&k->secrets) : NULL);
}

static void key_prove(struct keyd *k, struct ipc_msg *m)
{
	sign_proof(k, m, vault_key_of_target(&k->secrets, ipc_get_str(m)));
}

static void key_certificate(struct keyd *k, struct ipc_msg *m)
{
	struct slice target = ipc_get_str(m);
	struct secret *s = NULL;
	int err;

	if (!ipc_end(m))
		return;
	err = find_key(k, target, &s);
	answer(k, m, err, err ? target : buf_slice(&s->chain));
	ipc_send(k->ipc);
}

static bool text_of(struct slice s, char *dst, size_t cap)
{
	if (s.n >= cap)
		return false;
	memcpy(dst, s.p, s.n);
	dst[s.n] = '\0';
	return true;
}

static void key_dpop(struct keyd *k, struct ipc_msg *m)
{
	struct slice where = ipc_get_str(m), said = ipc_get_str(m);
	char url[URL_MAX + 1], nonce[DPOP_NONCE_MAX], thumb[DPOP_THUMB] = "";
	struct dpop_claims c = {
		.url = url, .nonce = nonce, .now_s = clock_wall_ns() / 1000000000};
	struct buf b;
	int err;

	if (!ipc_end(m))
		return;
	buf_init(&b, DPOP_PROOF_MAX);
	err = !k->cfg->idp || !k->bound ? -ENOENT
	      : !text_of(where, url, sizeof(url)) || !text_of(said, nonce, sizeof(nonce)) ||
			      (nonce[0] && !dpop_nonce_valid(nonce))
		      ? -EINVAL
	      : url_is_ours(k->cfg->idp, url) ? dpop_proof(k->bound, &c, &b)
					      : -EPERM;
	if (!err)
		err = dpop_thumb(k->bound, thumb);
	answer(k, m, err, buf_slice(&b));
	ipc_put_bytes(k->ipc, slice_str(err ? "" : thumb));
	ipc_send(k->ipc);
	buf_done(&b);
}

static void sign_receipt(struct keyd *k, struct ipc_msg *m)
{
	struct slice body = ipc_get_bytes(m);
	uint8_t sig[RECEIPT_SIG] = {0};
	int err;

	if (!ipc_end(m))
		return;
	err = !k->signer.key ? -ENOKEY
	      : body.n == 0 || body.n > RECEIPT_BODY_MAX
		      ? -EINVAL
		      : receipt_sign(k->signer.key, body, sig);
	answer(k, m, err, slice_of(sig, sizeof(sig)));
	ipc_send(k->ipc);
}

static void init(struct keyd *k, struct ipc_msg *m)
{
	struct slice dir;

	(void)ipc_get_u32(m); /* the index */
	(void)ipc_get_str(m); /* the role */
	k->account.uid = ipc_get_u32(m);
	k->account.gid = ipc_get_u32(m);
	dir = ipc_get_str(m);
	k->has_account = ipc_end(m);
	k->state_dir = strndup((const char *)dir.p, dir.n);
	if (!k->state_dir)
		fatal("memory", -ENOMEM);
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct keyd *k = ctx;

	if (m->type == IPC_INIT)
		init(k, m);
	else if (m->type == IPC_CONFIG)
		take_config(k, m);
	else if (m->type == IPC_DRAIN)
		return; /* stays until the last of the others has gone, and the parent with them */
	else if (!k->cfg)
		m->bad = true;
	else if (m->type == IPC_KEY_PASSWORD)
		key_password(k, m);
	else if (m->type == IPC_KEY_MD5)
		key_md5(k, m);
	else if (m->type == IPC_KEY_SCRAM)
		key_scram(k, m);
	else if (m->type == IPC_KEY_CLIENT)
		key_client(k, m);
	else if (m->type == IPC_KEY_TLS)
		key_tls(k, m);
	else if (m->type == IPC_KEY_CERTIFICATE)
		key_certificate(k, m);
	else if (m->type == IPC_KEY_PROVE)
		key_prove(k, m);
	else if (m->type == IPC_KEY_DPOP)
		key_dpop(k, m);
	else if (m->type == IPC_RECEIPT_SIGN)
		sign_receipt(k, m);
	else if (m->type == IPC_KEY_LOGIN)
		key_login(k, m);
	else if (m->type == IPC_KEY_STALE)
		key_stale(k, m);
	else if (m->type == IPC_PLUGIN_DONE)
		plugin_done(k, m);
	else if (m->type == IPC_GRANT_TOKEN)
		grant_token(k, m);
	else if (m->type == IPC_GRANT_KEY)
		grant_key(k, m);
	else if (m->type == IPC_ROLE_KEY)
		role_key(k, m);
	else if (m->type == IPC_GRANT_FORGET)
		grant_forget(k, m);
	else
		m->bad = true;
}

/* Nobody is left to ask. */
static void on_parent_gone(void *ctx, struct ipc *ipc, bool bad)
{
	struct keyd *k = ctx;

	vault_free(&k->secrets);
	signer_done(&k->signer);
	plugcred_free(k->plugins);
	granted_done(&k->granted);
	ipc_parent_gone(ctx, ipc, bad);
}

int keyd_main(void)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = on_parent_gone};
	static struct keyd k;

	list_init(&k.secrets);
	granted_init(&k.granted);
	(void)OPENSSL_init_crypto(0, NULL);
	BUG_ON(uv_loop_init(&k.loop));
	BUG_ON(ipc_new(&k.loop, IPC_CHILD_FD, &ops, &k, &k.ipc));
	k.plugins = plugcred_new(k.ipc);
	BUG_ON(!k.plugins);
	(void)uv_run(&k.loop, UV_RUN_DEFAULT);
	return 0;
}
