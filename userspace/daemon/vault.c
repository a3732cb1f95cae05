/* SPDX-License-Identifier: MIT */
#include "daemon/vault.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/pem.h>
#include <unistd.h>

#include "base/log.h"
#include "ident/jws_sign.h"
#include "ident/tls_sign.h"

static const char *check_file(const struct stat *st, struct secret_reader who, int *ret_err)
{
	*ret_err = -EPERM;
	if (st->st_uid != 0 && st->st_uid != who.uid)
		return "it must belong to root or to the user of keyd";
	if (st->st_mode & 07)
		return "others may read or change it: chmod o=";
	if (st->st_mode & 030)
		return "its group may change it: chmod g-wx";
	if ((st->st_mode & 040) && st->st_gid != 0 && st->st_gid != who.gid)
		return "its group may read it, and is not keyd's: chmod g=";
	*ret_err = -EINVAL;
	if (!S_ISREG(st->st_mode))
		return "it is no regular file";
	*ret_err = -EFBIG;
	return st->st_size > SECRET_MAX ? "it is too large for a secret" : NULL;
}

static const char *check_public(const struct stat *st, int *ret_err)
{
	*ret_err = -EPERM;
	if (st->st_mode & 022)
		return "others may change it: chmod go-w";
	*ret_err = -EINVAL;
	if (!S_ISREG(st->st_mode))
		return "it is no regular file";
	*ret_err = -EFBIG;
	return st->st_size > SECRET_MAX ? "it is too large" : NULL;
}

static struct secret_stamp stamp_of(const struct stat *st)
{
	return (struct secret_stamp){
		.dev = st->st_dev,
		.ino = st->st_ino,
		.size = st->st_size,
		.modified = st->st_mtim,
		.changed = st->st_ctim,
	};
}

static int read_all(int fd, struct buf *ret)
{
	for (;;) {
		uint8_t *p = buf_reserve(ret, 1024);
		ssize_t n;

		if (!p)
			return -EFBIG;
		n = read(fd, p, 1024);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		buf_commit(ret, (size_t)n);
	}
}

/* @who NULL: it is no secret. */
static int read_file(const char *path, const struct secret_reader *who, struct buf *ret,
		     struct secret_stamp *ret_stamp, const char **ret_why)
{
	struct stat st;
	int fd, err;

	/* A FIFO must not hold us up, so not blocking; the check is on what is open. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 || fstat(fd, &st)) {
		err = -errno;
		*ret_why = strerror(-err);
		if (fd >= 0)
			(void)close(fd);
		return err;
	}
	*ret_why = who ? check_file(&st, *who, &err) : check_public(&st, &err);
	if (!*ret_why) {
		/* All room at once: a buffer that grew would leave copies behind. */
		buf_init(ret, SECRET_MAX + 1024);
		err = buf_reserve(ret, SECRET_MAX + 1024) ? read_all(fd, ret) : -ENOMEM;
		if (err) {
			buf_wipe(ret);
			*ret_why = strerror(-err);
		} else {
			*ret_stamp = stamp_of(&st);
		}
	}
	(void)close(fd);
	return err;
}

int vault_read(const char *path, struct secret_reader who, struct buf *ret,
	       struct secret_stamp *ret_stamp, const char **ret_why)
{
	return read_file(path, &who, ret, ret_stamp, ret_why);
}

/* The text is one line; editors put a line end behind it. */
const char *vault_trim_password(struct buf *b)
{
	uint8_t *p = buf_data(b);

	if (b->n && p[b->n - 1] == '\n')
		b->n--;
	if (b->n && p[b->n - 1] == '\r')
		b->n--;
	if (b->n == 0)
		return "it is empty";
	if (b->n > PASSWORD_MAX)
		return "it is too long for a password";
	for (size_t i = 0; i < b->n; i++)
		if (p[i] == 0 || p[i] == '\n')
			return "it holds more than one line, or a NUL byte";
	return NULL;
}

/* A key with a passphrase would ask at a terminal that is not there. */
static int no_passphrase(char *dst, int cap, int rw, void *ctx)
{
	return -1;
}

/* @alg NULL: of a TLS client. */
static const char *parse_key(struct secret *s, const char *alg)
{
	BIO *bio = BIO_new_mem_buf(buf_data(&s->text), (int)s->text.n);
	const char *why = NULL;

	if (bio)
		s->key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
	BIO_free(bio);
	buf_wipe(&s->text);
	if (!s->key)
		return "it holds no private key in PEM form without a passphrase";
	return (alg ? jws_sign_key_fits(s->key, alg, &why) : tls_sign_key_fits(s->key, &why)) ? why
												: NULL;
}

void vault_remove(struct secret *s)
{
	list_del(&s->link);
	free(s->target);
	free(s->user);
	free(s->path);
	free(s->certificate_path);
	buf_done(&s->chain);
	buf_wipe(&s->text);
	EVP_PKEY_free(s->key);
	explicit_bzero(s, sizeof(*s));
	free(s);
}

struct secret *vault_add(struct list *into, const char *target, const char *user, const char *path)
{
	struct secret *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	list_init(&s->link);
	buf_init(&s->chain, TLS_CHAIN_BYTES);
	s->path = strdup(path);
	s->target = target ? strdup(target) : NULL;
	s->user = user ? strdup(user) : NULL;
	if (!s->path || (target && !s->target) || (user && !s->user)) {
		vault_remove(s);
		return NULL;
	}
	list_add_tail(into, &s->link);
	return s;
}

static int load_one(struct list *into, const char *target, const char *user, const char *path,
		    struct secret_reader who)
{
	struct secret *s = vault_add(into, target, user, path);
	const char *why;

	if (!s)
		return -ENOMEM;
	s->error = vault_read(path, who, &s->text, &s->stamp, &why);
	if (!s->error) {
		why = vault_trim_password(&s->text);
		s->error = why ? -EINVAL : 0;
	}
	if (s->error)
		log_error("%s (%s%s) cannot be used: %s", path,
			  !target ? "idp" : *target == '@' ? "credential " : "login for target ",
			  target ? target + (*target == '@') : "", why);
	return 0;
}

static int load_chain(struct secret *s, const char *path, const char *whose)
{
	const char *why = "out of memory";
	struct buf pem;
	int err;

	s->certificate_path = strdup(path);
	if (!s->certificate_path)
		return -ENOMEM;
	err = read_file(path, NULL, &pem, &s->certificate_stamp, &why);
	if (!err) {
		err = tls_chain_read(buf_slice(&pem), s->key, &s->chain, &why);
		buf_done(&pem);
	}
	if (err)
		log_error("%s (%s) cannot be used: %s", path, whose, why);
	return err;
}

/* Of the client at the provider, or of a credential; @certificate NULL: it signs assertions. */
static int load_key(struct list *into, const char *target, const char *user, const char *path,
		    const char *certificate, const char *alg, struct secret_reader who)
{
	struct secret *s = vault_add(into, target, user, path);
	const char *why, *whose = target ? target + 1 : "idp";

	if (!s)
		return -ENOMEM;
	s->is_key = true;
	s->error = vault_read(path, who, &s->text, &s->stamp, &why);
	if (!s->error) {
		why = parse_key(s, certificate ? NULL : alg);
		s->error = why ? -EINVAL : 0;
	}
	if (s->error)
		log_error("%s (%s) cannot be used: %s", path, whose, why);
	else if (certificate)
		s->error = load_chain(s, certificate, whose);
	return 0;
}

static int load_client_key(struct list *into, const struct cfg_idp *idp, struct secret_reader who)
{
	return load_key(into, NULL, NULL, idp->key_file,
			idp_auth_is_tls(idp->auth) ? idp->certificate_file : NULL, idp->key_alg, who);
}

char *vault_credential_target(const char *credential, const char *user)
{
	char *text;

	return asprintf(&text, "@%s:%s", credential, user) < 0 ? NULL : text;
}

static int load_credential(struct list *into, const struct cfg_credential *c,
			   struct secret_reader who)
{
	char *target = vault_credential_target(c->name, c->user);
	int err = target ? 0 : -ENOMEM;

	if (!err && c->password_file)
		err = load_one(into, target, c->user, c->password_file, who);
	if (!err && c->key_file)
		err = load_key(into, target, c->user, c->key_file, c->certificate_file, NULL, who);
	free(target);
	return err;
}

static bool by_key(const struct cfg_idp *idp)
{
	return idp->auth == IDP_AUTH_PRIVATE_KEY_JWT || idp_auth_is_tls(idp->auth);
}

static const char *client_path(const struct cfg_idp *idp)
{
	return by_key(idp) ? idp->key_file : idp->secret_file;
}

int vault_load(const struct config *cfg, struct secret_reader who, struct list *ret)
{
	int err = 0;

	for (uint32_t i = 0; !err && i < cfg->ntargets; i++) {
		const struct cfg_target *t = &cfg->targets[i];

		if (t->catalog_password_file)
			err = load_one(ret, t->name, t->catalog_user ? t->catalog_user : "",
				       t->catalog_password_file, who);
	}
	for (uint32_t i = 0; !err && i < cfg->ncredentials; i++)
		if (cfg->credentials[i].password_file || cfg->credentials[i].key_file)
			err = load_credential(ret, &cfg->credentials[i], who);
	if (!err && cfg->idp && client_path(cfg->idp))
		err = by_key(cfg->idp) ? load_client_key(ret, cfg->idp, who)
				       : load_one(ret, NULL, NULL, client_path(cfg->idp), who);
	return err;
}

void vault_free(struct list *secrets)
{
	list_each(it, secrets) vault_remove(container_of(it, struct secret, link));
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

static bool unchanged(const struct secret_stamp *then, const char *path)
{
	struct secret_stamp now;
	struct stat st;

	if (stat(path, &st) != 0)
		return false;
	now = stamp_of(&st);
	return then->dev == now.dev && then->ino == now.ino && then->size == now.size &&
	       same_time(&then->modified, &now.modified) && same_time(&then->changed, &now.changed);
}

static bool same_file(const struct secret *s, const char *path)
{
	return strcmp(s->path, path) == 0 && !s->error && unchanged(&s->stamp, path);
}

static bool same_certificate(const struct secret *s, const char *path)
{
	return !s->certificate_path || !path
		       ? s->certificate_path == path
		       : strcmp(s->certificate_path, path) == 0 && unchanged(&s->certificate_stamp, path);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_client(const struct cfg_idp *a, const struct cfg_idp *b)
{
	if (!a || !b)
		return a == b;
	return a->auth == b->auth && same_text(a->client_id, b->client_id) &&
	       same_text(a->key_alg, b->key_alg) && same_text(a->key_id, b->key_id) &&
	       (a->dpop == IDP_DPOP_OFF) == (b->dpop == IDP_DPOP_OFF) &&
	       same_text(a->issuer, b->issuer) && same_text(a->certificate_file, b->certificate_file);
}

static bool same_list(const char *const *a, const char *const *b)
{
	if (!a || !b)
		return a == b;
	for (; *a && *b && strcmp(*a, *b) == 0; a++, b++)
		;
	return *a == *b; /* both at their ends */
}

static bool same_password(const struct secret *s, const struct cfg_credential *c)
{
	return s && same_file(s, c->password_file);
}

static bool same_key(const struct secret *s, const struct cfg_credential *c)
{
	return s && same_file(s, c->key_file) && same_certificate(s, c->certificate_file);
}

/* All of them in their order; and the files have not changed. */
static bool same_credentials(const struct list *secrets, const struct config *old,
			     const struct config *cfg, size_t *want)
{
	if (old->ncredentials != cfg->ncredentials)
		return false;
	for (uint32_t i = 0; i < cfg->ncredentials; i++) {
		const struct cfg_credential *a = &old->credentials[i], *b = &cfg->credentials[i];
		char *target;

		if (strcmp(a->name, b->name) != 0 || !same_text(a->user, b->user) ||
		    !same_list(a->exec, b->exec) || !same_text(a->run_as, b->run_as))
			return false;
		if (!b->password_file && !b->key_file)
			continue;
		target = vault_credential_target(b->name, b->user);
		if (!target || (b->password_file &&
				!same_password(vault_of_target(secrets, slice_str(target)), b)) ||
		    (b->key_file && !same_key(vault_key_of_target(secrets, slice_str(target)), b))) {
			free(target);
			return false;
		}
		free(target);
		*want += (b->password_file != NULL) + (b->key_file != NULL);
	}
	return true;
}

bool vault_same(const struct list *secrets, const struct config *old, const struct config *cfg)
{
	const struct secret *s = vault_of_client(secrets);
	size_t have = 0, want = 0;

	if (!same_client(old->idp, cfg->idp))
		return false;
	if (cfg->idp && client_path(cfg->idp)) {
		want++;
		if (!s || !same_file(s, client_path(cfg->idp)) ||
		    !same_certificate(s, cfg->idp->certificate_file))
			return false;
	}
	for (uint32_t i = 0; i < cfg->ntargets; i++) {
		const struct cfg_target *t = &cfg->targets[i];

		if (!t->catalog_password_file)
			continue;
		want++;
		s = vault_of_target(secrets, slice_str(t->name));
		if (!s || !same_text(s->user, t->catalog_user ? t->catalog_user : "") ||
		    !same_file(s, t->catalog_password_file))
			return false;
	}
	if (!same_credentials(secrets, old, cfg, &want))
		return false;
	list_each(it, secrets) have++;
	return have == want;
}

static struct secret *find(const struct list *secrets, struct slice target, bool is_key)
{
	list_each(it, secrets)
	{
		struct secret *s = container_of(it, struct secret, link);

		if (s->target && s->is_key == is_key && slice_eq_str(target, s->target))
			return s;
	}
	return NULL;
}

struct secret *vault_of_target(const struct list *secrets, struct slice target)
{
	return find(secrets, target, false);
}

struct secret *vault_key_of_target(const struct list *secrets, struct slice target)
{
	return find(secrets, target, true);
}

struct secret *vault_of_client(const struct list *secrets)
{
	list_each(it, secrets)
	{
		struct secret *s = container_of(it, struct secret, link);

		if (!s->target)
			return s;
	}
	return NULL;
}
